"""Load the rules for known failures, one TOML file per area, which are read only after a failure.

A `[[rule]]` has these keys:

- `id`: a stable id. Programs get it as the kind of a failure, and docs/troubleshooting.md lists it.
- `patterns`: regular expressions for the output without colors; one has to match. Their group `name` is {name} in the texts.
  Repetitions are bounded, except for digits or letters, because a hostile build controls the output. {{part}} inserts a part
  from parts.toml.
- `also`: more patterns, of which one has to match as well.
- `reason`: what happened and why. `hint`: what to do. Placeholders: {name}, {at} (the name in parentheses, or nothing), and
  those of `FailedCommand.words`: {install}, {add}, {add_dev}, {lockfile}, {manager}, {command}, {stage} and {variable}.
- `advice`: a function in `diagnose.advice` that returns a more specific text, or None if the rule does not apply.
- `file`: the file that causes the failure, if it is known. `last`: use the last match. `summary`: the match is a summary, so
  the location may be anywhere in the output.
- `[rule.fallback]`: how a build is retried: `variable` ("NAME=value") or `node` (the last major version that does not fail in
  this way), and `remedy`, how to fix the cause.

Rules are tried in the order of `AREAS`, and of their files: the most certain ones come first.
"""

from __future__ import annotations

import re
import tomllib
from functools import cache
from pathlib import Path
from typing import Any

from buildrunner.diagnose.rule import BuildFallback, FailedCommand, Rule, render

# In order of certainty. `native` comes before network errors, because gyp downloads its headers; `modules` is implemented in
# missing_module.py; `weak` has messages that many programs print without failing.
AREAS = (
    "machine",
    "registry",
    "native",
    "node",
    "manifest",
    "frameworks",
    "environment",
    "scripts",
    "modules",
    "code",
    "weak",
)
_FOLDER = Path(__file__).parent
_PART = re.compile(r"\{\{(\w+)\}\}")


@cache
def load_rules() -> tuple[Rule, ...]:
    """Read all rules, in the order in which they are tried."""
    parts = _parts()
    return tuple(_rule(area, record, parts) for area in AREAS for record in _read(area)["rule"])


def part(name: str) -> str:
    """Return the part of patterns that rules insert as {{name}}, for advice that uses it as well."""
    return _parts()[name]


@cache
def _parts() -> dict[str, str]:
    return _read("parts")


def _read(name: str) -> dict[str, Any]:
    return tomllib.loads((_FOLDER / f"{name}.toml").read_text(encoding="utf-8"))


def _rule(area: str, record: dict[str, Any], parts: dict[str, str]) -> Rule:
    fallback = record.pop("fallback", None)
    try:
        groups = (record.pop("patterns"), record.pop("also", None))
        patterns = tuple(_join(group, parts) for group in groups if group)
        return Rule(area=area, patterns=patterns, fallback=_fallback(record, fallback), **record)
    except KeyError as error:
        raise ValueError(f"{area}.toml, {record.get('id')}: there is no key, part or placeholder {error}") from None
    except TypeError as error:
        raise ValueError(f"{area}.toml, {record.get('id')}: {error}") from None


def _join(patterns: list[str], parts: dict[str, str]) -> str:
    """Return a pattern that matches if any of these does; the groups `name` become `name0`, `name1`, …."""
    whole = [_PART.sub(lambda match: parts[match[1]], pattern) for pattern in patterns]
    return "|".join(pattern.replace("(?P<name>", f"(?P<name{index}>", 1) for index, pattern in enumerate(whole))


def _fallback(rule: dict[str, Any], record: dict[str, Any] | None) -> BuildFallback | None:
    if record is None:
        return None
    variable = record.pop("variable", "")
    what = variable or f"Node {record['node']}"
    reason = f"{render(rule['reason'], FailedCommand(''))} Retrying with {what}."
    name, _, value = variable.partition("=")
    return BuildFallback(reason, variable=(name, value), **record)
