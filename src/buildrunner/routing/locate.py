"""Find the line numbers of rules in TOML and JSON, which the parsers don't report."""

from __future__ import annotations

import re
from collections.abc import Sequence

_JSON_MARK = re.compile(r'"(?:[^"\\\n]|\\.){0,100000}"|[\[\]{}:,]|\n')


def toml_table_lines(text: str, name: str) -> Sequence[int]:
    """Return the line numbers (from 1) of the headers `[[name]]`, in order."""
    header = re.compile(rf"\s*\[\[\s*[\"']?{name}[\"']?\s*\]\]")
    return [number for number, line in enumerate(text.split("\n"), start=1) if header.match(line[:1000])]


def toml_key_line(text: str, name: str) -> int | None:
    """Return the line number of `name = …`, for an inline array; None if there is none."""
    key = re.compile(rf"\s*[\"']?{name}[\"']?\s*=")
    return next((number for number, line in enumerate(text.split("\n"), start=1) if key.match(line[:1000])), None)


def json_item_lines(text: str, name: str) -> Sequence[int]:
    """Return the line number of the member `name` in a JSON object, and those of the items of its array."""
    line = 1
    depth = 0
    previous = ""
    inside = False
    lines: list[int] = []
    for found in _JSON_MARK.finditer(text):
        mark = found[0]
        if mark == "\n":
            line += 1
            continue
        if mark in "[{":
            if inside and depth == 2:
                lines.append(line)
            depth += 1
        elif mark in "]}":
            depth -= 1
            inside = inside and depth > 1
        elif mark == ":":
            if depth == 1 and previous == f'"{name}"':
                lines, inside = [line], True
            elif depth == 1:
                inside = False
        elif inside and depth == 2 and mark != ",":
            lines.append(line)
        previous = mark
    return lines


def line_of(lines: Sequence[int], number: int) -> int | None:
    """Return the line number of an item, which is counted from 0; the last known line if there are more items than lines."""
    return lines[number] if number < len(lines) else (lines[-1] if lines else None)
