"""Read `redirects`, `rewrites`, `headers`, `cleanUrls` and `trailingSlash` in vercel.json.

https://vercel.com/docs/project-configuration/vercel-json
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from buildrunner.routing.document import MAX_RULES, REDIRECTS, Condition, HeaderRule, Rule, Template
from buildrunner.routing.expressions import MAX_PROGRAMS, compile_expression, escape, program_size
from buildrunner.routing.header_values import check_header
from buildrunner.routing.locate import json_item_lines, line_of
from buildrunner.routing.path_to_regexp import compile_vercel_source
from buildrunner.routing.sources import RuleError, check_destination, fill_template
from buildrunner.routing.warnings import Warnings, shown

_MAX_CONDITIONS = 16  # Vercel's limit
_MAX_HEADERS = 100
# Placeholders: `:name` with or without a modifier, `{:name}` and `$1`.
_PLACES = re.compile(r"\{:([A-Za-z_][A-Za-z0-9_]*)[*+?]?\}|:([A-Za-z_][A-Za-z0-9_]*)[*+?]?|(\$[1-9][0-9]?)")
_NAMED_PLACES = re.compile(r":([A-Za-z_][A-Za-z0-9_]*)[*+?]?")


@dataclass(frozen=True, slots=True)
class VercelRules:
    """The rules in a vercel.json."""

    redirects: tuple[Rule, ...] = ()
    rewrites: tuple[Rule, ...] = ()
    headers: tuple[HeaderRule, ...] = ()
    clean_urls: bool = False
    trailing_slash: bool | None = None


class _Budget:
    """The total program size that the expressions of a site may have, since they run for each request."""

    def __init__(self) -> None:
        self._left = MAX_PROGRAMS

    def take(self, size: int) -> None:
        if size > self._left:
            raise RuleError("the regular expressions of the file are too large together")
        self._left -= size


def parse_vercel_json(text: str, warnings: Warnings) -> VercelRules:
    """Read the rules in a vercel.json; those that cannot be applied cause a warning with their line."""
    text = text.removeprefix("\ufeff")
    try:
        content = json.loads(text)
        json.dumps(content, ensure_ascii=False).encode()  # fails for a lone surrogate such as "\ud800"
    except json.JSONDecodeError as error:
        warnings.add(error.lineno, "the file is not valid JSON, so it is not applied")
        return VercelRules()
    except (ValueError, RecursionError):
        warnings.add(None, "the file is not valid JSON, so it is not applied")
        return VercelRules()
    if not isinstance(content, dict):
        warnings.add(1, "the file is not a JSON object, so it is not applied")
        return VercelRules()
    if content.get("routes"):
        line = line_of(json_item_lines(text, "routes"), 0)
        warnings.add(line, '"routes" is not supported; use "redirects", "rewrites" and "headers"')
    if content.get("bulkRedirectsPath"):
        line = line_of(json_item_lines(text, "bulkRedirectsPath"), 0)
        warnings.add(line, '"bulkRedirectsPath" is not supported; use "redirects", or a _redirects file in the output')
    budget = _Budget()
    found: dict[str, list[Any]] = {"redirects": [], "rewrites": [], "headers": []}
    for name, read in (("redirects", _redirect), ("rewrites", _rewrite), ("headers", _headers)):
        for item, line in _items(content, text, name, warnings):
            try:
                rule, reasons = read(item, budget)
            except RuleError as error:
                source = item.get("source")
                warnings.add(line, f"{name} for {shown(str(source))} are not applied: {error}")
            else:
                if rule:
                    found[name].append(rule)
                for reason in reasons:
                    warnings.add(line, reason)
    switches = {name: content.get(name) for name in ("cleanUrls", "trailingSlash")}
    for name, value in switches.items():
        if value is not None and not isinstance(value, bool):
            warnings.add(
                line_of(json_item_lines(text, name), 0), f'"{name}" is not true or false, so it is not applied'
            )
            switches[name] = None
    return VercelRules(
        tuple(found["redirects"]),
        tuple(found["rewrites"]),
        tuple(found["headers"]),
        clean_urls=bool(switches["cleanUrls"]),
        trailing_slash=switches["trailingSlash"],
    )


def _items(
    content: Mapping[str, Any], text: str, name: str, warnings: Warnings
) -> list[tuple[Mapping[str, Any], int | None]]:
    items = content.get(name)
    if items is None:
        return []
    lines = json_item_lines(text, name)
    if isinstance(items, dict) and name == "rewrites":  # for services, which a static site doesn't have
        items = None
    if not isinstance(items, list):
        warnings.add(line_of(lines, 0), f'"{name}" is not an array, so it is not applied')
        return []
    found: list[tuple[Mapping[str, Any], int | None]] = []
    for number, item in enumerate(items, start=1):
        line = line_of(lines, number)
        if number > MAX_RULES:
            warnings.add(line, f'"{name}" after the first {MAX_RULES:,} are not applied')
            break
        if isinstance(item, dict):
            found.append((item, line))
        else:
            warnings.add(line, f'an item of "{name}" is not an object, so it is not applied')
    return found


def _redirect(item: Mapping[str, Any], budget: _Budget) -> tuple[Rule, list[str]]:
    permanent, status = item.get("permanent"), item.get("statusCode")
    if isinstance(permanent, bool):
        status = 308 if permanent else 307
    elif status is None:
        status = 308
    if isinstance(status, bool) or status not in REDIRECTS:
        raise RuleError(f'"{shown(str(status))}" is not a redirect status code')
    return _rule(item, status, budget)


def _rewrite(item: Mapping[str, Any], budget: _Budget) -> tuple[Rule, list[str]]:
    return _rule(item, 200, budget)


def _rule(item: Mapping[str, Any], status: int, budget: _Budget) -> tuple[Rule, list[str]]:
    source, destination = item.get("source"), item.get("destination")
    if not isinstance(source, str) or not isinstance(destination, str):
        raise RuleError('"source" or "destination" is not a string')
    check_destination(destination, status)
    pattern, size = compile_vercel_source(source)
    conditions, more = _conditions(item)
    budget.take(size + more)
    numbers = _numbers(pattern.names, conditions)
    template = fill_template(destination, _PLACES, numbers)
    unknown = [
        name
        for part in template
        if isinstance(part, str)
        for groups in _PLACES.findall(part)
        if (name := groups[0] or groups[1])
    ]
    reasons = [f"its source has no :{name}, so the destination contains that text literally" for name in unknown[:1]]
    rule = Rule(pattern, template, status, passes_query="?" not in destination, conditions=conditions)
    return rule, reasons


def _numbers(names: Sequence[str], conditions: Sequence[Condition]) -> dict[str, int]:
    """Return the index of the capture for each name; names in conditions take precedence over those in the source."""
    all_names = [*names, *(name for condition in conditions if not condition.absent for name in condition.names)]
    by_place = {f"${number + 1}": number for number in range(len(names))}
    return by_place | {name: number for number, name in enumerate(all_names) if name}


def _conditions(item: Mapping[str, Any]) -> tuple[tuple[Condition, ...], int]:
    """Return the conditions in `has` and `missing`, and the program size of their expressions."""
    found: list[Condition] = []
    for member in ("has", "missing"):
        entries = item.get(member) or []
        if not isinstance(entries, list) or len(entries) > _MAX_CONDITIONS:
            raise RuleError(f'"{member}" is not an array of at most {_MAX_CONDITIONS} conditions')
        for entry in entries:
            if not isinstance(entry, dict):
                raise RuleError(f'an item of "{member}" is not an object')
            condition = _condition(entry)
            found.append(replace(condition, absent=True, names=()) if member == "missing" else condition)
    size = program_size([condition.regex for condition in found if condition.regex is not None])
    return tuple(found), size


def _condition(entry: Mapping[str, Any]) -> Condition:
    kind, key, value = entry.get("type"), entry.get("key", ""), entry.get("value")
    if not isinstance(key, str):
        raise RuleError('the "key" of a condition is not a string')
    if kind == "header" and key.lower() == "host":
        kind, key = "host", ""
    if kind == "header":
        key = key.lower()
        if key.startswith("x-vercel-"):
            raise RuleError(f"conditions on {shown(key)}, which only Vercel sends, are not supported")
        if key in {"cookie", "authorization"}:
            raise RuleError(f"conditions on the header {key} are not supported")
    elif kind == "cookie":
        raise RuleError("conditions on cookies are not supported")
    elif kind not in {"query", "host"}:
        raise RuleError(f'conditions of type "{shown(str(kind))}" are not supported')
    if kind != "host" and not key:
        raise RuleError('a condition has no "key"')
    if value is None:
        if kind == "host":
            raise RuleError('a condition on the host has no "value"')
        return Condition(kind, key, names=(key,))
    regex = _regex_of(value)
    expression = compile_expression(regex)
    if not expression:
        raise RuleError("the expression of a condition is not valid, too large, or uses look-around or back-references")
    return Condition(kind, key if kind != "host" else "", regex, expression.names)


def _regex_of(value: object) -> str:
    """Return the expression for a condition's value: a string, or an object with one comparison."""
    if isinstance(value, str):
        return value
    if isinstance(value, dict) and len(value) == 1:
        ((how, operand),) = value.items()
        if how == "inc" and isinstance(operand, list) and all(isinstance(item, str) for item in operand):
            return "|".join(escape(item) for item in operand)
        if isinstance(operand, str | int) and how in {"eq", "pre", "suf", "re"}:
            text = str(operand)
            return {"eq": escape(text), "pre": f"{escape(text)}.*", "suf": f".*{escape(text)}", "re": text}[how]
    raise RuleError('the "value" of a condition is not supported')


def _headers(item: Mapping[str, Any], budget: _Budget) -> tuple[HeaderRule | None, list[str]]:
    source, entries = item.get("source"), item.get("headers")
    if not isinstance(source, str) or not isinstance(entries, list):
        raise RuleError('"source" is not a string or "headers" is not an array')
    if len(entries) > _MAX_HEADERS:
        raise RuleError(f"a source has at most {_MAX_HEADERS} headers")
    pattern, size = compile_vercel_source(source)
    conditions, more = _conditions(item)
    budget.take(size + more)
    numbers = _numbers(pattern.names, conditions)
    headers: list[tuple[str, Template | None]] = []
    reasons: list[str] = []
    for entry in entries:
        name = entry.get("key") if isinstance(entry, dict) else None
        value = entry.get("value") if isinstance(entry, dict) else None
        try:
            if not isinstance(name, str) or not isinstance(value, str):
                raise RuleError('its "key" or "value" is not a string')
            check_header(name, value)
            headers.append((name, fill_template(value, _NAMED_PLACES, numbers)))
        except RuleError as error:
            reasons.append(f"the header {shown(str(name))} for {shown(source)} is not applied: {error}")
    rule = HeaderRule(pattern, tuple(headers), joins=False, conditions=conditions) if headers else None
    return rule, reasons
