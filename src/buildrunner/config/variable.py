"""Describe one environment variable, as listed in `variables`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from buildrunner.config.kinds import Kind


@dataclass(frozen=True, slots=True)
class Variable:
    """One environment variable."""

    name: str  # a final `<NAME>` stands for any name: `BUILD_ENV_<NAME>`
    group: str
    meaning: str  # one or two sentences for people, Markdown with `code` alone
    kind: Kind
    commands: Sequence[str]  # that read it
    default: Any = None  # as `kind` parses it
    default_words: str = ""  # how people read the default, where it is no value
    required: Sequence[str] = ()  # the commands that cannot do without
    aliases: Sequence[str] = ()  # other names, used if this one is not set
    example: str = ""
    secret: bool = False  # its value is never shown, and it has no option: command lines are public on their machine

    @property
    def prefix(self) -> str:
        """The part before `<NAME>` for a family of variables; empty for a single one."""
        return self.name.removesuffix("<NAME>") if self.name.endswith("<NAME>") else ""

    @property
    def option(self) -> str:
        """The option that overrides it, such as `--repo-url`; empty if there is none."""
        return "" if self.secret or self.prefix else option_of(self.name)

    def describe_default(self) -> str:
        """Return the default for people, in Markdown; empty if there is none."""
        if self.default_words or self.default in (None, ()):
            return self.default_words
        return self.kind.describe(self.default)


def option_of(name: str) -> str:
    """Return the option of a variable: `--repo-url` of `REPO_URL`."""
    return f"--{name.lower().replace('_', '-')}"
