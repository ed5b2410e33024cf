"""Read `_redirects` files of Netlify and Cloudflare Pages.

A line is `source [parameter=value …] destination [status[!]] [Condition=value …]`; `#` starts a comment.
https://docs.netlify.com/manage/routing/redirects/overview/#syntax-for-the-_redirects-file
https://developers.cloudflare.com/pages/configuration/redirects/
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from buildrunner.routing.document import MAX_RULES, Rule
from buildrunner.routing.netlify_rules import compile_rule
from buildrunner.routing.sources import RuleError, is_url
from buildrunner.routing.warnings import Warnings, shown

_MAX_LINE_CHARACTERS = 4_000
_MAX_WORDS = 50
_STATUS = re.compile(r"([0-9]{3})(!?)")


def parse_redirects(text: str, warnings: Warnings) -> tuple[Rule, ...]:
    """Read the rules in a `_redirects` file; those that cannot be applied cause a warning with their line."""
    rules: list[Rule] = []
    for number, line in enumerate(text.removeprefix("\ufeff").split("\n"), start=1):
        words = _words(line)
        if not words:
            continue
        if len(rules) == MAX_RULES:
            warnings.add(number, f"rules after the first {MAX_RULES:,} are not applied")
            break
        try:
            if len(line) > _MAX_LINE_CHARACTERS or len(words) > _MAX_WORDS:
                raise RuleError("the line is too long")
            rule, warning = _parse(words)
        except RuleError as error:
            warnings.add(number, f'"{shown(" ".join(words))}" is not applied: {error}')
        else:
            rules.append(rule)
            if warning:
                warnings.add(number, warning)
    return tuple(rules)


def _words(line: str) -> list[str]:
    words = line.split()
    comment = next((position for position, word in enumerate(words) if word.startswith("#")), len(words))
    return words[:comment]


def _parse(words: Sequence[str]) -> tuple[Rule, str | None]:
    source, *rest = words
    if not rest:
        raise RuleError("it has no destination")
    status = 301  # Netlify's default; Cloudflare's is 302
    forced = False
    if _STATUS.fullmatch(rest[0]):
        query, destination, last = {}, None, rest
    else:
        place = next((position for position, word in enumerate(rest) if word.startswith("/") or is_url(word)), None)
        if place is None:
            raise RuleError('no destination starts with "/", "http://" or "https://"')
        query, destination, last = _pairs(rest[:place]), rest[place], rest[place + 1 :]
    if last and "=" not in last[0]:
        found = _STATUS.fullmatch(last[0])
        if not found:
            raise RuleError(f'"{shown(last[0])}" is not a status code')
        status, forced = int(found[1]), bool(found[2])
        last = last[1:]
    conditions = _pairs(last)
    return compile_rule(source, destination, status, forced=forced, query=query, conditions=conditions)


def _pairs(words: Sequence[str]) -> dict[str, str]:
    pairs: dict[str, str] = {}
    for word in words:
        name, equals, value = word.partition("=")
        if not equals or not name:
            raise RuleError(f'"{shown(word)}" is not a parameter or condition (name=value)')
        pairs[name] = value
    return pairs
