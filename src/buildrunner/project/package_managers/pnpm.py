"""Describe pnpm: https://pnpm.io/cli/install."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from contextlib import suppress
from itertools import islice
from pathlib import Path

from buildrunner.project.files import read_text, read_yaml
from buildrunner.project.package_json import get_table
from buildrunner.project.package_managers.lockfiles import host_of, is_tarball_url, map_parts
from buildrunner.project.package_managers.npm import MAX_REBUILT, NPMRC
from buildrunner.project.package_managers.record import (
    PACKAGE_NAME,
    DownloadCache,
    Evidence,
    Fetching,
    InstallStrategy,
    Lockfile,
    NodeConflict,
    PackageManager,
    SuitableReleases,
)
from buildrunner.project.versions import intersects

_MAX_PENDING = 10_000  # lines of the list that are read
# Lockfile format → pnpm versions that install from it without changing it, best first. Tested with pnpm 6 to 12
# (https://github.com/pnpm/spec).
_RELEASES_OF_FORMAT = {
    "5": (">=6.0.0 <8.0.0",),
    "6": ("^8.3.1", "^9.0.0"),
    "9": ("^9.0.0", "^10.0.0", "^11.0.0", ">=12.0.0"),
}
_PNPM_10 = ("^10.0.0", "^9.0.0", "^11.0.0", ">=12.0.0")
_WITHOUT_LOCKFILE = ("^10.0.0", "^9.0.0", "^8.0.0", ">=6.0.0 <8.0.0", "^11.0.0", ">=12.0.0", "<6.0.0")
_FROM_GIT = re.compile(
    r"\b(?:type|directory|commit):|gitHosted|tarball: https://(?:codeload\.github\.com|gitlab\.com|bitbucket\.org)/"
)
_REFUSED = r"ERR_PNPM_(?!LOCKFILE_BREAKING)\w*LOCKFILE|Headless installation requires a pnpm-lock\.yaml"  # pnpm 7 to 12
_OUTDATED = "{lockfile} does not match package.json. Run `pnpm install` and commit {lockfile}."
_UNREADABLE = (
    "This pnpm cannot read {lockfile}, which another version wrote, and resolved all dependencies again. Run `pnpm install`"
    " with the pnpm version in the log, and commit {lockfile}."
)


def _suitable_releases(evidence: Evidence) -> SuitableReleases:
    found = re.search(r"^lockfileVersion: *['\"]?(\d{1,4})", evidence.head, re.MULTILINE)
    format_ = found[1] if found else ""
    file = evidence.lockfile.name if evidence.lockfile else ""
    if not format_:
        return SuitableReleases(_WITHOUT_LOCKFILE)
    if format_ in {"5", "6"}:
        return SuitableReleases(_RELEASES_OF_FORMAT[format_], file, "pnpm 6 or 7" if format_ == "5" else "pnpm 8 or 9")
    for_9 = format_ == "9" and not _has_settings_of_10(evidence)
    return SuitableReleases(_RELEASES_OF_FORMAT["9"] if for_9 else _PNPM_10, file, "pnpm 9 or later")


def _has_settings_of_10(evidence: Evidence) -> bool:
    """Return whether the repository has settings that only pnpm 10 and later read; 9 reads three in pnpm-workspace.yaml."""
    for place, package in evidence.packages:
        with suppress(ValueError):
            settings = read_yaml(place / "pnpm-workspace.yaml", evidence.checkout)
            if settings and (settings.keys() - {"packages", "catalog", "catalogs"} or "packages" not in settings):
                return True
        if "ignoredBuiltDependencies" in get_table(package, "pnpm"):
            return True
    return False


def _unread_settings(version: str, evidence: Evidence) -> str | None:
    unread = [*get_table(evidence.packages[-1][1], "pnpm")]
    if not unread or intersects(version, "<11.0.0"):
        return None
    return (
        f"pnpm 11 or later, which ignores pnpm.{unread[0][:50]} in package.json. Move it to pnpm-workspace.yaml, or"
        " allow pnpm 10."
    )


def _count_missing(text: str, wanted: Sequence[tuple[str, str]]) -> int:
    present = set(re.findall(r"^ {1,20}'?([^\s':]{1,214})'?:", text, re.MULTILINE))
    return sum(name not in present for name, _ in wanted)


def _rewrite_hosts(text: str, hosts: set[str]) -> str:
    return map_parts(text, "\n", lambda line: _rewrite_line(line, hosts))


def _rewrite_line(line: str, hosts: set[str]) -> str:
    """Rewrite `resolution: {integrity: sha512-…, tarball: https://…}`; without a tarball it means the npm registry."""
    before, named_address, address = line.partition(", tarball: ")
    if not named_address:
        return line
    named = re.fullmatch(r" {1,20}resolution: \{integrity: sha\d{1,3}-[^\s,}]{20,200}", before)
    of_host = host_of(address) in hosts and is_tarball_url(address.rstrip().removesuffix("}"))
    return f"{before}}}" if named and of_host else line


def _find_undigested(text: str) -> Iterator[str]:
    for match in re.finditer(r"^ {2,6}resolution: \{([^}\n]{0,2000})\}", text, re.MULTILINE):
        if "integrity:" not in match[1] and not _FROM_GIT.search(match[1]):
            yield match[1]


def list_skipped(root: Path, checkout: Path) -> list[str]:
    """List the packages whose install scripts pnpm skipped, by the .modules.yaml in node_modules (JSON since pnpm 10).

    That file lists every package, which may exceed the limits of `read_yaml`, so it is searched as text.
    """
    text = ""
    with suppress(ValueError):
        text = read_text(root / "node_modules" / ".modules.yaml", checkout) or ""
    start = re.search(r"^(?:  \")?pendingBuilds\"?:(?: \[)?\n", text, re.MULTILINE)
    found: set[str] = set()
    for line in islice(text[start.end() :].split("\n"), _MAX_PENDING) if start else ():
        if not line.startswith(("  - ", "    ")):
            break
        if name := re.match(rf" {{1,8}}(?:- )?[\"']?/?{PACKAGE_NAME}[/@]", line):  # /core-js/3.19.0, core-js@3.19.0
            found.add(name[1])
    return sorted(found)[:MAX_REBUILT]


PNPM = PackageManager(
    name="pnpm",
    label="pnpm",
    plausible=">=1.0.0 <100.0.0",
    lockfiles=(Lockfile("pnpm-lock.yaml", _count_missing, _rewrite_hosts, _find_undigested),),
    lockfile="pnpm-lock.yaml",
    signs=("pnpm-workspace.yaml",),
    config_files=(".npmrc", ".pnpmfile.cjs", "pnpm-workspace.yaml"),
    registry_settings=(NPMRC,),
    suitable_releases=_suitable_releases,
    unread_settings=_unread_settings,
    refuses_outside_engines=lambda _: True,
    # https://pnpm.io/settings#usenodeversion
    node_settings=((".npmrc", "use-node-version"), ("pnpm-workspace.yaml", "useNodeVersion")),
    # These releases fail on Node 20 and later with ERR_INVALID_THIS, since URLSearchParams checks `this` there.
    node_conflict=NodeConflict("<7.33.0 || >=8.0.0 <8.3.1", node=20, oldest=7),
    fetching=Fetching("pnpm", ("pnpm", "pnpx"), default="^10.0.0", native=(12, "@pnpm/exe.linux-{machine}")),
    frozen=(InstallStrategy(("pnpm", "install", "--frozen-lockfile")),),
    loose=(
        InstallStrategy(("pnpm", "install", "--no-frozen-lockfile"), _REFUSED, frozen=False, remedy=_OUTDATED),
        InstallStrategy(
            ("pnpm", "install", "--no-frozen-lockfile"),
            "ERR_PNPM_LOCKFILE_BREAKING_CHANGE",
            frozen=False,
            remedy=_UNREADABLE,
        ),
    ),
    wrappers=("pnpx",),
    folder_options=("-C", "--dir", "--prefix"),
    add_command="pnpm add",
    add_dev_command="pnpm add --save-dev",
    script_failures=(r"^[^\n]{0,4000}node_modules/NAME (?:pre|post)?install: Failed$",),
    any_script_failure=r"^(?P<path>\S{1,500}) (?P<name>\w{1,20}): Failed$",
    script_failure_sign="ELIFECYCLE",  # absent if only optional dependencies failed
    list_skipped=list_skipped,
    own_scripts_by="install",
    cache=DownloadCache("pnpm", ("npm_config_store_dir", "pnpm_config_store_dir"), "pnpm", "pnpm"),
)
