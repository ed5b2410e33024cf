"""Read the whole log of a build so far, once, for a download."""

from __future__ import annotations

from collections.abc import AsyncGenerator

from redis.asyncio import Redis

from buildrunner.gateway.archive import Archive
from buildrunner.gateway.events import parse_event
from buildrunner.gateway.streams import read_last, read_range

_ENTRIES = 500


async def read_log(
    redis: Redis, key: str, archive: Archive | None, slug: str, build: str
) -> AsyncGenerator[list[bytes]]:
    """Yield the events of a build as they are, in order; nothing if it is not known.

    What a later build removes from the stream meanwhile comes from the archive, if it is there by then.
    """
    seq, is_complete, after = 0, False, None
    newest = await read_last(redis, key)
    while newest:
        entries = await read_range(redis, key, after=after, last=newest[0][0], count=_ENTRIES)
        events = []
        for _, encoded in entries:
            event = parse_event(encoded)
            if event and event.build == build and event.seq > seq:
                events.append(event.json)
                seq, is_complete = event.seq, event.type == "result"
        if events:
            yield events
        if len(entries) < _ENTRIES:
            break
        after = entries[-1][0]
    if not is_complete and archive and (log := await archive.find(slug, build)):
        async for lines in archive.lines(log):
            rest = [line for line in lines if (event := parse_event(line)) and event.seq > seq]
            if rest:
                yield rest
