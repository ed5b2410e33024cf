"""Detect which package manager a repository uses.

The first evidence that exists decides:

| evidence | manager |
|---|---|
| `packageManager`, then `devEngines.packageManager`, of the nearest package.json that has one | the one it names |
| the nearest lockfile, from the app's folder up to the repository's top | its manager |
| several lockfiles in one folder | not one that `engines` forbids; then the one whose lockfile lacks the fewest dependencies; |
| | then the first in `PACKAGE_MANAGERS` |
| volta, `engines`, `only-allow`, or a file that belongs to only one manager (`signs`) | the one it names |
| nothing | npm |

A bun.lockb is not read, so it counts as lacking all dependencies.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from buildrunner.project.files import ancestors, is_file, is_inside
from buildrunner.project.package_json import DEPENDENCY_TABLES, get_table, read_package
from buildrunner.project.package_managers.engines import MAX_RANGE_CHARACTERS, EngineRefusal, read_engine
from buildrunner.project.package_managers.lockfiles import read_lockfile, read_lockfile_or_empty
from buildrunner.project.package_managers.mirrors import find_lockfile_hosts, has_all_digests
from buildrunner.project.package_managers.record import Evidence, ManagerRequirement, PackageManager, Packages
from buildrunner.project.package_managers.table import DEFAULT_MANAGER, LOCKFILES, MANAGERS
from buildrunner.project.package_managers.version import choose_version
from buildrunner.project.versions import is_range

_NAMES = "|".join(MANAGERS)
_FIELD = re.compile(rf"({_NAMES})(?:@([^+\s/:@]{{1,100}})(?:\+(sha\d+)\.([0-9a-fA-F]{{1,200}}))?)?")
_ONLY_ALLOW = re.compile(rf"only-allow(?:@[\w.-]{{1,20}})? ({_NAMES})\b")
_MAX_COMPARED = 1000  # dependencies that are compared with a lockfile


def detect_manager(folder: Path, checkout: Path) -> tuple[ManagerRequirement, Path | None, tuple[str, ...]]:
    """Return the manager of the app in `folder`, its lockfile, and warnings about the choice."""
    packages = [(place, read_package(place, checkout)) for place in ancestors(folder, checkout)]
    notes: list[str] = []
    manager, lockfile = _detect(packages, checkout, notes)
    return choose_version(manager, lockfile, packages, checkout, notes), lockfile, tuple(notes)


def _detect(packages: Packages, checkout: Path, notes: list[str]) -> tuple[ManagerRequirement, Path | None]:
    refusals = _find_refusals(packages)
    lockfiles = list(_find_lockfiles(packages, checkout, refusals))
    named = {_manager_of(path).name for path in lockfiles}
    for _, package in packages:
        manager = _read_fields(package, named, notes)
        if manager:
            lockfile = next((path for path in lockfiles if _manager_of(path) is manager.record), None)
            if not lockfile and lockfiles:
                notes.append(
                    f"{lockfiles[0].name} is ignored because package.json names {manager.label}. Remove it, or run"
                    f" `{manager.name} install` and commit {manager.record.lockfile}."
                )
            return manager, lockfile
    if lockfiles:
        return _choose_lockfile(lockfiles, refusals, packages, checkout, notes)
    for place, package in packages:
        manager = _read_signs(place, package, refusals)
        if manager:
            return manager, None
    refusal = refusals.get(DEFAULT_MANAGER.name)
    if refusal and refusal.instead:
        return ManagerRequirement(MANAGERS[refusal.instead], because=refusal.source), None
    return ManagerRequirement(DEFAULT_MANAGER), None


def _choose_lockfile(
    lockfiles: Sequence[Path],
    refusals: Mapping[str, EngineRefusal],
    packages: Packages,
    checkout: Path,
    notes: list[str],
) -> tuple[ManagerRequirement, Path | None]:
    """Return the manager of the first lockfile, or another one if that manager would refuse to install."""
    lockfile = lockfiles[0]
    first = _manager_of(lockfile)
    refusal = refusals.get(first.name)
    if refusal and (refusal.enforced or first.refuses_outside_engines(Evidence(None, "", packages, checkout))):
        other = MANAGERS[refusal.instead or ("yarn" if first is DEFAULT_MANAGER else DEFAULT_MANAGER.name)]
        notes.append(
            f"{refusal.source} is {refusal.text!a}: ignoring {lockfile.name} and using {other.label}."
            f" Commit {other.lockfile} and remove {lockfile.name}."
        )
        return ManagerRequirement(other, because=refusal.source), None
    others = [path.name for path in lockfiles[1:] if _manager_of(path) is not first]
    if refusal:
        wanted = MANAGERS[refusal.instead].lockfile if refusal.instead else "the lockfile of another manager"
        notes.append(
            f"{refusal.source} is {refusal.text!a}, but the lockfile is {lockfile.name}: using {first.label}."
            f" Commit {wanted} instead."
        )
    elif others:
        notes.append(
            f"There are several lockfiles; using {lockfile.name}. Remove {_join(others)}, or set"
            ' "packageManager" in package.json.'
        )
    return ManagerRequirement(first, because=lockfile.name), lockfile


def _manager_of(lockfile: Path) -> PackageManager:
    record, _ = LOCKFILES[lockfile.name]
    return record


def _find_lockfiles(packages: Packages, checkout: Path, refusals: Mapping[str, EngineRefusal]) -> Iterator[Path]:
    """Yield the lockfiles, nearest folder first; within a folder, the one that matches package.json best comes first."""
    for place, package in packages:
        found = [place / name for name in LOCKFILES if is_file(place / name) and is_inside(place / name, checkout)]
        if len(found) > 1:  # the sort is stable: ties keep their order
            found.sort(
                key=lambda path: (
                    _manager_of(path).name in refusals,
                    _depends_on_other_registry(path, checkout),
                    _count_missing(path, package, checkout),
                )
            )
        yield from found


def _depends_on_other_registry(lockfile: Path, checkout: Path) -> bool:
    """Return whether a lockfile names another registry than npm's and lacks digests."""
    text = read_lockfile_or_empty(lockfile, checkout)
    return bool(find_lockfile_hosts(text)) and not has_all_digests(lockfile.name, text)


def _count_missing(path: Path, package: Mapping[str, Any], checkout: Path) -> int:
    """Count the dependencies of package.json that the lockfile's text does not contain."""
    wanted = [
        (name, str(version)) for table in DEPENDENCY_TABLES for name, version in get_table(package, table).items()
    ]
    try:
        text = read_lockfile(path, checkout) or ""
    except ValueError:
        return len(wanted) + 1
    _, lockfile = LOCKFILES[path.name]
    return lockfile.count_missing(text, wanted[:_MAX_COMPARED]) if lockfile.count_missing else len(wanted)


def _read_fields(package: Mapping[str, Any], named: set[str], notes: list[str]) -> ManagerRequirement | None:
    """Read `packageManager` (https://nodejs.org/api/packages.html#packagemanager) or `devEngines.packageManager`.

    If `devEngines` names several managers, one with a lockfile (in `named`) is preferred. With `onFail` "warn" or "ignore",
    the lockfile of another manager takes precedence. https://docs.npmjs.com/cli/configuring-npm/package-json#devengines
    """
    field = package.get("packageManager")
    if isinstance(field, str) and field:
        match = _FIELD.fullmatch(field.strip())
        if match:
            name, version, algorithm, digest = match.groups()
            given = None if not version or version == "latest" else version
            checked = (algorithm, digest.lower()) if digest else None
            return ManagerRequirement(MANAGERS[name], given, "packageManager", checked)
        notes.append(f"packageManager is ignored: {field[:100]!a} is not {_join(MANAGERS, 'or')} with a version.")
    wanted = get_table(package, "devEngines").get("packageManager")
    if wanted is None:
        return None
    entries = [entry for entry in (wanted if isinstance(wanted, list) else [wanted])[:10] if isinstance(entry, dict)]
    known = [entry for entry in entries if isinstance(entry.get("name"), str) and entry["name"] in MANAGERS]
    if not known:
        notes.append(f"devEngines.packageManager is ignored: it does not name {_join(MANAGERS, 'or')}.")
        return None
    entry = next((entry for entry in known if entry["name"] in named), known[0])
    if named and entry["name"] not in named and entry.get("onFail") in {"warn", "ignore"}:
        return None
    version = entry.get("version")
    text = version.strip()[:MAX_RANGE_CHARACTERS] if isinstance(version, str) else ""
    if text and not is_range(text):
        notes.append(f"The version in devEngines.packageManager is ignored: {text!a} is not a version range.")
    usable = text if is_range(text) and text not in {"", "*"} else None
    return ManagerRequirement(MANAGERS[entry["name"]], usable, "devEngines")


def _find_refusals(packages: Packages) -> Mapping[str, EngineRefusal]:
    """Return the managers that package.json forbids, by name."""
    found: dict[str, EngineRefusal] = {}
    for _, package in packages:
        for record in MANAGERS.values():
            read = None
            with suppress(ValueError):
                read = read_engine(record, get_table(package, "engines").get(record.name))
            if isinstance(read, EngineRefusal):
                found.setdefault(record.name, read)
        scripts = get_table(package, "scripts")
        for script in ("preinstall", "install", "postinstall", "prepare"):
            only = _ONLY_ALLOW.search(str(scripts.get(script, "")))
            for name in MANAGERS if only else ():
                if only and name != only[1]:
                    refusal = EngineRefusal(f"{script} of package.json", only[0], only[1], enforced=True)
                    found.setdefault(name, refusal)
    return found


def _read_signs(
    place: Path, package: Mapping[str, Any], refusals: Mapping[str, EngineRefusal]
) -> ManagerRequirement | None:
    """Return the manager that package.json or another file suggests, for a repository without a lockfile."""
    scripts = " ".join(str(get_table(package, "scripts").get(name, "")) for name in ("preinstall", "prepare"))
    only = _ONLY_ALLOW.search(scripts)
    for name, record in MANAGERS.items():
        if record is DEFAULT_MANAGER or name in refusals:
            continue
        named = name in get_table(package, "volta") or name in get_table(package, "engines")
        sign = next((file for file in record.signs if is_file(place / file)), None)
        if (only and only[1] == name) or named or sign:
            return ManagerRequirement(record, because=sign if sign and not only and not named else "package.json")
    return None


def _join(words: Iterable[str], conjunction: str = "and") -> str:
    *first, last = words
    return f"{', '.join(first)} {conjunction} {last}" if first else last
