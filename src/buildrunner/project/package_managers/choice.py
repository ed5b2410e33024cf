"""Which package manager a repository uses, and in which version.

| what says so, the first that is there | manager |
|---|---|
| `packageManager`, then `devEngines.packageManager`, of the nearest package.json that has one | that one |
| the nearest lockfile, from the app's folder up to the repository's top | its manager |
| several lockfiles in one folder | one whose manager no text in `engines` forbids and that lacks the fewest dependencies; then |
| | pnpm, Yarn, Bun, npm |
| volta, `engines`, `only-allow`, pnpm-workspace.yaml, .yarnrc.yml, bunfig.toml | the manager that they name or belong to |
| nothing | npm |

npm comes last of several because its lockfile is the one that comes about by accident. A bun.lockb cannot be looked into, so
it counts as one that lacks everything.

Of the version, an exact one in a field decides. A range is a constraint: what the repository has (the format of its lockfile,
its settings) has an order of releases that suit it, and the first that the ranges allow is used.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

from buildrunner.project.files import is_file, is_inside, read_text, read_yaml
from buildrunner.project.package_managers.install import (
    DEPENDENCIES,
    LABELS,
    LOCKFILES,
    Manager,
    Name,
    lockfile_of,
    lockfile_version,
    package_of,
    places,
    table_of,
)
from buildrunner.project.package_managers.mirrors import has_all_digests, hosts_of_lockfile
from buildrunner.project.versions import intersects, is_exact, is_range

_MOST_LOCKFILE_BYTES = 32 * 2**20
_LONGEST_RANGE = 100  # characters
_FIELD = re.compile(r"(npm|pnpm|yarn|bun)(?:@([^+\s/:@]{1,100})(?:\+(sha\d+)\.([0-9a-fA-F]{1,200}))?)?")
_ONLY_ALLOW = re.compile(r"only-allow(?:@[\w.-]{1,20})? (npm|pnpm|yarn|bun)\b")
_NAMED = re.compile(r"\b(npm|pnpm|yarn|bun)\b", re.IGNORECASE)
_ANY_VERSION = {"*", "x", "any", "latest", "current", "stable", "lts", "next"}
_AND_LATER = re.compile(
    r"v?(\d{1,4}(?:\.\d{1,4}){0,2})(?:\.x)?\s*(?:\+|(?:or|and) (?:later|newer|higher|above|up|greater)\.?)",
    re.IGNORECASE,
)
_OPERATORS = re.compile(r"[\d\s.<>=^~|xv*-]+")
# Versions that there are or may be. A range outside of them forbids the manager: 0.0.0, <0, >=999.
_PLAUSIBLE: Mapping[Name, str] = {
    "npm": ">=1.0.0 <100.0.0",
    "pnpm": ">=1.0.0 <100.0.0",
    "yarn": ">=0.1.0 <100.0.0",
    "bun": ">=0.1.0 <100.0.0",
}
_CLASSIC = "^1.22.0"
# The versions that read a format without a change to the lockfile, the one that suits best first. Tried with pnpm 6 to 12
# (https://github.com/pnpm/spec) and with Yarn 2.4 to 4.18; a format that is not listed is newer than these tables.
_PNPM_OF_FORMAT = {
    "5": (">=6.0.0 <8.0.0",),
    "6": ("^8.3.1", "^9.0.0"),
    "9": ("^9.0.0", "^10.0.0", "^11.0.0", ">=12.0.0"),
}
_PNPM_10 = ("^10.0.0", "^9.0.0", "^11.0.0", ">=12.0.0")
_PNPM_WITHOUT_LOCKFILE = ("^10.0.0", "^9.0.0", "^8.0.0", ">=6.0.0 <8.0.0", "^11.0.0", ">=12.0.0", "<6.0.0")
_YARN_OF_FORMAT = {
    "4": ("^2.4.1", "^3.0.0", "^4.0.0"),
    "5": (">=3.0.0 <3.2.0", ">=3.2.0 <4.0.0", "^4.0.0"),
    "6": ("^3.2.0", "^4.0.0"),
    "8": (">=4.0.0 <4.13.0", ">=4.13.0"),
    "9": ("~4.14.0", ">=4.14.0"),
}
_MODERN = ("^4.0.0", "^3.0.0", "^2.4.1", ">=5.0.0")
# Plugins that are part of Yarn from 4 on: https://yarnpkg.com/migration/guide
_PLUGINS_OF_YARN_3 = re.compile(r"plugin-(?:constraints|interactive-tools|stage|typescript|version|workspace-tools)\b")
_PROTOCOL_OF_MODERN_YARN = re.compile(r"(?:workspace|portal|patch|exec|catalog):")


@dataclass(frozen=True, slots=True)
class _Constraint:
    """A range that a repository names for its manager."""

    source: str  # for people, such as engines.pnpm
    range: str
    must: bool  # the manager refuses to run outside of it, or a field chooses it


@dataclass(frozen=True, slots=True)
class _Refusal:
    """A text that forbids a manager."""

    source: str
    text: str
    instead: Name | None  # which one it names
    enforced: bool = False  # an install by the manager fails


@dataclass(frozen=True, slots=True)
class _Suitable:
    """Releases of a manager that suit what a repository has."""

    ranges: tuple[str, ...]  # the best first
    because: str  # what they follow from, as the object of "but … needs"; empty for nothing
    needs: str  # for people, such as "pnpm 8 or 9"


_Packages = Sequence[tuple[Path, Mapping[str, Any]]]  # from the app's folder up to the top, with their package.json


def find_manager(folder: Path, checkout: Path) -> tuple[Manager, Path | None, tuple[str, ...]]:
    """Return the manager of the app in `folder`, its lockfile, and warnings about the choice."""
    packages = [(place, package_of(place, checkout)) for place in places(folder, checkout)]
    notes: list[str] = []
    refusals = _refusals(packages)
    found = list(_lockfiles(packages, checkout, refusals))
    named = {LOCKFILES[path.name] for path in found}
    for _, package in packages:
        manager = _of_field(package, named, notes)
        if manager:
            lockfile = next((path for path in found if LOCKFILES[path.name] == manager.name), None)
            if not lockfile and found:
                notes.append(
                    f"package.json names {manager.label}, so {found[0].name} is not used. Remove it, or run"
                    f" `{manager.name} install` and commit {lockfile_of(manager.name)}."
                )
            return _complete(manager, lockfile, packages, checkout, notes), lockfile, tuple(notes)
    if found:
        first = LOCKFILES[found[0].name]
        refusal = refusals.get(first)
        if refusal and (
            first == "pnpm" or refusal.enforced or (first == "npm" and _is_engine_strict(packages, checkout))
        ):
            other = refusal.instead or ("yarn" if first == "npm" else "npm")
            notes.append(
                f"{refusal.source} is {refusal.text!a}, so {found[0].name} is not used, and {LABELS[other]} installs."
                f" Commit {lockfile_of(other)} and remove {found[0].name}."
            )
            manager = Manager(other, because=refusal.source)
            return _complete(manager, None, packages, checkout, notes), None, tuple(notes)
        others = [path.name for path in found[1:] if LOCKFILES[path.name] != first]
        if refusal:
            notes.append(
                f"{refusal.source} is {refusal.text!a}, but {found[0].name} is the lockfile, so {LABELS[first]} is used."
                f" Commit {lockfile_of(refusal.instead) if refusal.instead else 'the lockfile of another manager'} instead."
            )
        elif others:
            notes.append(
                f"There are several lockfiles; {found[0].name} is used. Remove {_and(others)}, or name the manager in"
                ' "packageManager" of package.json.'
            )
        manager = Manager(first, because=found[0].name)
        return _complete(manager, found[0], packages, checkout, notes), found[0], tuple(notes)
    for place, package in packages:
        manager = _of_signs(place, package, refusals)
        if manager:
            return _complete(manager, None, packages, checkout, notes), None, tuple(notes)
    refusal = refusals.get("npm")
    manager = Manager(refusal.instead, because=refusal.source) if refusal and refusal.instead else Manager("npm")
    return _complete(manager, None, packages, checkout, notes), None, tuple(notes)


def _lockfiles(packages: _Packages, checkout: Path, refusals: Mapping[Name, _Refusal]) -> Iterator[Path]:
    """Yield lockfiles, the nearest folder's first, and of one folder the one first that agrees best with its package.json."""
    for place, package in packages:
        there = [place / name for name in LOCKFILES if is_file(place / name) and is_inside(place / name, checkout)]
        if len(there) > 1:  # the sort is stable: ties keep their order
            there.sort(
                key=lambda path: (
                    LOCKFILES[path.name] in refusals,
                    _is_out_of_reach(path, checkout),
                    _lacking(path, package, checkout),
                )
            )
        yield from there


def _is_out_of_reach(lockfile: Path, checkout: Path) -> bool:
    """Return whether a lockfile names another registry for packages that it has no digests of."""
    text = ""
    with suppress(ValueError):
        text = read_text(lockfile, checkout, most_bytes=_MOST_LOCKFILE_BYTES) or ""
    return bool(hosts_of_lockfile(text)) and not has_all_digests(lockfile.name, text)


def _lacking(lockfile: Path, package: Mapping[str, Any], checkout: Path) -> int:
    """Count the dependencies of package.json that are not in the lockfile, by what it looks like as text."""
    wanted = [(name, version) for kind in DEPENDENCIES for name, version in table_of(package, kind).items()]
    try:
        text = read_text(lockfile, checkout, most_bytes=_MOST_LOCKFILE_BYTES) or ""
    except ValueError:
        return len(wanted) + 1
    if lockfile.suffix == ".lockb":
        return len(wanted)
    by_name_only = lockfile.suffix == ".json" and lockfile_version(lockfile, checkout) == 1
    looks: Callable[[str, str], str] = lambda name, version: f'"{name}": "{version}"'  # noqa: E731
    if by_name_only:
        looks = lambda name, _: f'"{name}": {{'  # noqa: E731
    elif lockfile.name == "yarn.lock":
        modern = "__metadata:" in text[:2000]
        looks = lambda name, version: f"{name}@{'npm:' if modern and ':' not in version else ''}{version}"  # noqa: E731
    elif lockfile.name == "pnpm-lock.yaml":
        there = set(re.findall(r"^ {1,20}'?([^\s':]{1,214})'?:", text, re.MULTILINE))
        return sum(name not in there for name, _ in wanted[:1000])
    return sum(looks(name, str(version)) not in text for name, version in wanted[:1000])


# --- what package.json says ---


def _of_field(package: Mapping[str, Any], named: set[Name], notes: list[str]) -> Manager | None:
    """Read `packageManager` (https://nodejs.org/api/packages.html#packagemanager) or `devEngines.packageManager`.

    Of several in `devEngines`, one that has a lockfile (is in `named`) comes first; with `onFail` "warn" or "ignore" none
    comes before the lockfile of another manager. https://docs.npmjs.com/cli/configuring-npm/package-json#devengines
    """
    field = package.get("packageManager")
    if isinstance(field, str) and field:
        match = _FIELD.fullmatch(field.strip())
        if match:
            name, version, algorithm, digest = match.groups()
            given = None if not version or version == "latest" else version
            return Manager(name, given, "packageManager", (algorithm, digest.lower()) if digest else None)  # type: ignore[arg-type]
        notes.append(
            f"{field[:100]!a} in packageManager is none of npm, pnpm, yarn and bun with a version; it is not used."
        )
    wanted = table_of(package, "devEngines").get("packageManager")
    if wanted is None:
        return None
    entries = [entry for entry in (wanted if isinstance(wanted, list) else [wanted])[:10] if isinstance(entry, dict)]
    known = [entry for entry in entries if entry.get("name") in get_args(Name)]
    if not known:
        notes.append("devEngines.packageManager names none of npm, pnpm, yarn and bun; it is not used.")
        return None
    entry = next((entry for entry in known if entry["name"] in named), known[0])
    if named and entry["name"] not in named and entry.get("onFail") in {"warn", "ignore"}:
        return None
    version = entry.get("version")
    text = version.strip()[:_LONGEST_RANGE] if isinstance(version, str) else ""
    if text and not is_range(text):
        notes.append(f"{text!a} in devEngines.packageManager is no range of versions; it is not used.")
    return Manager(entry["name"], text if is_range(text) and text not in {"", "*"} else None, "devEngines")


def _read_engine(name: Name, value: object) -> str | _Refusal | None:
    """Read what `engines` has for a manager: a range, a text that forbids it, or None for any version.

    Raises:
        ValueError: when it is none of these.

    """
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        value = str(value)
    text = "false" if value is False else value.strip()[:_LONGEST_RANGE] if isinstance(value, str) else ""
    if not text or text.lower() in _ANY_VERSION:
        return None
    if later := _AND_LATER.fullmatch(text):
        return f">={later[1]}"
    others = [other for other in map(str.lower, _NAMED.findall(text)) if other != name]
    if not others and is_range(text) and intersects(text, _PLAUSIBLE[name]):
        return text
    if others or not re.search(r"\d", text) or _OPERATORS.fullmatch(text):
        instead: Any = others[0] if others else None
        return _Refusal(f"engines.{name} of package.json", text, instead)
    raise ValueError(text)


def _refusals(packages: _Packages) -> Mapping[Name, _Refusal]:
    """Return the managers that package.json forbids."""
    found: dict[Name, _Refusal] = {}
    for _, package in packages:
        for name in LABELS:
            read = None
            with suppress(ValueError):
                read = _read_engine(name, table_of(package, "engines").get(name))
            if isinstance(read, _Refusal):
                found.setdefault(name, read)
        scripts = table_of(package, "scripts")
        for script in ("preinstall", "install", "postinstall", "prepare"):
            only = _ONLY_ALLOW.search(str(scripts.get(script, "")))
            if only:
                for name in LABELS:
                    if name != only[1]:
                        refusal = _Refusal(f"{script} of package.json", only[0], only[1], enforced=True)  # type: ignore[arg-type]
                        found.setdefault(name, refusal)
    return found


def _of_signs(place: Path, package: Mapping[str, Any], refusals: Mapping[Name, _Refusal]) -> Manager | None:
    """Guess the manager of a repository that has no lockfile."""
    scripts = " ".join(str(table_of(package, "scripts").get(name, "")) for name in ("preinstall", "prepare"))
    only = _ONLY_ALLOW.search(scripts)
    signs: tuple[tuple[Name, str], ...] = (
        ("pnpm", "pnpm-workspace.yaml"),
        ("yarn", ".yarnrc.yml"),
        ("yarn", ".yarnrc"),
        ("bun", "bunfig.toml"),
    )
    for name, file in signs:
        if name in refusals:
            continue
        named = name in table_of(package, "volta") or name in table_of(package, "engines")
        if (only and only[1] == name) or named or is_file(place / file):
            return Manager(name, because="package.json" if only or named else file)
    return None


# --- which version ---


def _complete(
    manager: Manager, lockfile: Path | None, packages: _Packages, checkout: Path, notes: list[str]
) -> Manager:
    """Choose the version: the release that suits best of those that the ranges of the repository allow."""
    head = ""
    if lockfile and lockfile.suffix != ".lockb":
        with suppress(ValueError):
            head = (read_text(lockfile, checkout, most_bytes=_MOST_LOCKFILE_BYTES) or "")[:5000]
    settings = next((path for place, _ in packages if is_file(path := place / ".yarnrc.yml")), None)
    if manager.name == "yarn" and settings:
        release, named = _yarn_release(settings, checkout)
        if release or named:
            notes += [
                f"{constraint.source} asks for Yarn {constraint.range}, but .yarnrc.yml names Yarn {named}, which is used."
                " Change one of them."
                for constraint in _constraints(manager, packages, checkout, notes)
                if named and not intersects(named, constraint.range)
            ]
            used = named or manager.version or "^4.0.0"
            because = ".yarnrc.yml" if named else manager.because
            return Manager("yarn", used, because, None if named else manager.digest, _is_modern(used), release)
    chosen: tuple[str | None, list[str], str]
    suitable = _suitable(manager.name, lockfile, head, settings, packages, checkout)
    others = _suitable(manager.name, None, "", settings, packages, checkout).ranges
    if manager.version and is_exact(manager.version):
        if suitable.because and not any(intersects(manager.version, one) for one in suitable.ranges):
            notes.append(
                f"{manager.because} names {manager.label} {manager.version}, but {suitable.because} needs {suitable.needs}."
                f" {manager.label} {manager.version} is used: name one that reads it."
            )
        chosen = manager.version, [], manager.because
    else:
        constraints = _constraints(manager, packages, checkout, notes)
        chosen = _choose(manager, suitable, others, constraints, notes)
    version, engines, because = chosen
    if manager.name == "pnpm" and version and not intersects(version, "<11.0.0"):
        unread = [*table_of(packages[-1][1], "pnpm")]
        if unread:
            notes.append(
                f"{because} asks for pnpm 11 or later, which does not read pnpm.{unread[0][:50]} of package.json."
                " Move it to pnpm-workspace.yaml, or allow pnpm 10."
            )
    modern = manager.name == "yarn" and _is_modern(version or _CLASSIC)
    return Manager(manager.name, version, because, manager.digest, modern, engines=tuple(engines))


def _constraints(manager: Manager, packages: _Packages, checkout: Path, notes: list[str]) -> list[_Constraint]:
    """List the ranges that the repository names for its manager, the most certain first.

    npm's own are only obeyed by npm with `engine-strict`; pnpm always refuses to run outside of `engines.pnpm`.
    """
    found: list[_Constraint] = []
    if manager.version:
        found.append(_Constraint(manager.because, manager.version, must=True))
    if manager.name == "npm" and not _is_engine_strict(packages, checkout):
        return found
    for table in ("volta", "engines"):
        for _, package in packages:
            source = f"{table}.{manager.name} of package.json"
            try:
                read = _read_engine(manager.name, table_of(package, table).get(manager.name))
            except ValueError as error:
                notes.append(f"{source} is {str(error)[:50]!a}, which is no range of versions; it is not used.")
                continue
            if isinstance(read, str):
                found.append(_Constraint(source, read, must=table == "engines" and manager.name in {"npm", "pnpm"}))
    return found


def _choose(
    manager: Manager,
    suitable: _Suitable,
    others: tuple[str, ...],
    constraints: Sequence[_Constraint],
    notes: list[str],
) -> tuple[str | None, list[str], str]:
    """Return the range of the best release that is allowed, what else it has to satisfy, and what says so.

    Args:
        manager: without a version, or with a range.
        suitable: the releases that read the lockfile.
        others: those that are used where the lockfile does not decide, the best first.
        constraints: the ranges that are named.
        notes: get a warning for each range that does not go together with the lockfile.

    """
    ranges, because = suitable.ranges, manager.because
    held: list[_Constraint] = []
    for constraint in constraints:
        wanted = (constraint.range, *(other.range for other in held))
        if any(intersects(one, *wanted) for one in ranges):
            held.append(constraint)
            continue
        needs = (
            f"{suitable.because} needs {suitable.needs}"
            if suitable.because
            else f"{held[0].source} names {held[0].range}"
        )
        wins = constraint.must and not any(other.must for other in held)
        used = f"{manager.label} {constraint.range}" if wins else "The latter"
        notes.append(
            f"{constraint.source} asks for {manager.label} {constraint.range}, but {needs}. {used} is used."
            " Change one of them."
        )
        if wins:
            held = [constraint]
            ranges = tuple(one for one in others if intersects(one, constraint.range)) or (constraint.range,)
    exact = next((other for other in held if is_exact(other.range)), None)
    if exact:
        return exact.range, [other.range for other in held if other is not exact], exact.source
    wanted = tuple(other.range for other in held)
    if manager.name == "npm" and not held:  # the one that comes with Node, or reads the lockfile with it
        return None, [], because
    version = next((one for one in ranges if intersects(one, *wanted)), None)
    if held:
        because = held[0].source
    if version == "*":
        version = wanted[0] if wanted else None
    return version, [text for text in wanted if text != version], because


def _suitable(
    name: Name, lockfile: Path | None, head: str, settings: Path | None, packages: _Packages, checkout: Path
) -> _Suitable:
    """Return the releases that suit the format of the lockfile, and without one those that suit the settings."""
    file = lockfile.name if lockfile else ""
    if name == "npm":
        version = lockfile_version(lockfile, checkout) if lockfile else None
        return _Suitable((">=7.0.0",), file, "npm 7 or later") if version == 3 else _Suitable(("*",), "", "")
    if name == "bun":
        # https://bun.com/docs/pm/lockfile#text-based-lockfile
        return (
            _Suitable((">=1.1.39",), file, "Bun 1.1.39 or later") if file == "bun.lock" else _Suitable(("*",), "", "")
        )
    if name == "pnpm":
        found = re.search(r"^lockfileVersion: *['\"]?(\d{1,4})", head, re.MULTILINE)
        format_ = found[1] if found else ""
        if format_ in {"5", "6"}:
            needs = "pnpm 6 or 7" if format_ == "5" else "pnpm 8 or 9"
            return _Suitable(_PNPM_OF_FORMAT[format_], file, needs)
        if not format_:
            return _Suitable(_PNPM_WITHOUT_LOCKFILE, "", "")
        for_9 = format_ == "9" and not _is_for_pnpm_10(packages, checkout)
        return _Suitable(_PNPM_OF_FORMAT["9"] if for_9 else _PNPM_10, file, "pnpm 9 or later")
    metadata = re.search(r"^__metadata:\s{1,20}version: *(\d{1,4})", head, re.MULTILINE)
    if metadata:
        ranges = _YARN_OF_FORMAT.get(metadata[1], _MODERN)
        return _Suitable(ranges, file, f"Yarn {ranges[0].lstrip('>=^~')[0]} or later")
    if settings:
        text = ""
        with suppress(ValueError):
            text = read_text(settings, checkout) or ""
        modern = (_MODERN[1], _MODERN[0], *_MODERN[2:]) if _PLUGINS_OF_YARN_3.search(text) else _MODERN
        return _Suitable((*modern, _CLASSIC), "", "")
    if head:
        return _Suitable((_CLASSIC, "<2.0.0"), file, "Yarn 1")
    wanted = (value for _, package in packages for kind in DEPENDENCIES for value in table_of(package, kind).values())
    if any(isinstance(value, str) and _PROTOCOL_OF_MODERN_YARN.match(value) for value in wanted):
        return _Suitable((*_MODERN, _CLASSIC), "", "")
    return _Suitable((_CLASSIC, "<2.0.0", *_MODERN), "", "")


def _is_modern(version: str) -> bool:
    """Return whether a range is of Yarn 2 or later."""
    return not re.match(r"[\^~=v\s]*1\b|[\^~=v\s]*0\.|<2\.0\.0$", version)


def _yarn_release(settings: Path, checkout: Path) -> tuple[Path | None, str | None]:
    """Find the Yarn that .yarnrc.yml names (https://yarnpkg.com/configuration/yarnrc#yarnPath), and its version."""
    wanted = None
    with suppress(ValueError):
        wanted = (read_yaml(settings, checkout) or {}).get("yarnPath")
    if not isinstance(wanted, str) or not wanted:
        return None, None
    path = settings.parent / wanted[:1000]
    version = re.search(r"yarn-(\d{1,9}\.\d{1,9}\.\d{1,9}[\w.-]{0,100})\.c?js$", wanted[-200:])
    there = is_file(path) and is_inside(path, checkout)
    return path if there else None, version[1] if version else None


def _is_for_pnpm_10(packages: _Packages, checkout: Path) -> bool:
    """Look for settings that pnpm 9 does not know: it reads none but these three of pnpm-workspace.yaml."""
    for place, package in packages:
        with suppress(ValueError):
            settings = read_yaml(place / "pnpm-workspace.yaml", checkout)
            if settings and (settings.keys() - {"packages", "catalog", "catalogs"} or "packages" not in settings):
                return True
        if "ignoredBuiltDependencies" in table_of(package, "pnpm"):
            return True
    return False


def _is_engine_strict(packages: _Packages, checkout: Path) -> bool:
    """Return whether npm refuses to run outside of `engines`.

    https://docs.npmjs.com/cli/using-npm/config#engine-strict
    """
    for place, _ in packages:
        with suppress(ValueError):
            text = read_text(place / ".npmrc", checkout) or ""
            if re.search(r"^[ \t]*engine-strict[ \t]*=[ \t]*[\"']?true\b", text, re.MULTILINE):
                return True
    return False


def _and(words: Sequence[str]) -> str:
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} and {words[-1]}"
