"""Store the cache in a folder of this machine, with the operations that `CacheStore` needs of a bucket."""

from __future__ import annotations

import os
import tempfile
from collections.abc import AsyncGenerator, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import anyio.to_thread

from buildrunner.errors import BuildFailed

_CHUNK_BYTES = 2**20
_UNFINISHED = ".unfinished-"


@dataclass(frozen=True, slots=True)
class StoredFile:
    """A file in a listing."""

    size: int  # bytes
    modified: datetime  # with a time zone


class FolderBucket:
    """A folder with the keys of a bucket as paths. Every method raises BuildFailed with a reason for people.

    Processes may share it: files appear complete, and stay readable for their readers when they are removed.

    Args:
        root: path of the folder, which is created when something is stored.

    """

    def __init__(self, root: Path) -> None:
        self._root = root

    async def list_objects(self, prefix: str) -> Mapping[str, StoredFile]:
        """Return every file whose key begins with `prefix`, which ends with `/`."""
        return await anyio.to_thread.run_sync(self._list, prefix)

    def _list(self, prefix: str) -> Mapping[str, StoredFile]:
        found = {}
        with self._explained("read"):
            for folder, _, names in os.walk(self._root / prefix):
                for name in names:
                    if name.startswith(_UNFINISHED):
                        continue
                    path = Path(folder, name)
                    with suppress(FileNotFoundError):  # another build removed it
                        status = path.stat(follow_symlinks=False)
                        modified = datetime.fromtimestamp(status.st_mtime, UTC)
                        found[path.relative_to(self._root).as_posix()] = StoredFile(status.st_size, modified)
        return found

    async def stream(self, key: str) -> AsyncGenerator[bytes]:
        """Yield the content of a file in pieces; nothing if it does not exist."""
        with self._explained("read"):
            try:
                file = await anyio.open_file(self._root / key, "rb")
            except FileNotFoundError:
                return
            async with file:
                while chunk := await file.read(_CHUNK_BYTES):
                    yield chunk

    async def put_file(self, key: str, descriptor: int, size: int, *, content_type: str) -> None:
        """Store the first `size` bytes of an open file."""
        await anyio.to_thread.run_sync(self._put, self._root / key, descriptor, size)

    def _put(self, path: Path, descriptor: int, size: int) -> None:
        with self._explained("write to"):
            path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            target, name = tempfile.mkstemp(dir=path.parent, prefix=_UNFINISHED)
            try:
                at = 0
                while at < size and (sent := os.sendfile(target, descriptor, at, size - at)):
                    at += sent
                os.rename(name, path)
            except BaseException:
                os.unlink(name)
                raise
            finally:
                os.close(target)

    async def remove(self, key: str) -> None:
        """Remove a file; a missing file is not an error."""
        with self._explained("write to"), suppress(FileNotFoundError):
            (self._root / key).unlink()

    @contextmanager
    def _explained(self, verb: str) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise BuildFailed(
                "install", f"buildrunner cannot {verb} the cache folder {self._root}: {error.strerror}."
            ) from None
