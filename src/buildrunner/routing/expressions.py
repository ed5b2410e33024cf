"""Regular expressions of strangers, run by RE2 in linear time, and how large they may be."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

import re2

MAX_EXPRESSION_CHARACTERS = 2_000
# Instructions of a compiled expression. Where its states are too many for RE2's table, a step of each may be taken for each
# character: 1,000 of them need 3 ms for a path of 1,000 characters (measured).
MAX_PROGRAM = 1_000
MAX_PROGRAMS = 20_000  # together, of one site
_MEMORY_BYTES = 128 * 1024
_CACHED = 4_096  # expressions, of all sites that a process serves


class Expression:
    """An expression that a whole text has to match."""

    __slots__ = ("_groups", "_regex", "size")

    def __init__(self, text: str) -> None:
        options = re2.Options()
        options.max_mem = _MEMORY_BYTES
        options.log_errors = False
        options.dot_nl = True  # a line end in a path evades no rule
        self._regex = re2.compile(text, options)
        self._groups = range(1, self._regex.groups + 1)
        self.size: int = self._regex.programsize

    def match(self, text: str) -> tuple[str, ...] | None:
        """Return what the groups have captured, "" for one that took no part; None where the text does not match."""
        try:
            found = self._regex.fullmatch(text)
        except UnicodeError:  # a lone surrogate
            return None
        return tuple(found[group] or "" for group in self._groups) if found else None

    @property
    def names(self) -> tuple[str, ...]:
        """The names of the groups in their order, "" for one without a name."""
        names = {number: name for name, number in self._regex.groupindex.items()}
        return tuple(names.get(group, "") for group in self._groups)


@lru_cache(_CACHED)
def compile_expression(text: str) -> Expression | None:
    """Compile an expression for whole texts; None where RE2 does not know it (look-around, back-references) or it is too large."""
    if len(text) > MAX_EXPRESSION_CHARACTERS:
        return None
    try:
        expression = Expression(text)
    except (re2.error, UnicodeError):
        return None
    return expression if expression.size <= MAX_PROGRAM else None


def escape(text: str) -> str:
    """Return an expression for exactly this text."""
    return str(re2.escape(text))


def program_size(texts: Sequence[str]) -> int:
    """Return how many instructions these expressions have together, 0 for one that does not compile."""
    return sum(expression.size for text in texts if (expression := compile_expression(text)))
