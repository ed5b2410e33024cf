"""Warnings about rules that are not applied, with file and line."""

from __future__ import annotations

from dataclasses import dataclass, field

_MAX_WARNINGS = 20  # of one file
_MAX_SHOWN = 60  # characters of what an author wrote


@dataclass(frozen=True, slots=True)
class RuleWarning:
    """Why something of a file is not applied."""

    file: str  # relative to the repository, or to the output
    line: int | None  # from 1; None for the file as a whole
    reason: str  # starts in lower case, without a period

    def __str__(self) -> str:
        """Return the sentence for the log of the build."""
        place = self.file if self.line is None else f"{self.file}:{self.line}"
        return f"{place}: {self.reason}."


@dataclass(slots=True)
class Warnings:
    """The warnings about one file; of very many, the first and how many more there are."""

    file: str
    _found: list[RuleWarning] = field(default_factory=list)
    _more: int = 0

    def add(self, line: int | None, reason: str) -> None:
        """Add a warning about a line."""
        if len(self._found) < _MAX_WARNINGS:
            self._found.append(RuleWarning(self.file, line, reason))
        else:
            self._more += 1

    def all(self) -> tuple[RuleWarning, ...]:
        """Return the warnings in the order of their lines."""
        more = [RuleWarning(self.file, None, f"{self._more:,} more rules have problems")] * bool(self._more)
        return (*self._found, *more)


def shown(text: str) -> str:
    """Return what an author wrote for a warning: one line of at most 60 characters, without control characters."""
    line = "".join(character if character.isprintable() else "\ufffd" for character in text[: _MAX_SHOWN + 1])
    return f"{line[:_MAX_SHOWN]}\u2026" if len(line) > _MAX_SHOWN else line
