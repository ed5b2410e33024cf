"""Decide what a viewer of a build receives next: events of the stream or the archive, or the reason for the end."""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import AsyncGenerator, Sequence
from contextlib import ExitStack
from typing import Literal

from redis.exceptions import RedisError

from buildrunner.errors import BuildEnded
from buildrunner.fleet.task_state import TaskState
from buildrunner.gateway.archive import Archive, ArchivedLog, ArchiveReplaced
from buildrunner.gateway.builds import LATEST, LOST_SECONDS
from buildrunner.gateway.events import Block, Position, task_comment
from buildrunner.gateway.feed import Feed
from buildrunner.gateway.streams import START
from buildrunner.gateway.tasks import AwaitedBuild, AwaitedTasks, describe_state

End = Literal["result", "superseded", "lost", "not_found"]

STARTS_WITHIN_SECONDS = 300.0  # a task pulls its image before the first event
TAKEN_OVER_SECONDS = 20.0  # for a superseded build to end and to write its archive
_SILENCE_SECONDS = 35.0  # in which a running build has written an event that has arrived
_FLOWS_SECONDS = 1.0
_LOOK_SECONDS = 5.0  # between two checks of the archive while nothing arrives
_TAKEN_OVER_LOOK_SECONDS = 1.0  # the same while waiting for the archive of a superseded build
_WAIT_SECONDS = 1.0  # longest wait for events while a limit applies


class Cursor:
    """The position of a viewer in a build, and the source of the rest.

    Args:
        feed: feed of the site's stream.
        tasks: the tasks of awaited builds; None if no fleet is configured.
        build: id, or `latest`, which is replaced by the latest build as soon as there is one.
        after: number of the last event that the viewer has.

    """

    def __init__(
        self, feed: Feed, archive: Archive | None, tasks: AwaitedTasks | None, slug: str, build: str, after: int
    ) -> None:
        self._feed = feed
        self._tasks = tasks
        self._waiting = ExitStack()
        self._awaited: AwaitedBuild | None = None  # while nothing is known of the build
        self._shown: TaskState | None = None  # what the viewer knows of its task
        self._archive = archive
        self._slug = slug
        self._position = Position(build, after) if build != LATEST else None
        self._entry, self._epoch = START, feed.epoch  # position in the stream
        self._in_stream = False  # whether the stream contained this build
        self._replaced_at: float | None = None  # time when another build had taken the stream
        self._result_passed = False
        self._began_at = time.monotonic()
        self._excused_seconds = 0.0  # in which Redis did not respond, or AWS had not started the task
        self._looked_at = -math.inf  # time of the last check of the archive

    def close(self) -> None:
        """Wait for no task any more."""
        self._waiting.close()
        self._awaited = None

    async def messages(self) -> AsyncGenerator[bytes | End]:
        """Yield messages as they arrive, `b""` after a while without any, and finally the reason for the end."""
        await self._feed.ready()
        if self._position and self._position.seq:
            await self._skip()
        while True:
            changed = self._feed.changed
            if self._position is None:
                await self._resolve()
            blocks: Sequence[Block] = ()
            if self._position:
                try:
                    blocks = await self._feed.read(self._entry, self._epoch)
                except (RedisError, OSError):
                    self._feed.away = True
            for block in blocks:
                self._entry = block.entry
                if new := self._take(block):
                    yield new
                if self._result_passed:
                    yield "result"
                    return
            if blocks:
                continue
            if self._epoch != self._feed.epoch:  # Redis lost its data, so the build sends everything again
                self._entry, self._epoch = START, self._feed.epoch
                continue
            if self._flows:
                await changed.wait()
                continue
            if self._should_ask_archive():
                async for new in self._read_archive():
                    yield new
                if self._result_passed:
                    yield "result"
                    return
            if end := self._give_up():
                yield end
                return
            if news := self._ask_for_task():
                yield news
            yield b""
            await self._wait(changed)

    def _ask_for_task(self) -> bytes:
        """Wait for a change of the task of a build without events, until its first event; return the new state."""
        position = self._position
        is_unknown = position is not None and not position.seq and not self._in_stream and not self._feed.away
        if self._tasks and position and is_unknown and not self._awaited:
            self._awaited = self._waiting.enter_context(
                self._tasks.wait_for(self._slug, position.build, self._feed.wake)
            )
        if not self._awaited or self._awaited.state == self._shown:
            return b""
        self._shown = self._awaited.state
        return task_comment(describe_state(self._shown))

    @property
    def _is_pending(self) -> bool:
        """Whether AWS has the task and has not begun to run it, which can take longer than a viewer would wait."""
        state = self._awaited.state if self._awaited else None
        return state is not None and state.phase in {"queued", "starting"}

    @property
    def _flows(self) -> bool:
        """Whether the build has just written an event, so that nothing needs to be decided."""
        return (
            self._in_stream and self._replaced_at is None and self._feed.quiet < _FLOWS_SECONDS and not self._feed.away
        )

    def _take(self, block: Block) -> bytes:
        position = self._position
        assert position
        if block.build != position.build:
            if position.seq:  # the entries of earlier builds are removed before those of this one start
                self._replaced_at = self._replaced_at or time.monotonic()
            return b""
        self._in_stream, self._replaced_at = True, None
        self.close()
        new = position.take(block)
        self._result_passed = block.ends
        return new

    async def _skip(self) -> None:
        """Start after the last event that the viewer has, if that is found immediately."""
        assert self._position
        try:
            if found := await self._feed.locate(self._position.build, self._position.seq):
                self._entry, self._position.began = found
                self._in_stream = True
        except (RedisError, OSError):
            return

    async def _resolve(self) -> None:
        """Find the latest build."""
        if self._feed.newest:
            self._position = Position(self._feed.newest.build)
        elif self._archive and not self._feed.away and self._is_time_to_look():
            try:
                for log in await self._archive.newest(self._slug, 1):
                    self._position = Position(log.build)
                    self._looked_at = -math.inf
            except BuildEnded:
                return

    def _should_ask_archive(self) -> bool:
        if not self._archive or not self._position:
            return False
        is_live = self._in_stream and self._replaced_at is None and self._feed.exists and not self._feed.away
        if is_live and self._feed.age < LOST_SECONDS and self._feed.quiet < _SILENCE_SECONDS:
            return False
        return self._is_time_to_look()

    def _is_time_to_look(self) -> bool:
        now = time.monotonic()
        if now - self._looked_at < (_TAKEN_OVER_LOOK_SECONDS if self._replaced_at is not None else _LOOK_SECONDS):
            return False
        self._looked_at = now
        return True

    async def _read_archive(self) -> AsyncGenerator[bytes]:
        position, archive = self._position, self._archive
        assert position
        assert archive
        try:
            log = await archive.find(self._slug, position.build)
            if log is None or self._is_earlier(log):
                return
            async for piece in archive.pieces(log):
                for block in piece.blocks:
                    if new := position.take(block):
                        yield new
                    self._result_passed = block.ends
        except (BuildEnded, ArchiveReplaced):
            return  # it is checked again later

    def _is_earlier(self, log: ArchivedLog) -> bool:
        """Return whether this is the log of an earlier build with the same id."""
        began = self._position.began if self._position else ""
        return bool(began) and str(log.first.get("ts", "")) < began

    def _give_up(self) -> End | None:
        """Return why no more events will follow, once that is certain."""
        now = time.monotonic()
        if self._replaced_at is not None:
            patience = TAKEN_OVER_SECONDS if self._archive else 0.0
            return "superseded" if now - self._replaced_at >= patience else None
        if self._feed.away:
            return None
        if self._in_stream or (self._position and self._position.seq):
            limit = _SILENCE_SECONDS if self._feed.age >= LOST_SECONDS else LOST_SECONDS
            return "lost" if self._feed.quiet >= limit else None
        return "not_found" if now - self._began_at - self._excused_seconds >= STARTS_WITHIN_SECONDS else None

    async def _wait(self, changed: asyncio.Event) -> None:
        before = time.monotonic()
        limits_run = self._replaced_at is not None or self._position is None
        try:
            async with asyncio.timeout(_WAIT_SECONDS if limits_run else None):
                await changed.wait()
        except TimeoutError:
            pass
        if self._feed.away or self._is_pending:
            self._excused_seconds += time.monotonic() - before
