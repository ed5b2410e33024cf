"""Read the whole log of a build up to now for a download."""

from __future__ import annotations

import math
import time
from bisect import bisect_right
from collections.abc import AsyncGenerator
from contextlib import aclosing
from itertools import accumulate

from redis.asyncio import Redis
from redis.exceptions import RedisError

from buildrunner.errors import BuildEnded
from buildrunner.gateway.archive import Archive
from buildrunner.gateway.builds import LOST_SECONDS, timestamp
from buildrunner.gateway.events import Event, parse_event
from buildrunner.gateway.streams import Entries, read_last, read_range

_MAX_ENTRIES, _FIRST_ENTRIES = 500, 16  # per read
_MAX_BYTES = 256 * 2**10  # of events in memory for one viewer


async def read_log(
    redis: Redis, key: str, archive: Archive | None, slug: str, build: str
) -> AsyncGenerator[list[bytes]]:
    """Yield the events of a build in order; nothing if it is unknown.

    Events that a later build removes from the stream meanwhile come from the archive, if it exists by then.
    """
    seq, is_so_far = 0, False
    error: Exception | None = None
    try:
        newest = await read_last(redis, key)
        async with aclosing(_read_stream(redis, key, build, newest)) as batches:
            async for batch in batches:
                last = batch[-1]
                seq, is_so_far = last.seq, last.json == newest[0][1]
                yield [event.json for event in batch]
                if is_so_far and last.type == "result":
                    return
                is_so_far = is_so_far and _age(last) < LOST_SECONDS
    except (RedisError, OSError) as raised:
        error = raised
    try:
        log = await archive.find(slug, build) if archive else None
    except BuildEnded:
        if not is_so_far:
            raise
        return  # the build is running, and everything it has written is in the stream
    if log and archive:
        async for lines in archive.lines(log):
            rest = [line for line in lines if (event := parse_event(line)) and event.seq > seq]
            if rest:
                yield rest
    elif error:
        raise error


def _age(event: Event) -> float:
    written = timestamp({"ts": event.ts})
    return math.inf if written is None else time.time() - written


async def _read_stream(redis: Redis, key: str, build: str, newest: Entries) -> AsyncGenerator[list[Event]]:
    seq, after, count = 0, None, _FIRST_ENTRIES
    while newest:
        entries = await read_range(redis, key, after=after, last=newest[0][0], count=count)
        if not entries:
            return
        sizes = list(accumulate(len(encoded) for _, encoded in entries))
        fits = max(1, bisect_right(sizes, _MAX_BYTES))
        is_last = len(entries) < count and fits == len(entries)
        entries = entries[:fits]
        count = max(1, min(_MAX_ENTRIES, _MAX_BYTES * fits // max(1, sizes[fits - 1])))
        events = []
        for _, encoded in entries:
            event = parse_event(encoded)
            if event and event.build == build and event.seq > seq:
                events.append(event)
                seq = event.seq
        if events:
            yield events
        if is_last:
            return
        after = entries[-1][0]
