"""Define the record of a package manager, which `npm`, `pnpm`, `yarn` and `bun` fill in."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from buildrunner.project.versions import satisfies

SHELL = ("/bin/sh", "-c")
# A package's name in a manager's output; bounded, so that matching takes a single pass.
PACKAGE_NAME = r"((?:@[\w~][\w.~-]{0,213}/)?[\w~][\w.~-]{0,213})"
# How managers report a failed script of the repository itself.
OWN_SCRIPT_FAILURE = (
    r"^> \S{1,300} (?:install|postinstall|prepublish|(?:pre|post)?prepare)\b"
    r"|^(?![^\n]{0,4000}node_modules/)[^\n:]{1,4000} (?:(?:pre|post)?(?:install|prepare)|prepublish): Failed$"
    r"|YN0009: [^\w@\n]{0,4}\S{1,300}@workspace:"
)
FOREIGN_PACKAGE = (
    "{name} is for another operating system or processor and can't work here. Move it to"
    " optionalDependencies, or remove it."
)

Packages = Sequence[tuple[Path, Mapping[str, Any]]]  # folders with their package.json, from the app's up to the top


@dataclass(frozen=True, slots=True)
class InstallStrategy:
    """An install command. After it fails, the next strategy whose `after` matches the output is tried."""

    command: tuple[str, ...]
    after: str | None = None  # regular expression for the output of the strategy before it
    frozen: bool = True  # whether only the lockfile decides on versions
    remedy: str | None = None  # for people: how to make this strategy unnecessary; {name} is the group of `after`

    def with_name_of(self, match: re.Match[str]) -> InstallStrategy:
        """Return the strategy with the package name that `after` matched put into its remedy."""
        name = match.groupdict().get("name") or "A package"
        return replace(self, remedy=self.remedy.replace("{name}", name)) if self.remedy else self

    @property
    def shown(self) -> str:
        """The command as a person would type it."""
        return self.command[2] if self.command[:2] == SHELL else " ".join(self.command)


@dataclass(frozen=True, slots=True)
class Lockfile:
    """A lockfile of a manager, with the functions that read and rewrite its text."""

    name: str
    # Counts the dependencies (name, range) that the text lacks; None for a binary file.
    count_missing: Callable[[str, Sequence[tuple[str, str]]], int] | None
    # Replaces these hosts by the npm registry for packages that have a digest.
    rewrite_hosts: Callable[[str, set[str]], str]
    find_undigested: (
        Callable[[str], Iterator[str]] | None
    )  # yields registry packages without a digest; None if all lack it


@dataclass(frozen=True, slots=True)
class RegistrySettings:
    """A settings file that can name a manager's registry."""

    name: str
    is_registry_key: Callable[[str], bool]  # whether the text before an address in a line sets the registry


@dataclass(frozen=True, slots=True)
class DownloadCache:
    """The part of a manager's downloads that is cached between builds."""

    id: str  # part of the archive's name; only letters
    variables: tuple[str, ...]  # environment variables that set the manager's folder
    folder: str  # relative to the folder for all downloads
    content: str  # the part that is cached, relative to the same
    shareable: bool = False  # whether other slugs may use it, since the manager checks all content against the lockfile
    # Returns the commands that complete an install after node_modules was restored, from the lockfile, package.json and the
    # folder. None if node_modules is not cached.
    complete_modules: Callable[[object, Mapping[str, Any], Path], list[tuple[str, ...]]] | None = None
    linked: bool = False  # whether its files are hard-linked into node_modules, where scripts can change them


@dataclass(frozen=True, slots=True)
class Fetching:
    """The npm package of a manager, and how it is run."""

    package: str  # {machine} is the processor: Node.js's name for it, or that in `machines`
    commands: tuple[str, ...]
    program: str | None = None  # the file that every command runs; None: the files under "bin" in its package.json
    default: str | None = None  # version range if a script calls it and the repository names no version
    # First major version whose package is a native program named after the manager, and that package.
    native: tuple[int, str] | None = None
    digest_file: str | None = None  # the file whose digest is in `packageManager`; None: the tarball
    environment: tuple[tuple[str, str], ...] = ()  # for install and build, unless the manager is committed
    machines: tuple[tuple[str, str], ...] = ()  # Node.js's name of a processor, and the package's

    def package_for(self, machine: str) -> str:
        """Return the name of the package for a processor."""
        return self.package.format(machine=dict(self.machines).get(machine, machine))


@dataclass(frozen=True, slots=True)
class NodeConflict:
    """Releases of a manager that don't work with later versions of Node.js."""

    releases: str  # a version range
    node: int  # first major version of Node.js that they fail on
    oldest: int  # the lowest major version of the manager that has a fixed release


@dataclass(frozen=True, slots=True)
class SuitableReleases:
    """Releases of a manager that suit a repository's lockfile and settings."""

    ranges: tuple[str, ...]  # best first
    because: str = ""  # the file that determines them, for "but … needs"; empty if there is none
    needs: str = ""  # for messages, such as "pnpm 8 or 9"


@dataclass(frozen=True, slots=True)
class PinnedRelease:
    """A manager release that is committed to the repository, or named in the manager's own settings."""

    source: str  # name of the settings file
    file: Path | None  # the committed program
    version: str | None
    assumed: str  # version range, if the settings don't name a version


@dataclass(frozen=True, slots=True)
class Evidence:
    """The parts of a repository that determine which releases of a manager suit it."""

    lockfile: Path | None
    head: str  # the first characters of the lockfile
    packages: Packages
    checkout: Path

    def find_file(self, name: str) -> Path | None:
        """Return the nearest file with this name, from the app's folder up to the top."""
        from buildrunner.project.files import is_file

        return next((path for place, _ in self.packages if is_file(path := place / name)), None)

    def without_lockfile(self) -> Evidence:
        return replace(self, lockfile=None, head="")


@dataclass(frozen=True, slots=True)
class ManagerRequirement:
    """A package manager as required by a repository."""

    record: PackageManager
    version: str | None = None  # semver range; None for any; for npm, that is the one that comes with Node.js
    because: str = "nothing names another"  # the source of the requirement
    digest: tuple[str, str] | None = None  # of the download: algorithm, hexadecimal digest
    release: Path | None = None  # the manager's program, if it is committed to the repository
    engines: tuple[str, ...] = ()  # more ranges that the version has to satisfy

    def accepts(self, version: str) -> bool:
        """Return whether a version satisfies all ranges."""
        return all(satisfies(version, wanted) for wanted in (self.version or "*", *self.engines))

    @property
    def name(self) -> str:
        return self.record.name

    @property
    def label(self) -> str:
        return self.record.label


@dataclass(frozen=True, slots=True, kw_only=True)
class PackageManager:
    """A package manager. Yarn 1, and Yarn 2 and later, are two records that share a name and a lockfile."""

    # Identity
    name: str  # of its program, and in `packageManager`
    label: str  # the name in messages
    plausible: str  # range of all possible versions; an `engines` range outside of it forbids the manager
    lockfiles: tuple[Lockfile, ...]  # all that it reads, in order of precedence
    lockfile: str  # name of the one that it writes
    signs: tuple[str, ...] = ()  # files that only this manager uses
    config_files: tuple[str, ...] = ()  # files that affect an install; part of the cache key
    registry_settings: tuple[RegistrySettings, ...] = ()

    # Releases
    suitable_releases: Callable[[Evidence], SuitableReleases]
    # Returns the record for a version range, if several managers share a name.
    for_version: Callable[[str], PackageManager] | None = None
    pinned_release: Callable[[Evidence], PinnedRelease | None] = lambda _: None
    # Returns the end of the warning "… requires …" if a version range ignores settings of the repository.
    unread_settings: Callable[[str, Evidence], str | None] | None = None
    refuses_outside_engines: Callable[[Evidence], bool] = lambda _: False
    follows_engines: bool = True  # whether `engines` determines the release even if the manager doesn't enforce it
    node_settings: tuple[tuple[str, str], ...] = ()  # settings files, and the key for the Node.js version of scripts
    release_of_node: Callable[[str, int | None], str | None] | None = None  # for a manager that comes with Node.js
    node_conflict: NodeConflict | None = None
    fetching: Fetching

    # Install commands
    frozen: tuple[InstallStrategy, ...]  # for use with a lockfile; {lockfile} in a remedy is its name
    loose: tuple[InstallStrategy, ...]  # tried after these, or without a lockfile
    installs_below: bool = True  # whether it can install in a subfolder of another project

    # Commands in scripts
    wrappers: tuple[str, ...]  # its programs that run another program, such as npx
    aliases: tuple[str, ...] = ()  # other names of its program
    installs_by_default: bool = False  # whether it installs when run without arguments
    folder_options: tuple[str, ...] = ()  # options that set the folder to run in
    runs_programs: bool = True  # whether it runs programs by name: `pnpm vite build`
    exec_command: tuple[str, ...] = ()  # runs a command line if programs are not in node_modules/.bin
    add_command: str = ""
    add_dev_command: str = ""
    uses_own_node: bool = False  # whether it runs scripts with the same Node.js as itself

    # Install scripts
    script_failures: tuple[str, ...]  # patterns of its report of a dependency's failed script; NAME is the package
    # Pattern of its report of any failed install script, also the repository's own. Groups: package, or path to its folder;
    # name of the script; by, which is "workspace" for a package of the repository.
    any_script_failure: str
    script_failure_sign: str = ""  # text that its output then has to contain
    own_script_failure: str = (
        OWN_SCRIPT_FAILURE  # the repository's own script; empty: reported like that of any package
    )
    skip_scripts: str = "--ignore-scripts"
    # Lists the packages whose scripts were skipped; None if it can't run the scripts of individual packages.
    list_skipped: Callable[[Path, Path], list[str] | None]
    own_scripts_by: Literal[
        "install", "run", "none"
    ]  # how to run the repository's own scripts after an install without them

    cache: DownloadCache | None = None
