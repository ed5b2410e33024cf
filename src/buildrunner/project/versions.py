"""Compare versions and ranges by the rules of node-semver, which package.json follows."""

from __future__ import annotations

import re
from contextlib import suppress
from functools import lru_cache
from typing import Any

_UNREADABLE = (ValueError, TypeError, AttributeError, LookupError, RecursionError)  # what node-semver raises
_MAX_CHARACTERS = 200  # characters of a range that are read
_EXACT = re.compile(r"[v=\s]*\d{1,9}\.\d{1,9}\.\d{1,9}(?:-[\w.-]{1,50})?\s*", re.ASCII)


def satisfies(version: str, wanted: str) -> bool:
    """Return whether a version is in a range; an unreadable range contains nothing."""
    import nodesemver

    found = _range(wanted)
    with suppress(*_UNREADABLE):
        return found is not None and bool(found.test(nodesemver.make_semver(version, True)))
    return False


def is_range(text: str) -> bool:
    """Return whether node-semver can read a range."""
    return _range(text) is not None


def is_exact(text: str) -> bool:
    """Return whether a range is a single exact version."""
    return _EXACT.fullmatch(text) is not None


def intersects(*ranges: str) -> bool:
    """Return whether any release satisfies all ranges.

    The lowest such release is a bound of one of the ranges, the patch release after it, or 0.0.0, so only these are tested.
    """
    candidates = {"0.0.0"}
    for text in ranges:
        for comparators in getattr(_range(text), "set", ()):
            for comparator in comparators:
                with suppress(*_UNREADABLE):
                    bound = comparator.semver
                    patch = bound.patch + (comparator.operator == ">" and not bound.prerelease)
                    candidates.add(f"{bound.major}.{bound.minor}.{patch}")
                    if bound.prerelease:
                        candidates.add(str(bound))
    return any(all(satisfies(version, text) for text in ranges) for version in candidates)


def numbers(version: str) -> tuple[int, ...]:
    """Return the numbers of a version as a sort key for releases; a prerelease suffix is ignored."""
    return tuple(int(part) for part in re.findall(r"\d{1,9}", version)[:3])


def is_below(versions: str, line: int) -> bool:
    """Return whether a range such as `^4.0.3` or `3 || 4` only allows versions below the major version `line`."""
    if re.search(r">|\*|latest|next|canary|:|/", versions):
        return False
    majors = re.findall(r"(?:^|[\s|])[\^~=v]*(\d{1,9})", versions)
    return bool(majors) and max(map(int, majors)) < line


def major(version: str) -> int:
    return next(iter(numbers(version)), 0)


@lru_cache(maxsize=1024)
def _range(text: str) -> Any:
    """Parse a range once: it is compared with hundreds of versions."""
    import nodesemver

    with suppress(*_UNREADABLE):
        # node-semver takes seconds for 200 spaces.
        return nodesemver.make_range(" ".join(text.replace(",", " ").split())[:_MAX_CHARACTERS], True)
    return None
