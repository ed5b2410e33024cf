"""Read the logs of finished builds from the state bucket in pieces, and describe a build by its first and last events."""

from __future__ import annotations

import asyncio
import json
import math
import time
from collections import OrderedDict
from collections.abc import AsyncIterator, Coroutine, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from buildrunner.errors import BuildFailed
from buildrunner.gateway.events import BUILD_ID, parse_event, to_blocks
from buildrunner.gateway.sharing import History, Piece, SharedReads

if TYPE_CHECKING:
    from buildrunner.s3 import Listed, Part

T = TypeVar("T")
_PIECE_BYTES = 256 * 2**10
_HEAD_BYTES = 4 * 2**10  # the first event is short
_TAIL_BYTES = 32 * 2**10  # a result with its excerpt; more is read if it is longer
_KEEP_SUMMARIES = 10_000
_AT_ONCE = 16  # concurrent requests
_ANSWER_SECONDS = 8.0
_MISSING_SECONDS = 2.0  # how long a missing log is cached as missing
_PRESENT_SECONDS = 10.0  # a build with the same id may replace it


@dataclass(frozen=True, slots=True)
class ArchivedLog:
    """A finished build."""

    build: str
    key: str
    etag: str
    size: int  # bytes
    first: dict[str, Any]  # its first event
    result: dict[str, Any]  # its last event

    @property
    def started(self) -> datetime:
        """Time of its first event."""
        try:
            started = datetime.fromisoformat(self.first["ts"])
        except (KeyError, ValueError):
            return datetime.fromtimestamp(0, UTC)
        return started if started.tzinfo else started.replace(tzinfo=UTC)


class ArchiveReplaced(Exception):
    """Another build with the same id has replaced the log."""


class ArchiveBucket(Protocol):
    """What an archive needs of its bucket; see `s3.Bucket`."""

    async def list_objects(self, prefix: str) -> Mapping[str, Listed]:
        """Return every object whose key begins with `prefix`."""
        ...

    async def get_range(self, key: str, *, start: int, length: int, etag: str | None = None) -> Part | None:
        """Read up to `length` bytes of an object."""
        ...


class Archive:
    """Read the logs of finished builds, `__logs/{slug}/{build}.ndjson`."""

    def __init__(self, bucket: ArchiveBucket, history: History) -> None:
        self._bucket = bucket
        self._history = history
        self._known: OrderedDict[tuple[str, str], ArchivedLog] = (
            OrderedDict()
        )  # by key and ETag, which identify the content
        self._recent: OrderedDict[str, tuple[float, ArchivedLog | None]] = (
            OrderedDict()
        )  # by key, with the time of the request
        self._looks = SharedReads[tuple[float, ArchivedLog | None]]()
        self._listings = SharedReads[list[ArchivedLog]]()
        self._slots = asyncio.Semaphore(_AT_ONCE)

    async def find(self, slug: str, build: str) -> ArchivedLog | None:
        """Describe the log of a build; None if it does not exist or is incomplete."""
        key = f"{_folder(slug)}{build}.ndjson"

        async def look() -> tuple[float, ArchivedLog | None]:
            log = await self._look(key, None)
            return time.monotonic(), log

        found_at, log = self._recent.get(key, (-math.inf, None))
        if time.monotonic() - found_at > (_PRESENT_SECONDS if log else _MISSING_SECONDS):
            self._recent[key] = _, log = await self._looks.get(key, look)
            if len(self._recent) > _KEEP_SUMMARIES:
                self._recent.popitem(last=False)
        return log

    async def newest(self, slug: str, limit: int) -> list[ArchivedLog]:
        """Return the builds that started last, newest first.

        A log is written at the end of its build. Logs written before the start of the `limit`th build therefore belong to earlier
        builds, and are not read.
        """
        return await self._listings.get((slug, limit), lambda: self._find_newest(slug, limit))

    async def _find_newest(self, slug: str, limit: int) -> list[ArchivedLog]:
        listed = await self._ask(self._bucket.list_objects(_folder(slug)))
        names = sorted(listed, key=lambda key: (listed[key].modified, key), reverse=True)
        found: list[ArchivedLog] = []
        for at in range(0, len(names), limit):
            if len(found) >= limit and listed[names[at]].modified < found[limit - 1].started:
                break
            logs = await asyncio.gather(*(self._look(key, listed[key].etag) for key in names[at : at + limit]))
            found = sorted([*found, *filter(None, logs)], key=lambda log: log.started, reverse=True)
        return found[:limit]

    async def pieces(self, log: ArchivedLog) -> AsyncIterator[Piece]:
        """Yield its events from the first one, at the pace of the reader."""
        offset = 0
        while offset < log.size:
            piece = await self._history.get((log.key, log.etag, offset), partial(self._read_piece, log, offset))
            yield piece
            offset = piece.end

    async def lines(self, log: ArchivedLog) -> AsyncIterator[list[bytes]]:
        """Yield its events unchanged, at the pace of the reader."""
        offset = 0
        while offset < log.size:
            lines = await self._read_lines(log, offset)
            yield lines.splitlines()
            offset += len(lines)

    async def _read_piece(self, log: ArchivedLog, offset: int) -> Piece:
        lines = await self._read_lines(log, offset)
        return Piece(tuple(to_blocks((b"", line) for line in lines.splitlines())), keeps=True, end=offset + len(lines))

    async def _read_lines(self, log: ArchivedLog, offset: int) -> bytes:
        """Read whole lines, about 256 KiB."""
        length = _PIECE_BYTES
        while True:
            part = await self._get(log.key, offset, length, log.etag)
            if part is None:
                raise ArchiveReplaced
            if offset + len(part.body) >= part.size:
                return part.body
            if end := part.body.rfind(b"\n") + 1:
                return part.body[:end]
            length *= 2  # a line longer than that

    async def _look(self, key: str, etag: str | None) -> ArchivedLog | None:
        build = key.rpartition("/")[2].removesuffix(".ndjson")
        if not BUILD_ID.fullmatch(build) or not key.endswith(".ndjson"):
            return None
        if etag and (log := self._known.get((key, etag))):
            return log
        length = _HEAD_BYTES
        while True:
            head = await self._get(key, 0, length, None)
            if head is None:
                return None
            if b"\n" in head.body or len(head.body) >= head.size:
                break
            length *= 8  # a line may be 16 KiB long
        first = _event(head.body.partition(b"\n")[0])
        length = _TAIL_BYTES
        while True:
            tail = head if head.size <= len(head.body) else await self._get(key, -length, length, head.etag)
            if tail is None:
                return None
            last = tail.body.rstrip(b"\n")
            if b"\n" in last or len(tail.body) >= tail.size:
                break
            length *= 4
        result = _event(last.rpartition(b"\n")[2])
        if first is None or result is None or result.get("type") != "result":
            return None
        log = self._known[key, head.etag] = ArchivedLog(build, key, head.etag, head.size, first, result)
        if len(self._known) > _KEEP_SUMMARIES:
            self._known.popitem(last=False)
        return log

    async def _get(self, key: str, start: int, length: int, etag: str | None) -> Part | None:
        return await self._ask(self._bucket.get_range(key, start=start, length=length, etag=etag))

    async def _ask(self, request: Coroutine[Any, Any, T]) -> T:
        """Await a response of S3, whose own retries take longer than a viewer waits."""
        try:
            async with self._slots, asyncio.timeout(_ANSWER_SECONDS):
                return await request
        except TimeoutError:
            raise BuildFailed("finish", f"S3 does not answer within {_ANSWER_SECONDS:.0f} s.") from None
        finally:
            request.close()  # a request that has not started


def _folder(slug: str) -> str:
    return f"__logs/{slug}/"


def _event(line: bytes) -> dict[str, Any] | None:
    return json.loads(line) if parse_event(line) else None
