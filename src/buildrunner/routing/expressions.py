"""Compile untrusted regular expressions with RE2, which matches in linear time, and limit their size."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

import re2

MAX_EXPRESSION_CHARACTERS = 2_000
# Instructions of a compiled expression. If an expression has too many states for RE2's cache, each character may execute each
# instruction: 1,000 instructions take 3 ms for a path of 1,000 characters (measured).
MAX_PROGRAM = 1_000
MAX_PROGRAMS = 20_000  # instructions of all expressions of a site
_MEMORY_BYTES = 128 * 1024
_CACHED = 4_096  # expressions of all sites that a process serves


class Expression:
    """A compiled expression for whole texts."""

    __slots__ = ("_groups", "_regex", "size")

    def __init__(self, text: str) -> None:
        options = re2.Options()
        options.max_mem = _MEMORY_BYTES
        options.log_errors = False
        options.dot_nl = True  # a line break in a path must not evade a rule
        self._regex = re2.compile(text, options)
        self._groups = range(1, self._regex.groups + 1)
        self.size: int = self._regex.programsize

    def match(self, text: str) -> tuple[str, ...] | None:
        """Return the captures of the groups, "" for a group that did not take part; None if the text does not match."""
        try:
            found = self._regex.fullmatch(text)
        except UnicodeError:  # a lone surrogate
            return None
        return tuple(found[group] or "" for group in self._groups) if found else None

    @property
    def names(self) -> tuple[str, ...]:
        """The names of the groups in order, "" for a group without a name."""
        names = {number: name for name, number in self._regex.groupindex.items()}
        return tuple(names.get(group, "") for group in self._groups)


@lru_cache(_CACHED)
def compile_expression(text: str) -> Expression | None:
    """Compile an expression; None if it is too large or RE2 does not support it (look-around, back-references)."""
    if len(text) > MAX_EXPRESSION_CHARACTERS:
        return None
    try:
        expression = Expression(text)
    except (re2.error, UnicodeError):
        return None
    return expression if expression.size <= MAX_PROGRAM else None


def escape(text: str) -> str:
    """Return an expression that matches exactly this text."""
    return str(re2.escape(text))


def program_size(texts: Sequence[str]) -> int:
    """Return the total number of instructions of expressions; those that don't compile count as 0."""
    return sum(expression.size for text in texts if (expression := compile_expression(text)))
