"""Describe Bun: https://bun.com/docs/pm/cli/install."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from pathlib import Path

from buildrunner.project.package_managers.lockfiles import count_absent, host_of, map_parts, split_lazily
from buildrunner.project.package_managers.record import (
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

_DIGEST = re.compile(r"sha\d{1,3}-[A-Za-z0-9+/=]{20,200}")
_OUTDATED = "{lockfile} does not match package.json. Run `bun install` and commit {lockfile}."
# Converts the binary lockfile, which only Bun reads, into a text lockfile next to it.
WRITE_TEXT_LOCKFILE = ("bun", "install", "--save-text-lockfile", "--frozen-lockfile", "--lockfile-only")


def _suitable_releases(evidence: Evidence) -> SuitableReleases:
    # https://bun.com/docs/pm/lockfile#text-based-lockfile
    if evidence.lockfile and evidence.lockfile.name == "bun.lock":
        return SuitableReleases((">=1.1.39",), "bun.lock", "Bun 1.1.39 or later")
    return SuitableReleases(("*",))


def _count_missing(text: str, wanted: Sequence[tuple[str, str]]) -> int:
    return count_absent(text, wanted, lambda name, version: f'"{name}": "{version}"')


def _rewrite_hosts(text: str, hosts: set[str]) -> str:
    return map_parts(text, "\n", lambda line: _rewrite_line(line, hosts))


def _rewrite_line(line: str, hosts: set[str]) -> str:
    """Rewrite an entry "name": ["name@version", "address", {…}, "digest"]; an empty address means the npm registry."""
    parts = _split_entry(line) if "://" in line else []
    if len(parts) > 7 and host_of(parts[5]) in hosts and _DIGEST.fullmatch(parts[-2]):
        parts[5] = ""
        return '"'.join(parts)
    return line


def _split_entry(line: str) -> list[str]:
    """Split the entry of a registry's package at its quotes; empty for other lines."""
    parts = line.split('"')
    named = len(parts) > 5 and parts[2] == ": [" and parts[4].startswith(",")
    return parts if named and parts[3].rpartition("@")[2][:1].isdigit() else []


def _find_undigested(text: str) -> Iterator[str]:
    for line in split_lazily(text.partition('"packages": {')[2], "\n"):
        parts = _split_entry(line)
        if parts and not _DIGEST.fullmatch(parts[-2]):
            yield parts[3]


def _is_bunfig_key(key: str) -> bool:
    """Return whether a key in bunfig.toml may name a registry: `registry`, `url`, or any name under [install.scopes]."""
    return key.endswith("=") and not key.startswith("#")


def _list_skipped(_root: Path, _checkout: Path) -> None:
    """Return None: Bun cannot run the install scripts of individual packages."""


BUN = PackageManager(
    name="bun",
    label="Bun",
    plausible=">=0.1.0 <100.0.0",
    lockfiles=(
        Lockfile("bun.lock", _count_missing, _rewrite_hosts, _find_undigested),
        Lockfile("bun.lockb", None, replace_hosts, None),
    ),
    lockfile="bun.lock",
    signs=("bunfig.toml",),
    config_files=(".npmrc", "bunfig.toml"),
    registry_settings=(RegistrySettings("bunfig.toml", _is_bunfig_key),),
    suitable_releases=_suitable_releases,
    fetching=Fetching(
        "@oven/bun-linux-{machine}",
        ("bun", "bunx"),
        program="bin/bun",  # its behavior depends on the name that it is started with
        machines=(("arm64", "aarch64"),),
    ),
    frozen=(InstallStrategy(("bun", "install", "--frozen-lockfile")),),
    loose=(InstallStrategy(("bun", "install"), r"lockfile is frozen", frozen=False, remedy=_OUTDATED),),
    wrappers=("bunx",),
    folder_options=("--cwd",),
    add_command="bun add",
    add_dev_command="bun add --dev",
    script_failures=(r"^error: (?:pre|post)?install script from \"NAME\" (?:exited|terminated)",),
    any_script_failure=r"error: (?P<name>\w{1,20}) script from \"(?P<package>[^\"\n]{1,200})\" exited",
    list_skipped=_list_skipped,
    own_scripts_by="install",
    cache=DownloadCache("bun", ("BUN_INSTALL_CACHE_DIR",), "bun", "bun", linked=True),
)
