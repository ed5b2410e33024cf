"""List the commands of an install, and those that complete it after install scripts failed."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from buildrunner.project.package_json import read_package
from buildrunner.project.package_managers.npm import own_script_commands
from buildrunner.project.package_managers.record import PACKAGE_NAME, InstallStrategy, ManagerRequirement

_NO_LOCKFILE = (
    "The repository has no lockfile, so each build may get different versions."
    " Run `{name} install` and commit {lockfile}."
)
_NO_SPACE = re.compile(r"ENOSPC|(?i:no space left on device)")
# Packages that don't work without their native part.
_INDISPENSABLE = {"node-sass"}


def list_strategies(manager: ManagerRequirement, *, lockfile: str | None, needed: bool) -> tuple[InstallStrategy, ...]:
    """List the strategies of a manager, frozen ones first.

    Args:
        manager: the required manager.
        lockfile: name of the lockfile; without one, the first strategy is not frozen.
        needed: whether there are dependencies that a lockfile would pin.

    """
    record = manager.record

    def named(strategies: tuple[InstallStrategy, ...]) -> tuple[InstallStrategy, ...]:
        name = lockfile or record.lockfile
        return tuple(
            replace(each, remedy=each.remedy.replace("{lockfile}", name)) if each.remedy else each
            for each in strategies
        )

    loose = named(record.loose)
    if lockfile:
        return named(record.frozen) + loose
    missing = _NO_LOCKFILE.format(name=record.name, lockfile=record.lockfile)
    first = InstallStrategy(loose[0].command, frozen=not needed, remedy=missing if needed else None)
    return (first, *loose[1:])


def find_failed_scripts(manager: ManagerRequirement, output: str, root: Path, checkout: Path) -> tuple[str, ...]:
    """Return the dependencies whose install scripts failed; empty if anything else failed as well.

    Args:
        manager: the manager that ran the install.
        output: the end of the install's output, without colors.
        root: the folder of the install.
        checkout: the top of the repository.

    """
    record = manager.record
    if not record.script_failures:  # an empty pattern would match anything
        return ()
    if record.own_script_failure and re.search(record.own_script_failure, output, re.MULTILINE):
        return ()
    if _NO_SPACE.search(output) or record.script_failure_sign not in output:
        return ()
    pattern = "|".join(record.script_failures).replace("NAME", PACKAGE_NAME)
    names = dict.fromkeys(match[match.lastindex or 0] for match in re.finditer(pattern, output, re.MULTILINE))
    own = read_package(root, checkout).get("name")
    if names.keys() & _INDISPENSABLE or any(name == own or _is_linked(name, root) for name in names):
        return ()
    return tuple(names)


def without_scripts(manager: ManagerRequirement, strategy: InstallStrategy) -> tuple[str, ...]:
    """Return the command of a strategy with the option that skips all install scripts."""
    return (*strategy.command, manager.record.skip_scripts)


def rebuild_command(manager: ManagerRequirement, names: list[str]) -> tuple[str, ...]:
    """Return the command that runs the install scripts of these packages, which `list_skipped` returned."""
    return (manager.name, "rebuild", *names)


def list_own_scripts(
    manager: ManagerRequirement, strategy: InstallStrategy, package: Mapping[str, Any]
) -> list[tuple[str, ...]]:
    """List the commands that run the repository's own install scripts after an install without scripts."""
    match manager.record.own_scripts_by:
        case "install":  # since all packages are installed, it runs no other scripts
            return [strategy.command]
        case "run":
            return own_script_commands(manager.name, package)
        case "none":
            return []


def _is_linked(name: str, root: Path) -> bool:
    """Return whether a package in node_modules is a link to one of the repository's own packages."""
    path = root / "node_modules" / name
    return "node_modules" not in os.path.relpath(os.path.realpath(path), os.path.realpath(root)).split(os.sep)
