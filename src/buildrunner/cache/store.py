"""Store what the builds of one scope share, under `__cache/{scope}/` in the state bucket.

| name | what it is | whose |
|---|---|---|
| `tools/{package}-{version}.tgz` | Node or a package manager, as the registry sent it | `tools.ToolCache` |
| any other | an archive of dependencies | `dependencies.DependencyCache` |

The cache never fails a build: problems are reported in one sentence, and the build continues without the cache.
"""

from __future__ import annotations

import hashlib
from collections.abc import Awaitable, Callable, Iterable, Mapping
from contextlib import aclosing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

import anyio
import anyio.to_thread

from buildrunner.concurrency.files import open_for_writing
from buildrunner.errors import BuildEnded

if TYPE_CHECKING:
    from buildrunner.cache.folder import FolderBucket, StoredFile
    from buildrunner.s3.bucket import Bucket, Listed

Log = Callable[..., None]  # a sentence for people, and its level if it is a warning

LIST_SECONDS = 2.0  # maximum wait of the install for the list, which usually arrives during the clone
MAX_AGE = timedelta(days=14)


class UnusableError(Exception):
    """A cached file cannot be used; the text says why, after a colon."""


class CacheStore:
    """The objects of one scope.

    Args:
        scope: name of the scope.
        bucket: returns the state bucket when S3 is ready, or a folder.
        log: takes sentences for people.

    """

    def __init__(self, scope: str, *, bucket: Callable[[], Awaitable[Bucket | FolderBucket]], log: Log) -> None:
        self._prefix = f"__cache/{scope}/"
        self._bucket = bucket
        self._log = log
        self._list_error: str | None = None
        self._listed = anyio.Event()
        self._list_deadline: float | None = None
        self.stored: Mapping[str, Listed | StoredFile] = {}  # by the name
        self.damaged: set[str] = set()  # names

    async def fetch_list(self) -> None:
        """List the objects of the scope."""
        try:
            bucket = await self._bucket()
            listed = await bucket.list_objects(self._prefix)
        except BuildEnded as error:
            listed, self._list_error = {}, error.reason
        self.stored = {key.removeprefix(self._prefix): there for key, there in listed.items()}
        self._listed.set()

    async def wait_for_list(self) -> None:
        """Wait for the list, 2 s at most in the whole build, and warn where there is none."""
        now = anyio.current_time()
        self._list_deadline = self._list_deadline or now + LIST_SECONDS
        with anyio.move_on_after(max(0.0, self._list_deadline - now)):
            await self._listed.wait()
        if self._list_error:
            self._log(f"The cache cannot be used: {self._list_error}", "warning")
            self._list_error = None

    def usable(self, max_bytes: int) -> list[str]:
        """Return the names of what is neither too old nor too large nor damaged, the newest first."""
        oldest = datetime.now(UTC) - MAX_AGE
        fresh = [
            (stored.modified, name)
            for name, stored in self.stored.items()
            if stored.modified > oldest and stored.size <= max_bytes and name not in self.damaged
        ]
        return [name for _, name in sorted(fresh, reverse=True)]

    async def save(self, name: str, path: Path, digest: hashlib._Hash, *, max_bytes: int) -> int:
        """Write an object into a file and add it to the digest; return its size, 0 when it is gone. Raises UnusableError."""
        size = 0
        try:
            bucket = await self._bucket()
            async with open_for_writing(path) as write, aclosing(bucket.stream(self._prefix + name)) as chunks:
                async for chunk in chunks:
                    size += len(chunk)
                    if size > max_bytes:
                        raise UnusableError(f"the file is larger than {max_bytes // 2**20} MiB.")
                    digest.update(chunk)
                    await write(chunk)
        except BuildEnded as error:
            raise UnusableError(error.reason) from None
        except OSError as error:
            raise UnusableError(f"the file cannot be written here: {error.strerror}.") from None
        return size

    async def put(self, name: str, descriptor: int, size: int, *, content_type: str) -> None:
        """Store a file. Raises BuildEnded, as `remove` does."""
        bucket = await self._bucket()
        await bucket.put_file(self._prefix + name, descriptor, size, content_type=content_type)

    async def remove(self, names: Iterable[str]) -> None:
        bucket = await self._bucket()
        for name in names:
            await bucket.remove(self._prefix + name)
