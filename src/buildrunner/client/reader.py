"""Read the log of one build from its stream, exactly once and in order; from the archive if the stream no longer has it.

A reader of the stream follows three rules (docs/events.md): continue after the last id, start again from 0 if that id is larger
than the last id of the stream, and skip known events. Events that are no longer in the stream, because a later build took it or
Redis lost it, are in the archive of the build.
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any, Literal

import anyio

from buildrunner.config.log_settings import LogSettings
from buildrunner.errors import EXIT_FAULT, EXIT_PUBLISHED, BuildEnded, BuildFailed, BuildSuperseded
from buildrunner.events.sinks.redis.connection import ANSWER_SECONDS, SentinelError, address, explain, find_sentinel

if TYPE_CHECKING:
    from buildrunner.s3 import Bucket

LOST_SECONDS = 90  # without an event; a running build writes one every 30 s
STARTS_WITHIN_SECONDS = 300  # a task pulls its image before the first event
SILENCE_SECONDS = 35  # in which a running build has written an event that has arrived
TAKEN_OVER_SECONDS = 20  # for a superseded build to end and to write its archive
BLOCK_MILLISECONDS = 1000
ARCHIVE_EVERY_SECONDS = 5  # while no events arrive

Reason = Literal["result", "superseded", "lost", "not_found", "running", "refused"]


@dataclass(frozen=True, slots=True)
class LogEnd:
    """The reason for the end of a log."""

    reason: Reason
    exit_code: int  # exit code of `buildrunner logs`
    sentence: str = ""  # for people; empty after a result


class LogReader:
    """The position of a reader in the log of a build, and the sources of the rest.

    Args:
        settings: connection settings.
        slug: name of the site.
        build: id of the build, which need not have started; None for the latest.
        after: number of the last event that the caller has.
        follow: whether to wait for the result; otherwise only current events are read.
        moves_on: whether to continue with a later build that takes the stream.
        starts_within: seconds in which a build that is waited for begins.
        notice: function that is called with a sentence for people for anything but events.

    """

    def __init__(
        self,
        settings: LogSettings,
        slug: str,
        build: str | None,
        *,
        after: int = 0,
        follow: bool,
        moves_on: bool = False,
        starts_within: float = STARTS_WITHIN_SECONDS,
        notice: Callable[[str], None],
    ) -> None:
        self.end: LogEnd | None = None  # set once it is known
        self._settings = settings
        self._slug = slug
        self._stream = settings.stream_of(slug)
        self._named = build is not None
        self._moves_on = moves_on
        self._follow = follow
        self._starts_within = starts_within
        self._say = notice
        self._build = build  # id of the build being read
        self._shown: dict[str, Any] = {"seq": after}  # last event that was yielded
        self._began = ""  # `ts` of its first event, because another build may have the same id
        self._is_earlier = False  # whether the current events belong to an earlier build with that id
        self._quiet = 0.0  # seconds in which Redis responded without an event of this build
        self._replaced = False  # whether a later build has taken the stream
        self._stream_is_there = False
        self._redis_is_away: str | None = None
        self._redis_refuses = False  # whether Redis refuses this user, so that retries are useless
        self._bucket: Bucket | None = None
        self._stack = AsyncExitStack()
        self._has_archive = settings.state_bucket is not None
        self._no_archive = None if self._has_archive else "AWS_BUCKET_NAME is not set"

    async def batches(self) -> AsyncGenerator[list[bytes]]:
        """Yield events unchanged, in batches, until the outcome of the build is known; then `end` has it."""
        async with self._stack:
            async for events in self._read():
                yield events
        if self.end is None:
            self.end = LogEnd("result", int(self._shown["exit_code"]))

    async def _read(self) -> AsyncGenerator[list[bytes]]:
        from redis.asyncio import Redis
        from redis.exceptions import AuthenticationError, NoPermissionError, RedisError

        looked = -math.inf  # time of the last check of the archive; the build may be over, and its stream deleted
        last, waited, before = b"0-0", False, time.monotonic()
        client: Any = Redis.from_url(
            self._settings.redis_uri, socket_timeout=ANSWER_SECONDS, socket_connect_timeout=ANSWER_SECONDS
        )
        async with client:
            while "exit_code" not in self._shown:
                entries: Sequence[Any] = ()  # (id, {b"event": …})
                try:
                    block = BLOCK_MILLISECONDS if self._stays else None
                    answer = await client.xread({self._stream: last}, count=500, block=block)
                    entries = next(iter(dict(answer).values()), ())
                    if entries and isinstance(entries[0], list):  # RESP3, if REDIS_URI selects it
                        (entries,) = entries
                    newest = entries[-1][0] if entries else await self._last_id(client)
                    self._stream_is_there = newest is not None
                    if _place(last) > _place(newest or b"0-0"):
                        last = b"0-0"  # Redis lost its data, so the build sends everything again
                    self._redis_answers(None)
                except (RedisError, OSError) as error:
                    reason = await find_sentinel(client, error)
                    self._redis_refuses = isinstance(reason, AuthenticationError | NoPermissionError | SentinelError)
                    self._redis_answers(explain(reason))
                # Time in which Redis is unreachable, or exceeds its blocking time by far, doesn't count as silence.
                now = time.monotonic()
                if not self._redis_is_away or not self._follow:
                    self._quiet += min(now - before, 2 * BLOCK_MILLISECONDS / 1000)
                before = now
                if entries:
                    last = entries[-1][0]
                    if fresh := self._take([fields[b"event"] for _, fields in entries]):
                        self._quiet = 0
                        yield fresh
                        continue
                    if not self._stays:
                        continue  # events of other builds: read until the end of the stream

                # Redis has no new event of this build. If the build has ended, it has an archive. If not, it writes an event every
                # 30 s, which an unresponsive S3 must not delay.
                lives = self._shown["seq"] and self._stream_is_there and not (self._replaced or self._redis_is_away)
                patience = SILENCE_SECONDS if lives and self._age < LOST_SECONDS else 0
                if self._quiet >= patience and (not self._stays or now - looked >= ARCHIVE_EVERY_SECONDS):
                    looked = now
                    async for fresh in self._read_archive():
                        yield fresh
                if "exit_code" in self._shown:
                    break
                if not self._stays or self._redis_refuses or self._quiet >= self._limit:
                    self.end = self._leave()
                    return
                if not self._build and not self._stream_is_there and not self._redis_is_away and not waited:
                    waited = True
                    self._say(f"There is no log of {self._slug} yet{self._why_no_archive}. Waiting for a build.")
                if self._redis_is_away:
                    await anyio.sleep(1)

    @property
    def _stays(self) -> bool:
        """Whether to wait for more events.

        True for a named or new build until its first event, and for a build that seems lost until that is certain, because the
        clocks may differ.
        """
        waits = self._named or self._stream_is_there if not self._shown["seq"] else self._age >= LOST_SECONDS
        return self._follow or waits

    @property
    def _age(self) -> float:
        """Seconds since the last event by both clocks."""
        if "ts" not in self._shown:
            return 0.0
        return (datetime.now().astimezone() - datetime.fromisoformat(self._shown["ts"])).total_seconds()

    @property
    def _limit(self) -> float:
        """Seconds of silence after which no more events are expected."""
        if self._replaced:
            return TAKEN_OVER_SECONDS if self._has_archive else 0
        if not self._shown["seq"]:
            return self._starts_within
        return LOST_SECONDS if self._follow else SILENCE_SECONDS

    async def _last_id(self, client: Any) -> bytes | None:
        from redis.exceptions import ResponseError

        try:
            info: dict[str, bytes] = await client.xinfo_stream(self._stream)
        except ResponseError as error:
            if "no such key" in str(error):
                return None
            raise
        return info["last-generated-id"]

    def _take(self, events: Sequence[bytes], *, archived: bool = False) -> list[bytes]:
        """Return the events of the build that are new.

        A platform may start two builds with one id, or restart a task. The times of their first events differ, and show which
        of them is later when the archive is read.
        """
        fresh = []
        for encoded in events:
            event = json.loads(encoded)
            if event["build"] == self._build and event["seq"] == 1:
                self._is_earlier = archived and bool(self._began) and event["ts"] < self._began
                if self._began not in {"", event["ts"]} and not self._is_earlier:
                    self._say(f"Build {self._build} was started again.")
                    self._shown, self._replaced = {"seq": 0}, False
            if self._is_earlier:
                continue
            if event["build"] != self._build and self._build and not self._moves_on:
                self._replaced = bool(
                    self._shown["seq"]
                )  # the entries of earlier builds are removed before these start
            elif event["build"] != self._build:
                if self._build:
                    self._say(f"A later build took over: {event['build']}.")
                    self._shown = {"seq": 0}
                self._build, self._began = event["build"], ""
            if event["build"] == self._build and event["seq"] > self._shown["seq"]:
                self._shown = event
                self._began = event["ts"] if event["seq"] == 1 else self._began
                fresh.append(encoded)
            elif event["build"] == self._build and event["type"] == "result":
                self._shown = event  # the caller has it already
        return fresh

    async def _read_archive(self) -> AsyncGenerator[list[bytes]]:
        """Yield events of the archive that the stream lacks. It is written at the end of a build, and may not exist yet."""
        from buildrunner.s3 import open_s3

        settings = self._settings
        away = self._redis_is_away and not self._redis_refuses
        if not self._build and (self._stream_is_there or (self._follow and away)):
            return  # the latest build is in the stream, or may be; the archive only has earlier events
        if not self._bucket and not self._no_archive and settings.state_bucket:
            try:
                s3 = await self._stack.enter_async_context(
                    open_s3(region=settings.region, endpoint_url=settings.s3_endpoint_url, concurrency=2)
                )
                self._bucket = s3.bucket(settings.state_bucket)
            except BuildEnded as error:
                self._no_archive = error.reason
                self._say(" ".join(filter(None, [error.reason, error.hint])))
        if not self._bucket:
            return
        try:
            folder = f"__logs/{self._slug}/"
            key: str | None = f"{folder}{self._build}.ndjson"
            if not self._build:
                there = await self._bucket.list_objects(folder)
                key = max(there, key=lambda each: (there[each].modified, each), default=None)
            if key:
                async for events in self._bucket.lines(key):
                    if fresh := self._take(events, archived=True):
                        yield fresh
            self._no_archive = None
        except BuildFailed as error:
            self._no_archive = error.reason

    def _redis_answers(self, trouble: str | None) -> None:
        if trouble and not self._redis_is_away:
            self._say(
                f"Redis at {address(self._settings.redis_uri)} {trouble}."
                + (" Retrying." * (self._stays and not self._redis_refuses))
            )
        elif self._redis_is_away and not trouble:
            self._say("Redis responds again.")
        self._redis_is_away = trouble

    def _leave(self) -> LogEnd:
        """Return the reason why a log has no result."""
        slug, build, why = self._slug, self._build, self._why_no_archive
        if self._replaced:  # probably: had the build ended before, the stream would have had its result
            sentence = f"A later build took over. The rest of the log of {build} is not available{why}."
            return LogEnd("superseded", BuildSuperseded().exit_code, sentence)
        if not self._shown["seq"] and self._quiet >= self._limit:
            sentence = f"Build {build or 'of ' + slug} has not begun within {self._quiet:.0f} s{why}."
            return LogEnd("not_found", EXIT_FAULT, sentence)
        if not self._shown["seq"]:
            reason: Reason = "refused" if self._redis_refuses else "not_found"
            return LogEnd(reason, EXIT_FAULT, f"There is no log of {slug}{why}.")
        if not self._redis_is_away and self._quiet >= self._limit:
            seconds = max(self._quiet, self._age)
            return LogEnd("lost", EXIT_FAULT, f"Build {build} was lost: no events for {seconds:.0f} s{why}.")
        if not self._redis_is_away:
            return LogEnd("running", EXIT_PUBLISHED, "The build is still running. Use --follow to stay until its end.")
        return LogEnd("refused" if self._redis_refuses else "running", EXIT_FAULT)

    @property
    def _why_no_archive(self) -> str:
        return f", and its archive cannot be read: {self._no_archive.rstrip('.')}" if self._no_archive else ""


def _place(entry: bytes) -> tuple[int, int]:
    """Return a key that orders ids of a stream."""
    run, _, seq = entry.partition(b"-")
    return int(run), int(seq)
