"""Choose among the releases of a package, and find the programs in one."""

from __future__ import annotations

import json
import platform
from collections.abc import Iterable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from buildrunner.project.package_managers.record import PackageManager
from buildrunner.project.versions import major, numbers
from buildrunner.toolchain.registry import Release

_MACHINES = {"x86_64": "x64", "amd64": "x64", "aarch64": "arm64", "arm64": "arm64"}


def machine_name() -> str:
    return _MACHINES.get(platform.machine().lower(), platform.machine())


def node_package() -> str:
    return f"node-linux-{machine_name()}"


def find_commands(manager: PackageManager, package: Path) -> dict[str, str]:
    """Return the commands of a manager, and the file in its unpacked package for each."""
    fetching = manager.fetching
    if fetching.program:
        return dict.fromkeys(fetching.commands, fetching.program)
    bins: Any = None
    with suppress(OSError, ValueError):
        bins = json.loads((package / "package.json").read_text()).get("bin")
    if not isinstance(bins, dict):
        bins = {}
    if fetching.native and manager.name not in bins and (package / manager.name).is_file():
        bins = {manager.name: manager.name}
    return {command: str(bins[command]) for command in fetching.commands if command in bins}


def newest(releases: Iterable[Release]) -> Release | None:
    return max(releases, key=lambda release: numbers(release.version), default=None)


def shown_range(releases: Sequence[Release]) -> str:
    plain = sorted((r.version for r in releases if "-" not in r.version), key=numbers)
    return f"{plain[0]} to {plain[-1]}" if plain else "none"


def is_of_line(version: str, line: int) -> bool:
    return "-" not in version and major(version) == line
