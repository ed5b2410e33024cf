"""Read the whole log of a build so far, once, for a download."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import aclosing

from redis.asyncio import Redis
from redis.exceptions import RedisError

from buildrunner.gateway.archive import Archive
from buildrunner.gateway.events import Event, parse_event
from buildrunner.gateway.streams import read_last, read_range

_ENTRIES = 500


async def read_log(
    redis: Redis, key: str, archive: Archive | None, slug: str, build: str
) -> AsyncGenerator[list[bytes]]:
    """Yield the events of a build as they are, in order; nothing if it is not known.

    What a later build removes from the stream meanwhile comes from the archive, if it is there by then.
    """
    seq, is_complete = 0, False
    error: Exception | None = None
    try:
        async with aclosing(_read_stream(redis, key, build)) as batches:
            async for batch in batches:
                seq, is_complete = batch[-1].seq, batch[-1].type == "result"
                yield [event.json for event in batch]
    except (RedisError, OSError) as raised:
        error = raised
    if is_complete:
        return
    log = await archive.find(slug, build) if archive else None
    if log and archive:
        async for lines in archive.lines(log):
            rest = [line for line in lines if (event := parse_event(line)) and event.seq > seq]
            if rest:
                yield rest
    elif error:
        raise error


async def _read_stream(redis: Redis, key: str, build: str) -> AsyncGenerator[list[Event]]:
    seq, after = 0, None
    newest = await read_last(redis, key)
    while newest:
        entries = await read_range(redis, key, after=after, last=newest[0][0], count=_ENTRIES)
        events = []
        for _, encoded in entries:
            event = parse_event(encoded)
            if event and event.build == build and event.seq > seq:
                events.append(event)
                seq = event.seq
        if events:
            yield events
        if len(entries) < _ENTRIES:
            return
        after = entries[-1][0]
