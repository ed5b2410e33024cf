"""Read each watched stream once for all viewers, and store its newest blocks for them."""

from __future__ import annotations

import asyncio
import time
import traceback
from bisect import bisect_right
from collections import deque
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from datetime import datetime
from itertools import accumulate

from redis.asyncio import Redis
from redis.exceptions import RedisError

from buildrunner.gateway.events import Block, to_blocks
from buildrunner.gateway.sharing import History, Piece
from buildrunner.gateway.streams import START, entry_key, read_ends, read_last, read_last_id, read_new, read_range

TICK_SECONDS = 10.0  # viewers wake up at least this often to send a comment
_WAIT_SECONDS = 1.0  # for new entries, before a check whether Redis lost its data
_RETRY_SECONDS = 0.5
_RING_BYTES = 512 * 2**10  # of payload per stream; viewers further behind read from Redis
_PIECE_BYTES = 128 * 2**10  # of events, the target for one read of the history
_MAX_PIECE_BYTES = 512 * 2**10
_MAX_ENTRIES = 500
# Between two reads of a stream. A pause proportional to its viewers limits 1,000 of them to half a core.
_PAUSE_SECONDS = 0.02
_PAUSE_SECONDS_PER_VIEWER = 50e-6


class Feed:
    """One stream: its newest blocks, how long it has been silent, and whether Redis responds."""

    def __init__(self, key: str, redis: Redis, history: History) -> None:
        self.key = key
        self.viewers = 0
        self.away = False  # whether Redis does not respond
        self.quiet = 0.0  # seconds without a new entry in which Redis responded
        self.exists = False  # whether the stream exists
        self.epoch = 0  # how often Redis has lost its data
        self.newest: Block | None = None  # the last block of the stream
        self.had_news = False  # whether any entry arrived while it was watched
        self._redis = redis
        self._history = history
        self._memory = object()  # identity of the current data of Redis; pieces of earlier data are not used
        self._ring: deque[Block] = deque()
        self._ring_bytes = 0
        self._ring_after = START  # the entry before the ring
        self._last = START  # the last entry that was read
        self._mean_bytes = 256.0  # per event, in recent pieces
        self._ready = asyncio.Event()  # set once the end of the stream has been read
        self._changed = asyncio.Event()

    @property
    def age(self) -> float:
        """Seconds since the newest event by the clock of its writer, which may differ from this one."""
        return _age(self.newest) if self.newest else 0.0

    async def ready(self) -> None:
        """Wait until Redis has been queried for the first time."""
        await self._ready.wait()

    async def locate(self, build: str, seq: int) -> tuple[bytes, str] | None:
        """Return the entry of an event, and the start of its build; None if a search from the start is required."""
        if not self.newest or self.newest.build != build:
            return None
        entry = b"%d-%d" % (entry_key(self.newest.entry)[0], seq)
        first, last = await read_ends(self._redis, self.key, entry)
        blocks = to_blocks([*first, *last])
        if not blocks or any(block.build != build for block in blocks):
            return None
        return (entry, blocks[0].began) if blocks[0].first == 1 and blocks[-1].last == seq else None

    def read_newest(self, after: bytes, epoch: int) -> list[Block] | None:
        """Return the blocks after entry `after` if all of them are in memory, possibly none; else None."""
        if epoch != self.epoch or entry_key(after) < entry_key(self._ring_after):
            return None
        behind: list[Block] = []
        for block in reversed(self._ring):
            if entry_key(block.entry) <= entry_key(after):
                break
            behind.insert(0, block)
        return behind

    async def read(self, after: bytes, epoch: int) -> Sequence[Block]:
        """Return the next blocks after entry `after`; none if there are none at present."""
        newest = self.read_newest(after, epoch)
        if newest is not None:
            return newest
        piece = await self._history.get((self._memory, after), lambda: self._read_history(after))
        return piece.blocks

    @property
    def changed(self) -> asyncio.Event:
        """The event that is set when entries arrive or the state changes, and at least every TICK_SECONDS."""
        return self._changed

    async def run(self, connection: Redis) -> None:
        """Read the stream while it has viewers, or until cancelled. `connection` belongs to this feed, because reads block it."""
        before = ticked = time.monotonic()
        while self.viewers:  # `asyncio.wait_for` of Python 3.11, in the client of Redis, can swallow the cancellation
            blocks: list[Block] = []
            was_away = self.away
            try:
                if not self._ready.is_set():
                    await self._find_end(connection)
                    blocks = [self.newest] if self.newest else []
                else:
                    blocks = await self._read_new(connection)
                self.away = False
            except Exception as error:
                if not isinstance(error, RedisError | OSError):
                    traceback.print_exception(error)
                self.away = True
                self._ready.set()
            now = time.monotonic()
            if not self.away and not was_away:
                self.quiet += min(now - before, 2 * _WAIT_SECONDS)
            before = now
            if blocks:
                self.quiet = 0.0
            if blocks or was_away != self.away or now - ticked >= TICK_SECONDS / 2:
                ticked = now
                self.wake()
            if self.away:
                await asyncio.sleep(_RETRY_SECONDS)
            elif blocks:
                await asyncio.sleep(_PAUSE_SECONDS + self.viewers * _PAUSE_SECONDS_PER_VIEWER)

    def wake(self) -> None:
        """Let all viewers decide again what they get next."""
        self._changed.set()
        self._changed = asyncio.Event()

    async def _find_end(self, connection: Redis) -> None:
        """Start at the end of the stream; viewers read earlier entries themselves."""
        newest = await read_last(connection, self.key)
        blocks = to_blocks(newest)
        self.newest = blocks[-1] if blocks else None
        self._last = self._ring_after = newest[0][0] if newest else START
        self.exists = bool(newest)
        self._ready.set()

    async def _read_new(self, connection: Redis) -> list[Block]:
        entries = await read_new(connection, self.key, after=self._last, count=_MAX_ENTRIES, wait=_WAIT_SECONDS)
        if not entries:
            end = await read_last_id(connection, self.key)
            self.exists = end is not None
            if entry_key(self._last) > entry_key(end or START):  # Redis lost its data
                self._last = self._ring_after = START
                self._ring.clear()
                self._ring_bytes = 0
                self.newest = None
                self.epoch += 1
                self._memory = object()
            return []
        self.exists = True
        blocks = to_blocks(entries)
        self._last, self.had_news = entries[-1][0], True
        for block in blocks:
            self._ring.append(block)
            self._ring_bytes += len(block.payload)
            self.newest = block
        while self._ring_bytes > _RING_BYTES and len(self._ring) > 1:
            oldest = self._ring.popleft()
            self._ring_bytes -= len(oldest.payload)
            self._ring_after = oldest.entry
        return blocks

    async def _read_history(self, after: bytes) -> Piece:
        count = max(16, min(_MAX_ENTRIES, int(_PIECE_BYTES / self._mean_bytes)))
        entries = await read_range(self._redis, self.key, after=after, count=count)
        sizes = list(accumulate(len(event) for _, event in entries))
        if entries:
            self._mean_bytes = max(64.0, sizes[-1] / len(entries))
        fits = max(1, bisect_right(sizes, _MAX_PIECE_BYTES))  # limits what a slow viewer keeps in memory
        return Piece(tuple(to_blocks(entries[:fits])), keeps=fits < len(entries) or len(entries) == count)


class Feeds:
    """The feeds of all watched streams."""

    def __init__(self, redis: Redis, connect: Callable[[], Redis], tasks: asyncio.TaskGroup) -> None:
        self.redis = redis  # for reads that do not block
        self.history = History()
        self._connect = connect
        self._tasks = tasks
        self._feeds: dict[str, tuple[Feed, asyncio.Task[None]]] = {}

    def find(self, key: str) -> Feed | None:
        """Return the feed of a stream if it is watched; else None."""
        return self._feeds[key][0] if key in self._feeds else None

    @asynccontextmanager
    async def watch(self, key: str) -> AsyncIterator[Feed]:
        """Watch a stream; the first viewer starts its reader, and the last one stops it."""
        if key not in self._feeds:
            feed = Feed(key, self.redis, self.history)
            self._feeds[key] = feed, self._tasks.create_task(self._run(feed), name=f"read {key}")
        feed, task = self._feeds[key]
        feed.viewers += 1
        try:
            yield feed
        finally:
            feed.viewers -= 1
            if not feed.viewers:
                del self._feeds[key]
                task.cancel()

    async def _run(self, feed: Feed) -> None:
        async with self._connect() as connection:
            await feed.run(connection)


def _age(block: Block) -> float:
    try:
        return time.time() - datetime.fromisoformat(block.ended).timestamp()
    except ValueError:
        return 0.0
