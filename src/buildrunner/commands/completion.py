"""`buildrunner completion SHELL`: a script that completes commands, options and values."""

from __future__ import annotations

from collections.abc import Mapping

import shtab

from buildrunner.commands.parser import CommandParser, fill_parser, make_main_parser
from buildrunner.commands.table import COMMANDS, Argument


def print_completion(_environment: Mapping[str, str], shell: str) -> int:
    """Print the script for `bash`, `zsh` or `fish`. It is static: pressing Tab starts no Python."""
    print(shtab.complete(_make_full_parser(), shell))
    return 0


def _make_full_parser() -> CommandParser:
    parser = make_main_parser()
    commands = parser.add_subparsers(dest="command")
    for command in COMMANDS:
        filled = commands.add_parser(command.name, help=command.summary)
        for action, record in fill_parser(filled, command):
            if record.kind and record.kind.choices:
                action.choices = record.kind.choices
            if isinstance(record, Argument) and record.path:
                action.complete = shtab.DIRECTORY  # type: ignore[attr-defined] # as shtab documents it
    return parser
