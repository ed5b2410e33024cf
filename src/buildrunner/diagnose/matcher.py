"""Known causes of failures, and what to do about each.

A rule is data with a stable id (`rules`); each area has a module of them. They are tried in order of certainty: what ends a
command for sure comes before what is only frequent, and what many programs print and survive comes last. What a script said
that ended well, before the one that failed began, counts only where the rest says nothing.

What no rule knows can be quoted (`quoting`).
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace

from buildrunner.diagnose.missing_module import find_missing_module
from buildrunner.diagnose.quote import MOST_CHARACTERS, quote_failure
from buildrunner.diagnose.rule import FailedCommand, Rule, render
from buildrunner.diagnose.rules import code, environment, frameworks, installing, machine, native, node, scripts
from buildrunner.diagnose.rules.installing import FailedScript, find_failed_script

__all__ = [
    "MOST_CHARACTERS",
    "RULES",
    "Explanation",
    "FailedCommand",
    "FailedScript",
    "find_failed_script",
    "find_hint",
    "quote_failure",
]

# All patterns are bounded, and so is what they are searched in (MOST_CHARACTERS): a hostile build decides what it prints.
_CERTAIN = (
    *machine.RULES,
    *installing.LOCKFILES_AND_REGISTRIES,
    *native.RULES,  # above the network, because gyp looks for its headers there
    *node.RULES,
    *installing.NETWORK_AND_MANIFESTS,
    *frameworks.RULES,
    *environment.RULES,
    *scripts.RULES,
)
_OF_CODE = code.RULES  # where no module is missing
_WEAK = (*installing.WEAK, *scripts.WEAK)  # what many programs print and continue
RULES: tuple[Rule, ...] = (*_CERTAIN, *_OF_CODE, *_WEAK)
# Rules whose match is a summary: what it is about stands far above.
_SUMMARIES = frozenset(
    {"eslint-errors", "eslint-errors-of-framework", "ci-warnings-as-errors", "prerender-failed", "syntax-error"}
)
# The line with which a manager announces a script: what stands above it did not fail.
_SCRIPT_STARTS = re.compile(r"^(?:> \S{1,200}@\S{1,50} [\w:.-]{1,100}(?: /[^\n]{0,500})?$|\$ \S)", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Explanation:
    """Why a command failed and what to do."""

    rule: str  # its id
    text: str
    start: int = 0  # where its pattern matched, in the last `MOST_CHARACTERS` of the output
    end: int = 0
    file: str | None = None  # as printed, where the rule knows it
    anywhere: bool = False  # the place of the error may be far above the match


def find_hint(failed: FailedCommand) -> Explanation | None:
    """Find the most certain cause of a failure, and what to do about it."""
    text = failed.text[-MOST_CHARACTERS:]
    last = max((match.start() for match in _SCRIPT_STARTS.finditer(text)), default=0)
    starts = (last, 0) if last else (0,)
    for start in starts:
        each = text[start:]
        if (
            found := _first(_COMPILED_CERTAIN, each, failed)
            or _missing(failed, each)
            or _first(_COMPILED_OF_CODE, each, failed)
        ):
            return _moved(found, start)
    return next(
        (_moved(found, start) for start in starts if (found := _first(_COMPILED_WEAK, text[start:], failed))), None
    )


def _moved(found: Explanation, start: int) -> Explanation:
    return replace(found, start=found.start + start, end=found.end + start)


_Compiled = Sequence[tuple[Rule, tuple[re.Pattern[str], ...]]]


def _compiled(rules: Sequence[Rule]) -> _Compiled:
    return [
        (
            rule,
            tuple(
                re.compile(pattern, re.MULTILINE)
                for pattern in ((rule.patterns,) if isinstance(rule.patterns, str) else rule.patterns)
            ),
        )
        for rule in rules
    ]


_COMPILED_CERTAIN, _COMPILED_OF_CODE, _COMPILED_WEAK = _compiled(_CERTAIN), _compiled(_OF_CODE), _compiled(_WEAK)


def _first(rules: _Compiled, text: str, failed: FailedCommand) -> Explanation | None:
    for rule, patterns in rules:
        found = [match for pattern in patterns if (match := _search(pattern, text, last=rule.last))]
        if len(found) < len(patterns):
            continue
        name = next((value for match in found for value in match.groups() if value), "")
        name = failed.relative(re.sub("%2[fF]", "/", name))
        if callable(rule.hint):
            hint = rule.hint(failed, name)
        else:
            hint = render(rule.hint, failed, name) if name or "{name}" not in rule.hint else None
        if hint:
            start, end = found[0].span()
            return Explanation(rule.id, hint, start, end, anywhere=rule.id in _SUMMARIES)
    return None


def _search(pattern: re.Pattern[str], text: str, *, last: bool) -> re.Match[str] | None:
    match = pattern.search(text)
    if match and last:
        *_, match = pattern.finditer(text)
    return match


def _missing(failed: FailedCommand, text: str) -> Explanation | None:
    found = find_missing_module(failed, text)
    return Explanation(found.rule, found.hint, found.start, found.end, found.file) if found else None
