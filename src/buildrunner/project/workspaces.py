"""Find workspaces of npm, Yarn, Bun and pnpm, and their packages."""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Iterable, Sequence
from contextlib import suppress
from pathlib import Path

from buildrunner.project.files import ancestors, find_folders, is_file, read_yaml
from buildrunner.project.package_json import read_package

_MEMBER_DEPTH = 4  # levels of folders that are searched for packages, such as packages/ui/core
_MAX_PATTERNS = 100
_MAX_PARTS = 10  # path segments in a pattern
_BRACES = re.compile(r"\{([^{}]*)\}")


class Workspaces:
    """The workspaces of a checkout; the packages of each are searched once."""

    def __init__(self, checkout: Path) -> None:
        self._checkout = checkout
        self._members: dict[Path, tuple[Path, ...]] = {}

    def find_root(self, folder: Path) -> Path | None:
        """Return the top folder of the workspace that `folder` belongs to; None if it belongs to none."""
        for place in ancestors(folder, self._checkout):
            patterns = self._read_patterns(place)
            if patterns and (place == folder or matches(folder.relative_to(place).parts, patterns)):
                return place
        return None

    def members(self, root: Path) -> tuple[Path, ...]:
        """List the packages of the workspace with the top folder `root`."""
        if root not in self._members:
            patterns = self._read_patterns(root)
            self._members[root] = tuple(
                folder
                for folder in (find_folders(root, _MEMBER_DEPTH) if patterns else ())
                if is_file(folder / "package.json") and matches(folder.relative_to(root).parts, patterns)
            )
        return self._members[root]

    def _read_patterns(self, place: Path) -> tuple[str, ...]:
        """Read the patterns of package folders from package.json (npm, Yarn, Bun) and pnpm-workspace.yaml."""
        found: list[object] = []
        workspaces = read_package(place, self._checkout).get("workspaces")
        if isinstance(workspaces, dict):
            workspaces = workspaces.get("packages")
        if isinstance(workspaces, list):
            found += workspaces
        with suppress(ValueError):
            named = (read_yaml(place / "pnpm-workspace.yaml", self._checkout) or {}).get("packages")
            found += named if isinstance(named, list) else []
        patterns = [pattern[:200] for pattern in found[:_MAX_PATTERNS] if isinstance(pattern, str)]
        return tuple(one for pattern in patterns for one in _expand_braces(pattern))[:_MAX_PATTERNS]


def matches(parts: Sequence[str], patterns: Sequence[str]) -> bool:
    """Return whether a folder belongs to a workspace: the last matching pattern decides, and ! excludes."""
    found = False
    for pattern in patterns:
        wanted = [part for part in pattern.lstrip("!").split("/") if part not in {"", "."}]
        if len(wanted) <= _MAX_PARTS and match_parts(parts, wanted):
            found = not pattern.startswith("!")
    return found


def _expand_braces(pattern: str) -> list[str]:
    """Expand the braces in a pattern: {apps,packages}/* becomes apps/* and packages/*."""
    patterns = [pattern]
    while (braces := _BRACES.search(patterns[0])) and len(patterns) <= _MAX_PATTERNS:
        start, end = braces.span()
        first = patterns.pop(0)
        patterns += [f"{first[:start]}{part}{first[end:]}" for part in braces[1].split(",")]
    return patterns[:_MAX_PATTERNS]


def match_parts(parts: Sequence[str], wanted: Sequence[str]) -> bool:
    """Return whether a path matches a pattern, both split at "/", in one pass; ** matches any number of folders."""

    def skip_stars(positions: Iterable[int]) -> set[int]:
        found = set(positions)
        for position in range(len(wanted)):
            if position in found and wanted[position] == "**":
                found.add(position + 1)
        return found

    positions = skip_stars([0])  # indexes in `wanted` from which the rest of the path may match
    for part in parts:
        positions = skip_stars(
            position + (wanted[position] != "**")
            for position in positions
            if position < len(wanted) and (wanted[position] == "**" or fnmatch.fnmatchcase(part, wanted[position]))
        )
    return len(wanted) in positions
