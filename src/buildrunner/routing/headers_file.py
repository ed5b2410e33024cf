"""Read `_headers` files of Netlify and Cloudflare Pages.

A line with a path or URL starts a block. Below it, `Name: value` sets a header, and `! Name` removes a header of an earlier
block. https://docs.netlify.com/manage/routing/headers/ and https://developers.cloudflare.com/pages/configuration/headers/
"""

from __future__ import annotations

from dataclasses import dataclass, field

from buildrunner.routing.document import MAX_RULES, Condition, HeaderRule, Pattern, Template
from buildrunner.routing.header_values import check_header
from buildrunner.routing.sources import RuleError, compile_source, compile_template, is_url
from buildrunner.routing.warnings import Warnings, shown

_MAX_HEADERS = 100  # of one block


@dataclass(slots=True)
class _Block:
    source: Pattern
    conditions: tuple[Condition, ...]
    headers: list[tuple[str, Template | None]] = field(default_factory=list)

    @property
    def names(self) -> list[str]:
        return [*self.source.names, *(name for condition in self.conditions for name in condition.names)]


def parse_headers(text: str, warnings: Warnings) -> tuple[HeaderRule, ...]:
    """Read the rules in a `_headers` file; those that cannot be applied cause a warning with their line."""
    blocks: list[_Block] = []
    block: _Block | None = None
    refused = False  # whether the current block was refused
    for number, raw in enumerate(text.removeprefix("\ufeff").split("\n"), start=1):
        line = raw.strip()
        if not line or line.startswith("#"):
            continue
        try:
            if line.startswith("/") or is_url(line):
                block, refused = None, True
                if len(blocks) == MAX_RULES:
                    warnings.add(number, f"blocks after the first {MAX_RULES:,} are not applied")
                    break
                source, conditions = compile_source(line)
                block, refused = _Block(source, conditions), False
                blocks.append(block)
            elif block:
                _add(block, line)
            elif not refused:
                raise RuleError("it comes before the first path")
        except RuleError as error:
            warnings.add(number, f'"{shown(line)}" is not applied: {error}')
    return tuple(
        HeaderRule(block.source, tuple(block.headers), joins=True, conditions=block.conditions)
        for block in blocks
        if block.headers
    )


def _add(block: _Block, line: str) -> None:
    name: str
    value: str | None
    if line.startswith("!"):
        name, value = line[1:].strip(), None
    else:
        name, colon, value = (part.strip() for part in line.partition(":"))
        if not colon:
            raise RuleError('it has no ":" between the name and the value')
    check_header(name, value)
    if len(block.headers) == _MAX_HEADERS:
        raise RuleError(f"a path has at most {_MAX_HEADERS} headers")
    block.headers.append((name, None if value is None else compile_template(value, block.names)))
