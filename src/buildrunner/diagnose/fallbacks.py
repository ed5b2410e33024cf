"""What a failed build is retried with: a variable, or another line of Node, by the rule that knows its output."""

from __future__ import annotations

import re
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from buildrunner.diagnose.rule import BuildFallback

LEGACY_OPENSSL = "--openssl-legacy-provider"
# Node 16 and older do not start with an option that they do not know.
OPTIONS_OF_LATER_NODES = frozenset(
    {
        LEGACY_OPENSSL,
        "--no-experimental-require-module",
        # Some packages take a global fetch for a browser, as Node has one from 18 on. --no-experimental-fetch is gone since 24.
        "--import=data:text/javascript,delete%20globalThis.fetch",
    }
)


def find_fallbacks(output: str, tried: Sequence[BuildFallback]) -> list[BuildFallback]:
    """Return what a failed build may be retried with: variables first, then other lines of Node.

    Args:
        output: of the build, without colors.
        tried: the fallbacks that it has been retried with; a line of Node leaves only older ones.

    """
    from buildrunner.diagnose.rules import load_rules

    oldest = min((each.node for each in tried if each.node), default=sys.maxsize)
    found = [
        rule.fallback
        for rule in load_rules()
        if rule.fallback
        and rule.fallback not in tried
        and (rule.fallback.node or 0) < oldest
        and all(re.search(pattern, output, re.MULTILINE) for pattern in rule.patterns)
    ]
    return sorted(found, key=lambda each: each.node is not None)
