"""Find the fallbacks of a failed build: environment variables or older versions of Node.js to retry it with."""

from __future__ import annotations

import re
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from buildrunner.diagnose.rule import BuildFallback

LEGACY_OPENSSL = "--openssl-legacy-provider"
# Node.js 16 and older refuse to start with options that they don't know.
OPTIONS_OF_LATER_NODES = frozenset(
    {
        LEGACY_OPENSSL,
        "--no-experimental-require-module",
        # Some packages mistake the global fetch of Node.js 18 and later for a browser's. 24 removed --no-experimental-fetch.
        "--import=data:text/javascript,delete%20globalThis.fetch",
    }
)


def find_fallbacks(output: str, tried: Sequence[BuildFallback]) -> list[BuildFallback]:
    """Return the fallbacks that a failed build may be retried with: variables first, then older versions of Node.js.

    Args:
        output: the output of the build, without colors.
        tried: fallbacks that were already used; after a Node.js version, only older ones are left.

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
