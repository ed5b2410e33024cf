"""Parse the scripts of package.json into commands, and find out what a build script does in subfolders."""

from __future__ import annotations

import fnmatch
import posixpath
import re
import shlex
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

from buildrunner.project.package_json import get_scripts
from buildrunner.project.package_managers.table import FOLDER_OPTIONS, MANAGERS

_NAMES = "|".join(MANAGERS)
_MAX_COMMANDS = 100
_MAX_SCRIPTS, _MAX_SCRIPT_CHARACTERS = 30, 2048
_MAX_MATCHED = 200  # scripts of a package.json that are compared with a pattern
# Programs that don't change what the framework's build writes.
HARMLESS = re.compile(
    "(tsc|vue-tsc|svelte-check|eslint|prettier|biome|stylelint|vitest|jest|prisma|drizzle-kit|rimraf|rm|mkdir|echo|true"
    "|contentlayer|velite|next-sitemap|graphql-codegen|panda|paraglide-js|typesafe-i18n|lingui)( |$)"
    rf"|({_NAMES}) (i|ci|install)( |$)|(astro|svelte-kit|nuxi|nuxt) (check|sync|prepare)|next (lint|telemetry|typegen)"
    "|(react-router|rr) typegen|(hexo|gatsby) clean|docusaurus clear|npm$|yarn$"
)


@dataclass(frozen=True, slots=True)
class ScriptCommand:
    """A command in a script."""

    words: tuple[str, ...]  # the program's name without its path or suffix, and its arguments
    environment: Mapping[str, str]
    folder: str = ""  # the working directory, relative to the package; empty for the package's own folder
    target: str = ""  # name of the script that a manager runs; except with npm, it may also be a program

    @property
    def line(self) -> str:
        """The command as a person would type it."""
        return " ".join(self.words)

    @property
    def installs(self) -> bool:
        """Whether the command has a package manager install dependencies."""
        manager = MANAGERS.get(self.words[0])
        first = next((word for word in self.words[1:] if not word.startswith("-")), None)
        return (
            manager is not None and not self.target and (first in _INSTALLS if first else manager.installs_by_default)
        )

    def option(self, *names: str) -> Iterator[str]:
        """Yield the values of an option that has these names."""
        for index, word in enumerate(self.words):
            name, equals, value = word.partition("=")
            if name in names and equals:
                yield value
            elif word in names and index + 1 < len(self.words):
                yield self.words[index + 1]

    @property
    def positional(self) -> str | None:
        """The first argument after a subcommand; many programs expect the site's folder there."""
        return next((word for word in self.words[2:3] if not word.startswith("-")), None)


_WRAPPERS = frozenset(("cross-env", "cross-env-shell", "env", "exec", "time", "dotenv", "env-cmd")) | {
    wrapper for record in MANAGERS.values() for wrapper in record.wrappers
}
_INSTALLS = {"install", "i", "ci", "add", "clean-install"}
_RUNNERS = {"run-s", "run-p", "npm-run-all", "npm-run-all2", "concurrently"}


def parse_script(script: str, scripts: Mapping[str, str], seen: set[str] | None = None) -> list[ScriptCommand]:
    """Parse a script into the commands that it runs, including those of the scripts that it calls.

    Each script is parsed only once, even if scripts call each other; `seen` has the names of those already parsed.
    """
    seen = set() if seen is None else seen
    script = script[:_MAX_SCRIPT_CHARACTERS]
    lexer = shlex.shlex(script, posix=True, punctuation_chars=True)
    lexer.whitespace_split = True
    lexer.commenters = ""
    try:
        words = list(lexer)
    except ValueError:  # an unclosed quote
        words = re.findall(r"&&|\|\||[;&|]|[^\s;&|]+", script)
    commands: list[ScriptCommand] = []
    part: list[str] = []
    here, outer_folders = "", list[str]()  # the working directory, and those to return to at the end of each ( … )
    for word in [*words, ";"]:
        if word and set(word) <= set("();<>|&"):
            if part:
                found = _parse_command(part, scripts, seen, here)
                commands += found
                if found and "cd" in part and found[-1].words[0] == "cd":
                    here = _join_folder(here, *found[-1].words[1:2])
            part = []
            if len(commands) > _MAX_COMMANDS:
                break
            for parenthesis in word:
                if parenthesis == "(":
                    outer_folders.append(here)
                elif parenthesis == ")" and outer_folders:
                    here = outer_folders.pop()
        else:
            part.append(word)
    return commands[:_MAX_COMMANDS]


def _join_folder(here: str, folder: str = "~") -> str:
    normal = posixpath.normpath(posixpath.join(here, folder))
    return "" if normal == "." else normal


def _parse_command(words: list[str], scripts: Mapping[str, str], seen: set[str], here: str) -> list[ScriptCommand]:
    environment: dict[str, str] = {}
    while words:
        name, equals, value = words[0].partition("=")
        if equals and re.fullmatch(r"\w+", name):
            environment[name] = value
        elif words[0] in _WRAPPERS:
            words = words[1:]
            while words and words[0].startswith("-") and "=" not in words[0]:
                words = words[2:] if words[0] in {"-e", "-f", "--file"} else words[1:]
            continue
        elif words[0] in MANAGERS and words[1:2] and words[1] in {"exec", "dlx", "x"}:
            words = words[2:]
            continue
        else:
            break
        words = words[1:]
    if not words:
        return []
    program, *arguments = words
    if program == "node":  # such as `node --max-old-space-size=4096 node_modules/vite/bin/vite.js build`
        at = next((i for i, word in enumerate(arguments) if not word.startswith("-")), None)
        if at is not None and "node_modules/" in arguments[at]:
            program, arguments = arguments[at], arguments[at + 1 :]
    program = re.sub(r"\.(js|mjs|cjs|cmd)$", "", posixpath.basename(program)) or program
    folder, arguments = _split_folder_option(program, arguments)
    folder = _join_folder(here, folder) if folder else here
    called = [] if folder else list(_list_called_scripts(program, arguments, scripts))
    if not called:
        target = ""
        if program in MANAGERS and arguments:
            rest = arguments[1:] if (runs := arguments[0] in {"run", "run-script"}) else arguments
            if (
                rest
                and (runs or MANAGERS[program].runs_programs)
                and rest[0] not in {"install", "i", "add", "workspace", "workspaces"}
                and not rest[0].startswith("-")
            ):
                target = rest[0]
                if MANAGERS[program].runs_programs:
                    program, *arguments = rest
        return [ScriptCommand((program, *arguments), environment, folder, target)]
    found: list[ScriptCommand] = []
    for name, rest_of_line in called:
        for one in (f"pre{name}", name, f"post{name}"):
            if one in scripts and one not in seen and len(seen) < _MAX_SCRIPTS:
                seen.add(one)
                inner = parse_script(scripts[one], scripts, seen)
                if one == name and inner:
                    inner[-1] = replace(inner[-1], words=(*inner[-1].words, *rest_of_line))
                found += [replace(c, environment={**environment, **c.environment}) for c in inner]
    return found


def _split_folder_option(program: str, arguments: list[str]) -> tuple[str, list[str]]:
    """Return the folder that an option of a package manager names, and the arguments without that option."""
    for index, word in enumerate(arguments if program in MANAGERS else ()):
        name, equals, value = word.partition("=")
        if word == "--":
            break
        if name in FOLDER_OPTIONS[program]:
            after = index + (1 if equals else 2)
            return value if equals else "".join(arguments[index + 1 : after]), arguments[:index] + arguments[after:]
    return "", arguments


def _list_called_scripts(
    program: str, arguments: list[str], scripts: Mapping[str, str]
) -> Iterator[tuple[str, tuple[str, ...]]]:
    """Yield the scripts that a command calls, each with its arguments."""
    if program in MANAGERS:
        rest = [word for word in arguments if word not in {"-s", "--silent", "--if-present"}]
        if rest and rest[0] in {"run", "run-script"}:
            rest = rest[1:]
        elif not MANAGERS[program].runs_programs:
            return
        if rest and rest[0] in scripts:
            yield rest[0], tuple(word for word in rest[1:] if word != "--")
    elif program in _RUNNERS:
        for word in arguments:
            name = re.sub(rf"^(npm:|({'|'.join(MANAGERS)}) (run )?)", "", word).split(" ")[0]
            if not word.startswith("-") and name:
                if "*" in name:
                    yield from ((script, ()) for script in fnmatch.filter(list(scripts)[:_MAX_MATCHED], name))
                elif name in scripts:
                    yield name, ()


_COMPILERS = {"tsc", "tspc", "nest", "babel", "swc", "tsup", "ncc", "pkgroll", "unbuild"}
_CLEAN_AND_COPY = {"tsc-alias", "prisma", "rimraf", "rm", "mkdir", "cp", "copyfiles", "cpx", "shx", "echo"}


def only_compiles(package: Mapping[str, Any], build_script: str) -> bool:
    """Return whether a build script only compiles code, apart from commands that clean and copy files."""
    scripts = get_scripts(package)
    commands = parse_script(build_script, scripts)
    compilers = [command for command in commands if _compiles(command)]
    return bool(compilers) and all(
        command.words[0] in _CLEAN_AND_COPY for command in commands if command not in compilers
    )


def _compiles(command: ScriptCommand) -> bool:
    for_node = command.words[0] == "esbuild" and "node" in command.option("--platform")
    return for_node or command.words[0] in _COMPILERS


@dataclass(frozen=True, slots=True)
class SubfolderBuilds:
    """The commands that a build script runs in subfolders, which have a package.json of their own."""

    scripts: Mapping[str, str]  # folder → name of the script that is run there; empty for other commands
    installed: frozenset[str]  # folders where dependencies are installed first
    exclusive: bool  # whether each command is a single script, and no other command could affect a site


_HOOK_COMMANDS = {"cd", "husky", "patch-package", "simple-git-hooks", "lefthook", "is-ci", "exit", "test"}
_WITHOUT_OUTPUT = {"cd", "echo", "true", "exit", "rm", "rimraf", "mkdir"}


def find_subfolder_builds(package: Mapping[str, Any], build_script: str) -> SubfolderBuilds | None:
    """Return what a build script runs in subfolders; None if it runs nothing there, or if that is uncertain.

    It is uncertain if another command, such as a program of the repository, may have installed dependencies there.
    """
    scripts = get_scripts(package)
    hooks = [scripts.get(name, "") for name in ("preinstall", "install", "postinstall", "prepublish", "prepare")]
    before = [command for text in hooks for command in parse_script(text, scripts)]
    is_script = scripts.get("build") == build_script
    build = [scripts.get("prebuild", ""), build_script, scripts.get("postbuild", "")] if is_script else [build_script]
    commands = [command for text in build for command in parse_script(text, scripts)]
    scripts_by_folder: dict[str, str] = {}
    installed: set[str] = set()
    exclusive = True
    for index, command in enumerate([*before, *commands]):
        is_build = index >= len(before)
        if command.installs:
            installed.add(command.folder)
        elif is_build and command.folder and command.words[0] not in _WITHOUT_OUTPUT:
            plain = (
                command.target
                and not command.environment
                and len(command.words) == (3 if command.words[0] == "npm" else 1)
            )
            exclusive = exclusive and bool(plain) and command.folder not in scripts_by_folder
            scripts_by_folder.setdefault(command.folder, command.target)
        elif not scripts_by_folder and not (
            command.words[0] in _HOOK_COMMANDS
            or command.words[0] in _CLEAN_AND_COPY
            or _compiles(command)
            or HARMLESS.match(command.line)
        ):
            return None
        elif is_build and (command.words[0] not in _WITHOUT_OUTPUT or command.environment):
            exclusive = False
    if not scripts_by_folder or not all(
        folder.isprintable() and folder[0] not in "./~-$" for folder in scripts_by_folder
    ):
        return None
    return SubfolderBuilds(scripts_by_folder, frozenset(installed), exclusive)
