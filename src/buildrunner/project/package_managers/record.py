"""The shape of what is known of a package manager: `npm`, `pnpm`, `yarn` and `bun` fill one record each."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from buildrunner.project.versions import satisfies

SHELL = ("/bin/sh", "-c")
# A package's name in what a manager prints: bounded, so that no output takes more than one pass.
PACKAGE_NAME = r"((?:@[\w~][\w.~-]{0,213}/)?[\w~][\w.~-]{0,213})"
# How managers report a script of the repository itself. pnpm runs these, but for preinstall, when all packages are set up.
OWN_SCRIPT_FAILURE = (
    r"^> \S{1,300} (?:install|postinstall|prepublish|(?:pre|post)?prepare)\b"
    r"|^(?![^\n]{0,4000}node_modules/)[^\n:]{1,4000} (?:(?:pre|post)?(?:install|prepare)|prepublish): Failed$"
    r"|YN0009: [^\w@\n]{0,4}\S{1,300}@workspace:"
)
FOREIGN_PACKAGE = (
    "{name} is for another operating system or processor, so it is installed but does nothing. Move it to"
    " optionalDependencies, or remove it."
)

Packages = Sequence[tuple[Path, Mapping[str, Any]]]  # from the app's folder up to the top, with their package.json


@dataclass(frozen=True, slots=True)
class InstallStrategy:
    """One way to install. After a failure, the next one whose `after` matches the output is tried."""

    command: tuple[str, ...]
    after: str | None = None  # regular expression on what the strategy before it printed
    frozen: bool = True  # the lockfile decides alone
    remedy: str | None = None  # what to do so that it is not needed: for people; {name} is the group of `after`

    def with_name_of(self, match: re.Match[str]) -> InstallStrategy:
        """Return the strategy with the package that `after` matched in its remedy."""
        name = match.groupdict().get("name") or "A package"
        return replace(self, remedy=self.remedy.replace("{name}", name)) if self.remedy else self

    @property
    def shown(self) -> str:
        """The command as a person would type it."""
        return self.command[2] if self.command[:2] == SHELL else " ".join(self.command)


@dataclass(frozen=True, slots=True)
class Lockfile:
    """A lockfile of a manager, and how its text is read."""

    name: str
    # Count the dependencies (name, range) that the text lacks; None for a binary file.
    count_missing: Callable[[str, Sequence[tuple[str, str]]], int] | None
    # Name the npm registry for the packages of these hosts that have a digest.
    rewrite_hosts: Callable[[str, set[str]], str]
    find_undigested: Callable[[str], Iterator[str]] | None  # packages of a registry without a digest; None: all


@dataclass(frozen=True, slots=True)
class RegistrySettings:
    """A file of settings in which a manager looks for its registry."""

    name: str
    is_registry_key: Callable[[str], bool]  # of the text before the address in its line


@dataclass(frozen=True, slots=True)
class DownloadCache:
    """What of a manager's downloads is cached between builds."""

    id: str  # a part of the names of archives: letters
    variables: tuple[str, ...]  # by which the manager finds its folder
    folder: str  # below the folder for downloads
    content: str  # the part of it that is cached
    shareable: bool = False  # the manager checks all of it against the lockfile, so other slugs may have written it
    # The commands that complete an install once node_modules is restored, from the lockfile, package.json and the folder.
    # None: node_modules is not cached.
    complete_modules: Callable[[object, Mapping[str, Any], Path], list[tuple[str, ...]]] | None = None
    linked: bool = False  # its files are linked into node_modules, where scripts can change them


@dataclass(frozen=True, slots=True)
class Fetching:
    """How a manager is fetched from the npm registry."""

    package: str  # {machine} is the processor, in Node's words but for `machines`
    commands: tuple[str, ...]
    program: str | None = None  # the file that every command starts; None: those of "bin" in its package.json
    default: str | None = None  # range of releases where a script calls it and nothing names a version
    # From this major version on the package is another one, a program named after the manager.
    native: tuple[int, str] | None = None
    digest_file: str | None = None  # the file that `packageManager` has the digest of; None: the package
    environment: tuple[tuple[str, str], ...] = ()  # of install and build, unless the repository holds the manager
    machines: tuple[tuple[str, str], ...] = ()  # Node's word for a processor, and the package's

    def package_for(self, machine: str) -> str:
        """Return the name of the package for a processor."""
        return self.package.format(machine=dict(self.machines).get(machine, machine))


@dataclass(frozen=True, slots=True)
class NodeConflict:
    """Releases of a manager that do not work with later Nodes."""

    releases: str
    node: int  # from this major version on
    oldest: int  # the lowest major version of the manager that has a fixed release


@dataclass(frozen=True, slots=True)
class SuitableReleases:
    """Releases of a manager that suit what a repository has."""

    ranges: tuple[str, ...]  # the best first
    because: str = ""  # what they follow from, as the object of "but … needs"; empty for nothing
    needs: str = ""  # for people, such as "pnpm 8 or 9"


@dataclass(frozen=True, slots=True)
class HeldRelease:
    """A manager that the repository itself holds, or names in the manager's own settings."""

    source: str  # the file of settings
    file: Path | None  # that is in the repository
    version: str | None
    assumed: str  # range of versions, if the settings don't decide


@dataclass(frozen=True, slots=True)
class Evidence:
    """What identifies a suitable release of a manager in a repository."""

    lockfile: Path | None
    head: str  # the first characters of the lockfile
    packages: Packages
    checkout: Path

    def find_file(self, name: str) -> Path | None:
        """Return the nearest file of this name, from the app's folder up to the top."""
        from buildrunner.project.files import is_file

        return next((path for place, _ in self.packages if is_file(path := place / name)), None)

    def without_lockfile(self) -> Evidence:
        return replace(self, lockfile=None, head="")


@dataclass(frozen=True, slots=True)
class ManagerRequirement:
    """A package manager as required by a repository."""

    record: PackageManager
    version: str | None = None  # a range of semver; None is any: for npm the one that comes with Node
    because: str = "nothing names another"  # the source of the requirement
    digest: tuple[str, str] | None = None  # of what is fetched: algorithm, hexadecimal
    release: Path | None = None  # the manager as the repository itself holds it
    engines: tuple[str, ...] = ()  # ranges that the version has to satisfy as well

    def accepts(self, version: str) -> bool:
        """Return whether the repository accepts a version."""
        return all(satisfies(version, wanted) for wanted in (self.version or "*", *self.engines))

    @property
    def name(self) -> str:
        return self.record.name

    @property
    def label(self) -> str:
        return self.record.label


@dataclass(frozen=True, slots=True, kw_only=True)
class PackageManager:
    """A package manager. Yarn 1 and Yarn 2 and later are two that share a name and a lockfile."""

    # Identity
    name: str  # its program, and its name in `packageManager`
    label: str  # as people write it
    plausible: str  # range of versions that exist or may; a range outside of it forbids the manager
    lockfiles: tuple[Lockfile, ...]  # that it reads, the one that wins first
    lockfile: str  # the name of the one that it writes
    signs: tuple[str, ...] = ()  # files that belong to no other manager
    config_files: tuple[str, ...] = ()  # that decide how an install comes out; a part of the cache key
    registry_settings: tuple[RegistrySettings, ...] = ()

    # Which release
    suitable_releases: Callable[[Evidence], SuitableReleases]
    # The record for a range of versions, if one name stands for several managers.
    for_version: Callable[[str], PackageManager] | None = None
    held_release: Callable[[Evidence], HeldRelease | None] = lambda _: None
    # Why a range of versions ignores settings of the repository: a warning, after "… requires ".
    unread_settings: Callable[[str, Evidence], str | None] | None = None
    refuses_outside_engines: Callable[[Evidence], bool] = lambda _: False
    heeds_engines: bool = True  # whether a range in `engines` counts even though the manager runs outside of it
    node_settings: tuple[tuple[str, str], ...] = ()  # files, and the key of the Node that runs scripts
    release_of_node: Callable[[str, int | None], str | None] | None = None  # of a manager that comes with Node
    node_conflict: NodeConflict | None = None
    fetching: Fetching

    # How it installs
    frozen: tuple[InstallStrategy, ...]  # with a lockfile; {lockfile} in a remedy is its name
    loose: tuple[InstallStrategy, ...]  # after these, or without a lockfile
    installs_below: bool = True  # also in a folder below another project

    # What its commands look like in scripts
    wrappers: tuple[str, ...]  # programs of it that run another program
    aliases: tuple[str, ...] = ()  # other names of its program
    installs_by_default: bool = False  # without any argument
    folder_options: tuple[str, ...] = ()  # for the folder to run in
    runs_programs: bool = True  # also by their bare names: `NAME vite build`
    exec_command: tuple[str, ...] = ()  # runs a line where programs are not in node_modules/.bin
    add_command: str = ""
    add_dev_command: str = ""
    keeps_node: bool = False  # starts scripts with the Node that it runs with itself

    # Install scripts
    script_failures: tuple[str, ...]  # how it reports the failed script of a package, NAME; empty: unknown
    script_failure_sign: str = ""  # that its output must have
    own_script_failure: str = OWN_SCRIPT_FAILURE  # of the repository itself; empty: it has the name of its package
    skip_scripts: str = "--ignore-scripts"
    # Packages whose scripts were skipped; None if it can't run the scripts of individual packages.
    list_skipped: Callable[[Path, Path], list[str] | None]
    own_scripts_by: Literal["install", "run", "none"]  # what runs the repository's own scripts after a skipped install

    cache: DownloadCache | None = None
