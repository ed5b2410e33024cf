"""Dependencies kept between builds: one tar, packed with zstd, in the state bucket under `__cache/{scope}/`.

    look()     beside the clone: lists the scope, and downloads the newest archive before anybody knows whether it fits
    restore()  in the install stage: unpacks the archive of the plan's key
    pack()     beside the upload: makes an archive where there was none
    keep()     when the site is published: stores it, and removes what is too old or too many

| who shares it | manager | kind | what is cached |
|---|---|---|---|
| one slug | npm | `modules` | every `node_modules`, if no script of the repository has changed one |
| one slug | npm otherwise, pnpm, Yarn 2 and later, Bun | `packages` | what the manager downloaded |
| one slug | Yarn 1 | | nothing: it downloads for all platforms, 275 MB for an app of 90 packages |
| a wider scope | npm | `shared` | of what it downloaded, what it checks against the lockfile |
| a wider scope | pnpm, Yarn, Bun | | nothing: they use what is in their caches without checking all of it |

With `modules` the install scripts of the dependencies and of the repository still run, with the others the whole install.
A build whose scope is its own slug never uses `shared`, and any other build uses nothing else: other slugs may name that slug
as their `CACHE_SCOPE`.

What is in an archive was written by a repository's own code. It is packed and unpacked by tar and zstd as the build's user, from
and to folders that this user may write anyway; the runner itself only counts its bytes and takes their SHA-256, which is a part of
the name.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import anyio

from buildrunner.cache.store import CacheStore, Log, UnusableError
from buildrunner.cache.tools import TOOLS
from buildrunner.config.secret_names import is_secret_name
from buildrunner.errors import BuildEnded
from buildrunner.project.files import is_inside, parse_json, read_text
from buildrunner.project.package_json import has_install_scripts
from buildrunner.project.package_managers.lockfiles import read_lockfile

if TYPE_CHECKING:
    from buildrunner.project.package_managers.record import DownloadCache, ManagerRequirement
    from buildrunner.project.plan import BuildPlan
    from buildrunner.sandbox.command import Sandbox

Kind = Literal["modules", "packages", "shared"]

LEAST_WAIT_SECONDS = 5.0  # for an archive, otherwise as long as the install took that it saves
MOST_SHARED_WAIT_SECONDS = 30.0  # for one of other slugs, which may be made to take long
WORTH_SECONDS = 2.0  # an install that took less is not worth an archive
LEAST_LOCKFILE_BYTES = 4096  # npm's has some 300 for a package: below a dozen nobody needs a cache
MOST_PACKED_BYTES = 512 * 2**20
MOST_UNPACKED_BYTES = 4 * 2**30
MOST_ARCHIVES = 3  # of one scope: of the branch that is live, of the one before, and of another
_MOST_PATCHES = 200
_MOST_LINKS = 500  # packages of a workspace
_FORMAT = 2  # a part of every key: to be raised when what is kept, or how, changes
_MOST_INPUT = 8 * 2**20  # characters of all files that go into the key
_DEPTH = 6  # of folders in which node_modules is looked for: packages of a workspace
_ARCHIVE = re.compile(
    r"(?P<kind>modules|packages|shared)-(?P<manager>[a-z]+)-(?P<key>[0-9a-f]{32})-(?P<seconds>[0-9]{1,5})-(?P<sha256>[0-9a-f]{64})\.tar\.zst"
)
_NO_SCRIPTS = r"^[ \t]*ignore-scripts[ \t]*=[ \t]*[\"']?true"
_PROGRAMS = ("bash", "find", "head", "tar", "zstd")
_PATH = "/usr/bin:/bin"
# `head` bounds both ways: who puts in more finds the pipe closed, and pipefail says so.
_FIND = f"find . -maxdepth {_DEPTH} -name .git -prune -o -name node_modules -type d -prune"
_PACK = "set -o pipefail; {what} | head -c {most} | zstd -q -3 -T0"
# Tools put what they generate into hidden folders there (.cache, .vite, .prisma). It names paths of one build, or comes from a
# script that runs again.
_TOOLS_OWN = (
    r"-path '*/node_modules/.*' ! -path '*/node_modules/.bin' ! -path '*/node_modules/.bin/*'"
    r" ! -path '*/node_modules/.package-lock.json'"
)
_PACK_MODULES = (
    f"{_FIND} -exec find {{}} {_TOOLS_OWN} -prune -o -print0 \\;"
    " | tar --create --format=posix --no-recursion --null --files-from=-"
)
# Times of change (ctime) cannot be set. Folders named node_modules change with the hidden ones in them.
_FIND_CHANGED = (
    f'test -e "$1" || exit 1; {_FIND} -exec find {{}} {_TOOLS_OWN} -prune'
    ' -o ! -name node_modules -cnewer "$1" -print -quit \\; | head -n 1'
)
_UNPACK = (
    f'set -o pipefail; zstd -dcq --memory=64MB -- "$1" | head -c {MOST_UNPACKED_BYTES} | tar --extract --no-same-owner'
)
# Other slugs made it: no link in it may lead what npm writes to somewhere else.
_UNPACK_SHARED = f"{_UNPACK} -- npm/_cacache/content-v2 && find . ! -type f ! -type d -delete"
_FIND_CHANGED_IN_CACHE = 'find . -type f -cnewer "$1" -print -quit'
_NPM_RECORD = "node_modules/.package-lock.json"  # npm 7 and later write it before they run the repository's own scripts


_KINDS: Mapping[str, Kind] = {"modules": "modules", "packages": "packages", "shared": "shared"}


@dataclass(frozen=True, slots=True)
class Archive:
    """What the name of an archive says of it."""

    kind: Kind
    manager: str
    key: str
    seconds: int  # that the install took of which it was made
    sha256: str

    @property
    def name(self) -> str:
        return f"{self.kind}-{self.manager}-{self.key}-{self.seconds}-{self.sha256}.tar.zst"

    @property
    def longest_wait(self) -> float:
        """Return how many seconds an install waits for it, unpacked."""
        seconds = max(self.seconds, LEAST_WAIT_SECONDS)
        return min(seconds, MOST_SHARED_WAIT_SECONDS) if self.kind == "shared" else seconds

    @classmethod
    def of(cls, name: str) -> Archive | None:
        """Read a name; None when it is not one of an archive."""
        match = _ARCHIVE.fullmatch(name)
        if not match:
            return None
        return cls(_KINDS[match["kind"]], match["manager"], match["key"], int(match["seconds"]), match["sha256"])


@dataclass(frozen=True, slots=True)
class _Wanted:
    """What this run can use, and would keep."""

    manager: str  # as names of archives have it
    label: str
    cache: DownloadCache
    keys: Mapping[Kind, str]  # of each kind that it can be, the better one first
    lockfile: str
    scripts: bool  # whether npm is to run any
    own_scripts: bool  # whether the repository has any
    root: Path  # where dependencies are installed
    downloads: Path  # where the manager puts what it downloads

    def fits(self, archive: Archive) -> bool:
        return archive.manager == self.manager and self.keys.get(archive.kind) == archive.key

    def folder(self, kind: Kind) -> Path:
        """Give the folder in which an archive is packed and unpacked."""
        return self.root if kind == "modules" else self.downloads


@dataclass(frozen=True, slots=True)
class _Packed:
    """An archive on disk."""

    kind: Kind
    size: int
    sha256: str


class DependencyCache:
    """The archives of one run.

    Args:
        store: of the scope whose runs share it.
        own: whether that is one slug.
        private: a folder that the build's user can pass through and not write to.
        work: a folder that it may write to.
        log: takes sentences for people.

    """

    KEEP_SECONDS = 10.0  # the result waits so long for the rest of packing, and for the upload: of tools, too

    def __init__(self, store: CacheStore, *, own: bool, sandbox: Sandbox, private: Path, work: Path, log: Log) -> None:
        self._store = store
        self._own = own
        self._sandbox = sandbox
        self._private = private
        self._work = work
        self._log = log
        self._guess: str | None = None
        self._guessing = anyio.CancelScope()
        self._guessed: Path | UnusableError | None = None
        self._guess_done = anyio.Event()
        self._wanted: _Wanted | None = None
        self._restored: Archive | None = None
        self._install_seconds: float | None = None  # of one that is worth to be kept
        self._packed: _Packed | str | None = None  # or why there is none
        self._pack_done = anyio.Event()

    async def look(self) -> None:
        """List the scope, and download the newest archive: most builds have the lockfile of the build before."""
        await self._store.look()
        self._guess = next(iter(self._fresh()), None)
        with self._guessing:
            try:
                if self._guess:
                    self._guessed = await self._download(self._guess)
            except UnusableError as error:
                self._guessed = error
        self._guess_done.set()

    def prepare(
        self, plan: BuildPlan, *, node: str | None, manager: str | None, install_env: Mapping[str, str]
    ) -> Mapping[str, str]:
        """Find out what can be kept of this plan; give what the install needs in its environment.

        Args:
            node: version of Node.
            manager: version of the package manager, None for the one that comes with Node.
            install_env: what the install finds besides.

        """
        if (
            plan.install.manager is None
            or plan.install.lockfile is None
            or not plan.install.strategies
            or not all(map(_exists, _PROGRAMS))
        ):
            return {}
        cached = plan.install.manager.record.cache
        if cached is None or not (self._own or cached.shareable):
            return {}
        if os.path.lexists(plan.app.root / "node_modules"):  # the repository brings its own
            return {}
        try:
            lockfile = read_lockfile(plan.install.lockfile, plan.app.checkout) or ""
            if len(lockfile) < LEAST_LOCKFILE_BYTES:
                return {}
            files = _inputs(plan.app.root, plan.app.checkout)
        except ValueError:  # what cannot be read here, the install complains about
            return {}
        package = _package(files.get("package.json", ""))
        kinds: tuple[Kind, ...] = ("packages",) if self._own else ("shared",)
        if self._own and cached.complete_modules and not _linked_scripts(lockfile, plan.app.root, plan.app.checkout):
            kinds = ("modules", *kinds)
        versions = _versions(plan.install.manager, manager, node)
        keys = {kind: key_of(kind, versions, lockfile=lockfile, files=files, environment=install_env) for kind in kinds}
        scripts = not re.search(_NO_SCRIPTS, files.get(".npmrc", ""), re.MULTILINE) and "true" not in {
            value for name, value in install_env.items() if name.lower() == "npm_config_ignore_scripts"
        }
        downloads = self._work / "downloads"
        own_scripts = scripts and has_install_scripts(package)
        if cached.linked and own_scripts:
            return {}
        self._wanted = _Wanted(
            cached.id,
            plan.install.manager.label,
            cached,
            keys,
            lockfile,
            scripts,
            own_scripts,
            plan.app.root,
            downloads,
        )
        downloads.mkdir(mode=0o700, exist_ok=True)
        if self._sandbox.account:
            os.chown(downloads, self._sandbox.account.uid, self._sandbox.account.gid)
        return dict.fromkeys(cached.variables, str(downloads / cached.folder))

    @property
    def restored(self) -> bool:
        """Whether anything of an earlier build is in use."""
        return self._restored is not None

    async def restore(self) -> bool:
        """Unpack what fits, and tell whether it is an install that need not run again: `modules` of the same key.

        Waits for the list for 2 s at most, and for the archive and its unpacking as long as the install took that it saves.
        """
        wanted = self._wanted
        if wanted is None:
            return False
        await self._store.find()
        archives, stored = self._fresh(), self._store.stored
        kinds = list(wanted.keys)
        fitting = [name for name, archive in archives.items() if wanted.fits(archive)]
        fitting.sort(key=lambda name: kinds.index(archives[name].kind))
        alike = [name for name, it in archives.items() if (it.kind, it.manager) == (kinds[-1], wanted.manager)]
        # What is added to it has to fit as well.
        fitting += [name for name in alike if stored[name].size <= MOST_PACKED_BYTES // 2]
        if not fitting:
            self._guessing.cancel()
            return False
        name = fitting[0]
        archive = archives[name]
        started = anyio.current_time()
        ended = False
        why = "it took longer than the install that it was to save."
        with anyio.move_on_after(archive.longest_wait):
            try:
                await self._unpack(await self._get(name), wanted.folder(archive.kind), archive.kind)
                ended = True
            except UnusableError as error:
                why = str(error)
                self._store.damaged.add(name)
        if not ended:
            self._log(f"What was kept of the dependencies is not used: {why}", "warning")
            await self._remove(archive.kind)
            return False
        self._restored = archive
        modules = archive.kind == "modules"
        what = "node_modules" if modules else f"what {wanted.label} downloads"
        size, seconds = stored[name].size / 1e6, anyio.current_time() - started
        saved = f"; installing took {archive.seconds} s" if modules else ""
        self._log(f"Restored {what} of an earlier build ({size:.1f} MB in {seconds:.1f} s{saved}).")
        return modules

    def commands(self, package: Mapping[str, Any]) -> list[tuple[str, ...]]:
        """List what is left to do of `npm ci` when node_modules has been restored.

        Install scripts run again, the dependencies' and the repository's own: some read the repository (a Prisma schema, patches),
        and some write beside node_modules (the browser that puppeteer downloads).

        Args:
            package: package.json of the folder where dependencies are installed.

        """
        assert self._wanted is not None
        complete = self._wanted.cache.complete_modules
        assert complete is not None
        if not self._wanted.scripts:
            return []
        with suppress(ValueError):
            return complete(parse_json(self._wanted.lockfile), package, self._wanted.root)
        return complete({}, package, self._wanted.root)

    async def discard(self) -> None:
        """Remove what was restored, and what was installed with it, and have it replaced if this build is published."""
        assert self._restored is not None
        self._store.damaged.add(self._restored.name)
        if self._restored.kind != "modules":
            await self._remove(self._restored.kind)
        await self._remove("modules")
        self._restored = None

    async def _remove(self, kind: Kind) -> None:
        assert self._wanted is not None
        script = f"{_FIND} -exec rm -rf {{}} +" if kind == "modules" else "rm -rf ./*"
        await self._run(script, self._wanted.folder(kind))

    def installed(self, seconds: float) -> None:
        """Note that the install ran by itself, to its end and from the lockfile alone: it may be kept."""
        wanted = self._wanted
        if wanted and seconds >= WORTH_SECONDS and not self._there(next(iter(wanted.keys))):
            with suppress(OSError):
                self._record.touch(mode=0o644)
                self._install_seconds = seconds

    async def pack(self) -> None:
        """Make an archive, if there is something to be kept. Nothing of the repository may run meanwhile."""
        try:
            if self._wanted and self._install_seconds is not None:
                self._packed = await self._pack(self._wanted)
        finally:
            self._pack_done.set()

    async def keep(self) -> None:
        """Store the archive, and remove those that are damaged, too old or too many. The caller limits the time."""
        wanted, seconds = self._wanted, self._install_seconds
        if wanted is None:
            return
        started = anyio.current_time()
        size = 0
        try:
            if seconds is not None:
                await self._pack_done.wait()
            if isinstance(self._packed, _Packed):
                packed, size = self._packed, self._packed.size
                key = wanted.keys[packed.kind]
                seconds_shown = min(round(seconds or 0), 99_999)
                archive = Archive(packed.kind, wanted.manager, key, seconds_shown, packed.sha256)
                descriptor = os.open(self._archive_file, os.O_RDONLY | os.O_CLOEXEC)
                try:
                    await self._store.put(archive.name, descriptor, size, content_type="application/zstd")
                finally:
                    os.close(descriptor)
                # What builds of another kind of scope have stored under the same name is theirs.
                theirs = {name for name in self._store.stored if (it := Archive.of(name)) and not self._ours(it)}
                left = {archive.name, *list(self._fresh())[: MOST_ARCHIVES - 1]}
                others = {name for name in self._store.stored if not name.startswith(TOOLS)}
                await self._store.remove(others - theirs - left)
            else:
                await self._store.remove(name for name in self._store.damaged if Archive.of(name))
                if self._packed:
                    self._log(f"The dependencies are not kept for the next build: {self._packed}", "warning")
        except BuildEnded as error:
            self._log(f"The dependencies may not be kept for the next build: {error.reason}", "warning")
            return
        if size:
            waited = anyio.current_time() - started
            self._log(f"Kept the dependencies for the next build ({size / 1e6:.1f} MB, {waited:.1f} s).")

    @property
    def _record(self) -> Path:
        """A file that is changed last when the install has ended."""
        return self._private / "installed"

    @property
    def _archive_file(self) -> Path:
        return self._private / "packed.tar.zst"

    def _fresh(self) -> dict[str, Archive]:
        """Give the archives that may be used by their names, the newest first."""
        names = self._store.usable(MOST_PACKED_BYTES)
        return {name: archive for name in names if (archive := Archive.of(name)) and self._ours(archive)}

    def _ours(self, archive: Archive) -> bool:
        """Tell whether it was made by builds that are trusted as this one is."""
        return (archive.kind != "shared") == self._own

    def _there(self, kind: Kind) -> bool:
        wanted = self._wanted
        return wanted is not None and any(it.kind == kind and wanted.fits(it) for it in self._fresh().values())

    async def _get(self, name: str) -> Path:
        """Have an archive on disk. Raises UnusableError."""
        if name != self._guess:
            self._guessing.cancel()
            return await self._download(name)
        await self._guess_done.wait()
        if isinstance(self._guessed, UnusableError):
            raise self._guessed
        assert self._guessed is not None
        return self._guessed

    async def _download(self, name: str) -> Path:
        """Download an archive, and see that it is what was stored. Raises UnusableError."""
        archive = Archive.of(name)
        assert archive is not None
        path = self._private / f"{archive.sha256[:16]}.tar.zst"
        digest = hashlib.sha256()
        await self._store.save(name, path, digest, most_bytes=MOST_PACKED_BYTES)
        if digest.hexdigest() != archive.sha256:
            raise UnusableError("it is damaged: its SHA-256 is another.")
        path.chmod(0o644)  # the build's user unpacks it
        return path

    async def _unpack(self, path: Path, folder: Path, kind: Kind) -> None:
        script = _UNPACK_SHARED if kind == "shared" else _UNPACK
        try:
            code, said = await self._run(script, folder, str(path))
        finally:
            with suppress(OSError):
                os.unlink(path)
        if code:
            raise UnusableError(f"it cannot be unpacked ({said or f'exit code {code}'}).")

    async def _is_changed(self, wanted: _Wanted, kind: Kind) -> bool:
        """Tell whether scripts of the repository have changed what would be packed, in the install or in the build."""
        script = _FIND_CHANGED if kind == "modules" else _FIND_CHANGED_IN_CACHE
        record = wanted.root / _NPM_RECORD if wanted.own_scripts and kind == "modules" else self._record
        changed = bytearray()
        code, _ = await self._run(script, wanted.folder(kind), str(record), take=changed.extend)
        return bool(code or changed)

    async def _pack(self, wanted: _Wanted) -> _Packed | str:
        """Pack into a file of the runner's own, or say why there is none."""
        kind = next(iter(wanted.keys))
        if wanted.cache.linked and await self._is_changed(wanted, kind):
            self._log(f"Scripts of the repository changed packages in {wanted.label}'s cache, so it is not cached.")
            return ""
        if kind == "modules" and await self._is_changed(wanted, kind):
            kind = "packages"
            if self._there(kind):
                return ""
            self._log(
                "Scripts of the repository changed node_modules, so only the packages that npm downloaded are cached."
            )
        if kind == "modules":
            what = _PACK_MODULES
        else:
            place = wanted.cache.content
            if not _is_folder(wanted.downloads / place):
                return ""  # the manager did not use it: its own settings win
            what = f"tar --create --format=posix -- {place}"
        script = _PACK.format(what=what, most=MOST_UNPACKED_BYTES)
        digest, size, failure = hashlib.sha256(), 0, ""
        scope = anyio.CancelScope()
        try:
            with self._archive_file.open("wb") as file, scope:

                def take(data: bytes) -> None:
                    nonlocal size, failure
                    size += len(data)
                    if size > MOST_PACKED_BYTES:
                        failure = f"packed, they are larger than {MOST_PACKED_BYTES // 2**20} MiB."
                        scope.cancel()
                    elif not failure:
                        digest.update(data)
                        try:
                            file.write(data)
                        except OSError as error:
                            failure = f"there is no room to pack them ({error.strerror})."
                            scope.cancel()

                code, said = await self._run(script, wanted.folder(kind), take=take)
                if code:
                    failure = failure or f"they cannot be packed ({said or f'exit code {code}'})."
        except OSError as error:
            failure = failure or f"there is no room to pack them ({error.strerror})."
        return failure or _Packed(kind, size, digest.hexdigest())

    async def _run(
        self, script: str, folder: Path, *arguments: str, take: Callable[[bytes], None] | None = None
    ) -> tuple[int, str]:
        """Run a script of ours as the build's user; give its exit code and the last line of what it complained about."""
        complaint = b""

        def output(stream: Literal["stdout", "stderr"], data: bytes) -> None:
            nonlocal complaint
            if stream == "stderr":
                complaint = (complaint + data)[-500:]
            elif take:
                take(data)

        command = ("bash", "--norc", "-c", script, "bash", *arguments)
        environment = {"PATH": _PATH, "LANG": "C.UTF-8", "HOME": "/nonexistent"}
        try:
            ended = await self._sandbox.run(command, folder=folder, environment=environment, output=output)
        except BuildEnded as error:
            return 126, error.reason
        lines = complaint.decode(errors="replace").split("\n")
        return ended.code or int(ended.left_behind), next((line for line in reversed(lines) if line), "")[:200]


def key_of(
    kind: Kind,
    versions: Sequence[str],
    *,
    lockfile: str,
    files: Mapping[str, str],
    environment: Mapping[str, str],
) -> str:
    """Give the key of an install: the same for what comes out the same.

    Args:
        kind: of what is kept.
        versions: of the manager, Node and the machine.
        lockfile: its text.
        files: what else of the repository decides, by path.
        environment: of the install. Of a secret only the name counts: tokens change from build to build, and nothing
            derived from them belongs in a bucket.

    """
    visible = {name: "" if is_secret_name(name) else value for name, value in environment.items()}
    parts = [_FORMAT, kind, list(versions), lockfile, sorted(files.items()), sorted(visible.items())]
    text = json.dumps(parts, ensure_ascii=True)
    return hashlib.sha256(text.encode()).hexdigest()[:32]


def _versions(manager: ManagerRequirement, version: str | None, node: str | None) -> list[str]:
    import platform

    return [manager.name, version or "", node or "", platform.machine(), *platform.libc_ver()]


def _inputs(root: Path, checkout: Path) -> dict[str, str]:
    """Read what of the repository decides beside the lockfile. Raises ValueError."""
    from buildrunner.project import CONFIG_FILES  # not needed before git has been started

    paths = [root / name for name in CONFIG_FILES]
    patches = root / "patches"
    with suppress(OSError):
        if is_inside(patches, checkout):
            names = sorted(os.listdir(patches))
            if len(names) > _MOST_PATCHES:
                raise ValueError("has too many patches")
            paths += [patches / name for name in names if name.endswith(".patch")]
    texts: dict[str, str] = {}
    for path in paths:
        text = read_text(path, checkout)
        if text is not None:
            texts[str(path.relative_to(root))] = text
        if sum(map(len, texts.values())) > _MOST_INPUT:
            raise ValueError("has too much that decides")
    return texts


def _package(text: str) -> Mapping[str, Any]:
    with suppress(ValueError):
        package = parse_json(text)
        return package if isinstance(package, dict) else {}
    return {}


def _linked_scripts(lockfile: str, root: Path, checkout: Path) -> bool:
    """Tell whether packages of the repository that npm links have scripts of an install, which npm runs with the dependencies'."""
    lock = _package(lockfile)
    packages = lock.get("packages")
    if not isinstance(packages, dict):
        return '"file:' in lockfile
    links = [entry.get("resolved") for entry in packages.values() if isinstance(entry, dict) and entry.get("link")]
    if len(links) > _MOST_LINKS:
        return True
    for link in links:
        if not isinstance(link, str):
            return True
        try:
            text = read_text(root / link / "package.json", checkout)
        except ValueError:
            return True
        if has_install_scripts(_package(text or "")):
            return True
    return False


def _is_folder(path: Path) -> bool:
    return os.path.isdir(path)


def _exists(program: str) -> bool:
    return any(os.access(f"{folder}/{program}", os.X_OK) for folder in _PATH.split(":"))
