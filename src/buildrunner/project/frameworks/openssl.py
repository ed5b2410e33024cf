"""Detect builds that need the hash functions that OpenSSL 3 disables by default.

webpack used MD4 until 5.61 (https://github.com/webpack/webpack/pull/14584), as did the webpack inside Next.js until 12.0.3
(https://github.com/vercel/next.js/issues/30078). Node.js includes OpenSSL 3 since 17; older versions reject the option.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from itertools import islice
from pathlib import Path
from typing import Any

from buildrunner.project.frameworks.app import App
from buildrunner.project.frameworks.table import FRAMEWORKS
from buildrunner.project.versions import is_below

_FIRST_NODE = 17
_FIXED = (("webpack", (5, 61, 0)), ("next", (12, 0, 3)))
_OTHER_PACKAGES = (("laravel-mix", 6),)
_MAX_ENTRIES = 200  # of a lockfile


def needs_legacy_openssl(package: Mapping[str, Any], lockfile: str | None, node_major: int) -> bool:
    """Return whether the build needs `NODE_OPTIONS=--openssl-legacy-provider`.

    Args:
        package: package.json.
        lockfile: the text of any manager's lockfile; None if there is none.
        node_major: major version of the Node.js that will run the build.

    """
    if node_major < _FIRST_NODE:
        return False
    if lockfile:
        return any(version < fixed for name, fixed in _FIXED for version in _find_locked_versions(lockfile, name))
    packages = App(Path(), Path(), package).packages
    firsts = (*(first for framework in FRAMEWORKS for first in framework.openssl_3), *_OTHER_PACKAGES)
    return any(is_below(packages.get(name, ""), first) for name, first in firsts)


def _find_locked_versions(lockfile: str, name: str) -> set[tuple[int, int, int]]:
    """Return the versions of a package in a lockfile of npm, pnpm, Yarn or Bun."""
    version = r"(\d{1,9})\.(\d{1,9})\.(\d{1,9})"
    quoted = re.escape(name)
    patterns = (
        rf'"(?:node_modules/|[^"\n]*/node_modules/)?{quoted}"\s*:\s*\{{\s*"version"\s*:\s*"{version}',  # npm
        rf"(?m)^\"?{quoted}@[^\n]*:\n\s+version:? \"?{version}",  # Yarn
        rf"(?m)^[ \t]+['\"]?/?{quoted}[@/]{version}[^\n]*:[ \t]*$",  # pnpm
        rf'"(?:[^"\n]*/)?{quoted}"\s*:\s*\[\s*"{quoted}@{version}',  # Bun
    )
    found = (match for pattern in patterns for match in islice(re.finditer(pattern, lockfile), _MAX_ENTRIES))
    return {(int(match[1]), int(match[2]), int(match[3])) for match in found}
