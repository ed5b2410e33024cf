"""How small objects and parts are stored: on the fast path, or by aiobotocore."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from contextlib import AbstractAsyncContextManager
from typing import Protocol

from buildrunner.s3.limiter import AdaptiveLimiter


class SmallObjectWriter(Protocol):
    """Store objects of one bucket; those it does not store go through aiobotocore."""

    async def learn(self, bucket: str) -> None:
        """Prepare for the first object."""

    def turn(self) -> AbstractAsyncContextManager[None]:
        """Wait until another request may be made, here or by aiobotocore."""

    async def put(
        self,
        key: str,
        body: bytes | Callable[[], Iterable[bytes]],
        size: int,
        digest: bytes,
        headers: Mapping[str, str],
        query: str = "",
    ) -> str | None:
        """Store a body, whose SHA-256 the server verifies; return the ETag, or None if it was not stored."""

    def close(self) -> None:
        """Close the connections."""


class ClientWriter:
    """Leave every object to aiobotocore (`S3_FAST_PUT=off`)."""

    def __init__(self, concurrency: int) -> None:
        self._limiter = AdaptiveLimiter(concurrency)

    async def learn(self, bucket: str) -> None:
        """Do nothing: the client needs no preparation."""

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
