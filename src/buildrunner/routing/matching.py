"""Match requests against the patterns of one site's rules, in time linear in the length of the request.

Authors of sites are strangers, and so are visitors. RE2 never backtracks (https://github.com/google/re2/wiki/WhyRE2); `expressions`
bounds how large its programs are. A path that is too long for a file is matched by plain paths alone.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from heapq import merge
from itertools import islice
from typing import Generic, Protocol, TypeVar
from urllib.parse import parse_qsl

from buildrunner.routing.document import MAX_DYNAMIC_RULES, Condition, Document, HeaderRule, Pattern, Rule
from buildrunner.routing.expressions import Expression, compile_expression
from buildrunner.routing.paths import MAX_KEY_BYTES, without_slash

_MAX_PARAMETERS = 100  # of a query that are examined
_MAX_VALUE_CHARACTERS = 2_000  # of a query's parameter or a header that is matched


@dataclass(frozen=True)
class Request:
    """What of a request decides about its answer."""

    path: str  # as it was sent, without the query: not decoded
    query: str = ""  # as it was sent, without the ?
    method: str = "GET"
    host: str = ""  # in lower case, without the port
    headers: Mapping[str, str] = field(default_factory=dict)  # names in lower case

    @cached_property
    def parameters(self) -> Sequence[tuple[str, str]]:
        """Names and values of the query."""
        try:
            return parse_qsl(self.query, keep_blank_values=True, max_num_fields=_MAX_PARAMETERS, errors="replace")
        except ValueError:  # too many
            return ()


class _Conditional(Protocol):
    @property
    def source(self) -> Pattern: ...

    @property
    def conditions(self) -> tuple[Condition, ...]: ...


_Rule = TypeVar("_Rule", bound=_Conditional)


class _Rules(Generic[_Rule]):
    """The rules of one kind. Plain paths are found in a table; the rest is tried in order."""

    def __init__(self, rules: Sequence[_Rule]) -> None:
        self._rules = rules
        self._plain: dict[str, list[int]] = {}
        self._dynamic: list[int] = []
        self._expressions: dict[int, tuple[Expression, ...] | None] = {}
        for number, rule in enumerate(rules):
            path = rule.source.path
            if path is None:
                self._dynamic.append(number)
            elif rule.source.either_slash:
                bare = without_slash(path)
                for either in dict.fromkeys((bare, f"{bare}/" if bare != "/" else bare)):
                    self._plain.setdefault(either, []).append(number)
            else:
                self._plain.setdefault(path, []).append(number)
        del self._dynamic[MAX_DYNAMIC_RULES:]

    def matching(self, path: str, request: Request) -> Iterator[tuple[_Rule, tuple[str, ...]]]:
        """Yield the rules for a request in their order, each with what its patterns have captured."""
        plain = self._plain.get(path, ())
        dynamic: Sequence[int] = self._dynamic if len(path) <= MAX_KEY_BYTES else ()
        for number in merge(plain, dynamic) if plain and dynamic else plain or dynamic:
            rule = self._rules[number]
            captures: tuple[str, ...] | None = ()
            if rule.source.path is None:
                captures = self._match(number, rule.source, path) if path.startswith(rule.source.prefix) else None
            if captures is None:
                continue
            if rule.conditions:
                more = _meet(rule.conditions, request)
                if more is None:
                    continue
                captures += more
            yield rule, captures

    def _match(self, number: int, pattern: Pattern, path: str) -> tuple[str, ...] | None:
        if number in self._expressions:
            expressions = self._expressions[number]
        else:
            expressions = self._expressions[number] = _compile(pattern)
        if expressions is None:
            return None
        captures = expressions[0].match(path)
        if captures is None or any(expression.match(path) is not None for expression in expressions[1:]):
            return None
        return captures


def _compile(pattern: Pattern) -> tuple[Expression, ...] | None:
    found = [compile_expression(text) for text in (pattern.regex or "", *pattern.unless)]
    return None if None in found else tuple(expression for expression in found if expression)


def _meet(conditions: tuple[Condition, ...], request: Request) -> tuple[str, ...] | None:
    """Return what the conditions capture; None when one is not met."""
    captures: tuple[str, ...] = ()
    for condition in conditions:
        found = _find(condition, request)
        if condition.absent:
            if found is not None:
                return None
        elif found is None:
            return None
        else:
            captures += found
    return captures


def _find(condition: Condition, request: Request) -> tuple[str, ...] | None:
    if condition.kind == "host":
        values = [request.host]
    elif condition.kind == "header":
        values = [value] if (value := request.headers.get(condition.key)) is not None else []
    else:
        values = [value for name, value in request.parameters if name == condition.key]
    expression = None if condition.regex is None else compile_expression(condition.regex)
    for value in islice(values, _MAX_PARAMETERS):
        if condition.regex is None:
            return (value,) if condition.names else ()
        if expression and len(value) <= _MAX_VALUE_CHARACTERS and (found := expression.match(value)) is not None:
            return found
    return None


class RuleIndex:
    """The rules of a document, ready to be matched."""

    def __init__(self, document: Document) -> None:
        self.redirects: _Rules[Rule] = _Rules(document.redirects)
        self.rules: _Rules[Rule] = _Rules(document.rules)
        self.rewrites: _Rules[Rule] = _Rules(document.rewrites)
        self.headers: _Rules[HeaderRule] = _Rules(document.headers)
        conditions = [rule.conditions for rule in (*document.redirects, *document.rules, *document.rewrites)]
        conditions += [rule.conditions for rule in document.headers]
        headers = {found.key for each in conditions for found in each if found.kind == "header" and found.key}
        self.vary = tuple(sorted(headers))  # a cache in front must not give one visitor's answer to another


def index_of(document: Document) -> RuleIndex:
    """Return the rules of a document, compiled at the first call."""
    index = document.compiled.get("index")
    if not isinstance(index, RuleIndex):
        index = document.compiled["index"] = RuleIndex(document)
    return index
