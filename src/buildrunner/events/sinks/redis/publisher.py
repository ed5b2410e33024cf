"""Deliver the journal to Redis: events to the stream, lines to the channel, each exactly once and in order.

The id of the last entry in the stream shows how far delivery got. One rule therefore handles lost responses, eviction, FLUSHALL,
failover and a Redis that restarts empty: continue after that entry.

The channel has no such record. A line is sent in the batch that contains its event, and the stream shows whether the batch was
executed, as long as the server is the same. Otherwise a line that may have been sent counts as sent, and is not sent again.
While Redis refuses writes to the stream, lines only go to the channel.
"""

from __future__ import annotations

import importlib
import json
import math
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Literal

import anyio
import anyio.lowlevel
import anyio.to_thread

from buildrunner.concurrency.retry import RetryPolicy
from buildrunner.events.follower import Sink
from buildrunner.events.sinks.redis.connection import (
    address,
    explain,
    find_refusal,
    find_sentinel,
    has_run_for,
    is_closed,
    is_reply,
    open_client,
    reconnect,
)
from buildrunner.events.sinks.redis.messages import make_messages
from buildrunner.events.sinks.redis.order import BuildOrder
from buildrunner.events.sinks.redis.permissions import Permissions
from buildrunner.events.sinks.redis.stream import AppendOutcome, StreamWriter

if TYPE_CHECKING:
    from redis.asyncio import Redis

    from buildrunner.events.journal import Journal

BATCH_EVENTS = 500
BATCH_BYTES = 131072  # maximum; the size of 500 events with lines of about 100 bytes
FLUSH_BYTES = 65536  # so many don't wait for more
BATCH_SECONDS = 0.05  # after the first waiting event
# Between two batches while a build floods: that allows 33,000 events/s, and leaves the rest of the CPU to the build.
FLOOD_BATCH_SECONDS = 0.015
# How long an unreachable Redis is retried before a warning says that the log is not live.
TRIED_SECONDS = 15.0
# A silent build checks this often whether a later build has taken its stream, which it must notice within 2 s.
LOOK_SECONDS = 1.0
RETRY = RetryPolicy(first=0.1, longest=1.0, jitter=(0.5, 1.0))  # after a failure
SETBACK_RETRY = RetryPolicy(first=0.05, longest=2.0)  # after Redis lost the stream again
FORGIVEN_SECONDS = 30.0  # after so long without losses, the next one counts as the first


class Publisher(Sink):
    """Deliver a journal to Redis; without Redis, only the live log is missing.

    Args:
        uri: address of Redis.
        channel: pub/sub channel of the lines.
        stream: key of the stream of events.
        ttl: seconds that the stream exists after its last event.
        log_format: format of messages on the channel: the line, or the event.
        on_superseded: function that is called once, when a later build has taken the stream.
        started: start of the build (clock of anyio, seconds); by default now.

    """

    name = "the live log"

    def __init__(
        self,
        journal: Journal,
        *,
        uri: str,
        channel: str,
        stream: str,
        ttl: int,
        log_format: Literal["text", "json"],
        on_superseded: Callable[[], None],
        started: float | None = None,
    ) -> None:
        self._journal = journal
        self._started = anyio.current_time() if started is None else started
        self._reader = journal.reader()
        self._channel_reader = journal.reader()  # for messages sent to the channel alone
        self._uri = uri
        self._channel = channel
        self._log_format = log_format
        self._writer = StreamWriter(stream, channel=channel, ttl=ttl, started=self._started)
        self._allowed = Permissions(journal, self._writer, channel=channel, stream=stream)
        self.order = BuildOrder(self._writer, on_superseded=on_superseded)
        self._batch_begun = -math.inf
        # Lines up to this event are sent, or count as sent; and lines up to this one may have been sent, which the server can tell.
        self._sent = self._in_doubt = 0
        self._doubt_began = math.inf
        self._asking_since: float | None = None  # time of the oldest request without response
        self._trouble_since: float | None = None
        self._told = False
        self._flush = anyio.Event()  # set to deliver without delay
        self._idle: anyio.CancelScope | None = None  # set while there is nothing to deliver
        self._setbacks, self._last_setback = 0, -math.inf  # how often Redis has recently lost the stream
        self._begun = self._answered = 0  # appends, each of which also checks the owner of the stream
        self._ever_delivered = False
        self.delivered = 0  # number of the last event known to be in the stream
        self.trouble: str | None = None  # why nothing can be delivered at the moment, for people

    @property
    def undelivered(self) -> int:
        """Number of events not known to be in the stream; 0 once a later build owns it."""
        return 0 if self.order.superseded else self._journal.last_seq - self.delivered

    @property
    def behind(self) -> str | None:
        trouble = self.trouble or ("has not answered yet" if self._is_silent else None)
        return f"Redis {trouble}" if trouble else None

    @property
    def pending_warning(self) -> str | None:
        # As elsewhere, a dropped connection is not worth a warning: it is usually restored at once.
        return super().pending_warning if self._told or self._is_silent else None

    @property
    def _is_silent(self) -> bool:
        return self._asking_since is not None and anyio.current_time() - self._asking_since >= 1

    @property
    def last_wait(self) -> float:
        """Seconds to wait for the delivery at the end of a build, at most 15.

        A Redis that never responded is tried for 15 s in total.
        """
        if self._ever_delivered or self.trouble is None:
            return TRIED_SECONDS
        return max(1.0, self._started + TRIED_SECONDS - anyio.current_time())

    async def run(self) -> None:
        """Deliver until the result is delivered; retry after any failure of Redis.

        Internal errors are raised; then this method can be called again, and continues.
        """
        # Importing redis takes 0.15 s; git has been started by then.
        for name in ("redis.asyncio", "redis.asyncio.retry", "redis.backoff", "redis.exceptions"):
            await anyio.to_thread.run_sync(importlib.import_module, name)
        from redis.exceptions import RedisError

        failures = 0
        while True:
            client = open_client(self._uri)
            before = self.delivered
            try:
                await self._deliver(client)
                return
            except (RedisError, OSError) as error:
                reason = await find_sentinel(client, error)
                if (refusal := find_refusal(reason)) and self._allowed.do_without(refusal):
                    if not self._allowed.writes:
                        self._settle_doubt()
                    self._asking_since = None
                    continue
                failures = 1 if self.delivered > before else failures + 1
                self.trouble = explain(reason)
                lines_go_out = False
                if is_reply(reason) and self._allowed.writes and self._allowed.publishes and not self.order.superseded:
                    with suppress(RedisError, OSError):
                        await reconnect(client)
                        await self._publish_until(client, self._journal.last_seq)
                        lines_go_out = True
                self._tell_trouble(lines_go_out=lines_go_out)
            except Exception:
                self.trouble = "was not used because of an internal error in buildrunner"
                self._asking_since = None
                raise
            finally:
                with anyio.move_on_after(1, shield=True):
                    await client.aclose()
            await self._pause(failures)

    async def caught_up(self, limit: float) -> None:
        """Wait until everything written is delivered and the owner of the stream has been checked once more.

        Return early if Redis is unreachable, or after `limit` seconds.
        """
        target, look = self._journal.last_seq, self._begun + 1
        self._flush.set()
        if self._idle:
            self._idle.cancel()
        try:
            with anyio.move_on_after(limit):
                while self.delivered < target or self._answered < look:
                    if self.order.superseded or self.trouble:
                        break
                    await anyio.sleep(0.002)
        finally:
            self._flush = anyio.Event()  # also after a cancellation, so that later deliveries are not hurried

    async def run_number(self, limit: float) -> int | None:
        """Return the number by which Redis orders this build; None if it is unknown after `limit` seconds."""
        with anyio.move_on_after(limit):
            while not (self.order.known or self.trouble) and self._allowed.writes:
                await anyio.sleep(0.005)
        return self.order.number

    def flush(self) -> None:
        """Stop waiting for more events to fill a batch: the build has ended."""
        self._flush.set()

    async def _deliver(self, client: Redis) -> None:
        await client.initialize()  # connects; nothing is sent before that
        # On the same server as before, the stream shows which lines in doubt were sent.
        if self._in_doubt > self._sent and not await has_run_for(client, anyio.current_time() - self._doubt_began):
            self._settle_doubt()
        self._reader.go_to(self.delivered + 1)
        while not self._reader.at_end():
            await self._wait_for_batch()
            self._allowed.ask_again()
            await self._claim(client)
            if self._allowed.publishes and not self.order.superseded:  # lines refused when their events were written
                await self._publish_until(client, self.delivered)
            first = self._reader.next_seq
            events = self._reader.read(BATCH_EVENTS, BATCH_BYTES)
            if self.order.superseded:
                await self._publish_end_word(client, events)
            elif self._allowed.writes:
                await self._append(client, first, events)
            else:
                self._begun = look = self._begun + 1
                await self._publish(client, first, events)
                await anyio.lowlevel.checkpoint()  # lets a waiting `caught_up` continue
                self._answered, self.delivered, self._ever_delivered = look, first + len(events) - 1, True
                self._out_of_trouble()

    async def _claim(self, client: Redis) -> None:
        if self.order.known or not self._allowed.writes:
            return
        self._asking_since = anyio.current_time()
        has_it = await self.order.claim(client)
        self._asking_since = None
        if not has_it:
            self._out_of_trouble()
            self.order.supersede()

    async def _append(self, client: Redis, first: int, events: Sequence[bytes]) -> None:
        """Write a batch with its lines, and continue where the response says."""
        last = first + len(events) - 1
        messages = [message for _, message in self._messages(first, events)] if self._allowed.publishes else []
        if is_closed(client):
            raise ConnectionError("the connection was closed")
        doubt = self._in_doubt
        if doubt <= self._sent:
            self._doubt_began = anyio.current_time()
        self._in_doubt = max(doubt, last if messages else 0)  # before the response, which may be lost
        self._begun = look = self._begun + 1
        self._asking_since = anyio.current_time()
        try:
            answer, place = await self._writer.append(client, first, events, messages, only_own=doubt > self._sent)
        except Exception as error:
            if is_reply(error):
                self._in_doubt = doubt
            raise
        self._answered, self._asking_since = look, None
        self._out_of_trouble()
        if answer is AppendOutcome.WRITTEN:
            self._sent = self._in_doubt = max(self._sent, last) if self._allowed.publishes else self._sent
            self.delivered = last
            self._ever_delivered = True
            return
        own = self.order.owns(place)
        # A batch that is sent again can be longer than the first one: the stream has no event after `place`.
        self._in_doubt = min(doubt, place.seq) if own else doubt
        self._settle_doubt()
        if self.order.is_lost(answer, place):
            self.order.supersede()
            return
        before = self.delivered
        self.delivered = min(place.seq, self._journal.last_seq) if own else 0
        self._reader.go_to(self.delivered + 1)
        if self.delivered < before:
            await self._pause_after_setback()

    # --- the channel -----------------------------------------------------------------------------------------

    def _settle_doubt(self) -> None:
        """Count lines that may have been sent as sent, so that none is sent twice."""
        self._sent = self._in_doubt = max(self._sent, self._in_doubt)

    async def _publish_until(self, client: Redis, last: int) -> None:
        """Send the lines up to that event to the channel only."""
        if self._sent < last:
            self._settle_doubt()
        while self._sent < last:
            self._channel_reader.go_to(self._sent + 1)
            first = self._channel_reader.next_seq
            events = self._channel_reader.read(min(BATCH_EVENTS, last - self._sent), BATCH_BYTES)
            await self._publish(client, first, events)

    async def _publish(self, client: Redis, first: int, events: Sequence[bytes]) -> None:
        """Send a batch of lines to the channel only; lines that Redis refuses are kept for later."""
        before, last = self._sent, max(self._sent, first + len(events) - 1)
        messages = self._messages(first, events)
        if messages and is_closed(client):
            raise ConnectionError("the connection was closed")
        self._sent = self._in_doubt = last  # also if the connection breaks now
        if not messages:
            return
        async with client.pipeline(transaction=False) as pipeline:
            for _, message in messages:
                pipeline.publish(self._channel, message)
            try:
                answers = await pipeline.execute(raise_on_error=False)
            except Exception as error:
                if is_reply(error):
                    self._sent = self._in_doubt = before
                raise
        if refusals := [answer for answer in answers if isinstance(answer, Exception)]:
            sent = [seq for (seq, _), answer in zip(messages, answers, strict=True) if answer not in refusals]
            self._sent = self._in_doubt = max(sent, default=before)
            raise refusals[0]

    async def _publish_end_word(self, client: Redis, events: Sequence[bytes]) -> None:
        """Send the end word of a superseded build, whose channel a later build uses now.

        Another end word would stop the viewers of the later build, unless each message names its build.
        """
        seq = self._journal.last_seq
        if not (self._allowed.publishes and self._reader.at_end() and seq > self._sent):
            return
        if self._log_format == "json" or json.loads(events[-1])["log"] == "Superseded":
            await self._publish(client, seq, events[-1:])

    def _messages(self, first: int, events: Sequence[bytes]) -> list[tuple[int, str | bytes]]:
        """Return the remaining messages, each with the number of its event."""
        sent = max(0, self._sent + 1 - first)
        return make_messages(first + sent, events[sent:], self._log_format) if events[sent:] else []

    # --- waiting ---------------------------------------------------------------------------------------------

    async def _pause_after_setback(self) -> None:
        """Wait longer each time Redis loses the stream, because repeated eviction would use all of the CPU."""
        now = anyio.current_time()
        self._setbacks = self._setbacks + 1 if now - self._last_setback < FORGIVEN_SECONDS else 0
        self._last_setback = now
        await anyio.sleep(SETBACK_RETRY.pause(self._setbacks - 1) if self._setbacks else 0)

    async def _pause(self, failures: int) -> None:
        """Wait before Redis is retried; at the end of a build, when all lines are written, only briefly."""
        pause = RETRY.pause(failures - 1)
        if self._journal.complete:
            await anyio.sleep(min(pause, 0.2))
        else:
            with anyio.move_on_after(pause):
                await self._flush.wait()
                await anyio.sleep(0.05)

    async def _wait_for_batch(self) -> None:
        """Wait for events, and a little longer for more of them, unless delivery is urgent."""
        if self.order.superseded:
            await self._reader.wait()
        elif not self._flush.is_set():
            with anyio.move_on_after(LOOK_SECONDS) as self._idle:
                await self._reader.wait()
            self._idle = None
            if 0 < self._reader.waiting_bytes < FLUSH_BYTES and not self._journal.complete:
                with anyio.move_on_after(BATCH_SECONDS):
                    await self._flush.wait()
            elif self._reader.flooded:
                await anyio.sleep_until(self._batch_begun + FLOOD_BATCH_SECONDS)
        self._batch_begun = anyio.current_time()

    # --- messages for people ---------------------------------------------------------------------------------

    def _tell_trouble(self, *, lines_go_out: bool) -> None:
        now = anyio.current_time()
        if self._trouble_since is None:
            self._trouble_since = self._asking_since or now  # a frozen server is noticed after its response timed out
        self._asking_since = None
        # A dropped connection is usually restored before people could read about it.
        if not self._told and (not self._ever_delivered or now - self._trouble_since >= 1):
            self._told = True
            where, rest = (
                (" to the stream", "Lines go to the channel; retrying.")
                if lines_go_out
                else ("", "The build continues; retrying.")
            )
            self._journal.log(
                f"The live log is not delivered{where}: Redis at {address(self._uri)} {self.trouble}. {rest}", "warning"
            )

    def _out_of_trouble(self) -> None:
        self.trouble = self._trouble_since = None
        if self._told:
            self._told = False
            self._journal.log("Redis responds again. The live log continues.")
