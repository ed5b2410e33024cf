"""Read `[[redirects]]` and `[[headers]]` in netlify.toml.

https://docs.netlify.com/build/configure-builds/file-based-configuration/#redirects
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from buildrunner.routing.document import MAX_RULES, HeaderRule, Rule
from buildrunner.routing.header_values import check_header
from buildrunner.routing.locate import line_of, toml_key_line, toml_table_lines
from buildrunner.routing.netlify_rules import compile_rule
from buildrunner.routing.sources import RuleError, compile_source, is_url
from buildrunner.routing.warnings import Warnings, shown

# The time to parse a line of a table is proportional to the length of the table's header.
_MAX_HEADER_CHARACTERS = 1_000
_MAX_HEADERS = 100
_ERROR_LINE = re.compile(r"at line ([0-9]+)")


@dataclass(frozen=True, slots=True)
class NetlifyRules:
    """The rules of a netlify.toml."""

    rules: tuple[Rule, ...] = ()
    headers: tuple[HeaderRule, ...] = ()


def parse_netlify_toml(text: str, warnings: Warnings) -> NetlifyRules:
    """Read the rules in a netlify.toml; those that cannot be applied cause a warning with their line."""
    for number, line in enumerate(text.split("\n"), start=1):
        if len(line) > _MAX_HEADER_CHARACTERS and line.lstrip().startswith("["):
            warnings.add(number, "the line is too long, so the file is not applied")
            return NetlifyRules()
    try:
        content = tomllib.loads(text.removeprefix("\ufeff").replace("\r\n", "\n"))
    except (ValueError, RecursionError) as error:
        found = _ERROR_LINE.search(str(error))
        at_end = text.count("\n") + 1 if "end of document" in str(error) else None
        warnings.add(int(found[1]) if found else at_end, "the file is not valid TOML, so it is not applied")
        return NetlifyRules()
    rules = [
        rule for table, line in _tables(content, text, "redirects", warnings) if (rule := _rule(table, line, warnings))
    ]
    headers = [
        header
        for table, line in _tables(content, text, "headers", warnings)
        if (header := _header(table, line, warnings))
    ]
    return NetlifyRules(tuple(rules), tuple(headers))


def _tables(
    content: Mapping[str, Any], text: str, name: str, warnings: Warnings
) -> list[tuple[Mapping[str, Any], int | None]]:
    tables = content.get(name, [])
    lines = toml_table_lines(text, name)
    inline = None if lines else toml_key_line(text, name)
    if not isinstance(tables, list):
        warnings.add(inline, f"{name} is not an array of tables ([[{name}]]), so it is not applied")
        return []
    found: list[tuple[Mapping[str, Any], int | None]] = []
    for number, table in enumerate(tables):
        line = line_of(lines, number) if lines else inline
        if number == MAX_RULES:
            warnings.add(line, f"{name} after the first {MAX_RULES:,} are not applied")
            break
        if isinstance(table, dict):
            found.append((table, line))
        else:
            warnings.add(line, f"an item of {name} is not a table, so it is not applied")
    return found


def _rule(table: Mapping[str, Any], line: int | None, warnings: Warnings) -> Rule | None:
    source = table.get("from", table.get("origin"))
    destination = table.get("to", table.get("destination"))
    try:
        if not isinstance(source, str) or not source.strip():
            raise RuleError('it has no "from"')
        if destination is not None and not isinstance(destination, str):
            raise RuleError('"to" is not a string')
        query = table.get("query", table.get("params", table.get("parameters", {})))
        conditions = table.get("conditions", {})
        force = table.get("force", False)
        if not isinstance(query, dict) or not isinstance(conditions, dict):
            raise RuleError('"query" or "conditions" is not a table')
        if not isinstance(force, bool):
            raise RuleError('"force" is not true or false')
        if name := next((name for name in ("edge_handler", "edge_handlers", "rate_limit") if name in table), None):
            raise RuleError(f'"{name}" is not supported')
        rule, warning = compile_rule(
            _with_slash(source.strip()),
            None if destination is None else _with_slash(destination.strip()),
            _status(table.get("status", 301)),
            forced=force,
            query={name: _parameter(value) for name, value in query.items()},
            conditions=conditions,
        )
    except RuleError as error:
        warnings.add(line, f"the redirect from {shown(str(source))} is not applied: {error}")
        return None
    if warning:
        warnings.add(line, warning)
    return rule


def _with_slash(text: str) -> str:
    return text if is_url(text) or text.startswith("/") else f"/{text}"


def _status(value: object) -> int:
    text = str(value)
    if isinstance(value, bool) or not re.fullmatch(r"[0-9]{3}", text):
        raise RuleError(f'"{shown(text)}" is not a status code')
    return int(text)


def _parameter(value: object) -> str:
    if isinstance(value, bool) or not isinstance(value, str | int):
        raise RuleError('a value in "query" is not a string')
    return str(value)


def _header(table: Mapping[str, Any], line: int | None, warnings: Warnings) -> HeaderRule | None:
    path = table.get("for")
    values = table.get("values", {})
    try:
        if not isinstance(path, str):
            raise RuleError('it has no "for"')
        if not isinstance(values, dict):
            raise RuleError('"values" is not a table')
        if len(values) > _MAX_HEADERS:
            raise RuleError(f"a path has at most {_MAX_HEADERS} headers")
        source, conditions = compile_source(_with_slash(path.strip()))
    except RuleError as error:
        warnings.add(line, f"the headers for {shown(str(path))} are not applied: {error}")
        return None
    headers: list[tuple[str, tuple[str | int, ...]]] = []
    for raw_name, raw_value in values.items():
        name = raw_name.strip()
        try:
            value = _value(raw_value)
            check_header(name, value)
        except RuleError as error:
            warnings.add(line, f"the header {shown(name)} for {shown(path)} is not applied: {error}")
        else:
            headers.append((name, (value,)))
    return HeaderRule(source, tuple(headers), joins=True, conditions=conditions) if headers else None


def _value(value: object) -> str:
    """Return the value as a single line: the items of an array, or of a comma-separated string, joined by commas."""
    items = value.split(",") if isinstance(value, str) else value
    if isinstance(items, list) and all(isinstance(item, str) for item in items):
        return ", ".join(item.strip() for item in items)
    raise RuleError("its value is not a string")
