"""How small objects and parts are stored: by a path of our own, or by the client that all else goes through."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from contextlib import AbstractAsyncContextManager
from typing import Protocol

from buildrunner.s3.limiter import AdaptiveLimiter


class SmallObjectWriter(Protocol):
    """Stores objects of one bucket; what it does not store goes through aiobotocore."""

    async def learn(self, bucket: str) -> None:
        """Find out what is needed before the first object."""

    def turn(self) -> AbstractAsyncContextManager[None]:
        """Wait until one more request may be made, whichever way it goes."""

    async def put(
        self,
        key: str,
        body: bytes | Callable[[], Iterable[bytes]],
        size: int,
        digest: bytes,
        headers: Mapping[str, str],
        query: str = "",
    ) -> str | None:
        """Store a body, whose SHA-256 the server verifies; return the ETag, or None when it is not stored."""

    def close(self) -> None:
        """Close its connections."""


class ClientWriter:
    """Leaves every object to aiobotocore (`S3_FAST_PUT=off`)."""

    def __init__(self, concurrency: int) -> None:
        self._limiter = AdaptiveLimiter(concurrency)

    async def learn(self, bucket: str) -> None:
        """Do nothing: the client finds out by itself."""

    def turn(self) -> AbstractAsyncContextManager[None]:
        return self._limiter

    async def put(
        self,
        key: str,
        body: bytes | Callable[[], Iterable[bytes]],
        size: int,
        digest: bytes,
        headers: Mapping[str, str],
        query: str = "",
    ) -> str | None:
        return None

    def close(self) -> None:
        """Do nothing: there are no connections."""
