"""Describe Yarn 1 ("Classic"), and Yarn 2 and later ("Berry"): two managers with the same names of program and lockfile."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from urllib.parse import unquote

from buildrunner.project.files import is_file, is_inside, read_yaml
from buildrunner.project.package_json import DEPENDENCY_TABLES, get_table
from buildrunner.project.package_managers.lockfiles import (
    count_absent,
    host_of,
    is_tarball_url,
    map_parts,
    split_lazily,
)
from buildrunner.project.package_managers.npm import is_npmrc_key
from buildrunner.project.package_managers.record import (
    FOREIGN_PACKAGE,
    PACKAGE_NAME,
    DownloadCache,
    Evidence,
    Fetching,
    InstallStrategy,
    Lockfile,
    PackageManager,
    PinnedRelease,
    RegistrySettings,
    SuitableReleases,
)
from buildrunner.project.package_managers.registry_urls import replace_hosts

_CLASSIC = "^1.22.0"
_BERRY = ("^4.0.0", "^3.0.0", "^2.4.1", ">=5.0.0")
# Lockfile format → Yarn versions that install from it without changing it, best first. Tested with Yarn 2.4 to 4.18; other
# formats are newer than this table.
_RELEASES_OF_FORMAT = {
    "4": ("^2.4.1", "^3.0.0", "^4.0.0"),
    "5": (">=3.0.0 <3.2.0", ">=3.2.0 <4.0.0", "^4.0.0"),
    "6": ("^3.2.0", "^4.0.0"),
    "8": (">=4.0.0 <4.13.0", ">=4.13.0"),
    "9": ("~4.14.0", ">=4.14.0"),
}
# Plugins that Yarn 4 includes, so that only older versions need them: https://yarnpkg.com/migration/guide
_PLUGINS_OF_YARN_3 = re.compile(r"plugin-(?:constraints|interactive-tools|stage|typescript|version|workspace-tools)\b")
_MAX_PLUGINS = 100
_PROTOCOL_OF_BERRY = re.compile(r"(?:workspace|portal|patch|exec|catalog):")
_ARCHIVE_OF_BERRY = re.compile(
    r"^  resolution: \"[^\"\n]{1,500}?@npm:[^\"\n:]{1,100}(::__archiveUrl=([^\"\n&]{1,2000}))\"$", re.MULTILINE
)
_CHECKSUM_OF_BERRY = re.compile(r"^  checksum: \S{20,300}$", re.MULTILINE)
_DIGEST_OF_CLASSIC = re.compile(r"^  integrity sha\d|^  resolved \"[^\"\n]{1,2000}#[0-9a-f]{40}\"$", re.MULTILINE)
_REFUSED = r"Your lockfile needs to be updated"
_ENGINE = r'The engine "\w+" is incompatible with this module'
_PLATFORM = rf"error (?P<name>{PACKAGE_NAME})@\S{{1,100}}: The (?:platform|CPU architecture|libc) \""
_OUTDATED = "{lockfile} does not match package.json. Run `yarn install` and commit {lockfile}."
_ENGINES = "A package requires another version of Node or Yarn. Set that Node version in .nvmrc, or update the package."


def _suitable_releases(evidence: Evidence) -> SuitableReleases:
    file = evidence.lockfile.name if evidence.lockfile else ""
    metadata = re.search(r"^__metadata:\s{1,20}version: *(\d{1,4})", evidence.head, re.MULTILINE)
    if metadata:
        ranges = _RELEASES_OF_FORMAT.get(metadata[1], _BERRY)
        return SuitableReleases(ranges, file, f"Yarn {ranges[0].lstrip('>=^~')[0]} or later")
    if settings := evidence.find_file(".yarnrc.yml"):
        of_3 = any(map(_PLUGINS_OF_YARN_3.search, _read_plugins(settings, evidence.checkout)))
        berry = (_BERRY[1], _BERRY[0], *_BERRY[2:]) if of_3 else _BERRY
        return SuitableReleases((*berry, _CLASSIC))
    if evidence.head:
        return SuitableReleases((_CLASSIC, "<2.0.0"), file, "Yarn 1")
    wanted = (
        value
        for _, package in evidence.packages
        for kind in DEPENDENCY_TABLES
        for value in get_table(package, kind).values()
    )
    if any(isinstance(value, str) and _PROTOCOL_OF_BERRY.match(value) for value in wanted):
        return SuitableReleases((*_BERRY, _CLASSIC))
    return SuitableReleases((_CLASSIC, "<2.0.0", *_BERRY))


def _read_plugins(settings: Path, checkout: Path) -> list[str]:
    """Return the paths and names of the plugins that .yarnrc.yml lists: https://yarnpkg.com/configuration/yarnrc#plugins."""
    plugins: object = None
    with suppress(ValueError):
        plugins = (read_yaml(settings, checkout) or {}).get("plugins")
    found: list[str] = []
    for plugin in plugins[:_MAX_PLUGINS] if isinstance(plugins, list) else ():
        values = [*plugin.values()][:10] if isinstance(plugin, dict) else [plugin]
        found += [value for value in values if isinstance(value, str)]
    return found


def _for_version(version: str) -> PackageManager:
    is_classic = re.match(r"[\^~=v\s]*1\b|[\^~=v\s]*0\.|<2\.0\.0$", version)
    return YARN_CLASSIC if is_classic else YARN_BERRY


def _pinned_release(evidence: Evidence) -> PinnedRelease | None:
    """Return the Yarn release that .yarnrc.yml names (https://yarnpkg.com/configuration/yarnrc#yarnPath)."""
    settings = evidence.find_file(".yarnrc.yml")
    wanted = None
    with suppress(ValueError):
        wanted = (read_yaml(settings, evidence.checkout) or {}).get("yarnPath") if settings else None
    if settings is None or not isinstance(wanted, str) or not wanted:
        return None
    path = settings.parent / wanted[:1000]
    version = re.search(r"yarn-(\d{1,9}\.\d{1,9}\.\d{1,9}[\w.-]{0,100})\.c?js$", wanted[-200:])
    present = is_file(path) and is_inside(path, evidence.checkout)
    if not present and not version:
        return None
    return PinnedRelease(settings.name, path if present else None, version[1] if version else None, "^4.0.0")


# --- yarn.lock ---


def _is_berry(text: str) -> bool:
    return "__metadata:" in text[:2000]


def _count_missing(text: str, wanted: Sequence[tuple[str, str]]) -> int:
    berry = _is_berry(text)
    return count_absent(
        text, wanted, lambda name, version: f"{name}@{'npm:' if berry and ':' not in version else ''}{version}"
    )


def _rewrite_hosts(text: str, hosts: set[str]) -> str:
    return (
        map_parts(text, "\n\n", lambda entry: _rewrite_entry(entry, hosts))
        if _is_berry(text)
        else replace_hosts(text, hosts)
    )


def _rewrite_entry(entry: str, hosts: set[str]) -> str:
    """Remove the address from `resolution: "name@npm:version::__archiveUrl=https%3A…"` if the entry has a checksum."""
    found = _ARCHIVE_OF_BERRY.search(entry)
    if found and _CHECKSUM_OF_BERRY.search(entry) and host_of(unquote(found[2])) in hosts:
        return entry.replace(found[1], "", 1)
    return entry


def _find_undigested(text: str) -> Iterator[str]:
    berry = _is_berry(text)
    for entry in split_lazily(text, "\n\n"):
        if berry:
            if "@npm:" in entry and "\n  version:" in entry and not _CHECKSUM_OF_BERRY.search(entry):
                yield entry.partition("\n")[0]
            continue
        if "\n  version " not in entry:
            continue
        address = re.search(r"^  resolved \"([^\"\n]{1,2000})\"$", entry, re.MULTILINE)
        of_registry = address is None or is_tarball_url(address[1])
        if of_registry and not _DIGEST_OF_CLASSIC.search(entry):
            yield entry.partition("\n")[0]


_INSTALL_CLASSIC = ("yarn", "install", "--non-interactive")
_FROZEN_CLASSIC = (*_INSTALL_CLASSIC, "--frozen-lockfile")
_IGNORE_PLATFORM = ("--ignore-engines", "--ignore-platform")

YARN_CLASSIC = PackageManager(
    name="yarn",
    label="Yarn",
    plausible=">=0.1.0 <100.0.0",
    lockfiles=(Lockfile("yarn.lock", _count_missing, _rewrite_hosts, _find_undigested),),
    lockfile="yarn.lock",
    signs=(".yarnrc.yml", ".yarnrc"),
    config_files=(".npmrc", ".yarnrc", ".yarnrc.yml"),
    registry_settings=(
        RegistrySettings(".yarnrc", is_npmrc_key),
        RegistrySettings(".yarnrc.yml", lambda key: key == "npmRegistryServer:"),
    ),
    suitable_releases=_suitable_releases,
    for_version=_for_version,
    pinned_release=_pinned_release,
    fetching=Fetching("yarn", ("yarn", "yarnpkg"), default=_CLASSIC),
    frozen=(
        InstallStrategy(_FROZEN_CLASSIC),
        InstallStrategy((*_FROZEN_CLASSIC, "--ignore-engines"), _ENGINE, remedy=_ENGINES),
        InstallStrategy((*_FROZEN_CLASSIC, *_IGNORE_PLATFORM), _PLATFORM, remedy=FOREIGN_PACKAGE),
    ),
    loose=(
        InstallStrategy(_INSTALL_CLASSIC, _REFUSED, frozen=False, remedy=_OUTDATED),
        InstallStrategy((*_INSTALL_CLASSIC, "--ignore-engines"), _ENGINE, frozen=False, remedy=_ENGINES),
        InstallStrategy((*_INSTALL_CLASSIC, *_IGNORE_PLATFORM), _PLATFORM, frozen=False, remedy=FOREIGN_PACKAGE),
    ),
    wrappers=(),
    aliases=("yarnpkg",),
    installs_by_default=True,
    folder_options=("--cwd",),
    add_command="yarn add",
    add_dev_command="yarn add --dev",
    uses_own_node=True,
    script_failures=(
        r"^error [^\n]{1,4000}/node_modules/NAME: Command failed\.$",
        r"YN0009: [^\w@\n]{0,4}NAME@[^\n]{1,4000}? couldn't be built successfully",
    ),
    any_script_failure=r"^error (?P<path>/\S{1,500}): Command failed\.$",
    list_skipped=lambda _root, _checkout: None,
    own_scripts_by="run",
    # Nothing is cached: Yarn 1 downloads packages for all platforms, 275 MB for an app of 90 packages.
)
YARN_BERRY = replace(
    YARN_CLASSIC,
    # This package has all releases since 2.4. The digest in `packageManager` is that of bin/yarn.js.
    fetching=Fetching(
        "@yarnpkg/cli-dist",
        ("yarn", "yarnpkg"),
        digest_file="bin/yarn.js",
        environment=(("YARN_IGNORE_PATH", "1"),),  # the program that .yarnrc.yml names is not in the repository
    ),
    frozen=(InstallStrategy(("yarn", "install", "--immutable")),),
    loose=(InstallStrategy(("yarn", "install", "--no-immutable"), r"\bYN0028\b", frozen=False, remedy=_OUTDATED),),
    installs_below=False,  # it treats a subfolder as part of the project above it
    exec_command=("yarn", "exec"),  # finds programs with Plug'n'Play
    any_script_failure=r"(?P<package>(?:@[\w.~-]{1,100}/)?[\w.~-]{1,100})@(?P<by>npm|workspace):\S{1,100} couldn't be built",
    skip_scripts="--mode=skip-build",
    list_skipped=lambda _root, _checkout: [],  # it runs all other scripts even if one fails
    own_scripts_by="none",
    # Not shareable: yarn.lock has no checksum for packages with `conditions:`, and their archives are used unchecked.
    cache=DownloadCache("berry", ("YARN_GLOBAL_FOLDER",), "berry", "berry/cache"),
)
