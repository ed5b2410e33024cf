"""Parse a command line by the table of commands: help, errors that suggest what was meant, and options for variables."""

from __future__ import annotations

import os
import re
import shlex
import sys
from argparse import SUPPRESS, Action, ArgumentParser, ArgumentTypeError, RawDescriptionHelpFormatter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from textwrap import fill
from typing import Any, NoReturn

from buildrunner import __version__
from buildrunner.commands.table import COMMANDS, Argument, Command, find_command
from buildrunner.config.kinds import Kind
from buildrunner.config.variable import Variable, option_of
from buildrunner.config.variables import VARIABLES, variables_of
from buildrunner.errors import EXIT_CODES, EXIT_CONFIGURATION

_HELP = ("-h", "--help")


@dataclass(frozen=True, slots=True)
class CommandLine:
    """What a command line asks for."""

    command: Command
    arguments: Mapping[str, Any]  # of the command's function
    variables: Mapping[str, str]  # that options override


def parse_command_line(words: Sequence[str]) -> CommandLine:
    """Parse the words after the program's name; `--help`, `--version` and mistakes end the process (0, 0 and 2)."""
    words = [*words[1:], "--help"] if words[0] == "help" else list(words)
    if words[0] in _HELP or words[0] == "--version":
        make_main_parser().parse_args(words[:1])
    command = find_command(words[0])
    if command is None:
        _refuse_command(words)
    parser = make_command_parser(command)
    parser.refuse_unknown_options(words[1:])
    values = vars(parser.parse_args(words[1:]))
    names = {argument.destination for argument in command.arguments}
    return CommandLine(
        command,
        {name: value for name, value in values.items() if name in names},
        {name: value for name, value in values.items() if name not in names and value is not None},
    )


def make_command_parser(command: Command) -> CommandParser:
    """Make the parser of one command."""
    parser = CommandParser(prog=f"buildrunner {command.name}")
    fill_parser(parser, command)
    return parser


def fill_parser(parser: ArgumentParser, command: Command) -> list[tuple[Action, Argument | Variable]]:
    """Add the arguments and help of a command to a parser; return what was added, with its record."""
    variables = variables_of(command.name)
    added: list[tuple[Action, Argument | Variable]] = [
        (_add_argument(parser, argument), argument) for argument in command.arguments
    ]
    groups: dict[str, Any] = {}
    for variable in variables:
        if variable.option:
            if variable.group not in groups:
                groups[variable.group] = parser.add_argument_group(variable.group)
            added.append((_add_option(groups[variable.group], variable, command.name), variable))
    parser.usage = " ".join(
        [parser.prog, *(["[OPTIONS]"] if groups else []), *map(_usage_of, command.arguments)]
    ).replace("%", "%%")
    parser.description = fill(command.description, 80)
    parser.epilog = "\n\n".join(_epilog(command, variables))
    parser.formatter_class = _HelpFormatter
    return added


def _add_argument(parser: ArgumentParser, argument: Argument) -> Action:
    if argument.kind is None:
        return parser.add_argument(
            argument.name, dest=argument.destination, action="store_true", help=_as_help(argument.meaning)
        )
    default = argument.default_words
    if not default and argument.default is not None:
        default = argument.kind.describe(argument.default)
    options: dict[str, Any] = {
        "type": _converter(argument.kind),
        "default": argument.default,
        "help": _as_help(argument.meaning + (f" (default: {default})" if default else "")),
    }
    if not argument.name.startswith("-"):
        options |= {"metavar": argument.name, **({"nargs": "?"} if argument.optional else {})}
        return parser.add_argument(argument.destination, **options)
    if argument.is_repeated:
        options |= {"action": "append", "default": []}
    return parser.add_argument(argument.name, dest=argument.destination, metavar=argument.kind.metavar, **options)


def _add_option(group: Any, variable: Variable, command: str) -> Action:
    """Add the option of a variable. Its value is not checked here: all problems are named together, with the variables'."""
    if command in variable.required:
        note = "; required"
    else:
        note = f"; default: {variable.describe_default()}" if variable.describe_default() else ""
    action: Action = group.add_argument(
        variable.option,
        dest=variable.name,
        metavar=variable.kind.metavar,
        help=_as_help(f"{variable.meaning} ({variable.name}{note})"),
    )
    for alias in variable.aliases:
        group.add_argument(option_of(alias), dest=variable.name, help=SUPPRESS)
    return action


def _converter(kind: Kind) -> Callable[[str], Any]:
    def convert(text: str) -> Any:
        value = kind.parse(text)
        if value is None:
            raise ArgumentTypeError(f"{text!a} must be {kind.rule}{_suggest(text, kind.choices)}")
        return value

    return convert


def _usage_of(argument: Argument) -> str:
    if not argument.name.startswith("-"):
        return f"[{argument.name}]" if argument.optional else argument.name
    return f"[{argument.name} {argument.kind.metavar}]" if argument.kind else f"[{argument.name}]"


def _as_help(text: str) -> str:
    return text.replace("`", "").replace("%", "%%")


def _epilog(command: Command, variables: Iterable[Variable]) -> Iterator[str]:
    without_option = [variable for variable in variables if not variable.option]
    if without_option:
        rows = [(variable.name, variable.meaning.replace("`", "")) for variable in without_option]
        yield "Variables without an option:\n" + _columns(rows)
    metavars = {variable.kind.metavar for variable in variables} | {
        argument.kind.metavar for argument in command.arguments if argument.kind
    }
    notes = [note for metavar, note in _NOTES.items() if metavar in metavars]
    if notes:
        yield "\n".join(notes)
    if command.name in {"run", "publish", "submit"}:
        yield "Exit codes:\n" + _columns([(", ".join(map(str, each.codes)), each.meaning) for each in EXIT_CODES])
    yield "Examples:\n" + "\n".join(f"  # {purpose}\n  {line}" for purpose, line in command.examples)


_NOTES = {
    "DURATION": "DURATION is a number of seconds, or written like 90s, 5m, 1h30m or 7d.",
    "SIZE": "SIZE is a number of bytes, or written like 64MiB, 1.5GiB or 64MB.",
}


def _columns(rows: Sequence[tuple[str, str]]) -> str:
    """Lay out names and their meanings as argparse does."""
    formatter = _HelpFormatter(prog="")
    formatter.start_section(None)
    for name, meaning in rows:
        formatter.add_argument(Action([], "", metavar=name, help=_as_help(meaning)))
    formatter.end_section()
    return formatter.format_help().rstrip("\n")


class _HelpFormatter(RawDescriptionHelpFormatter):
    """Keep the examples as they are, and give long options room."""

    def __init__(self, prog: str, **options: Any) -> None:
        super().__init__(prog, **{"max_help_position": 32, **options})


class CommandParser(ArgumentParser):
    """A parser whose errors show the usage of the command and suggest what was meant."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**{"allow_abbrev": False, "formatter_class": _HelpFormatter, **options})

    def error(self, message: str) -> NoReturn:
        self.print_usage(sys.stderr)
        print(f"{self.prog}: error: {message}\nRun `{self.prog} --help` for details.", file=sys.stderr)
        sys.exit(EXIT_CONFIGURATION)

    def refuse_unknown_options(self, words: Sequence[str]) -> None:
        """End with the first option that the command does not have, before its value is taken for something else."""
        actions = self._option_string_actions
        rest = iter(words)
        for word in rest:
            if word == "--":
                return
            name, _, value = word.partition("=")
            if name in actions:
                if not value and actions[name].nargs != 0:
                    next(rest, None)
            elif re.match(r"--?[A-Za-z]", word):
                for variable in VARIABLES:
                    if variable.secret and name == option_of(variable.name):
                        self.error(
                            f"{variable.name} has no option: other users can read command lines. Set the variable"
                        )
                self.error(f"unknown option {name}{_suggest(name, actions)}")


def _suggest(word: str, candidates: Iterable[str]) -> str:
    """Return a question that names the nearest candidate, or nothing where none is near."""
    near = get_close_matches(word, list(candidates), n=1, cutoff=0.6)
    return f". Did you mean {near[0]}?" if near else ""


def make_main_parser() -> CommandParser:
    """Make the parser of what may come before a command."""
    parser = CommandParser(prog="buildrunner")
    parser.usage = "buildrunner COMMAND [ARGUMENTS]"
    parser.description = "Turn a git URL into a live static site."
    parser.add_argument("--version", action="version", version=f"buildrunner {__version__}")
    parser.epilog = "\n\n".join(
        [
            "Commands:\n" + _columns([(command.name, command.summary) for command in COMMANDS]),
            "Examples:\n" + "\n".join(f"  # {purpose}\n  {line}" for purpose, line in _first_examples()),
            "Run `buildrunner COMMAND --help` for the options of a command.",
        ]
    )
    return parser


def _first_examples() -> Iterator[tuple[str, str]]:
    for name in ("dev", "run", "logs"):
        command = find_command(name)
        assert command
        yield command.examples[0]


def _refuse_command(words: Sequence[str]) -> NoReturn:
    parser = make_main_parser()
    word = words[0]
    options = [variable.option for variable in variables_of("run")]
    if word.startswith("-"):
        name = word.partition("=")[0]
        if name in options:
            parser.error(f"{name} is an option of run. Did you mean: buildrunner run {shlex.join(words)}")
        parser.error(f"unknown option {name}{_suggest(name, [*_HELP, '--version'])}")
    suggestion = _suggest(word, [command.name for command in COMMANDS])
    if not suggestion and ("://" in word or os.path.isdir(word)):
        suggestion = f". Did you mean: buildrunner dev {shlex.join(words)}"
    parser.error(f"unknown command {word!a}{suggestion}")
