"""Find the rule that matches the output of a failed command.

Rules (see `rules`) are tried in order of certainty: errors that always end a command come before those that may, and messages
that many programs print without failing come last. The output of earlier scripts, which succeeded, is searched only if the rest
matches no rule. `quote` handles output that no rule matches.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cache
from importlib import import_module

from buildrunner.diagnose.advice.installing import FailedScript, find_failed_script
from buildrunner.diagnose.missing_module import PACKAGE_MISSING as FIRST
from buildrunner.diagnose.missing_module import find_missing_module
from buildrunner.diagnose.quote import MAX_CHARACTERS, quote_failure
from buildrunner.diagnose.rule import FailedCommand, Rule, render
from buildrunner.diagnose.rules import load_rules

__all__ = [
    "MAX_CHARACTERS",
    "Explanation",
    "FailedCommand",
    "FailedScript",
    "find_failed_script",
    "find_hint",
    "quote_failure",
]

# The line with which a package manager starts a script; scripts above it succeeded.
_SCRIPT_STARTS = re.compile(r"^(?:> \S{1,200}@\S{1,50} [\w:.-]{1,100}(?: /[^\n]{0,500})?$|\$ \S)", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Explanation:
    """The cause of a failure, and what to do about it."""

    rule: str  # the rule's id
    text: str
    start: int = 0  # span of the match, as indexes into the last `MAX_CHARACTERS` of the output
    end: int = 0
    file: str | None = None  # as printed; None if the rule doesn't name it
    anywhere: bool = False  # whether the location may be far above the match


def find_hint(failed: FailedCommand) -> Explanation | None:
    """Return the most certain cause of a failure, and what to do about it; None if no rule matches."""
    text = failed.text[-MAX_CHARACTERS:]
    last = max((match.start() for match in _SCRIPT_STARTS.finditer(text)), default=0)
    starts = (last, 0) if last else (0,)
    rules = _compiled()
    for start in starts:
        each = text[start:]
        if found := next((found for rule in rules.certain if (found := _try(rule, each, failed))), None):
            return replace(found, start=found.start + start, end=found.end + start)
    for start in starts:
        each = text[start:]
        if found := next((found for rule in rules.weak if (found := _try(rule, each, failed))), None):
            return replace(found, start=found.start + start, end=found.end + start)
    return None


@dataclass(frozen=True, slots=True)
class _Compiled:
    rule: Rule
    patterns: tuple[re.Pattern[str], ...]


@dataclass(frozen=True, slots=True)
class _CompiledRules:
    certain: tuple[_Compiled, ...]
    weak: tuple[_Compiled, ...]


@cache
def _compiled() -> _CompiledRules:
    compiled = [
        _Compiled(rule, tuple(re.compile(pattern, re.MULTILINE) for pattern in rule.patterns)) for rule in load_rules()
    ]
    return _CompiledRules(
        tuple(each for each in compiled if each.rule.area != "weak"),
        tuple(each for each in compiled if each.rule.area == "weak"),
    )


def _try(compiled: _Compiled, text: str, failed: FailedCommand) -> Explanation | None:
    rule = compiled.rule
    if not compiled.patterns:
        return _missing(failed, text) if rule.id == FIRST else None
    found = [match for pattern in compiled.patterns if (match := _search(pattern, text, last=rule.last))]
    if len(found) < len(compiled.patterns):
        return None
    name = next((value for match in found for value in match.groups() if value), "")
    name = failed.relative(re.sub("%2[fF]", "/", name))
    if rule.advice:
        hint = _advise(rule.advice)(failed, name)
    else:
        hint = render(rule.text, failed, name) if name or "{name}" not in rule.text else None
    if not hint:
        return None
    start, end = found[0].span()
    file = render(rule.file, failed, name) if rule.file else None
    return Explanation(rule.id, hint, start, end, file, rule.summary)


def _advise(reference: str) -> Callable[[FailedCommand, str], str | None]:
    """Return the function of `diagnose.advice` that a rule names as "module.function"."""
    module, _, name = reference.partition(".")
    function: Callable[[FailedCommand, str], str | None] = getattr(
        import_module(f"buildrunner.diagnose.advice.{module}"), name
    )
    return function


def _search(pattern: re.Pattern[str], text: str, *, last: bool) -> re.Match[str] | None:
    match = pattern.search(text)
    if match and last:
        *_, match = pattern.finditer(text)
    return match


def _missing(failed: FailedCommand, text: str) -> Explanation | None:
    found = find_missing_module(failed, text)
    return Explanation(found.rule, found.hint, found.start, found.end, found.file) if found else None
