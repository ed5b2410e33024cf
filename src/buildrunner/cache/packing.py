"""Pack and unpack archives with tar and zstd, or gzip, as the build's user, in folders that this user may write to anyway.

Code of a repository wrote the content of an archive. buildrunner itself only counts its bytes and hashes them.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import anyio

from buildrunner.cache.archive import CacheableInstall, Compression, Kind
from buildrunner.cache.store import UnusableError
from buildrunner.concurrency.files import open_for_writing
from buildrunner.errors import BuildEnded

if TYPE_CHECKING:
    from buildrunner.sandbox.command import Sandbox

MAX_PACKED_BYTES = 512 * 2**20
MAX_UNPACKED_BYTES = 4 * 2**30
_DEPTH = 6  # of folders to search for node_modules: packages of a workspace
_PROGRAMS = ("bash", "find", "head", "tar")
_COMPRESSORS: Mapping[
    Compression, tuple[str, str, str]
] = {  # program, how it packs, how it unpacks; the better one first
    "zst": ("zstd", "zstd -q -3 -T0", "zstd -dcq --memory=64MB"),
    "gz": ("gzip", "gzip -c1", "gzip -dc"),
}
_PATH = "/usr/bin:/bin"
# `head` limits both directions: more input closes the pipe, which pipefail reports.
_FIND = f"find . -maxdepth {_DEPTH} -name .git -prune -o -name node_modules -type d -prune"
_PACK = "set -o pipefail; {what} | head -c {most} | {compressor}"
# Tools store generated files in hidden folders there (.cache, .vite, .prisma). They contain paths of one build, or come from a
# script that runs again.
_TOOLS_OWN = (
    r"-path '*/node_modules/.*' ! -path '*/node_modules/.bin' ! -path '*/node_modules/.bin/*'"
    r" ! -path '*/node_modules/.package-lock.json'"
)
_PACK_MODULES = (
    f"{_FIND} -exec find {{}} {_TOOLS_OWN} -prune -o -print0 \\;"
    " | tar --create --format=posix --no-recursion --null --files-from=-"
)
# Times of change (ctime) can't be set. Folders named node_modules change with their hidden folders.
_FIND_CHANGED = (
    f'test -e "$1" || exit 1; {_FIND} -exec find {{}} {_TOOLS_OWN} -prune'
    ' -o ! -name node_modules -cnewer "$1" -print -quit \\; | head -n 1'
)
_UNPACK = f'set -o pipefail; $2 -- "$1" | head -c {MAX_UNPACKED_BYTES} | tar --extract --no-same-owner'
# Written by other slugs, so no link in it may redirect what npm writes.
_UNPACK_SHARED = f"{_UNPACK} -- npm/_cacache/content-v2 && find . ! -type f ! -type d -delete"
_FIND_CHANGED_IN_CACHE = 'find . -type f -cnewer "$1" -print -quit'
_NPM_RECORD = "node_modules/.package-lock.json"  # npm 7 and later write it before they run the repository's own scripts


@dataclass(frozen=True, slots=True)
class PackedArchive:
    """An archive on disk."""

    kind: Kind
    size: int  # bytes
    sha256: str
    compression: Compression


class Packer:
    """Pack and unpack what one build installs.

    Args:
        sandbox: runs commands as the build's user.
        file: path of the packed archive, which the build's user can't write to.

    """

    def __init__(self, sandbox: Sandbox, file: Path) -> None:
        self._sandbox = sandbox
        self.file = file

    @staticmethod
    def is_available() -> bool:
        """Return whether the programs are installed."""
        return all(map(_is_installed, _PROGRAMS)) and Packer.compressions() != ()

    @staticmethod
    def compressions() -> tuple[Compression, ...]:
        """Return how this machine can compress and decompress, the best first."""
        return tuple(name for name, (program, _, _) in _COMPRESSORS.items() if _is_installed(program))

    async def unpack(self, path: Path, folder: Path, kind: Kind, compression: Compression) -> None:
        """Unpack an archive into a folder and remove the archive.

        Raises:
            UnusableError: it cannot be unpacked.

        """
        script = _UNPACK_SHARED if kind == "shared" else _UNPACK
        try:
            code, complaint = await self._run(script, folder, str(path), _COMPRESSORS[compression][2])
        finally:
            with suppress(OSError):
                os.unlink(path)
        if code:
            raise UnusableError(f"the archive cannot be unpacked ({complaint or f'exit code {code}'}).")

    async def remove(self, folder: Path, kind: Kind) -> None:
        """Remove what an archive of a kind was unpacked to, or an install has written there."""
        await self._run(f"{_FIND} -exec rm -rf {{}} +" if kind == "modules" else "rm -rf ./*", folder)

    async def is_changed(self, install: CacheableInstall, kind: Kind, record: Path) -> bool:
        """Return whether scripts of the repository have changed what would be packed, during the install or the build.

        Args:
            install: install of the build.
            kind: kind of the archive.
            record: file that is modified last in the install.

        """
        script = _FIND_CHANGED if kind == "modules" else _FIND_CHANGED_IN_CACHE
        if install.own_scripts and kind == "modules":
            record = install.root / _NPM_RECORD
        changed = bytearray()
        code, _ = await self._run(script, install.folder(kind), str(record), take=changed.extend)
        return bool(code or changed)

    async def pack(self, install: CacheableInstall, kind: Kind) -> PackedArchive | str:
        """Pack into `file`; return the reason why there is no archive, or an empty string if there is nothing to pack."""
        if kind == "modules":
            what = _PACK_MODULES
        else:
            if not _is_folder(install.downloads / install.cache.content):
                return ""  # the repository's own settings for the manager won
            what = f"tar --create --format=posix -- {install.cache.content}"
        compression = self.compressions()[0]
        script = _PACK.format(what=what, most=MAX_UNPACKED_BYTES, compressor=_COMPRESSORS[compression][1])
        digest, size, failure = hashlib.sha256(), 0, ""
        scope = anyio.CancelScope()
        try:
            async with open_for_writing(self.file) as write:
                with scope:

                    async def take(data: bytes) -> None:
                        nonlocal size, failure
                        if failure:
                            return
                        size += len(data)
                        if size > MAX_PACKED_BYTES:
                            failure = f"packed, they are larger than {MAX_PACKED_BYTES // 2**20} MiB."
                            scope.cancel()
                            return
                        digest.update(data)
                        try:
                            await write(data)
                        except OSError as error:
                            failure = f"there is no space to pack them ({error.strerror})."
                            scope.cancel()

                    code, complaint = await self._run(script, install.folder(kind), take=take)
                    if code:
                        failure = failure or f"they cannot be packed ({complaint or f'exit code {code}'})."
        except OSError as error:
            failure = failure or f"there is no space to pack them ({error.strerror})."
        return failure or PackedArchive(kind, size, digest.hexdigest(), compression)

    async def _run(
        self, script: str, folder: Path, *arguments: str, take: Callable[[bytes], Awaitable[None] | None] | None = None
    ) -> tuple[int, str]:
        """Run an internal script as the build's user; return its exit code and the last line of stderr."""
        complaint = b""

        def output(stream: Literal["stdout", "stderr"], data: bytes) -> Awaitable[None] | None:
            nonlocal complaint
            if stream == "stderr":
                complaint = (complaint + data)[-500:]
            elif take:
                return take(data)
            return None

        command = ("bash", "--norc", "-c", script, "bash", *arguments)
        environment = {"PATH": _PATH, "LANG": "C.UTF-8", "HOME": "/nonexistent"}
        try:
            ended = await self._sandbox.run(command, folder=folder, environment=environment, output=output)
        except BuildEnded as error:
            return 126, error.reason
        lines = complaint.decode(errors="replace").split("\n")
        return ended.code or int(ended.left_behind), next((line for line in reversed(lines) if line), "")[:200]


def _is_installed(program: str) -> bool:
    return any(os.access(f"{folder}/{program}", os.X_OK) for folder in _PATH.split(":"))


def _is_folder(path: Path) -> bool:
    return os.path.isdir(path)
