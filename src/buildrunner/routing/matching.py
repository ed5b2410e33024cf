"""Match requests with the patterns of a site's rules, in time linear in the length of the request.

Rules and requests are untrusted. RE2 never backtracks (https://github.com/google/re2/wiki/WhyRE2), and `expressions` limits the
size of its programs. A path that is too long for an S3 key is only compared with plain paths.
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

_MAX_PARAMETERS = 100  # parameters of a query
_MAX_VALUE_CHARACTERS = 2_000  # of a parameter or header that is matched


@dataclass(frozen=True)
class Request:
    """The parts of a request that determine its answer."""

    path: str  # as sent, not decoded, without the query
    query: str = ""  # as sent, without the ?
    method: str = "GET"
    host: str = ""  # in lowercase, without the port
    headers: Mapping[str, str] = field(default_factory=dict)  # names in lowercase

    @cached_property
    def parameters(self) -> Sequence[tuple[str, str]]:
        """The names and values of the query's parameters; empty if there are too many."""
        try:
            return parse_qsl(self.query, keep_blank_values=True, max_num_fields=_MAX_PARAMETERS, errors="replace")
        except ValueError:  # too many parameters
            return ()


class _Conditional(Protocol):
    @property
    def source(self) -> Pattern: ...

    @property
    def conditions(self) -> tuple[Condition, ...]: ...


_Rule = TypeVar("_Rule", bound=_Conditional)


class _Rules(Generic[_Rule]):
    """The rules of one kind. Plain paths are looked up in a table; other rules are tried in order."""

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
        """Yield the rules that match a request in order, each with its captures."""
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
    """Return the captures of conditions; None if a condition is not met."""
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
    """The rules of a document, indexed for matching."""

    def __init__(self, document: Document) -> None:
        self.redirects: _Rules[Rule] = _Rules(document.redirects)
        self.rules: _Rules[Rule] = _Rules(document.rules)
        self.rewrites: _Rules[Rule] = _Rules(document.rewrites)
        self.headers: _Rules[HeaderRule] = _Rules(document.headers)
        conditions = [rule.conditions for rule in (*document.redirects, *document.rules, *document.rewrites)]
        conditions += [rule.conditions for rule in document.headers]
        headers = {found.key for each in conditions for found in each if found.kind == "header" and found.key}
        self.vary = tuple(sorted(headers))  # so that a cache doesn't send one visitor's answer to another


def index_of(document: Document) -> RuleIndex:
    """Return the index of a document, which the first call builds."""
    index = document.compiled.get("index")
    if not isinstance(index, RuleIndex):
        index = document.compiled["index"] = RuleIndex(document)
    return index
