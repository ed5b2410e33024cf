"""Package managers: how each installs, and what runs of an install when scripts failed.

Which manager a repository uses, and in which version, is in `managers`.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import Any, Literal
from urllib.parse import unquote

from buildrunner.project.files import read_json, read_text
from buildrunner.project.versions import satisfies

Name = Literal["npm", "pnpm", "yarn", "bun"]
LABELS: Mapping[Name, str] = {"npm": "npm", "pnpm": "pnpm", "yarn": "Yarn", "bun": "Bun"}
# `npm ci` reads npm-shrinkwrap.json first: https://docs.npmjs.com/cli/configuring-npm/npm-shrinkwrap-json
LOCKFILES: Mapping[str, Name] = {
    "pnpm-lock.yaml": "pnpm",
    "yarn.lock": "yarn",
    "bun.lock": "bun",
    "bun.lockb": "bun",
    "npm-shrinkwrap.json": "npm",
    "package-lock.json": "npm",
}
SHELL = ("/bin/sh", "-c")
_PACKAGE = r"((?:@[\w~][\w.~-]{0,213}/)?[\w~][\w.~-]{0,213})"
DEPENDENCIES = ("dependencies", "devDependencies", "optionalDependencies")
_MOST_SCRIPTS = 500  # of a package.json that are followed
_MOST_LOCKFILE_BYTES = 32 * 2**20
_MOST_PENDING = 10_000  # lines
_MOST_REBUILT = 200  # packages on a command line; of npm's, above that all are rebuilt
_REBUILT = re.compile(r"(@[a-z0-9~_][\w.~-]*/)?[A-Za-z0-9~_][\w.~-]*")  # a name that is no option
_CALLED = re.compile(r"(?:^|[\s;&|(\"'])(pnpm|pnpx|yarn|yarnpkg|bun|bunx)(?=[\s\"']|$)")


@dataclass(frozen=True, slots=True)
class Manager:
    """A package manager, as a repository asks for it."""

    name: Name
    version: str | None = None  # a range of semver; None is any: for npm the one that comes with Node
    because: str = "nothing names another"  # what says so
    digest: tuple[str, str] | None = (
        None  # of its package (of Yarn 2 and later: of its one file): algorithm, hexadecimal
    )
    modern: bool = False  # Yarn 2 and later
    release: Path | None = None  # Yarn as the repository itself holds it
    engines: tuple[str, ...] = ()  # ranges that the version has to satisfy as well

    def accepts(self, version: str) -> bool:
        """Return whether a version is one that the repository asks for."""
        return all(satisfies(version, wanted) for wanted in (self.version or "*", *self.engines))

    @property
    def label(self) -> str:
        """Its name as people write it."""
        return LABELS[self.name]


@dataclass(frozen=True, slots=True)
class Attempt:
    """One way to install. The next that applies to how it failed is tried."""

    command: tuple[str, ...]
    after: str | None = None  # of the attempt that failed before: what it said, as a regular expression
    frozen: bool = True  # the lockfile decides alone
    mend: str | None = None  # what to do so that it is not needed: for people; {name} is the group of `after`

    def after_match(self, match: re.Match[str]) -> Attempt:
        """Return the attempt with the name in `mend` that `after` has matched."""
        name = match.groupdict().get("name") or "A package"
        return replace(self, mend=self.mend.replace("{name}", name)) if self.mend else self

    @property
    def shown(self) -> str:
        """The command as a person would type it."""
        return self.command[2] if self.command[:2] == SHELL else " ".join(self.command)


def places(folder: Path, checkout: Path) -> Iterator[Path]:
    """Give the folders from the app's own up to the top of the repository."""
    yield folder
    while folder != checkout and folder.is_relative_to(checkout):
        folder = folder.parent
        yield folder


def package_of(folder: Path, checkout: Path) -> Mapping[str, Any]:
    """Read the package.json of a folder; what cannot be read is empty."""
    with suppress(ValueError):
        return read_json(folder / "package.json", checkout) or {}
    return {}


def table_of(package: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    """Give an object of package.json, such as its scripts; empty where there is none."""
    table = package.get(name)
    return table if isinstance(table, dict) else {}


# Mirrors of the npm registry that lockfiles name; the first is gone since 2024. Each has its own form of a tarball's address:
# /name/-/name-1.0.0.tgz as the registry, or /@scope/name/download/@scope/name-1.0.0.tgz?cache=0&….
MIRRORS = (
    "registry.npm.taobao.org",
    "registry.nlark.com",
    "registry.npmmirror.com",
    "cdn.npmmirror.com/packages",
    "r.cnpmjs.org",
    "registry.cnpmjs.org",
    "mirrors.cloud.tencent.com/npm",
    "mirrors.tencent.com/npm",
    "mirrors.huaweicloud.com/repository/npm",
    "repo.huaweicloud.com/repository/npm",
)
# Addresses are found first, and looked at one by one: no character of a lockfile is passed over more than a few times.
_ADDRESS = re.compile(r"https?://([^/\s\"'#?<>\\]{1,255})/([^\s\"'#?<>\\]{1,2000})(?:\?[^\"'#\s]{0,2000})?")
_TARBALL = re.compile(
    r"(?:[\w.~-]{1,100}/){0,8}?((?:@[\w.~-]{1,214}(?:/|%2[fF]))?[\w.~-]{1,214})/(?:download|-)/"
    r"(?:@[\w.~-]{1,214}/)?([\w.~+-]{1,300}\.tgz)"
)
_INTEGRITY = re.compile(r"(?:#[0-9a-f]{1,64})?\"?,?\s{1,20}\"?integrity\"?:? \"?sha\d")
_BEFORE_YARNS = 'resolved "'
_FRAGMENT_OF_YARN = re.compile(r"#[0-9a-f]{40}\"$", re.MULTILINE)  # Yarn 1 checks it, npm does not


def without_mirrors(lockfile: str) -> str:
    """Name the registry itself in a lockfile where it names a mirror of it; the digests in it say that it is the same package."""

    def in_registry(address: re.Match[str]) -> str:
        place = f"{address[1]}/{address[2]}"
        mirror = next((mirror for mirror in MIRRORS if place.startswith(f"{mirror}/")), None)
        tarball = _TARBALL.fullmatch(place[len(mirror) + 1 :]) if mirror else None
        return _in_registry(tarball) if tarball else address[0]

    return _ADDRESS.sub(in_registry, lockfile)


def without_host(lockfile: str, host: str) -> str:
    """Name the registry itself where a lockfile names `host`, for the packages whose digest it has: another one is refused then."""

    def in_registry(address: re.Match[str]) -> str:
        tarball = _TARBALL.fullmatch(address[2]) if address[1].partition(":")[0] == host else None
        of_yarn = lockfile.startswith(_BEFORE_YARNS, max(0, address.start() - len(_BEFORE_YARNS)))
        proven = _INTEGRITY.match(lockfile, address.end()) or (
            of_yarn and _FRAGMENT_OF_YARN.match(lockfile, address.end())
        )
        return _in_registry(tarball) if tarball and proven else address[0]

    return _ADDRESS.sub(in_registry, lockfile)


def _in_registry(tarball: re.Match[str]) -> str:
    return f"https://registry.npmjs.org/{unquote(tarball[1])}/-/{tarball[2]}"


def install_attempts(manager: Manager, *, lockfile: str | None, needed: bool) -> tuple[Attempt, ...]:
    """List how the manager installs, the frozen ways first.

    Args:
        manager: which one.
        lockfile: its name; without one the first attempt is not frozen.
        needed: whether there is anything that a lockfile would pin.

    """
    name = manager.name
    default = lockfile or lockfile_of(name)
    outdated = f"{default} is out of step with package.json. Run `{name} install` and commit {default}."
    peers = (
        "Packages ask for versions of each other that do not go together, which npm 6 did not mind. Update them, or commit"
        " an .npmrc with legacy-peer-deps=true."
    )
    engines = "A package asks for another Node or Yarn than the one that is used. Name that Node in .nvmrc, or update the package."
    foreign = (
        "{name} is for another system or processor than the one that builds, so it is installed but does nothing. Move it to"
        " optionalDependencies, or remove it."
    )
    install: tuple[str, ...]
    frozen: tuple[Attempt, ...]
    loose: tuple[Attempt, ...]
    if name == "npm":
        refused = r"can only install (packages when|with an existing)"  # npm 6 to 12
        conflict = r"\bcode ERESOLVE\b"  # as a warning it has no code; npm 7 to 11
        platform = (  # npm 6 to 12
            rf"\bcode EBADPLATFORM\b(?:[^\0]{{0,300}}? Unsupported platform for (?P<name>{_PACKAGE})@)?"
        )
        legacy = "--legacy-peer-deps"
        # A lockfile that was made without peer dependencies lacks them, which npm takes for being out of step.
        frozen = (
            Attempt(("npm", "ci")),
            Attempt(("npm", "ci", legacy), f"{refused}|{conflict}", mend=peers),
            Attempt(("npm", "ci", "--force"), platform, mend=foreign),
        )
        loose = (
            Attempt(("npm", "install"), refused, frozen=False, mend=outdated),
            Attempt(("npm", "install", legacy), conflict, frozen=False, mend=peers),
            Attempt(("npm", "install", "--force"), platform, frozen=False, mend=foreign),
        )
    elif name == "pnpm":
        unreadable_format = r"ERR_PNPM_LOCKFILE_BREAKING_CHANGE"
        refused = r"ERR_PNPM_(?!LOCKFILE_BREAKING)\w*LOCKFILE|Headless installation requires a pnpm-lock\.yaml"  # pnpm 7 to 12
        install = ("pnpm", "install")
        frozen = (Attempt((*install, "--frozen-lockfile")),)
        again = (*install, "--no-frozen-lockfile")
        unreadable = (
            f"This pnpm cannot read {default}, which another version wrote, so versions were chosen anew. Run"
            f" `pnpm install` with the pnpm that the log names, and commit {default}."
        )
        loose = (
            Attempt(again, refused, frozen=False, mend=outdated),
            Attempt(again, unreadable_format, frozen=False, mend=unreadable),
        )
    elif name == "yarn" and manager.modern:
        install = ("yarn", "install")
        frozen = (Attempt((*install, "--immutable")),)
        loose = (Attempt((*install, "--no-immutable"), r"\bYN0028\b", frozen=False, mend=outdated),)
    elif name == "yarn":
        install = ("yarn", "install", "--non-interactive")
        engine = r'The engine "\w+" is incompatible with this module'
        refused = r"Your lockfile needs to be updated"
        platform = rf"error (?P<name>{_PACKAGE})@\S{{1,100}}: The (?:platform|CPU architecture|libc) \""
        freeze, ignore, foreign_too = "--frozen-lockfile", "--ignore-engines", "--ignore-platform"
        frozen = (
            Attempt((*install, freeze)),
            Attempt((*install, freeze, ignore), engine, mend=engines),
            Attempt((*install, freeze, ignore, foreign_too), platform, mend=foreign),
        )
        loose = (
            Attempt(install, refused, frozen=False, mend=outdated),
            Attempt((*install, ignore), engine, frozen=False, mend=engines),
            Attempt((*install, ignore, foreign_too), platform, frozen=False, mend=foreign),
        )
    else:
        install = ("bun", "install")
        frozen = (Attempt((*install, "--frozen-lockfile")),)
        loose = (Attempt(install, r"lockfile is frozen", frozen=False, mend=outdated),)
    if lockfile:
        return frozen + loose
    first = loose[0]
    missing = f"The repository has no lockfile, so each build may get other versions. Run `{name} install` and commit {default}."
    return (Attempt(first.command, frozen=not needed, mend=missing if needed else None), *loose[1:])


# How each manager says that an install script of a package failed it.
_SCRIPT_FAILED: Mapping[Name, tuple[str, ...]] = {
    "npm": (
        r"^npm (?:error|ERR!) path [^\n]{1,4000}/node_modules/NAME\s*\nnpm (?:error|ERR!) command failed",  # 7 to 11
        r"^npm (?:error|ERR!) gyp ERR! cwd [^\n]{1,4000}/node_modules/NAME$",  # where gyp said so much that this is lost
        r"^npm ERR! NAME@[^\s:]{1,300} (?:pre|post)?install: `",  # 6
    ),
    "pnpm": (r"^[^\n]{0,4000}node_modules/NAME (?:pre|post)?install: Failed$",),
    "yarn": (
        r"^error [^\n]{1,4000}/node_modules/NAME: Command failed\.$",
        r"YN0009: [^\w@\n]{0,4}NAME@[^\n]{1,4000}? couldn't be built successfully",
    ),
    "bun": (r"^error: (?:pre|post)?install script from \"NAME\" (?:exited|terminated)",),
}
# The same of scripts of the repository itself, where that does not follow from the name. pnpm begins with them, but for
# preinstall, when all packages are set up: what failed before was optional.
_OWN_FAILED = re.compile(
    r"^> \S{1,300} (?:install|postinstall|prepublish|(?:pre|post)?prepare)\b"
    r"|^(?![^\n]{0,4000}node_modules/)[^\n:]{1,4000} (?:(?:pre|post)?(?:install|prepare)|prepublish): Failed$"
    r"|YN0009: [^\w@\n]{0,4}\S{1,300}@workspace:",
    re.MULTILINE,
)
# Nothing of a site that uses it can be built without its native part, and it is used where it is installed.
_NEEDED = {"node-sass"}


def failed_scripts(manager: Manager, said: str, root: Path, checkout: Path) -> tuple[str, ...]:
    """Name the dependencies whose install scripts failed an install; none where it failed of something else as well.

    Args:
        manager: that installed.
        said: the end of its output, without colours.
        root: the folder where it installed.
        checkout: the top of the repository.

    """
    if manager.name != "npm" and _OWN_FAILED.search(said):
        return ()
    if re.search(r"ENOSPC|(?i:no space left on device)", said):  # no fault of the script's
        return ()
    if manager.name == "pnpm" and "ELIFECYCLE" not in said:
        return ()
    pattern = "|".join(_SCRIPT_FAILED[manager.name]).replace("NAME", _PACKAGE)
    names = dict.fromkeys(match[match.lastindex or 0] for match in re.finditer(pattern, said, re.MULTILINE))
    own = package_of(root, checkout).get("name")
    if names.keys() & _NEEDED or any(name == own or _is_linked(name, root) for name in names):
        return ()
    return tuple(names)


def without_scripts(manager: Manager, attempt: Attempt) -> tuple[str, ...]:
    """Give the command of an attempt that leaves out all install scripts."""
    return (*attempt.command, "--mode=skip-build" if manager.modern else "--ignore-scripts")


def skipped_by_pnpm(root: Path, checkout: Path) -> list[str]:
    """List the packages whose install scripts pnpm left out, by what it keeps in node_modules: YAML, from pnpm 10 on JSON."""
    text = ""
    with suppress(ValueError):
        text = read_text(root / "node_modules" / ".modules.yaml", checkout) or ""
    start = re.search(r"^(?:  \")?pendingBuilds\"?:(?: \[)?\n", text, re.MULTILINE)
    found: set[str] = set()
    for line in islice(text[start.end() :].split("\n"), _MOST_PENDING) if start else ():
        if not line.startswith(("  - ", "    ")):
            break
        if name := re.match(rf" {{1,8}}(?:- )?[\"']?/?{_PACKAGE}[/@]", line):  # /core-js/3.19.0, core-js@3.19.0
            found.add(name[1])
    return sorted(found)[:_MOST_REBUILT]


# What `npm ci` runs of the root's own scripts when the files are there, in this order:
# https://docs.npmjs.com/cli/using-npm/scripts#npm-ci. `npm run install` runs preinstall and postinstall itself, as with prepare.
_ROOT_SCRIPTS = (("preinstall", "install", "postinstall"), ("prepublish",), ("preprepare", "prepare", "postprepare"))


def npm_commands(lockfile: object, package: Mapping[str, Any], root: Path) -> list[tuple[str, ...]]:
    """List the commands that do what `npm ci` does once the files are there: see `dependencies.DependencyCache.commands`."""
    # The scripts of workspaces are not in package-lock.json.
    linked = any(entry.get("link") for entry in _entries(lockfile).values())
    names = None if linked else scripted_packages(lockfile, root)
    commands: list[tuple[str, ...]] = []
    if names is None:
        commands.append(("npm", "rebuild"))
    elif names:
        commands.append(("npm", "rebuild", *names))
    return commands + own_commands("npm", package)


def scripted_packages(lockfile: object, root: Path) -> list[str] | None:
    """List the packages with install scripts that a lockfile of npm's names and that are there; None where it does not tell.

    The repository's own packages, which are linked, are among them.
    """
    if not isinstance(lockfile, dict) or not isinstance(lockfile.get("packages"), dict):
        return None
    scripted = [
        path
        for path, entry in _entries(lockfile).items()
        if "node_modules/" in path and (entry.get("hasInstallScript") or entry.get("link"))
    ]
    there = [path for path in scripted if os.path.lexists(root / path)]  # not those of other platforms
    names = sorted({path.rpartition("node_modules/")[2] for path in there})
    return names if len(names) <= _MOST_REBUILT and all(map(_REBUILT.fullmatch, names)) else None


def own_commands(program: str, package: Mapping[str, Any]) -> list[tuple[str, ...]]:
    """List the commands that run the repository's own scripts of an install, by npm or Yarn 1."""
    there_are = {name for name, text in table_of(package, "scripts").items() if isinstance(text, str)}
    commands: list[tuple[str, ...]] = []
    for group in _ROOT_SCRIPTS:
        main = group[len(group) // 2]
        run = (main,) if main in there_are else tuple(name for name in group if name in there_are)
        commands += [(program, "run", name) for name in run]
    return commands


def _entries(lockfile: object) -> dict[str, dict[str, Any]]:
    packages = table_of(lockfile, "packages") if isinstance(lockfile, dict) else {}
    return {path: entry for path, entry in packages.items() if isinstance(entry, dict)}


def _is_linked(name: str, root: Path) -> bool:
    """Tell whether a package in node_modules is a link to one of the repository's own."""
    path = root / "node_modules" / name
    return "node_modules" not in os.path.relpath(os.path.realpath(path), os.path.realpath(root)).split(os.sep)


def lockfile_version(lockfile: Path, checkout: Path) -> int | None:
    """Read the version of the format of npm's lockfile; None for another's."""
    text = ""
    with suppress(ValueError):
        text = read_text(lockfile, checkout, most_bytes=_MOST_LOCKFILE_BYTES) or ""
    match = re.search(r'"lockfileVersion"\s*:\s*(\d{1,3})\b', text[:5000]) if lockfile.suffix == ".json" else None
    return int(match[1]) if match else None


def called_managers(scripts: Mapping[str, Any], texts: Sequence[str]) -> set[Name]:
    """Find the managers that commands call by name: a script of an npm project may say `yarn clean`.

    Args:
        scripts: of package.json.
        texts: commands, and names of scripts, that are run for sure; what they call in turn is followed.

    """
    waiting, seen = list(texts), set[str]()
    found: set[Name] = set()
    programs: dict[str, Name] = {"pnpx": "pnpm", "pnpm": "pnpm", "bunx": "bun", "bun": "bun"}
    while waiting:
        text = waiting.pop()[:10_000]
        found |= {programs.get(program, "yarn") for program in _CALLED.findall(text)}
        words = set(re.findall(r"[\w:.@/-]+", text))
        for name, script in islice(scripts.items(), _MOST_SCRIPTS):
            if name in words and name not in seen and isinstance(script, str):
                seen.add(name)
                waiting.append(script)
    return found


def lockfile_of(name: Name) -> str:
    """Return the name of the lockfile that a manager writes."""
    return {"npm": "package-lock.json", "pnpm": "pnpm-lock.yaml", "yarn": "yarn.lock", "bun": "bun.lock"}[name]


def needs_server(package: Mapping[str, Any]) -> bool:
    """Tell whether the package is a server, whose index.html is only a part of what it shows."""
    servers = {"express", "koa", "fastify", "@nestjs/core", "@hapi/hapi", "hono"}
    return bool(servers & table_of(package, "dependencies").keys())
