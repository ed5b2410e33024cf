"""Collect warnings about rules that are not applied, with file and line."""

from __future__ import annotations

from dataclasses import dataclass, field

_MAX_WARNINGS = 20  # of one file
_MAX_SHOWN = 60  # characters of a quote from a file


@dataclass(frozen=True, slots=True)
class RuleWarning:
    """A warning about a rule or file that is not applied."""

    file: str  # relative to the repository, or to the output
    line: int | None  # from 1; None for the whole file
    reason: str  # starts in lowercase, without a period

    def __str__(self) -> str:
        """Return the warning as a sentence for the build's log."""
        place = self.file if self.line is None else f"{self.file}:{self.line}"
        return f"{place}: {self.reason}."


@dataclass(slots=True)
class Warnings:
    """The warnings about one file: the first ones, and the number of others."""

    file: str
    _found: list[RuleWarning] = field(default_factory=list)
    _more: int = 0

    def add(self, line: int | None, reason: str) -> None:
        """Add a warning about a line, or about the whole file if `line` is None."""
        if len(self._found) < _MAX_WARNINGS:
            self._found.append(RuleWarning(self.file, line, reason))
        else:
            self._more += 1

    def all(self) -> tuple[RuleWarning, ...]:
        """Return the warnings in the order in which they were added."""
        more = [RuleWarning(self.file, None, f"{self._more:,} more rules have problems")] * bool(self._more)
        return (*self._found, *more)


def shown(text: str) -> str:
    """Quote text from a file in a warning: one line of at most 60 characters, without control characters."""
    line = "".join(character if character.isprintable() else "\ufffd" for character in text[: _MAX_SHOWN + 1])
    return f"{line[:_MAX_SHOWN]}\u2026" if len(line) > _MAX_SHOWN else line
