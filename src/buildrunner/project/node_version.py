"""Determine which version of Node.js a repository requires.

The first source that names a version decides. Each is looked for from the app's folder up to the repository's top:

1. NODE_VERSION of the build;
2. .nvmrc, .node-version, .n-node-version;
3. .tool-versions (asdf), mise.toml and its other names, .prototools;
4. `volta.node` and `devEngines.runtime` in package.json, and the Node.js version in pnpm's settings;
5. `engines.node` in package.json, and the newest version that node-sass has binaries for.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from buildrunner.errors import BuildFailed
from buildrunner.project.files import ancestors, parse_toml, read_json, read_text, read_yaml
from buildrunner.project.package_json import DEPENDENCY_TABLES, get_table, read_package
from buildrunner.project.package_managers.lockfiles import read_lockfile
from buildrunner.project.package_managers.table import PACKAGE_MANAGERS
from buildrunner.project.versions import intersects, is_range, major, satisfies

_PACKAGE_NAME = re.compile(r"(@[a-z0-9~_-][\w.~-]*/)?[A-Za-z0-9~_-][\w.~-]*")
_MAX_PACKAGES = 500  # dependencies whose requirements are read
_MAX_LINES = 200  # of a version file
_MAX_CHARACTERS = 200  # characters of a version
_LATER_LINES = 12  # major versions that are considered above the current one
# https://github.com/nodejs/Release#release-schedule
_CODENAMES = {
    name: 4 + 2 * index
    for index, name in enumerate(
        ["argon", "boron", "carbon", "dubnium", "erbium", "fermium", "gallium", "hydrogen", "iron", "jod", "krypton"]
    )
}
# Text around a version: node-22.11.0, node@22, nodejs v22, latest:22 (asdf), prefix:22 (mise), 22 LTS.
_DECORATED_VERSION = re.compile(
    r"[\"'`]?(?:(?:core:|asdf:)?node(?:js)?[-@/:=_ \t]{1,3})?(?:latest:|prefix:)?"
    r"(?P<version>.*?)(?:(?<=[\dx])[ \t]\(?lts\)?)?[\"'`]?",
    re.IGNORECASE,
)
_AND_LATER = re.compile(r"v?(\d{1,3}(?:\.\d{1,4}){0,2})(?:\.x)?\s?(?:\+|(?:or|and) (?:later|newer|higher|above|up)\.?)")
# A release of node-sass (major, minor), and the newest Node.js that it has binaries for: https://github.com/sass/node-sass#node-version-support-policy
_NODE_OF_SASS = (
    (9, 0, 20),
    (8, 0, 18),
    (7, 0, 16),
    (6, 0, 16),
    (5, 0, 14),
    (4, 14, 14),
    (4, 12, 12),
    (4, 9, 10),
    (0, 0, 8),
)
_SASS_IN_LOCKFILE = re.compile(
    r'node-sass(?:": \{\s*"version": "|@[^\n]{0,300}:\n\s{1,20}version:? "?|[@/])(\d{1,4})\.(\d{1,4})'
)


@dataclass(frozen=True, slots=True)
class NodeRequirement:
    """The Node.js versions that a repository or its operator requires."""

    ranges: tuple[str, ...]  # semver ranges; a version has to satisfy all
    because: str  # the source: NODE_VERSION, .nvmrc, …
    text: str  # the version as the source has it
    must: bool  # whether the build fails without it; False for `engines`, which is often outdated
    even: bool = False  # lts/*: only even major versions get long-term support

    @property
    def shown(self) -> str:
        return self.text or " and ".join(self.ranges)

    def accepts(self, version: str) -> bool:
        return all(satisfies(version, wanted) for wanted in self.ranges) and not (self.even and major(version) % 2)


def names_version(text: str) -> bool:
    """Return whether a text is a Node.js version, a range, or an alias such as lts/iron."""
    return _read_version(text, "", must=True) is not None


def find_node(folder: Path, checkout: Path, given: str | None) -> tuple[NodeRequirement | None, tuple[str, ...]]:
    """Return the Node.js version that the app in `folder` requires, and warnings about it; `given` is NODE_VERSION.

    Raises:
        BuildFailed: if NODE_VERSION is not a version.

    """
    warnings: list[str] = []
    if given:
        found = _read_version(given, "NODE_VERSION", must=True)
        if found is None:
            raise BuildFailed(
                "install",
                f"NODE_VERSION is {given!a}, which is not a Node.js version.",
                "Set it to a version or a range, such as 22, >=18 <21 or lts/iron.",
                kind="node-version-invalid",
            )
    else:
        found = next(_list_requirements(folder, checkout, warnings), None)
    enforced = next(_read_dev_engines(folder, checkout, []), None)
    if found and enforced and enforced.must and enforced.because != found.because:
        # npm refuses to run with any other version.
        if intersects(*found.ranges, *enforced.ranges):
            found = replace(found, ranges=(*found.ranges, *enforced.ranges))
        else:
            decides = found if given else enforced
            warnings.append(
                f"{found.because} requires Node {found.text}, but {enforced.because} requires {enforced.text}."
                f" Using {decides.because}. Change one of them."
            )
            found = decides
    if found and found.must:
        return found, tuple(warnings)
    limit = _node_for_sass(folder, checkout)
    if found and limit:
        both = f"{found.because} and {limit.because}"
        return NodeRequirement((*found.ranges, *limit.ranges), both, "", must=False), tuple(warnings)
    return found or limit, tuple(warnings)


def _list_requirements(folder: Path, checkout: Path, warnings: list[str]) -> Iterator[NodeRequirement]:
    """Yield the repository's requirements in order of precedence."""
    for name, read in _FILES:
        for place in ancestors(folder, checkout):
            text = None
            with suppress(ValueError):
                text = read_text(place / name, checkout)
            if text is None:
                continue
            # PowerShell writes UTF-16. Without its zero bytes, it is ASCII.
            text = text.replace("\0", "").lstrip("\ufffd\ufeff")
            try:
                candidates = read(text)
            except ValueError:
                warnings.append(f"{name} is ignored because it cannot be parsed. Correct it.")
                continue
            found = [_read_version(each, name, must=True) for each in candidates]
            understood = next(filter(None, found), None)
            if understood:
                yield understood
            elif candidates:
                warnings.append(f"{name} is ignored: {candidates[0][:50]!a} is not a Node.js version.")
    for place in ancestors(folder, checkout):
        package = read_package(place, checkout)
        yield from _parse_requirement(
            _volta_node(place, package, checkout), "volta.node of package.json", warnings, must=True
        )
    yield from _read_dev_engines(folder, checkout, warnings)
    for place in ancestors(folder, checkout):
        yield from _read_manager_settings(place, checkout, warnings)
    for place in ancestors(folder, checkout):
        text = get_table(read_package(place, checkout), "engines").get("node")
        yield from _parse_requirement(text, "engines.node of package.json", warnings, must=False)


def _parse_requirement(text: object, because: str, warnings: list[str], *, must: bool) -> Iterator[NodeRequirement]:
    if isinstance(text, (int, float)) and not isinstance(text, bool):
        text = str(text)
    if isinstance(text, str) and text.strip():
        found = _read_version(text, because, must=must)
        if found:
            yield found
        else:
            warnings.append(f"{because} is ignored: {text[:50]!a} is not a version range.")


def _volta_node(place: Path, package: Mapping[str, Any], checkout: Path) -> object:
    """Return `volta.node` of a package.json, or else of the one that its `volta.extends` names."""
    for _ in range(5):
        table = get_table(package, "volta")
        extends = table.get("extends")
        if "node" in table or not isinstance(extends, str):
            return table.get("node")
        path = place / extends[:1000]
        place, package = path.parent, {}
        with suppress(ValueError):
            package = read_json(path, checkout) or {}
    return None


def _read_dev_engines(folder: Path, checkout: Path, warnings: list[str]) -> Iterator[NodeRequirement]:
    """Read `devEngines.runtime`, an entry or a list: https://docs.npmjs.com/cli/configuring-npm/package-json#devengines."""
    because = "devEngines.runtime of package.json"
    for place in ancestors(folder, checkout):
        wanted = get_table(read_package(place, checkout), "devEngines").get("runtime")
        entries = [one for one in (wanted if isinstance(wanted, list) else [wanted])[:10] if isinstance(one, dict)]
        for entry in entries:
            if entry.get("name") == "node":
                must = entry.get("onFail") not in {"warn", "ignore"}
                yield from _parse_requirement(entry.get("version"), because, warnings, must=must)
        if entries and all(entry.get("name") != "node" for entry in entries):
            warnings.append(f"{because} names {str(entries[0].get('name'))[:50]!a}, but only Node.js is available.")


def _read_manager_settings(place: Path, checkout: Path, warnings: list[str]) -> Iterator[NodeRequirement]:
    """Read the Node.js version that a package manager is configured to run scripts with."""
    for name, key in (setting for record in PACKAGE_MANAGERS for setting in record.node_settings):
        with suppress(ValueError):
            yield from _parse_requirement(_read_setting(place / name, checkout, key), name, warnings, must=True)


def _read_setting(path: Path, checkout: Path, key: str) -> object:
    """Read a key from a settings file, either YAML or lines of `key = value`."""
    if path.suffix == ".yaml":
        return (read_yaml(path, checkout) or {}).get(key)
    match = re.search(rf"^{key}[ \t]*=[ \t]*([^\s#]{{1,100}})", read_text(path, checkout) or "", re.MULTILINE)
    return match[1].strip("\"'") if match else None


# --- version files ---


def _read_version_lines(text: str) -> list[str]:
    """Read a file such as .nvmrc: the first line is the version; nvm allows comments and empty lines."""
    lines = [line.partition("#")[0].strip() for line in text[:10_000].splitlines()[:_MAX_LINES]]
    return [line for line in lines if line][:10]


def _read_tool_versions(text: str) -> list[str]:
    """Read .tool-versions: https://asdf-vm.com/manage/configuration.html#tool-versions."""
    for line in text.splitlines()[:_MAX_LINES]:
        name, *versions = line.partition("#")[0].split() or [""]
        if name in {"nodejs", "node"}:
            return versions[:10] or [""]
    return []


def _read_mise(text: str) -> list[str]:
    """Read mise.toml: https://mise.jdx.dev/configuration.html#mise-toml."""
    return _list_versions(get_table(_parse_tools(text), "tools"))


def _read_prototools(text: str) -> list[str]:
    """Read .prototools: https://moonrepo.dev/docs/proto/config."""
    return _list_versions(_parse_tools(text))


def _parse_tools(text: str) -> dict[str, Any]:
    try:
        return parse_toml(text)
    except ValueError:
        if "node" in text:
            raise ValueError from None
        return {}


def _list_versions(tools: Mapping[str, Any]) -> list[str]:
    """List the Node.js versions in a table of tools: a string, a number, a table with a version, or a list of these."""
    for name, value in tools.items():
        if name.rpartition(":")[2] in {"node", "nodejs"}:
            values = value if isinstance(value, list) else [value]
            return [_version_text(one) for one in values[:10]]
    return []


def _version_text(value: object) -> str:
    if isinstance(value, dict):
        for key in ("version", "prefix"):
            if key in value:
                return str(value[key])
        return ", ".join(f"{key}:{one}" for key, one in list(value.items())[:3])
    return str(value)


_FILES: tuple[tuple[str, Callable[[str], list[str]]], ...] = (
    (".nvmrc", _read_version_lines),
    (".node-version", _read_version_lines),
    (".n-node-version", _read_version_lines),
    (".tool-versions", _read_tool_versions),
    ("mise.toml", _read_mise),
    (".mise.toml", _read_mise),
    ("mise/config.toml", _read_mise),
    (".mise/config.toml", _read_mise),
    (".config/mise.toml", _read_mise),
    (".config/mise/config.toml", _read_mise),
    (".rtx.toml", _read_mise),
    (".prototools", _read_prototools),
)


def _read_version(text: str, because: str, *, must: bool) -> NodeRequirement | None:
    """Parse a version, a range or a version manager's alias; None for anything else."""
    shown = text.strip()[:_MAX_CHARACTERS]
    match = _DECORATED_VERSION.fullmatch(shown)
    plain = (match["version"] if match else shown).strip().removeprefix("--")
    lower = plain.lower()
    if lower in {"node", "nodejs", "stable", "current", "latest", "*"}:
        return NodeRequirement(("*",), because, shown, must)
    if lower in {"lts", "lts/*", "lts/latest", "lts-latest"}:
        return NodeRequirement(("*",), because, shown, must, even=True)
    codename = re.sub(r"^lts[/_-]", "", lower)
    if codename in _CODENAMES:
        return NodeRequirement((f"^{_CODENAMES[codename]}.0.0",), because, shown, must)
    if later := _AND_LATER.fullmatch(lower):
        return NodeRequirement((f">={later[1]}",), because, shown, must)
    return NodeRequirement((lower,), because, shown, must) if lower and is_range(lower) else None


def find_node_of_packages(
    folder: Path, root: Path, checkout: Path, package: Mapping[str, Any], node: str
) -> NodeRequirement | None:
    """Return the lowest major version of Node.js that installed packages require, if they require a later one than `node`.

    Only direct dependencies count, and only if a later Node.js satisfies their `engines.node`: old packages often exclude all
    current versions but still run.
    """
    newer = [f"{line}.99.99" for line in range(major(node), major(node) + _LATER_LINES)]
    asked: dict[str, str] = {}
    for name in list(dict.fromkeys(name for kind in DEPENDENCY_TABLES for name in get_table(package, kind)))[
        :_MAX_PACKAGES
    ]:
        for place in (folder, root) if _PACKAGE_NAME.fullmatch(name) else ():
            found = None
            with suppress(ValueError):
                found = read_json(place / "node_modules" / name / "package.json", checkout)
            if found is not None:
                text = get_table(found, "engines").get("node")
                if isinstance(text, str) and is_range(text) and not satisfies(node, text):
                    asked[name] = text
                break
    asked = {name: text for name, text in asked.items() if any(satisfies(version, text) for version in newer)}
    for version in newer:
        fits = [name for name, text in asked.items() if satisfies(version, text)]
        if fits and (len(fits) == len(asked)) and (major(version) % 2 == 0):
            ranges = (*asked.values(), f"{major(version)}.x")
            return NodeRequirement(
                ranges, f"engines of {', '.join(sorted(asked)[:3])}", next(iter(asked.values())), must=False
            )
    return None


def _node_for_sass(folder: Path, checkout: Path) -> NodeRequirement | None:
    """Return the Node.js versions that the app's node-sass has binaries for."""
    wanted = None
    for kind in DEPENDENCY_TABLES:
        wanted = wanted or get_table(read_package(folder, checkout), kind).get("node-sass")
    if not isinstance(wanted, str):
        return None
    wanted = wanted.strip()[:_MAX_CHARACTERS]
    version = re.search(r"(\d{1,9})(?:\.(\d{1,9}))?", wanted)
    if not version:
        return None
    major, minor = int(version[1]), int(version[2] or 0)
    if re.match(r"\s*[\^~]?\s*4\.", wanted) and "^" in wanted:
        minor = 14  # the last release of 4, unless a lockfile pins an older one
    for place in ancestors(folder, checkout):
        for name in ("package-lock.json", "yarn.lock", "pnpm-lock.yaml"):
            text = None
            with suppress(ValueError):
                text = read_lockfile(place / name, checkout)
            locked = _SASS_IN_LOCKFILE.search(text or "")
            if locked:
                major, minor = int(locked[1]), int(locked[2])
                break
    limit = next(node for m, n, node in _NODE_OF_SASS if (major, minor) >= (m, n))
    return NodeRequirement((f"<{limit + 1}",), f"node-sass {major}.{minor}", f"up to {limit}", must=False)
