"""Events of a build for programs, with or without asyncio: `for event in follow(…)`, `async for event in follow(…)`."""

from __future__ import annotations

import asyncio
import json
import logging
import os
from collections.abc import AsyncGenerator, AsyncIterator, Iterator
from contextlib import aclosing
from dataclasses import dataclass, field
from typing import Any

from buildrunner.client.over_http import read_from_gateway
from buildrunner.client.reader import LogReader, Reason
from buildrunner.config.log_settings import read_log_settings

Event = dict[str, Any]
_logger = logging.getLogger("buildrunner.client")


class LogIncomplete(Exception):
    """A log has no result.

    `reason` is `superseded` (a later build took over, and the rest is not in the archive), `lost` (90 s without an event),
    `not_found` (the build is unknown, or did not start within 300 s) or `refused` (by Redis or the gateway).
    """

    def __init__(self, reason: Reason, sentence: str) -> None:
        super().__init__(sentence)
        self.reason = reason


@dataclass(frozen=True)
class Log:
    """Events of one build, each once and in order: an iterator for programs with and without asyncio."""

    source: str = field(repr=False)
    slug: str
    build: str | None
    after: int
    is_followed: bool
    token: str | None = field(repr=False)
    bucket: str | None
    event_stream: str

    async def __aiter__(self) -> AsyncIterator[Event]:
        async with aclosing(self._batches()) as batches:
            async for batch in batches:
                for encoded in batch:
                    yield json.loads(encoded)

    def __iter__(self) -> Iterator[Event]:
        with asyncio.Runner() as runner:
            batches = self._batches()

            async def read() -> list[bytes] | None:
                return await anext(batches, None)

            async def close() -> None:
                await batches.aclose()

            try:
                while (batch := runner.run(read())) is not None:
                    yield from map(json.loads, batch)
            finally:
                runner.run(close())

    async def _batches(self) -> AsyncGenerator[list[bytes]]:
        if self.source.startswith(("http://", "https://")):
            reading: Any = read_from_gateway(
                self.source.rstrip("/"),
                self.slug,
                self.build,
                after=self.after,
                follow=self.is_followed,
                token=self.token,
            )
        else:
            reading = self._read_from_redis()
        async with aclosing(reading) as batches:
            async for batch in batches:
                if isinstance(batch, tuple):
                    raise LogIncomplete(*batch)
                yield batch

    async def _read_from_redis(self) -> AsyncGenerator[list[bytes] | tuple[Reason, str]]:
        own = {"REDIS_URI": self.source, "EVENT_STREAM": self.event_stream, "STATE_BUCKET_NAME": self.bucket or ""}
        environment = {name: value for name, value in os.environ.items() if name.startswith("AWS_") or name == "HOME"}
        environment.pop("AWS_BUCKET_NAME", None)
        settings = read_log_settings({**environment, **own}, slug=self.slug, build=self.build or "")
        reader = LogReader(
            settings, self.slug, self.build, after=self.after, follow=self.is_followed, notice=_logger.warning
        )
        async with aclosing(reader.batches()) as batches:
            async for batch in batches:
                yield batch
        assert reader.end
        if reader.end.reason not in {"result", "running"}:
            yield reader.end.reason, reader.end.sentence


def follow(
    source: str,
    slug: str,
    build: str | None = None,
    *,
    after: int = 0,
    token: str | None = None,
    bucket: str | None = None,
    event_stream: str = "events:{slug}",
) -> Log:
    """Follow a build until its result.

    It works whenever you start, and if connections break or Redis or the gateway restart meanwhile. If a task is started again
    under the same build id, its events follow with `seq` 1 once more.

    Args:
        source: source of events: `redis://…`, `rediss://…` or `unix://…`, or the `https://…` address of a gateway.
        slug: id of the site.
        build: id of the build, which need not have started; None for the latest.
        after: number (`seq`) of the last event that you have.
        token: viewer token for a gateway.
        bucket: state bucket, for events that Redis no longer has; read with AWS's variables. A gateway needs none.
        event_stream: name of the streams in Redis.

    Returns:
        A `Log`: iterate over it with `for` or `async for`. Events are dicts; the last one is the result.

    Raises:
        LogIncomplete: while it is iterated, if the log ends without a result.
        ConfigurationError: while it is iterated, if an argument is malformed.

    """
    return Log(source, slug, build, after, True, token, bucket, event_stream)


def fetch(
    source: str,
    slug: str,
    build: str | None = None,
    *,
    token: str | None = None,
    bucket: str | None = None,
    event_stream: str = "events:{slug}",
) -> Log:
    """Fetch the current content of a build's log; the last event is the result if the build has ended.

    Arguments and errors are those of `follow`. A named build that Redis doesn't know is waited for; a gateway responds
    immediately.
    """
    return Log(source, slug, build, 0, False, token, bucket, event_stream)
