"""Let viewers who want the same thing at the same time read it once."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Hashable
from dataclasses import dataclass
from typing import Generic, TypeVar

from buildrunner.gateway.events import Block

T = TypeVar("T")
_HISTORY_BYTES = 16 * 2**20  # of payload that is kept, over all builds


class SharedReads(Generic[T]):
    """Reads under way, by what is read."""

    def __init__(self) -> None:
        self._reading: dict[Hashable, asyncio.Future[T | None]] = {}

    async def get(self, key: Hashable, read: Callable[[], Awaitable[T]]) -> T:
        """Return what `read` returns, which is called once for all who ask meanwhile; one that fails, for each."""
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
                reading.set_result(None)  # whoever waits asks for itself


@dataclass(frozen=True, slots=True)
class Piece:
    """Some consecutive blocks of a stream or an archive."""

    blocks: tuple[Block, ...]
    keeps: bool  # whether it will be the same when it is read again
    end: int = 0  # offset behind it, in an archive

    @property
    def size(self) -> int:
        """Bytes that it takes, about."""
        return sum(len(block.payload) + 100 for block in self.blocks)


class History:
    """Pieces that late and slow viewers read at their own pace; the ones read last are kept for those who follow."""

    def __init__(self) -> None:
        self._kept: OrderedDict[Hashable, Piece] = OrderedDict()
        self._bytes = 0
        self._reads = SharedReads[Piece]()

    async def get(self, key: Hashable, read: Callable[[], Awaitable[Piece]]) -> Piece:
        """Return the piece of `key`, which `read` reads if it is not there."""
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
