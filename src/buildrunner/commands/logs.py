"""`buildrunner logs SLUG`: a run's log from its first line, out of the stream alone; out of the archive when that is gone.

A reader of the stream has three rules (docs/events.md): go on from the last id, begin again from 0 when that id is larger
than the stream's own, leave out what you have. What is not in the stream any more, because a later run took it or Redis
lost it, is in the run's archive.
"""

from __future__ import annotations

import json
import math
import signal
import time
from collections.abc import Mapping, Sequence
from contextlib import AsyncExitStack
from datetime import datetime
from typing import TYPE_CHECKING, Any

import anyio

from buildrunner.config.settings import Settings, read_settings
from buildrunner.errors import EXIT_FAULT, EXIT_PUBLISHED, BuildEnded, BuildFailed, BuildSuperseded
from buildrunner.events.sinks.console import STDERR, make_formatter, print_bytes, print_line
from buildrunner.events.sinks.redis.connection import ANSWER_SECONDS, SentinelError, address, explain, find_sentinel

if TYPE_CHECKING:
    from buildrunner.s3.bucket import Bucket

LOST_SECONDS = 90  # without an event: a living run writes one every 30 s
STARTS_WITHIN_SECONDS = 300  # before its first event a task pulls the image
SILENCE_SECONDS = 35  # in which a living run has said something, and it has come through
TAKEN_OVER_SECONDS = 20  # in which a run that was taken over has ended, and written its archive
BLOCK_MILLISECONDS = 1000
ARCHIVE_EVERY_SECONDS = 5  # while nothing comes


async def show_log(environment: Mapping[str, str], slug: str, *, build: str | None, follow: bool, as_json: bool) -> int:
    """Print the log of a run of `slug`.

    Args:
        environment: `REDIS_URI`, `EVENT_STREAM` where it is not the default, and for the archive the bucket's variables.
        slug: of the site.
        build: id of the run, which is waited for; without it the newest.
        follow: go on until the result; where no `build` is named, also over to a later run that takes the stream.
        as_json: print the events as they are, one a line.

    Returns:
        The run's own exit code; 0 for one that goes on and is not followed; 1 when it was lost, or there is no log; 141
        when nobody reads stdout any more.

    Raises:
        ConfigurationError: a variable is missing or malformed.

    """
    build = build or None  # as a shell's variable that is not set gives it
    bucket = environment.get("STATE_BUCKET_NAME") or environment.get("AWS_BUCKET_NAME")
    read = {
        name: value for name, value in environment.items() if name.startswith("AWS_") or name in {"HOME", "REDIS_URI"}
    }
    stand_ins = {"REPO_URL": "https://not-used.invalid/x", "AWS_BUCKET_NAME": bucket or "not-used"}
    if not bucket:
        stand_ins["AWS_REGION"] = "not-used"
    settings = read_settings(
        {
            **read,
            **stand_ins,
            "EVENT_STREAM": environment.get("EVENT_STREAM", ""),
            "SLUG": slug,
            "BUILD_ID": build or "",
        }
    )
    async with AsyncExitStack() as stack:
        viewer = _Viewer(settings, stack, build=build, follow=follow, as_json=as_json, has_archive=bool(bucket))
        try:
            return await viewer.show()
        except BrokenPipeError:  # of stdout, as at `| head`: the clients of Redis and S3 have errors of their own
            return 128 + signal.SIGPIPE  # as the shell says of a program that is ended by it


class _Viewer:
    """What has been shown of which run, and where the rest may come from."""

    def __init__(
        self,
        settings: Settings,
        stack: AsyncExitStack,
        *,
        build: str | None,
        follow: bool,
        as_json: bool,
        has_archive: bool,
    ) -> None:
        self._settings = settings
        self._stack = stack
        self._named = build is not None
        self._follow = follow
        self._format = make_formatter("json" if as_json else "auto")
        self._build = build  # whose events are shown
        self._shown: dict[str, Any] = {"seq": 0}  # the last event that was
        self._began = ""  # `ts` of its first event: another build may have the same id
        self._is_earlier = False  # the events that are being read, of another build with that id
        self._quiet = 0.0  # seconds in which Redis could be asked, and had nothing of this run
        self._replaced = False  # a later run has taken the stream from the one that is named
        self._stream_is_there = False
        self._redis_is_away: str | None = None
        self._redis_refuses = False  # this user: it will not help to ask again
        self._bucket: Bucket | None = None
        self._has_archive = has_archive
        self._no_archive = None if has_archive else "AWS_BUCKET_NAME is not set"

    async def show(self) -> int:
        """Show what there is, and what comes, until it is clear how the run ended."""
        from redis.asyncio import Redis
        from redis.exceptions import AuthenticationError, NoPermissionError, RedisError

        looked = -math.inf  # into the archive: a run may be over, and its stream gone
        last, waited, before = b"0-0", False, time.monotonic()
        client: Any = Redis.from_url(
            self._settings.redis_uri, socket_timeout=ANSWER_SECONDS, socket_connect_timeout=ANSWER_SECONDS
        )
        async with client:
            while "exit_code" not in self._shown:
                entries: Sequence[Any] = ()  # (id, {b"event": …})
                try:
                    block = BLOCK_MILLISECONDS if self._stays else None
                    answer = await client.xread({self._settings.event_stream: last}, count=500, block=block)
                    entries = next(iter(dict(answer).values()), ())
                    if entries and isinstance(entries[0], list):  # RESP3, where REDIS_URI asks for it
                        (entries,) = entries
                    newest = entries[-1][0] if entries else await self._last_id(client)
                    self._stream_is_there = newest is not None
                    if _place(last) > _place(newest or b"0-0"):
                        last = b"0-0"  # Redis lost its memory, and the run is sending everything again
                    self._redis_answers(None)
                except (RedisError, OSError) as error:
                    reason = await find_sentinel(client, error)
                    self._redis_refuses = isinstance(reason, AuthenticationError | NoPermissionError | SentinelError)
                    self._redis_answers(explain(reason))
                # Of the time in which Redis is away, or takes much longer than it may block, nothing can be said.
                now = time.monotonic()
                if not self._redis_is_away or not self._follow:
                    self._quiet += min(now - before, 2 * BLOCK_MILLISECONDS / 1000)
                before = now
                if entries:
                    last = entries[-1][0]
                    if self._print([fields[b"event"] for _, fields in entries]):
                        self._quiet = 0
                        continue
                    if not self._stays:
                        continue  # they are other builds': read on to the end of what there is

                # Nothing of this run is to be had from Redis just now. One that has ended has an archive. A living one speaks
                # every 30 s, and an S3 that does not answer must not hold up what it says.
                lives = self._shown["seq"] and self._stream_is_there and not (self._replaced or self._redis_is_away)
                patience = SILENCE_SECONDS if lives and self._age < LOST_SECONDS else 0
                if self._quiet >= patience and (not self._stays or now - looked >= ARCHIVE_EVERY_SECONDS):
                    looked = now
                    await self._print_archive()
                if "exit_code" in self._shown:
                    break
                if not self._stays or self._redis_refuses or self._quiet >= self._limit:
                    return self._leave()
                if not self._build and not self._stream_is_there and not self._redis_is_away and not waited:
                    waited = True
                    _say(f"There is no log of {self._settings.slug} yet{self._why_no_archive}. Waiting for a build.")
                if self._redis_is_away:
                    await anyio.sleep(1)
        return int(self._shown["exit_code"])

    @property
    def _stays(self) -> bool:
        """Whether to wait for more than there is.

        For a run that is named, or has just begun, until its first event; for one that seems to be lost, until that is sure:
        this clock and the run's may differ.
        """
        waits = self._named or self._stream_is_there if not self._shown["seq"] else self._age >= LOST_SECONDS
        return self._follow or waits

    @property
    def _age(self) -> float:
        """Seconds since the last event that was shown, if the clocks agree."""
        return (datetime.now().astimezone() - datetime.fromisoformat(self._shown["ts"])).total_seconds()

    @property
    def _limit(self) -> float:
        """Seconds of quiet after which nothing more is to be expected."""
        if self._replaced:
            return TAKEN_OVER_SECONDS if self._has_archive else 0
        if not self._shown["seq"]:
            return STARTS_WITHIN_SECONDS
        return LOST_SECONDS if self._follow else SILENCE_SECONDS

    async def _last_id(self, client: Any) -> bytes | None:
        from redis.exceptions import ResponseError

        try:
            info: dict[str, bytes] = await client.xinfo_stream(self._settings.event_stream)
        except ResponseError as error:
            if "no such key" in str(error):
                return None
            raise
        return info["last-generated-id"]

    def _print(self, events: Sequence[bytes], *, archived: bool = False) -> int:
        """Print those events of the run that were not printed yet, and give how many they are.

        A platform may start two builds with one id, or a task again. Their first events differ in time; of the archive it
        tells which of the two is the later one.
        """
        fresh = []
        for encoded in events:
            event = json.loads(encoded)
            if event["build"] == self._build and event["seq"] == 1:
                self._is_earlier = archived and bool(self._began) and event["ts"] < self._began
                if self._began not in {"", event["ts"]} and not self._is_earlier:
                    _say(f"Build {self._build} was started again.")
                    self._shown, self._replaced = {"seq": 0}, False
            if self._is_earlier:
                continue
            if event["build"] != self._build and self._named:
                self._replaced = bool(self._shown["seq"])  # entries of earlier runs are gone when ours begin
            elif event["build"] != self._build:
                if self._build:
                    _say(f"A later build took over: {event['build']}.")
                self._build, self._shown, self._began = event["build"], {"seq": 0}, ""
            if event["build"] == self._build and event["seq"] > self._shown["seq"]:
                self._shown = event
                self._began = event["ts"] if event["seq"] == 1 else self._began
                fresh.append(encoded)
        if fresh:
            print_bytes(self._format(fresh))
        return len(fresh)

    async def _print_archive(self) -> None:
        """Print what the archive has and the stream has not; it may not be there, since it is written at the end of a run."""
        from buildrunner.s3.bucket import open_s3

        settings = self._settings
        away = self._redis_is_away and not self._redis_refuses
        if not self._build and (self._stream_is_there or (self._follow and away)):
            return  # the newest run is in the stream, or may be: what is in the archive is older
        if not self._bucket and not self._no_archive:
            try:
                s3 = await self._stack.enter_async_context(
                    open_s3(region=settings.region, endpoint_url=settings.s3_endpoint_url, concurrency=2)
                )
                self._bucket = s3.bucket(settings.state_bucket)
            except BuildEnded as error:
                self._no_archive = error.reason
                _say(" ".join(filter(None, [error.reason, error.hint])))
        if not self._bucket:
            return
        try:
            folder = f"__logs/{settings.slug}/"
            key: str | None = f"{folder}{self._build}.ndjson"
            if not self._build:
                there = await self._bucket.list_objects(folder)
                key = max(there, key=lambda each: (there[each].modified, each), default=None)
            if key:
                async for events in self._bucket.lines(key):
                    self._print(events, archived=True)
            self._no_archive = None
        except BuildFailed as error:
            self._no_archive = error.reason

    def _redis_answers(self, trouble: str | None) -> None:
        if trouble and not self._redis_is_away:
            _say(
                f"Redis at {address(self._settings.redis_uri)} {trouble}."
                + (" It is tried again." * (self._stays and not self._redis_refuses))
            )
        elif self._redis_is_away and not trouble:
            _say("Redis answers again.")
        self._redis_is_away = trouble

    def _leave(self) -> int:
        """Say why a log has no end."""
        slug, build, why = self._settings.slug, self._build, self._why_no_archive
        if self._replaced:
            _say(f"A later build took over. The rest of the log of {build} is not there{why}.")
            return BuildSuperseded().exit_code  # most likely: of one that had ended before, the stream had the result
        if not self._shown["seq"] and self._quiet >= self._limit:
            _say(f"Build {build or 'of ' + slug} has not begun within {self._quiet:.0f} s{why}.")
        elif not self._shown["seq"]:
            _say(f"There is no log of {slug}{why}.")
        elif not self._redis_is_away and self._quiet >= self._limit:
            _say(f"Build {build} was lost: no sign of life for {max(self._quiet, self._age):.0f} s{why}.")
        elif not self._redis_is_away:
            _say("The build goes on; --follow stays until its end.")
            return EXIT_PUBLISHED
        return EXIT_FAULT

    @property
    def _why_no_archive(self) -> str:
        return f", and its archive cannot be read: {self._no_archive.rstrip('.')}" if self._no_archive else ""


def _place(entry: bytes) -> tuple[int, int]:
    """Order ids of a stream."""
    run, _, seq = entry.partition(b"-")
    return int(run), int(seq)


def _say(sentence: str) -> None:
    print_line(f"buildrunner: {sentence}", STDERR)
