"""Describe npm, which comes with Node.js and is the only manager whose node_modules is cached."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from buildrunner.project.files import parse_json, read_text
from buildrunner.project.package_json import INSTALL_SCRIPTS, get_scripts, get_table
from buildrunner.project.package_managers.lockfiles import (
    count_absent,
    is_tarball_url,
    read_format_version,
    read_lockfile,
)
from buildrunner.project.package_managers.record import (
    FOREIGN_PACKAGE,
    PACKAGE_NAME,
    DownloadCache,
    Evidence,
    Fetching,
    InstallStrategy,
    Lockfile,
    PackageManager,
    RegistrySettings,
    SuitableReleases,
)
from buildrunner.project.package_managers.registry_urls import replace_hosts
from buildrunner.project.versions import major

_REFUSED = r"can only install (packages when|with an existing)"  # npm 6 to 12
_CONFLICT = r"\bcode ERESOLVE\b"  # as a warning it has no code; npm 7 to 11
_PLATFORM = (  # npm 6 to 12
    rf"\bcode EBADPLATFORM\b(?:[^\0]{{0,300}}? Unsupported platform for (?P<name>{PACKAGE_NAME})@)?"
)
_OUTDATED = "{lockfile} does not match package.json. Run `npm install` and commit {lockfile}."
_PEERS = (
    "Packages have conflicting peer dependencies, which npm 6 ignored. Update them, or commit an .npmrc with"
    " legacy-peer-deps=true."
)
# Major version of Node.js → npm's in its last release: https://nodejs.org/en/about/previous-releases. Later versions run with
# the installed npm.
_NPM_OF_NODE: Mapping[int, int] = {
    4: 2,
    5: 3,
    6: 3,
    7: 4,
    8: 6,
    9: 5,
    15: 7,
    16: 8,
    17: 8,
    18: 10,
    19: 9,
    **dict.fromkeys(range(10, 15), 6),
    **dict.fromkeys(range(20, 24), 10),
}
MAX_REBUILT = 200  # packages on a command line; if there are more, npm rebuilds all
_REBUILT = re.compile(r"(@[a-z0-9~_][\w.~-]*/)?[A-Za-z0-9~_][\w.~-]*")  # a name that cannot be mistaken for an option


def _suitable_releases(evidence: Evidence) -> SuitableReleases:
    lockfile = evidence.lockfile
    if lockfile and read_format_version(lockfile, evidence.checkout) == 3:
        return SuitableReleases((">=7.0.0",), lockfile.name, "npm 7 or later")
    return SuitableReleases(("*",))


def _is_engine_strict(evidence: Evidence) -> bool:
    """Return whether npm enforces `engines`: https://docs.npmjs.com/cli/using-npm/config#engine-strict."""
    for place, _ in evidence.packages:
        with suppress(ValueError):
            text = read_text(place / ".npmrc", evidence.checkout) or ""
            if re.search(r"^[ \t]*engine-strict[ \t]*=[ \t]*[\"']?true\b", text, re.MULTILINE):
                return True
    return False


def _release_of_node(node: str, lockfile_version: int | None) -> str | None:
    """Return the npm range for a Node.js version: the npm that came with it, unless that cannot read the lockfile.

    npm 6 and older read lockfileVersion 1, and the same section of 2, which 3 lacks.
    https://docs.npmjs.com/cli/configuring-npm/package-lock-json#lockfileversion
    """
    line = _NPM_OF_NODE.get(major(node))
    if line is None:
        return None
    return "^8.0.0" if lockfile_version == 3 and line < 7 else f"^{line}.0.0"


def _count_missing(text: str, wanted: Sequence[tuple[str, str]]) -> int:
    if re.search(r'"lockfileVersion"\s*:\s*1\b', text[:5000]):  # without the ranges
        return count_absent(text, wanted, lambda name, _: f'"{name}": {{')
    return count_absent(text, wanted, lambda name, version: f'"{name}": "{version}"')


def _find_undigested(text: str) -> Iterator[str]:
    lockfile: object = None
    with suppress(ValueError):
        lockfile = parse_json(text)
    packages = lockfile.get("packages") if isinstance(lockfile, dict) else None
    if not isinstance(packages, dict):
        yield "all"  # the format of npm 6 and older is not parsed
        return
    for path, entry in packages.items():
        if "node_modules/" not in path or not isinstance(entry, dict) or entry.get("link") or entry.get("inBundle"):
            continue
        resolved = entry.get("resolved")
        if (not isinstance(resolved, str) or is_tarball_url(resolved)) and not entry.get("integrity"):
            yield path


def is_npmrc_key(key: str) -> bool:
    """Return whether a key in .npmrc, or in Yarn 1's .yarnrc, sets the registry for all packages or a scope."""
    return re.fullmatch(r"(?:@[\w.~-]{1,214}:)?registry\"?[ \t]*=?", key) is not None


NPMRC = RegistrySettings(".npmrc", is_npmrc_key)


# --- install scripts ---


def list_scripted(lockfile: object, root: Path) -> list[str] | None:
    """List the installed packages that have install scripts, by npm's lockfile; None if it doesn't record them.

    The repository's own packages, which are linked, are included.
    """
    if not isinstance(lockfile, dict) or not isinstance(lockfile.get("packages"), dict):
        return None
    scripted = [
        path
        for path, entry in _entries(lockfile).items()
        if "node_modules/" in path and (entry.get("hasInstallScript") or entry.get("link"))
    ]
    there = [path for path in scripted if os.path.lexists(root / path)]  # those for other platforms are not installed
    names = sorted({path.rpartition("node_modules/")[2] for path in there})
    return names if len(names) <= MAX_REBUILT and all(map(_REBUILT.fullmatch, names)) else None


def list_skipped(root: Path, checkout: Path) -> list[str] | None:
    """List the packages whose install scripts were skipped, by the lockfile that npm 7 and later keep in node_modules."""
    with suppress(ValueError):
        text = read_lockfile(root / "node_modules" / ".package-lock.json", checkout)
        return list_scripted(parse_json(text), root) if text else None
    return None


def complete_modules(lockfile: object, package: Mapping[str, Any], root: Path) -> list[tuple[str, ...]]:
    """List the commands that run all install scripts, which completes `npm ci` after node_modules was restored."""
    # The scripts of workspaces are not in package-lock.json.
    linked = any(entry.get("link") for entry in _entries(lockfile).values())
    names = None if linked else list_scripted(lockfile, root)
    commands: list[tuple[str, ...]] = []
    if names is None:
        commands.append(("npm", "rebuild"))
    elif names:
        commands.append(("npm", "rebuild", *names))
    return commands + own_script_commands("npm", package)


def own_script_commands(program: str, package: Mapping[str, Any]) -> list[tuple[str, ...]]:
    """List the commands of npm or Yarn 1 that run the repository's own install scripts."""
    present = get_scripts(package).keys()
    commands: list[tuple[str, ...]] = []
    for group in INSTALL_SCRIPTS:
        main = group[len(group) // 2]
        run = (main,) if main in present else tuple(name for name in group if name in present)
        commands += [(program, "run", name) for name in run]
    return commands


def _entries(lockfile: object) -> dict[str, dict[str, Any]]:
    packages = get_table(lockfile, "packages") if isinstance(lockfile, dict) else {}
    return {path: entry for path, entry in packages.items() if isinstance(entry, dict)}


NPM = PackageManager(
    name="npm",
    label="npm",
    plausible=">=1.0.0 <100.0.0",
    # `npm ci` reads npm-shrinkwrap.json first: https://docs.npmjs.com/cli/configuring-npm/npm-shrinkwrap-json
    lockfiles=(
        Lockfile("npm-shrinkwrap.json", _count_missing, replace_hosts, _find_undigested),
        Lockfile("package-lock.json", _count_missing, replace_hosts, _find_undigested),
    ),
    lockfile="package-lock.json",
    config_files=(".npmrc",),
    registry_settings=(NPMRC,),
    suitable_releases=_suitable_releases,
    refuses_outside_engines=_is_engine_strict,
    follows_engines=False,
    release_of_node=_release_of_node,
    fetching=Fetching("npm", ("npm", "npx")),
    # A lockfile from --legacy-peer-deps lacks peer dependencies, so `npm ci` considers it out of sync.
    frozen=(
        InstallStrategy(("npm", "ci")),
        InstallStrategy(("npm", "ci", "--legacy-peer-deps"), f"{_REFUSED}|{_CONFLICT}", remedy=_PEERS),
        InstallStrategy(("npm", "ci", "--force"), _PLATFORM, remedy=FOREIGN_PACKAGE),
    ),
    loose=(
        InstallStrategy(("npm", "install"), _REFUSED, frozen=False, remedy=_OUTDATED),
        InstallStrategy(("npm", "install", "--legacy-peer-deps"), _CONFLICT, frozen=False, remedy=_PEERS),
        InstallStrategy(("npm", "install", "--force"), _PLATFORM, frozen=False, remedy=FOREIGN_PACKAGE),
    ),
    wrappers=("npx",),
    folder_options=("--prefix", "-C"),
    runs_programs=False,
    add_command="npm install",
    add_dev_command="npm install --save-dev",
    script_failures=(
        r"^npm (?:error|ERR!) path [^\n]{1,4000}/node_modules/NAME\s*\nnpm (?:error|ERR!) command failed",  # 7 to 11
        r"^npm (?:error|ERR!) gyp ERR! cwd [^\n]{1,4000}/node_modules/NAME$",  # if gyp's output has displaced these lines
        r"^npm ERR! NAME@[^\s:]{1,300} (?:pre|post)?install: `",  # 6
    ),
    any_script_failure=r"npm (?:error|ERR!) path (?P<path>\S{1,500})$",  # 7 and later
    own_script_failure="",
    list_skipped=list_skipped,
    own_scripts_by="run",
    # Only the content is cached, since npm finds and verifies it by the digest in the lockfile. npm would trust the index next
    # to it, which contains documents from the registry.
    cache=DownloadCache(
        "npm",
        ("npm_config_cache",),
        "npm",
        "npm/_cacache/content-v2",
        shareable=True,
        complete_modules=complete_modules,
    ),
)
