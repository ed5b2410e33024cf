"""Share reads among viewers who need the same data at the same time."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Hashable
from dataclasses import dataclass
from typing import Generic, TypeVar

from buildrunner.gateway.events import Block

T = TypeVar("T")
_HISTORY_BYTES = 16 * 2**20  # of payload in memory, over all builds


class SharedReads(Generic[T]):
    """Reads in progress, by their key."""

    def __init__(self) -> None:
        self._reading: dict[Hashable, asyncio.Future[T | None]] = {}

    async def get(self, key: Hashable, read: Callable[[], Awaitable[T]]) -> T:
        """Call `read` once for all concurrent callers, and return its result; if it fails, each of them calls it."""
        while reading := self._reading.get(key):
            if (found := await asyncio.shield(reading)) is not None:
                return found
        reading = self._reading[key] = asyncio.get_running_loop().create_future()
        try:
            found = await read()
            reading.set_result(found)
            return found
        finally:
            del self._reading[key]
            if not reading.done():
                reading.set_result(None)  # waiting callers read themselves


@dataclass(frozen=True, slots=True)
class Piece:
    """Consecutive blocks of a stream or an archive."""

    blocks: tuple[Block, ...]
    keeps: bool  # whether reading it again gives the same result
    end: int = 0  # offset after it, in an archive

    @property
    def size(self) -> int:
        """Approximate size in memory, bytes."""
        return sum(len(block.payload) + 100 for block in self.blocks)


class History:
    """Cache pieces for late and slow viewers; the most recently read ones stay."""

    def __init__(self) -> None:
        self._kept: OrderedDict[Hashable, Piece] = OrderedDict()
        self._bytes = 0
        self._reads = SharedReads[Piece]()

    async def get(self, key: Hashable, read: Callable[[], Awaitable[Piece]]) -> Piece:
        """Return the piece for `key`; call `read` if it is not cached."""
        if piece := self._kept.get(key):
            self._kept.move_to_end(key)
            return piece
        piece = await self._reads.get(key, read)
        if piece.keeps and key not in self._kept:
            self._kept[key] = piece
            self._bytes += piece.size
            while self._bytes > _HISTORY_BYTES and self._kept:
                self._bytes -= self._kept.popitem(last=False)[1].size
        return piece
