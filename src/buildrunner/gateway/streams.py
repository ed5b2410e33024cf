"""Read streams of events from Redis as pairs of entry id and event."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from redis.asyncio import Redis
from redis.exceptions import ResponseError

START = b"0-0"
_FIRST, _LAST = b"-", b"+"
Entries = list[tuple[bytes, bytes]]


def entry_key(entry: bytes) -> tuple[int, int]:
    """Return a key that orders the ids of a stream."""
    run, _, seq = entry.partition(b"-")
    return int(run), int(seq)


async def read_range(
    redis: Redis, key: str, *, after: bytes | None = None, first: bytes = _FIRST, last: bytes = _LAST, count: int
) -> Entries:
    """Return up to `count` entries, from `first` or after `after`."""
    found: Any = await redis.xrange(key, min=b"(" + after if after else first, max=last, count=count)
    return _decode(found)


async def read_last(redis: Redis, key: str) -> Entries:
    """Return the last entry; None if there is none."""
    found: Any = await redis.xrevrange(key, count=1)
    return _decode(found)


async def read_ends(redis: Redis, key: str, entry: bytes | None = None) -> tuple[Entries, Entries]:
    """Return the first entry, and the last one or the one with the id `entry`."""
    async with redis.pipeline(transaction=False) as pipeline:
        pipeline.xrange(key, count=1)
        if entry:
            pipeline.xrange(key, min=entry, max=entry)
        else:
            pipeline.xrevrange(key, count=1)
        first, last = await pipeline.execute()
    return _decode(first), _decode(last)


async def read_new(redis: Redis, key: str, *, after: bytes, count: int, wait: float) -> Entries:
    """Return entries after `after`; wait up to `wait` seconds for one."""
    answer: Any = await redis.xread({key: after}, count=count, block=int(wait * 1000))
    entries = next(iter(dict(answer or {}).values()), ())
    if entries and isinstance(entries[0], list):  # RESP3, if REDIS_URI selects it
        (entries,) = entries
    return _decode(entries)


async def read_last_id(redis: Redis, key: str) -> bytes | None:
    """Return the last id generated in a stream; None if there is no stream."""
    try:
        info: dict[str, bytes] = await redis.xinfo_stream(key)
    except ResponseError as error:
        if "no such key" in str(error):
            return None
        raise
    return info["last-generated-id"]


def _decode(entries: Iterable[Any]) -> Entries:
    return [(entry, fields.get(b"event", b"") if fields else b"") for entry, fields in entries]
