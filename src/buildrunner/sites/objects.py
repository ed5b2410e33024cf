"""Read objects of sites: small ones once for all visitors, and from then on from memory; large ones as streams."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, Literal, TypeVar

from buildrunner.s3 import ObjectReader, ObjectResponse
from buildrunner.sites.cache import ObjectCache, StoredObject
from buildrunner.sites.compression import compress, is_compressible
from buildrunner.sites.index import Indexed

SMALL_BYTES = 2 * 2**20  # and what is larger is not cached
_CACHE_BYTES = 128 * 2**20
_COMPRESS_AT_ONCE_BYTES = 16 * 2**10  # takes less time than handing it to a thread
_T = TypeVar("_T")


class Changed(Exception):
    """An object is not the one that the listing showed: the site has changed since.

    Args:
        at: when S3 said so; monotonic clock.
        stored: what is there now; None if it is gone, or is large.

    """

    def __init__(self, at: float, stored: StoredObject | None) -> None:
        super().__init__(at)
        self.at = at
        self.stored = stored


class SharedWork:
    """Do work once for all callers that wait for the same result. The first of them does it, without a task of its own."""

    def __init__(self) -> None:
        self._under_way: dict[object, asyncio.Future[Any]] = {}

    async def run(self, identity: object, work: Callable[[], Awaitable[_T]]) -> _T:
        """Return the result of `work`, called unless another caller is at it for this identity."""
        while (shared := self._under_way.get(identity)) is not None:
            outcome: tuple[_T | _Failed] | None = await asyncio.shield(shared)
            if outcome is not None:
                return _unpacked(outcome[0])
        shared = self._under_way[identity] = asyncio.get_running_loop().create_future()
        result: _T | _Failed
        try:
            result = await work()
            shared.set_result((result,))
        except Exception as error:  # every caller raises it
            result = _Failed(error)
            shared.set_result((result,))
        finally:
            del self._under_way[identity]
            if not shared.done():  # cancelled: the next caller does it
                shared.set_result(None)
        return _unpacked(result)


@dataclass(frozen=True, slots=True)
class _Failed:
    error: Exception


def _unpacked(result: _T | _Failed) -> _T:
    if isinstance(result, _Failed):
        raise result.error
    return result


class Objects:
    """Objects of the bucket with the sites."""

    def __init__(self, reader: ObjectReader) -> None:
        self._reader = reader
        self._shared = SharedWork()
        self._cache = ObjectCache(_CACHE_BYTES)

    def cached(self, key: str, indexed: Indexed) -> StoredObject | None:
        """Return an object if it is in memory."""
        return self._cache.get((key, indexed.etag))

    def is_cached(self, key: str, indexed: Indexed) -> bool:
        """Return whether an object is in memory, without counting it as used."""
        return (key, indexed.etag) in self._cache

    async def load(self, key: str, indexed: Indexed, *, any_version: bool) -> StoredObject:
        """Return a small object.

        Args:
            key: in the bucket.
            indexed: as the listing shows it.
            any_version: take it also if S3 has another version by now.

        Raises:
            Changed: it is not what the listing showed.
            S3Failed: it cannot be read.

        """
        identity = key, indexed.etag
        stored = self._cache.get(identity)
        if stored is None:
            stored = await self._shared.run(identity, lambda: self._load(key))
        if stored.etag != indexed.etag and not any_version:
            raise Changed(time.monotonic(), stored)
        return stored

    async def _load(self, key: str) -> StoredObject:
        answer = await self._reader.read(key, max_bytes=2 * SMALL_BYTES)
        if answer is None:
            raise Changed(time.monotonic(), None)
        stored = StoredObject(key, answer.etag, answer.headers, answer.body, _may_compress(answer.headers))
        self._cache.put((key, stored.etag), stored)
        return stored

    def remember(self, key: str, indexed: Indexed, stored: StoredObject) -> None:
        """Cache an object as what the listing shows, on a server whose listings have other ETags than its objects."""
        self._cache.put((key, indexed.etag), stored)

    async def variant(self, stored: StoredObject, encoding: str) -> bytes | None:
        """Return the body of an object in an encoding; None if it is no smaller so."""
        if encoding in stored.variants:
            return stored.variants[encoding]
        if len(stored.body) <= _COMPRESS_AT_ONCE_BYTES:
            body = compress(stored.body, encoding)
        else:
            work = asyncio.to_thread
            identity = stored.key, stored.etag, encoding
            body = await self._shared.run(identity, lambda: work(compress, stored.body, encoding))
        stored.variants[encoding] = body if len(body) < len(stored.body) else None
        if self._cache.get((stored.key, stored.etag)) is stored:
            self._cache.put((stored.key, stored.etag), stored)  # it has grown
        return stored.variants[encoding]

    @asynccontextmanager
    async def open(
        self, key: str, indexed: Indexed, *, method: Literal["GET", "HEAD"], wanted: range | None, any_version: bool
    ) -> AsyncIterator[tuple[ObjectResponse, dict[str, str]]]:
        """Open a large object, and return it with the headers that are stored with it.

        Raises:
            Changed: it is not what the listing showed.
            S3Failed: it cannot be read.

        """
        ranges = f"bytes={wanted.start}-{wanted.stop - 1}" if wanted else None
        async with self._reader.open(key, method=method, ranges=ranges) as answer:
            other = answer.etag != indexed.etag and (wanted is not None or not any_version)
            if answer.status != (206 if wanted else 200) or other:
                raise Changed(time.monotonic(), None)
            yield answer, answer.stored_headers


def _may_compress(headers: dict[str, str]) -> bool:
    return "content-encoding" not in headers and is_compressible(headers.get("content-type", ""))
