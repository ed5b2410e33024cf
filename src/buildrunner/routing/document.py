"""Define the rules of a site as frozen records, and their stored form as JSON.

The JSON is written when a site is published, and read by servers that may be older or newer than the writer. A reader ignores
unknown members and rules. It raises DocumentError if it cannot read the document, so that a server can keep its current rules.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar

_Item = TypeVar("_Item")

VERSION = 1
MAX_DOCUMENT_BYTES = 8 * 2**20
MAX_RULES = 10_000  # of each kind: redirects, rules, rewrites, headers
MAX_DYNAMIC_RULES = 1_000  # of these with an expression, which each take 0.1 to 20 microseconds per request
REDIRECTS = frozenset({301, 302, 303, 307, 308})
STATUSES = REDIRECTS | {200, 404, 410}

# A text with placeholders: literal strings, and indexes of captures.
Template = tuple[str | int, ...]


class DocumentError(ValueError):
    """The stored rules of a site cannot be read."""


@dataclass(frozen=True, slots=True)
class Pattern:
    """The paths that a rule applies to: either a single path, or an RE2 expression for the whole path.

    Paths are decoded (`/caf\u00e9` instead of `/caf%C3%A9`).
    """

    path: str | None = None
    regex: str | None = None
    prefix: str = "/"  # literal prefix of all paths that `regex` matches
    names: tuple[str, ...] = ()  # names of the expression's groups, in order; "" for a group without a name
    unless: tuple[str, ...] = ()  # expressions for whole paths that are excluded
    either_slash: bool = False  # whether a path matches with and without a trailing slash; `regex` includes that


@dataclass(frozen=True, slots=True)
class Condition:
    """A parameter, header or host that a request must have, or must not have."""

    kind: str  # "query", "header" or "host"
    key: str = ""  # name of the parameter, or of the header in lowercase
    regex: str | None = None  # for the whole value; None accepts any value
    names: tuple[str, ...] = ()  # of its groups
    absent: bool = False  # whether the request must not have it


@dataclass(frozen=True, slots=True)
class Rule:
    """A redirect, a rewrite (200), or an error page (404, 410)."""

    source: Pattern
    destination: Template
    status: int
    forced: bool = False  # whether it also applies to paths of existing files
    passes_query: bool = True  # whether the request's query is added to the destination
    conditions: tuple[Condition, ...] = ()


@dataclass(frozen=True, slots=True)
class HeaderRule:
    """Response headers for some paths."""

    source: Pattern
    headers: tuple[tuple[str, Template | None], ...]  # names and values; None removes the values of earlier rules
    joins: bool  # whether values are joined with those of earlier rules by a comma, instead of replacing them
    conditions: tuple[Condition, ...] = ()


@dataclass(frozen=True)
class Document:
    """All rules of a site."""

    redirects: tuple[Rule, ...] = ()  # from vercel.json; applied first
    rules: tuple[Rule, ...] = ()  # from _redirects, then netlify.toml
    rewrites: tuple[Rule, ...] = ()  # from vercel.json; applied to paths without a file
    headers: tuple[HeaderRule, ...] = ()
    clean_urls: bool = False
    trailing_slash: bool | None = None
    noindex: bool = False  # whether to ask search engines not to index the site
    single_page: bool = False  # whether index.html is the only page
    version: int = field(default=VERSION, compare=False)
    compiled: dict[str, object] = field(
        default_factory=dict, init=False, compare=False, repr=False
    )  # cache of `matching`

    @property
    def summary(self) -> str:
        """The number of rules of each kind, for the log; empty if there are no rules."""
        redirects = sum(rule.status in REDIRECTS for rule in (*self.redirects, *self.rules))
        rewrites = len(self.redirects) + len(self.rules) + len(self.rewrites) - redirects
        counts = ((redirects, "redirect"), (rewrites, "rewrite"), (len(self.headers), "header rule"))
        parts = [f"{count:,} {word}{'' if count == 1 else 's'}" for count, word in counts if count]
        parts += ["clean URLs"] * self.clean_urls
        parts += ["trailing slashes"] * (self.trailing_slash is True) + ["no trailing slashes"] * (
            self.trailing_slash is False
        )
        return ", ".join([*parts, *["noindex"] * self.noindex])

    def to_json(self) -> bytes:
        """Return the document as JSON: the same bytes for the same rules, without members that have their default."""
        content: dict[str, Any] = {"version": VERSION}
        for name in ("redirects", "rules", "rewrites"):
            if rules := getattr(self, name):
                content[name] = [_rule_to_json(rule) for rule in rules]
        if self.headers:
            content["headers"] = [_header_to_json(rule) for rule in self.headers]
        for name in ("clean_urls", "noindex", "single_page"):
            if getattr(self, name):
                content[name] = True
        if self.trailing_slash is not None:
            content["trailing_slash"] = self.trailing_slash
        return json.dumps(content, ensure_ascii=False, separators=(",", ":"), sort_keys=True).encode()

    @classmethod
    def from_json(cls, data: bytes) -> Document:
        """Read a document that `to_json` of this or another version has written.

        Raises:
            DocumentError: if it is too large, or not such a document.

        """
        if len(data) > MAX_DOCUMENT_BYTES:
            raise DocumentError(f"The rules of the site are larger than {MAX_DOCUMENT_BYTES:,} bytes.")
        try:
            content = json.loads(data)
        except (ValueError, RecursionError) as error:
            raise DocumentError(f"The rules of the site are not JSON: {error}") from None
        if not isinstance(content, dict) or not isinstance(content.get("version"), int):
            raise DocumentError("The rules of the site have no version.")
        trailing_slash = content.get("trailing_slash")
        return cls(
            redirects=_read_all(content.get("redirects"), _rule_from_json),
            rules=_read_all(content.get("rules"), _rule_from_json),
            rewrites=_read_all(content.get("rewrites"), _rule_from_json),
            headers=_read_all(content.get("headers"), _header_from_json),
            clean_urls=content.get("clean_urls") is True,
            trailing_slash=trailing_slash if isinstance(trailing_slash, bool) else None,
            noindex=content.get("noindex") is True,
            single_page=content.get("single_page") is True,
            version=content["version"],
        )


def _read_all(items: object, read: Callable[[Mapping[str, Any]], _Item]) -> tuple[_Item, ...]:
    found: list[_Item] = []
    for item in items if isinstance(items, list) else ():
        try:
            found.append(read(item))
        except (KeyError, TypeError, ValueError, AttributeError):
            continue  # written by a newer version
        if len(found) == MAX_RULES:
            break
    return tuple(found)


def _pattern_to_json(pattern: Pattern) -> dict[str, Any]:
    if pattern.path is not None:
        return {"path": pattern.path} | ({"either_slash": True} if pattern.either_slash else {})
    return _without_empty(
        {"regex": pattern.regex, "prefix": pattern.prefix, "names": pattern.names, "unless": pattern.unless}
    )


def _pattern_from_json(content: Mapping[str, Any]) -> Pattern:
    if "path" in content:
        return Pattern(path=_text(content["path"]), either_slash=content.get("either_slash") is True)
    return Pattern(
        regex=_text(content["regex"]),
        prefix=_text(content.get("prefix", "")),
        names=_texts(content.get("names", ())),
        unless=_texts(content.get("unless", ())),
    )


def _condition_to_json(condition: Condition) -> dict[str, Any]:
    return _without_empty(
        {
            "kind": condition.kind,
            "key": condition.key,
            "regex": condition.regex,
            "names": condition.names,
            "absent": condition.absent,
        }
    )


def _condition_from_json(content: Mapping[str, Any]) -> Condition:
    kind = _text(content["kind"])
    if kind not in {"query", "header", "host"}:
        raise ValueError(kind)
    regex = content.get("regex")
    return Condition(
        kind,
        _text(content.get("key", "")),
        None if regex is None else _text(regex),
        _texts(content.get("names", ())),
        absent=content.get("absent") is True,
    )


def _rule_to_json(rule: Rule) -> dict[str, Any]:
    content = _pattern_to_json(rule.source) | {"to": list(rule.destination), "status": rule.status}
    if rule.forced:
        content["forced"] = True
    if not rule.passes_query:
        content["passes_query"] = False
    if rule.conditions:
        content["conditions"] = [_condition_to_json(condition) for condition in rule.conditions]
    return content


def _rule_from_json(content: Mapping[str, Any]) -> Rule:
    status = content["status"]
    if status not in STATUSES:
        raise ValueError(status)
    return Rule(
        _pattern_from_json(content),
        _template(content["to"]),
        status,
        forced=content.get("forced") is True,
        passes_query=content.get("passes_query") is not False,
        conditions=tuple(_condition_from_json(condition) for condition in content.get("conditions", ())),
    )


def _header_to_json(rule: HeaderRule) -> dict[str, Any]:
    content = _pattern_to_json(rule.source) | {
        "set": [[name, None if value is None else list(value)] for name, value in rule.headers]
    }
    if rule.joins:
        content["joins"] = True
    if rule.conditions:
        content["conditions"] = [_condition_to_json(condition) for condition in rule.conditions]
    return content


def _header_from_json(content: Mapping[str, Any]) -> HeaderRule:
    return HeaderRule(
        _pattern_from_json(content),
        tuple((_text(name), None if value is None else _template(value)) for name, value in content["set"]),
        joins=content.get("joins") is True,
        conditions=tuple(_condition_from_json(condition) for condition in content.get("conditions", ())),
    )


def _without_empty(content: Mapping[str, Any]) -> dict[str, Any]:
    return {
        name: list(value) if isinstance(value, tuple) else value
        for name, value in content.items()
        if value not in ((), None, False, "")
    }


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise TypeError(value)
    return value


def _texts(values: Iterable[object]) -> tuple[str, ...]:
    return tuple(_text(value) for value in values)


def _template(parts: Iterable[object]) -> Template:
    if isinstance(parts, str):
        raise TypeError(parts)
    found: list[str | int] = []
    for part in parts:
        if isinstance(part, bool) or not isinstance(part, str | int) or (isinstance(part, int) and part < 0):
            raise TypeError(part)
        found.append(part)
    return tuple(found)
