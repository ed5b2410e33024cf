"""List the known package managers, and look them up by name, lockfile and command."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from itertools import islice
from typing import Any

from buildrunner.project.package_managers.bun import BUN
from buildrunner.project.package_managers.npm import NPM
from buildrunner.project.package_managers.pnpm import PNPM
from buildrunner.project.package_managers.record import Lockfile, PackageManager
from buildrunner.project.package_managers.yarn import YARN_BERRY, YARN_CLASSIC

# If several lockfiles match package.json equally well, the first manager's is used. npm comes last because its lockfile is most
# often committed by accident.
PACKAGE_MANAGERS: tuple[PackageManager, ...] = (PNPM, YARN_CLASSIC, YARN_BERRY, BUN, NPM)
DEFAULT_MANAGER = NPM

# By name. The version determines which of the two Yarn records applies.
MANAGERS: Mapping[str, PackageManager] = {
    record.name: record for record in PACKAGE_MANAGERS if record is not YARN_BERRY
}
LOCKFILES: Mapping[str, tuple[PackageManager, Lockfile]] = {
    lockfile.name: (MANAGERS[record.name], lockfile) for record in PACKAGE_MANAGERS for lockfile in record.lockfiles
}
CONFIG_FILES: tuple[str, ...] = tuple(
    dict.fromkeys(("package.json", *(name for record in PACKAGE_MANAGERS for name in record.config_files)))
)
FOLDER_OPTIONS: Mapping[str, tuple[str, ...]] = {name: record.folder_options for name, record in MANAGERS.items()}
_MAX_SCRIPTS = 500  # scripts of a package.json that are followed


def find_called_managers(scripts: Mapping[str, Any], texts: Sequence[str]) -> set[str]:
    """Return the managers, other than npm, that scripts call: a script of an npm project may run `yarn clean`.

    Args:
        scripts: the scripts in package.json.
        texts: commands and names of scripts that the build runs; the scripts that they call are followed.

    """
    names = {
        program: name
        for name, record in MANAGERS.items()
        for program in (name, *record.aliases, *record.wrappers)
        if record is not DEFAULT_MANAGER
    }
    program = re.compile(rf"(?:^|[\s;&|(\"'])({'|'.join(map(re.escape, names))})(?=[\s\"']|$)")
    waiting, seen = list(texts), set[str]()
    found: set[str] = set()
    while waiting:
        text = waiting.pop()[:10_000]
        found |= {names[called] for called in program.findall(text)}
        words = set(re.findall(r"[\w:.@/-]+", text))
        for name, script in islice(scripts.items(), _MAX_SCRIPTS):
            if name in words and name not in seen and isinstance(script, str):
                seen.add(name)
                waiting.append(script)
    return found


def run_lines(script: str) -> list[str]:
    """List the command lines that run a script, for every manager."""
    return [line for name in MANAGERS for line in (f"{name} run {script}", f"{name} {script}")]


def install_lines() -> list[str]:
    """List the command lines that only install dependencies, for every manager."""
    rests = ("", " install", " i", " ci", " install --frozen-lockfile", " install --legacy-peer-deps")
    usual = [f"{name}{rest}" for name in MANAGERS for rest in rests]
    return [*usual, *(" ".join(record.frozen[0].command) for record in PACKAGE_MANAGERS)]
