"""Read the whole log of a build so far, once, for a download."""

from __future__ import annotations

from collections.abc import AsyncIterator

from redis.asyncio import Redis

from buildrunner.gateway.archive import Archive
from buildrunner.gateway.events import parse_event

_ENTRIES = 500


async def read_log(
    redis: Redis, key: str, archive: Archive | None, slug: str, build: str
) -> AsyncIterator[list[bytes]]:
    """Yield the events of a build as they are, in order; nothing if it is not known.

    What a later build removes from the stream meanwhile comes from the archive, if it is there by then.
    """
    seq, is_complete, last = 0, False, b"-"
    newest = await redis.xrevrange(key, count=1)
    end = newest[0][0] if newest else b"-"
    while newest:
        entries = await redis.xrange(key, min=last, max=end, count=_ENTRIES)
        events = []
        for _, fields in entries:
            event = parse_event(fields.get(b"event", b""))
            if event and event.build == build and event.seq > seq:
                events.append(event.json)
                seq, is_complete = event.seq, event.type == "result"
        if events:
            yield events
        if len(entries) < _ENTRIES:
            break
        last = b"(" + entries[-1][0]
    if not is_complete and archive and (log := await archive.find(slug, build)):
        async for lines in archive.lines(log):
            rest = [line for line in lines if (event := parse_event(line)) and event.seq > seq]
            if rest:
                yield rest
