"""Known failures as data: one TOML file per area, read only after a failure.

A `[[rule]]` has these keys:

- `id`: stable; programs know it as the kind of a failure, and docs/troubleshooting.md lists it.
- `patterns`: regular expressions for the output without colors, of which one has to match. Their group `name` is {name} in the
  texts. Repetitions are bounded, except those of digits or letters, as a hostile build decides what is matched. {{part}} stands
  for a part in parts.toml.
- `also`: more patterns, of which one has to match too.
- `reason`: what happened and why. `hint`: what to do. Placeholders: {name}, {at} (the name in brackets, or nothing), and those
  of `FailedCommand.words`: {install}, {add}, {add_dev}, {lockfile}, {manager}, {command}, {stage} and {variable}.
- `advice`: the function in `diagnose.advice` that says reason and hint more exactly; None means that the rule does not apply.
- `file`: the file at fault, where the rule knows it. `last`: the last match counts. `summary`: the place of the error may stand
  anywhere in the output, as the match is only its summary.
- `[rule.fallback]`: what a build is retried with: `variable` ("NAME=value") or `node` (the last line that does not fail so), and
  `remedy`, how to fix it for good.

Rules are tried in the order of `AREAS`, and of their file: what is certain comes first.
"""

from __future__ import annotations

import re
import tomllib
from functools import cache
from pathlib import Path
from typing import Any

from buildrunner.diagnose.rule import BuildFallback, FailedCommand, Rule, render

# In order of certainty. `native` stands above the network, because gyp looks for its headers there; `modules` is code
# (missing_module.py); `weak` has what many programs print and survive.
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
    """Return a part of patterns that rules use as {{name}}, for the advice that needs the same."""
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
    """Return one pattern that matches what any of these does; each has its own group `name`."""
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
