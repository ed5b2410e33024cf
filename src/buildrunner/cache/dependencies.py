"""Cache dependencies between builds: one tar, packed with zstd, in the state bucket under `__cache/{scope}/`, or in a folder.

    prefetch()  during the clone: lists the scope, and downloads the newest archive, which probably fits
    restore()   in the install stage: unpacks the archive of the plan's key
    pack()      during the upload: creates an archive if there was none
    save()      when the site is published: stores it, and removes old and excess archives

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
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import anyio

from buildrunner.cache.archive import CacheableInstall, Compression, DependencyArchive, Kind
from buildrunner.cache.packing import MAX_PACKED_BYTES, PackedArchive, Packer
from buildrunner.cache.store import CacheStore, Log, UnusableError
from buildrunner.cache.tools import TOOLS
from buildrunner.errors import BuildEnded

if TYPE_CHECKING:
    from buildrunner.project.plan import BuildPlan
    from buildrunner.sandbox.command import Sandbox

WORTH_SECONDS = 2.0  # for S3, an install that took less is not worth an archive
WORTH_SECONDS_ON_DISK = 0.5
_CONTENT_TYPES: Mapping[Compression, str] = {"zst": "application/zstd", "gz": "application/gzip"}
MAX_ARCHIVES = 3  # of one scope: of the live branch, the one before, and another one


class DependencyCache:
    """The archives of one build.

    Args:
        store: cache of the scope.
        own: whether the scope is a single slug.
        private: folder that the build's user can enter but not write to.
        work: folder that the build's user can write to.
        log: function that logs a line.
        worth_seconds: an install that took less is not worth an archive.

    """

    SAVE_SECONDS = 10.0  # limit of the wait for packing and uploading, tools included, before the result

    def __init__(
        self,
        store: CacheStore,
        *,
        own: bool,
        sandbox: Sandbox,
        private: Path,
        work: Path,
        log: Log,
        worth_seconds: float = WORTH_SECONDS,
    ) -> None:
        self._store = store
        self._own = own
        self._sandbox = sandbox
        self._private = private
        self._work = work
        self._log = log
        self._worth_seconds = worth_seconds
        self._packer = Packer(sandbox, private / "packed.tar")
        self._compressions = self._packer.compressions()
        self._guess: str | None = None  # the archive that probably fits
        self._prefetching = anyio.CancelScope()
        self._prefetched: Path | UnusableError | None = None
        self._prefetch_done = anyio.Event()
        self._install: CacheableInstall | None = None
        self._restored: DependencyArchive | None = None
        self._install_seconds: float | None = None  # duration of an install that is worth an archive
        self._packed: PackedArchive | str | None = None  # or the reason why there is none
        self._pack_done = anyio.Event()

    async def prefetch(self) -> None:
        """List the scope, and download the newest archive: most builds have the same lockfile as the previous one."""
        await self._store.fetch_list()
        self._guess = next(iter(self._usable()), None)
        with self._prefetching:
            try:
                if self._guess:
                    self._prefetched = await self._download(self._guess)
            except UnusableError as error:
                self._prefetched = error
        self._prefetch_done.set()

    def prepare(
        self, plan: BuildPlan, *, node: str | None, manager: str | None, install_env: Mapping[str, str]
    ) -> Mapping[str, str]:
        """Determine what can be cached for this plan; return variables for the environment of the install.

        Args:
            plan: plan of the build.
            node: version of Node.
            manager: version of the package manager; None for the one included in Node.
            install_env: other variables of the install.

        """
        from buildrunner.cache.key import describe_install  # not needed before git has started

        downloads = self._work / "downloads"
        if Packer.is_available():
            self._install = describe_install(
                plan, own=self._own, downloads=downloads, node=node, manager=manager, install_env=install_env
            )
        if self._install is None:
            return {}
        downloads.mkdir(mode=0o700, exist_ok=True)
        if self._sandbox.account:
            os.chown(downloads, self._sandbox.account.uid, self._sandbox.account.gid)
        cached = self._install.cache
        return dict.fromkeys(cached.variables, str(downloads / cached.folder))

    @property
    def restored(self) -> bool:
        """Whether the build uses anything of an earlier build."""
        return self._restored is not None

    async def restore(self) -> bool:
        """Unpack a fitting archive; return whether it replaces the install: `modules` with the same key.

        It waits up to 2 s for the list, and for the archive as long as the install took that it replaces.
        """
        install = self._install
        if install is None:
            return False
        await self._store.wait_for_list()
        name = self._choose_archive(install)
        if name is None:
            self._prefetching.cancel()
            return False
        archive = self._usable()[name]
        started = anyio.current_time()
        ended = False
        why = "reading them took longer than the install."
        with anyio.move_on_after(archive.longest_wait):
            try:
                await self._packer.unpack(
                    await self._get(name), install.folder(archive.kind), archive.kind, archive.compression
                )
                ended = True
            except UnusableError as error:
                why = str(error)
                self._store.damaged.add(name)
        if not ended:
            self._log(f"Installing instead of using the cached dependencies: {why}", "warning")
            await self._packer.remove(install.folder(archive.kind), archive.kind)
            return False
        self._restored = archive
        modules = archive.kind == "modules"
        what = "node_modules" if modules else f"what {install.label} downloads"
        size, seconds = self._store.stored[name].size / 1e6, anyio.current_time() - started
        saved = f"; installing took {archive.seconds} s" if modules else ""
        self._log(f"Restored {what} of an earlier build ({size:.1f} MB in {seconds:.1f} s{saved}).")
        return modules

    def _choose_archive(self, install: CacheableInstall) -> str | None:
        archives = self._usable()
        kinds = list(install.keys)
        fitting = [name for name, archive in archives.items() if install.fits(archive)]
        fitting.sort(key=lambda name: kinds.index(archives[name].kind))
        alike = [name for name, it in archives.items() if (it.kind, it.manager) == (kinds[-1], install.cache.id)]
        # Packages added to it have to fit as well.
        fitting += [name for name in alike if self._store.stored[name].size <= MAX_PACKED_BYTES // 2]
        return next(iter(fitting), None)

    def list_remaining_commands(self, package: Mapping[str, Any]) -> list[tuple[str, ...]]:
        """List the remaining commands of an install after node_modules was restored.

        Install scripts of dependencies and the repository run again: some read the repository (a Prisma schema, patches), and
        some write outside of node_modules (the browser of puppeteer).

        Args:
            package: package.json of the folder where dependencies are installed.

        """
        from buildrunner.project.files import parse_json

        install = self._install
        assert install is not None
        complete = install.cache.complete_modules
        assert complete is not None
        if not install.scripts:
            return []
        lockfile: object = {}
        with suppress(ValueError):
            lockfile = parse_json(install.lockfile)
        return complete(lockfile, package, install.root)

    async def discard(self) -> None:
        """Remove what was restored and installed; a new archive replaces it if this build is published."""
        assert self._restored is not None
        assert self._install is not None
        self._store.damaged.add(self._restored.name)
        kinds: dict[Kind, None] = {self._restored.kind: None, "modules": None}
        for kind in kinds:
            await self._packer.remove(self._install.folder(kind), kind)
        self._restored = None

    def note_install(self, seconds: float) -> None:
        """Record that the install completed exactly as locked, so that it may be cached."""
        install = self._install
        if install and seconds >= self._worth_seconds and not self._is_stored(install, install.best_kind):
            with suppress(OSError):
                self._record.touch(mode=0o644)
                self._install_seconds = seconds

    async def pack(self) -> None:
        """Create an archive if there is something to cache. No command of the repository may run meanwhile."""
        try:
            if self._install and self._install_seconds is not None:
                self._packed = await self._pack(self._install)
        finally:
            self._pack_done.set()

    async def save(self) -> None:
        """Store the archive, and remove archives that are damaged, old or in excess. The caller limits the time."""
        if self._install is None:
            return
        started = anyio.current_time()
        if self._install_seconds is not None:
            await self._pack_done.wait()
        packed = self._packed
        try:
            if isinstance(packed, PackedArchive):
                await self._store_archive(self._install, packed)
            else:
                await self._store.remove(name for name in self._store.damaged if DependencyArchive.parse(name))
        except BuildEnded as error:
            self._log(f"The dependencies may not be cached: {error.reason}", "warning")
            return
        if isinstance(packed, PackedArchive):
            waited = anyio.current_time() - started
            self._log(f"Cached the dependencies for the next build ({packed.size / 1e6:.1f} MB, {waited:.1f} s).")
        elif packed:
            self._log(f"The dependencies are not cached: {packed}", "warning")

    async def _store_archive(self, install: CacheableInstall, packed: PackedArchive) -> None:
        seconds = min(round(self._install_seconds or 0), 99_999)
        archive = DependencyArchive(
            packed.kind, install.cache.id, install.keys[packed.kind], seconds, packed.sha256, packed.compression
        )
        descriptor = os.open(self._packer.file, os.O_RDONLY | os.O_CLOEXEC)
        try:
            await self._store.put(
                archive.name, descriptor, packed.size, content_type=_CONTENT_TYPES[packed.compression]
            )
        finally:
            os.close(descriptor)
        # An archive of that name stored by builds of another kind of scope belongs to them.
        theirs = {
            name for name in self._store.stored if (it := DependencyArchive.parse(name)) and not self._is_ours(it)
        }
        left = {archive.name, *list(self._usable())[: MAX_ARCHIVES - 1]}
        others = {name for name in self._store.stored if not name.startswith(TOOLS)}
        await self._store.remove(others - theirs - left)

    @property
    def _record(self) -> Path:
        """The file that is modified last in an install."""
        return self._private / "installed"

    def _usable(self) -> dict[str, DependencyArchive]:
        """Return the archives whose names permit using them, newest first."""
        archives = ((name, DependencyArchive.parse(name)) for name in self._store.usable(MAX_PACKED_BYTES))
        return {
            name: archive
            for name, archive in archives
            if archive and archive.compression in self._compressions and self._is_ours(archive)
        }

    def _is_ours(self, archive: DependencyArchive) -> bool:
        """Return whether builds as trusted as this one created it."""
        return (archive.kind != "shared") == self._own

    def _is_stored(self, install: CacheableInstall, kind: Kind) -> bool:
        return any(archive.kind == kind and install.fits(archive) for archive in self._usable().values())

    async def _get(self, name: str) -> Path:
        """Return an archive on disk; raise UnusableError if there is none."""
        if name != self._guess:
            self._prefetching.cancel()
            return await self._download(name)
        await self._prefetch_done.wait()
        if isinstance(self._prefetched, UnusableError):
            raise self._prefetched
        assert self._prefetched is not None
        return self._prefetched

    async def _download(self, name: str) -> Path:
        """Download an archive and verify it; raise UnusableError if it differs from what was stored."""
        archive = DependencyArchive.parse(name)
        assert archive is not None
        path = self._private / f"{archive.sha256[:16]}.tar"
        digest = hashlib.sha256()
        await self._store.save(name, path, digest, max_bytes=MAX_PACKED_BYTES)
        if digest.hexdigest() != archive.sha256:
            raise UnusableError("the archive is damaged (its SHA-256 differs).")
        path.chmod(0o644)  # the build's user unpacks it
        return path

    async def _pack(self, install: CacheableInstall) -> PackedArchive | str:
        """Pack the best kind that scripts of the repository have not changed; return the reason if there is none."""
        kind = install.best_kind
        if install.cache.linked and await self._packer.is_changed(install, kind, self._record):
            self._log(f"Scripts of the repository changed packages in {install.label}'s cache, so it is not cached.")
            return ""
        if kind == "modules" and await self._packer.is_changed(install, kind, self._record):
            kind = "packages"
            if self._is_stored(install, kind):
                return ""
            self._log(
                "Scripts of the repository changed node_modules, so only the packages that npm downloaded are cached."
            )
        return await self._packer.pack(install, kind)
