"""Choose the version of a repository's package manager.

An exact version in a field of package.json decides. Otherwise, the lockfile's format and the settings determine which releases
suit, in order of preference, and the first one that all version ranges allow is used.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from buildrunner.project.package_json import get_table
from buildrunner.project.package_managers.engines import read_engine
from buildrunner.project.package_managers.lockfiles import read_lockfile_or_empty
from buildrunner.project.package_managers.record import Evidence, ManagerRequirement, Packages, SuitableReleases
from buildrunner.project.package_managers.table import LOCKFILES
from buildrunner.project.versions import intersects, is_exact

_HEAD_CHARACTERS = 5000  # of a lockfile that are read


@dataclass(frozen=True, slots=True)
class _Constraint:
    """A version range that a repository sets for its manager."""

    source: str  # for messages, such as "engines.pnpm of package.json"
    range: str
    must: bool  # whether the manager enforces it, or a field chooses it


def choose_version(
    manager: ManagerRequirement, lockfile: Path | None, packages: Packages, checkout: Path, notes: list[str]
) -> ManagerRequirement:
    """Return the requirement with the best suitable version range that the repository allows.

    Args:
        manager: the requirement so far, with the version from a field or without any.
        lockfile: the one that the manager reads.
        packages: folders with their package.json, from the app's up to the top.
        checkout: the top of the repository.
        notes: a warning for each contradiction is added here.

    """
    is_text = lockfile is not None and LOCKFILES[lockfile.name][1].count_missing is not None
    head = read_lockfile_or_empty(lockfile, checkout)[:_HEAD_CHARACTERS] if lockfile and is_text else ""
    evidence = Evidence(lockfile, head, packages, checkout)
    if held := _use_pinned_release(manager, evidence, notes):
        return held
    record = manager.record
    suitable = record.suitable_releases(evidence)
    engines: list[str] = []
    if manager.version and is_exact(manager.version):
        if suitable.because and not any(intersects(manager.version, one) for one in suitable.ranges):
            notes.append(
                f"{manager.because} names {manager.label} {manager.version}, but {suitable.because} needs {suitable.needs}."
                f" Using {manager.label} {manager.version}. Name a version that reads {suitable.because}."
            )
        version: str | None = manager.version
        because = manager.because
    else:
        constraints = _list_constraints(manager, evidence, notes)
        without_lockfile = record.suitable_releases(evidence.without_lockfile()).ranges
        version, engines, because = _choose(manager, suitable, without_lockfile, constraints, notes)
    if version and record.unread_settings and (unread := record.unread_settings(version, evidence)):
        notes.append(f"{because} requires {unread}")
    if record.for_version:
        record = record.for_version(version or record.fetching.default or "")
    return replace(manager, record=record, version=version, because=because, engines=tuple(engines))


def _use_pinned_release(manager: ManagerRequirement, evidence: Evidence, notes: list[str]) -> ManagerRequirement | None:
    record = manager.record
    held = record.pinned_release(evidence)
    if held is None:
        return None
    notes += [
        f"{constraint.source} requires {record.label} {constraint.range}, but {held.source} names {record.label}"
        f" {held.version}. Using the latter. Change one of them."
        for constraint in _list_constraints(manager, evidence, notes)
        if held.version and not intersects(held.version, constraint.range)
    ]
    version = held.version or manager.version or held.assumed
    return ManagerRequirement(
        record.for_version(version) if record.for_version else record,
        version,
        held.source if held.version else manager.because,
        None if held.version else manager.digest,
        held.file,
    )


def _list_constraints(manager: ManagerRequirement, evidence: Evidence, notes: list[str]) -> list[_Constraint]:
    """List the version ranges that the repository sets for its manager, in order of precedence."""
    found: list[_Constraint] = []
    record = manager.record
    if manager.version:
        found.append(_Constraint(manager.because, manager.version, must=True))
    refuses = record.refuses_outside_engines(evidence)
    if not refuses and not record.follows_engines:
        return found
    for table in ("volta", "engines"):
        for _, package in evidence.packages:
            source = f"{table}.{record.name} of package.json"
            try:
                read = read_engine(record, get_table(package, table).get(record.name))
            except ValueError as error:
                notes.append(f"{source} is ignored: {str(error)[:50]!a} is not a version range.")
                continue
            if isinstance(read, str):
                found.append(_Constraint(source, read, must=table == "engines" and refuses))
    return found


def _choose(
    manager: ManagerRequirement,
    suitable: SuitableReleases,
    without_lockfile: tuple[str, ...],
    constraints: Sequence[_Constraint],
    notes: list[str],
) -> tuple[str | None, list[str], str]:
    """Return the best permitted version range, other ranges that the version has to satisfy, and their source.

    Args:
        manager: the requirement so far, with a range or without any.
        suitable: the releases that read the lockfile.
        without_lockfile: the ranges that suit if the lockfile doesn't decide, best first.
        constraints: the ranges that the repository sets.
        notes: a warning for each range that contradicts the lockfile is added here.

    """
    ranges, because = suitable.ranges, manager.because
    met: list[_Constraint] = []
    for constraint in constraints:
        wanted = (constraint.range, *(other.range for other in met))
        if any(intersects(one, *wanted) for one in ranges):
            met.append(constraint)
            continue
        needs = (
            f"{suitable.because} needs {suitable.needs}"
            if suitable.because
            else f"{met[0].source} names {met[0].range}"
        )
        wins = constraint.must and not any(other.must for other in met)
        used = f"{manager.label} {constraint.range}" if wins else "the latter"
        notes.append(
            f"{constraint.source} requires {manager.label} {constraint.range}, but {needs}. Using {used}."
            " Change one of them."
        )
        if wins:
            met = [constraint]
            ranges = tuple(one for one in without_lockfile if intersects(one, constraint.range)) or (constraint.range,)
    exact = next((other for other in met if is_exact(other.range)), None)
    if exact:
        return exact.range, [other.range for other in met if other is not exact], exact.source
    wanted = tuple(other.range for other in met)
    if manager.record.release_of_node and not met:  # it is chosen for the version of Node.js
        return None, [], because
    version = next((one for one in ranges if intersects(one, *wanted)), None)
    if met:
        because = met[0].source
    if version == "*":
        version = wanted[0] if wanted else None
    return version, [text for text in wanted if text != version], because
