"""Follow the journal to Redis: lines to the channel, events to the stream, each exactly once and in order.

A batch is one call of a Lua script, which Redis runs whole or not at all. The stream itself says how far a run has got:
the id of its last entry is `<run>-<seq>`. So an answer that was lost, an eviction, FLUSHALL, a failover or a Redis that
came back empty are all mended by the same rule: send again from where the stream is.

Where scripts are refused, a transaction that watches the stream does the same with twice the round trips. Where streams are
refused too, the channel alone is left, and people are told.
"""

from __future__ import annotations

import hashlib
import importlib
import json
import math
import random
import re
import socket
import ssl
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, Literal, TypeVar
from urllib.parse import urlsplit

import anyio
import anyio.lowlevel
import anyio.to_thread

from buildrunner.logs.journal import line_of_output
from buildrunner.logs.text import without_colour

if TYPE_CHECKING:
    from redis.asyncio import Redis

    from buildrunner.logs.journal import Journal

_T = TypeVar("_T")

BATCH_EVENTS = 500
BATCH_BYTES = 131072  # at the most: what 500 events have with lines of some 100 bytes
FLUSH_BYTES = 65536  # so many do not wait for more
BATCH_SECONDS = 0.05  # after the first event that waits
# Between two batches while a build floods: that is 33,000 events/s, and the rest of the CPU is the build's.
FLOOD_BATCH_SECONDS = 0.015
# How long a Redis that cannot be reached is tried before people are told that their log is not live.
TRIED_SECONDS = 15.0
ANSWER_SECONDS = 5.0  # a server that is silent for longer is taken for gone, and its connection for dead
# A run with nothing to say looks so often whether the stream is still its own: it is to know of a later run within 2 s.
LOOK_SECONDS = 1.0
PROMPT_SECONDS = 0.05  # an answer that took no longer tells the time well enough
MOST_NUMBER = 2**53 - 2  # Lua counts no further
FORGIVEN_SECONDS = 30.0  # after which a stream that was lost is the first one again
_END_WORDS = ("Failed:", "Cancelled", "Timed out:", "Superseded")

_WRITTEN, _ELSEWHERE, _LATER = 1, 0, 2  # how an append ends
# How Redis lets us deliver, the best first; a server or an ACL (redis.io/docs/latest/operate/oss_and_stack/management/security/acl)
# that refuses one is asked for the next.
_Way = Literal["script", "transaction", "channel"]
_NEXT_WAY: dict[_Way, _Way] = {"script": "transaction", "transaction": "channel"}
_REFUSED = re.compile(
    r"(?i)(?:(?:this user|user \S+) has )?no permissions to (?:run the '\S+' command|access [\w ]+)"
    r"|unknown (?:redis )?command[^,]*"
)

# Claims the stream for a run: removes earlier runs' entries, keeps the run's number as the stream's last id.
# XADD and XTRIM rather than DEL: a deleted stream forgets its last id, and an older run could write again.
# ARGV: TTL in seconds, the run's number, and 1 if it has asked with that one before, so that what is there may be its own claim.
# Answers '' when the stream is this run's, else the number of the run whose it is, which is not smaller, and the time (ms).
_CLAIM = """
local last, run = 0, tonumber(ARGV[2])
if redis.call('EXISTS', KEYS[1]) == 1 then
  local info = redis.call('XINFO', 'STREAM', KEYS[1])
  for i = 1, #info, 2 do
    if info[i] == 'last-generated-id' then last = tonumber(string.match(info[i + 1], '^(%d+)')) end
  end
end
if last == run and ARGV[3] == '1' then return {'', ''} end
if last >= run then
  local time = redis.call('TIME')
  return {string.format('%.0f', last), string.format('%.0f', time[1] * 1000 + math.floor(time[2] / 1000))}
end
redis.call('XADD', KEYS[1], ARGV[2] .. '-0', 'event', '')
redis.call('XTRIM', KEYS[1], 'MAXLEN', 0)
redis.call('EXPIRE', KEYS[1], ARGV[1])
return {'', ''}
"""

# Appends a batch. ARGV: run, number of the first event, TTL in seconds, channel, how many events, the events, then the
# messages for the channel (none for what was sent before).
# Answers {1, ''} when it is done; {0, last id} when the stream is elsewhere, and {2, last id} when it is a later run's:
# nothing was written then.
_APPEND = """
local run, first, count = ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[5])
local last = '0-0'
if redis.call('EXISTS', KEYS[1]) == 1 then
  local info = redis.call('XINFO', 'STREAM', KEYS[1])
  for i = 1, #info, 2 do
    if info[i] == 'last-generated-id' then last = info[i + 1] end
  end
end
local last_run, last_seq = string.match(last, '^(%d+)-(%d+)$')
if tonumber(last_run) > tonumber(run) then return {2, last} end
if last_run ~= run then
  if first ~= 1 then return {0, last} end
  if last ~= '0-0' then redis.call('XTRIM', KEYS[1], 'MAXLEN', 0) end
elseif tonumber(last_seq) ~= first - 1 then
  return {0, last}
end
for i = 1, count do
  redis.call('XADD', KEYS[1], run .. '-' .. string.format('%.0f', first + i - 1), 'event', ARGV[5 + i])
end
redis.call('EXPIRE', KEYS[1], ARGV[3])
for i = 6 + count, #ARGV do redis.call('PUBLISH', ARGV[4], ARGV[i]) end
return {1, ''}
"""


class Publisher:
    """Delivers a journal to Redis for as long as it runs; a Redis that is away costs nothing but the live log.

    Args:
        uri: of Redis.
        channel: pub/sub channel of the lines.
        stream: key of the stream of events.
        ttl: seconds that the stream is kept after its last event.
        log_format: what a message on the channel is: the line, or the event.
        on_superseded: called once, when a later run has taken the stream.

    """

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
    ) -> None:
        self._journal = journal
        self._reader = journal.reader()
        self._uri = uri
        self._channel = channel
        self._stream = stream
        self._ttl = ttl
        self._log_format = log_format
        self._on_superseded = on_superseded
        self._way: _Way = "script"
        self._publishes = True  # until Redis refuses this channel
        self._run: str | None = None
        self._number: int | None = None  # that the run claims the stream with
        self._asked = False  # Redis was asked for the stream with that number already
        self._yields = False  # a later run is known to have taken over: the stream is not taken from it
        self._batch_begun = -math.inf
        self._sent = 0  # highest number ever sent for publishing: what is sent again goes to the stream alone
        self._started = anyio.current_time()
        self._asking_since: float | None = None  # of a question that Redis has not answered yet
        self._trouble_since: float | None = None
        self._told = False
        self._hurry = anyio.Event()  # somebody waits for the delivery
        self._idle: anyio.CancelScope | None = None  # while there is nothing to deliver
        self._setbacks, self._last_setback = 0, -math.inf  # how often Redis has lost the stream of late
        self._begun = self._answered = 0  # appends, each a look at whose the stream is
        self._ever_delivered = False
        self.delivered = 0  # number of the last event that is known to be in the stream
        self.superseded = False
        self.trouble: str | None = None  # why nothing can be delivered just now, for people

    @property
    def behind(self) -> str | None:
        """Say why readers have not got the log so far, if they have not; completes "Redis …"."""
        silent = self._asking_since is not None and anyio.current_time() - self._asking_since >= 1
        return self.trouble or ("has not answered yet" if silent else None)

    @property
    def last_wait(self) -> float:
        """Seconds that are worth waiting for the delivery at the end of a run, 15 at most.

        A Redis that was never there is not waited for longer than it has been tried for 15 s.
        """
        if self._ever_delivered or self.trouble is None:
            return TRIED_SECONDS
        return max(1.0, self._started + TRIED_SECONDS - anyio.current_time())

    async def run(self) -> None:
        """Deliver until the result is delivered; whatever is wrong with Redis only makes it try again."""
        # redis takes 0.15 s to import: git has been started by then.
        redis, retry, backoff, errors = [
            await anyio.to_thread.run_sync(importlib.import_module, name)
            for name in ("redis.asyncio", "redis.asyncio.retry", "redis.backoff", "redis.exceptions")
        ]
        failures = 0
        while True:
            client = redis.from_url(
                self._uri,
                socket_connect_timeout=ANSWER_SECONDS,
                socket_timeout=ANSWER_SECONDS,
                single_connection_client=True,
                retry=retry.Retry(
                    backoff.NoBackoff(), 0
                ),  # a batch is never sent again without asking where the stream is
                decode_responses=True,
            )
            client.connection_pool.connection_class = _packed_in_c(client.connection_pool.connection_class)
            before = self.delivered
            try:
                await self._deliver(client, errors)
                return
            except (errors.RedisError, OSError) as error:
                if (refusal := _REFUSED.search(str(error))) and self._find_other_way(refusal[0]):
                    continue
                failures = 1 if self.delivered > before else failures + 1
                self._in_trouble(error)
            finally:
                with anyio.move_on_after(1, shield=True):
                    await client.aclose()
            await anyio.sleep(min(1.0, 0.05 * 2**failures) * random.uniform(0.5, 1.0))  # noqa: S311

    async def caught_up(self, limit: float) -> None:
        """Wait until all that has been written is delivered and the stream has been looked at once more.

        Or until Redis is found away, or `limit` seconds have passed.
        """
        target, look = self._journal.last_seq, self._begun + 1
        self._hurry.set()
        if self._idle:
            self._idle.cancel()
        try:
            with anyio.move_on_after(limit):
                while self.delivered < target or self._answered < look:
                    if self.superseded or self.trouble:
                        break
                    await anyio.sleep(0.002)
        finally:
            self._hurry = anyio.Event()  # also when the run is cancelled meanwhile: who hurries on does not wait

    async def run_number(self, limit: float) -> int | None:
        """Give the number by which Redis orders this run; None when it has not said so within `limit` seconds."""
        with anyio.move_on_after(limit):
            while self._run is None and self._way != "channel" and not self.trouble and not self.superseded:
                await anyio.sleep(0.005)
        return self._number if self._run or self.superseded else None

    def yield_stream(self) -> None:
        """Take the stream no more: a later run has taken over, though Redis does not say so (it was away, or lost what it had).

        What is this run's there already goes on.
        """
        self._yields = True

    def hurry(self) -> None:
        """Wait for no more events to fill a batch: the run is at its end."""
        self._hurry.set()

    async def _deliver(self, client: Redis, errors: Any) -> None:
        if self._run is None and self._way != "channel" and not self.superseded:
            self._asking_since = anyio.current_time()
            self._run = await _again_if_changed(errors, lambda: self._claim(client, errors))
            self._asking_since = None
            if self._run is None:
                self._out_of_trouble()
                self._be_superseded()
        self._reader.go_to(self.delivered + 1)
        while not self._reader.at_end():
            await self._wait_for_batch()
            first = self._reader.next_seq
            events = self._reader.read(BATCH_EVENTS, BATCH_BYTES)
            last, sent_before = first + len(events) - 1, self._sent
            if self.superseded:
                # Nothing more is for this run's readers but the end word, for those of the channel.
                if self._publishes and self._reader.at_end() and last > self._sent:
                    self._sent = last
                    if json.loads(events[-1])["log"] == "Superseded":
                        await client.publish(self._channel, self._message(events[-1]) or "")
                continue
            messages = [
                message
                for seq, event in enumerate(events, first)
                if seq > self._sent and self._publishes and (message := self._message(event)) is not None
            ]
            self._sent = max(self._sent, last)  # before it is known: an answer may get lost
            self._begun = look = self._begun + 1
            self._asking_since = anyio.current_time()
            append = partial(self._append, client, errors, first, events, messages)
            answer, place = await _again_if_changed(errors, append)
            self._answered, self._asking_since = look, None
            self._out_of_trouble()
            if answer != _WRITTEN:
                self._sent = sent_before
            if answer == _WRITTEN:
                self.delivered = last
                self._ever_delivered = True
            elif answer == _ELSEWHERE:
                run, _, seq = place.partition("-")
                if run != self._run and self._yields:
                    self._be_superseded()
                    continue
                before = self.delivered
                self.delivered = min(int(seq), self._journal.last_seq) if run == self._run else 0
                self._reader.go_to(self.delivered + 1)
                if self.delivered < before:
                    await self._pause_after_setback()
            elif answer == _LATER:
                self._be_superseded()

    def _be_superseded(self) -> None:
        self.superseded = True
        self._on_superseded()

    async def _pause_after_setback(self) -> None:
        """Wait a little, and longer each time, where Redis loses the stream again and again: an eviction would eat the CPU."""
        now = anyio.current_time()
        self._setbacks = self._setbacks + 1 if now - self._last_setback < FORGIVEN_SECONDS else 0
        self._last_setback = now
        await anyio.sleep(min(2.0, 0.05 * (2**self._setbacks - 1)))

    async def _wait_for_batch(self) -> None:
        """Wait for events, and a moment longer for more of them; not at all for one whom somebody waits for."""
        if self.superseded:
            await self._reader.wait()
        elif not self._hurry.is_set():
            with anyio.move_on_after(LOOK_SECONDS) as self._idle:
                await self._reader.wait()
            self._idle = None
            if 0 < self._reader.waiting_bytes < FLUSH_BYTES and not self._journal.complete:
                with anyio.move_on_after(BATCH_SECONDS):
                    await self._hurry.wait()
            elif self._reader.flooded:
                await anyio.sleep_until(self._batch_begun + FLOOD_BATCH_SECONDS)
        self._batch_begun = anyio.current_time()

    async def _claim(self, client: Redis, errors: Any) -> str | None:
        """Take the stream for this run, and give the run's number; None when a run has it that began later.

        The number is when the run began, by the clock of Redis, which may have been away for a while: then not who asks last
        began last. Only a number in the future, which another clock has given, is outdone by one more.
        """
        if self._yields:
            return None
        if self._number is None:
            self._number = await self._beginning(client)
        while True:
            asked, self._asked = self._asked, True  # an answer may get lost
            if self._way == "script":
                last, now = await self._call(client, errors, _CLAIM, self._ttl, self._number, int(asked))
            else:
                last, now = await self._claim_by_transaction(client, errors, self._number, asked=asked)
            if last == "":
                return str(self._number)
            if self._number < int(last) <= int(now):
                return None
            if int(last) >= MOST_NUMBER:
                raise errors.ResponseError(
                    f"the last id of {self._stream} is {last}-…, which no run can follow: delete it"
                )
            self._number, self._asked = int(last) + 1, False

    async def _claim_by_transaction(
        self, client: Redis, errors: Any, number: int, *, asked: bool
    ) -> tuple[str, str] | tuple[int, int]:
        """Do what `_CLAIM` does."""
        async with _transaction(client) as transaction:
            last_run, _ = await self._watched_id(transaction, errors)
            seconds, microseconds = await transaction.time()
            free = last_run < number
            transaction.multi()
            if free:
                transaction.xadd(self._stream, {"event": ""}, id=f"{number}-0")
                transaction.xtrim(self._stream, maxlen=0, approximate=False)
                transaction.expire(self._stream, self._ttl)
            try:
                await transaction.execute()
            except errors.WatchError:
                self._asked = asked  # nothing was written
                raise
        own = last_run == number and asked
        return ("", "") if free or own else (last_run, seconds * 1000 + microseconds // 1000)

    async def _beginning(self, client: Redis) -> int:
        """Give when the run began, by the clock of Redis, in ms: by the quickest of three answers, unless the first is quick."""
        found: list[tuple[float, int]] = []
        while len(found) < 3 and (not found or min(found)[0] > PROMPT_SECONDS):
            asked = anyio.current_time()
            seconds, microseconds = await client.time()
            now = anyio.current_time()
            age = round((now - self._started) * 1000)
            found.append((now - asked, seconds * 1000 + microseconds // 1000 - age))
        return min(found)[1]

    async def _append(
        self, client: Redis, errors: Any, first: int, events: Sequence[bytes], messages: Sequence[str | bytes]
    ) -> tuple[int, str]:
        """Append events to the stream, which may be none, and publish messages: all of it or nothing.

        Returns:
            Whether it was done, and if not, the id that the stream is at.

        """
        if self._way == "channel":
            if messages:
                async with client.pipeline(transaction=False) as pipeline:
                    for message in messages:
                        pipeline.publish(self._channel, message)
                    await pipeline.execute()
            await anyio.lowlevel.checkpoint()  # somebody may wait for a look, which this way cannot take
            return _WRITTEN, ""
        run = int(self._run or 0)
        if self._way == "script":
            arguments = (run, first, self._ttl, self._channel, len(events), *events, *messages)
            answer, place = await self._call(client, errors, _APPEND, *arguments)
            return answer, place
        async with _transaction(client) as transaction:
            last_run, last_seq = await self._watched_id(transaction, errors)
            answer = _WRITTEN
            transaction.multi()
            if last_run > run:
                answer = _LATER
            elif first != (last_seq + 1 if last_run == run else 1):
                answer = _ELSEWHERE
            else:
                if last_run not in {run, 0}:
                    transaction.xtrim(self._stream, maxlen=0, approximate=False)
                for seq, event in enumerate(events, first):
                    transaction.xadd(self._stream, {"event": event}, id=f"{run}-{seq}")
                transaction.expire(self._stream, self._ttl)
                for message in messages:
                    transaction.publish(self._channel, message)
            await (
                transaction.execute()
            )  # an empty one too: it ends the watch without UNWATCH, one command less to allow
        return answer, f"{last_run}-{last_seq}"

    async def _call(self, client: Redis, errors: Any, script: str, *arguments: str | bytes | int) -> Any:
        try:
            digest = hashlib.sha1(script.encode()).hexdigest()  # noqa: S324 - Redis names scripts by it
            return await client.evalsha(digest, 1, self._stream, *arguments)
        except errors.NoScriptError:
            return await client.eval(script, 1, self._stream, *arguments)

    async def _watched_id(self, transaction: Any, errors: Any) -> tuple[int, int]:
        """Give the stream's last id; the transaction fails (WatchError) when the stream changes from now on."""
        await transaction.watch(self._stream)
        try:
            last: str = (await transaction.xinfo_stream(self._stream))["last-generated-id"]
        except errors.ResponseError as error:
            if "no such key" not in str(error):
                raise
            last = "0-0"
        run, _, seq = last.partition("-")
        return int(run), int(seq)

    def _find_other_way(self, refusal: str) -> bool:
        """Look for another way to deliver, now that Redis has refused this one."""
        if re.search("channel|'publish'", refusal) and self._publishes and self._way != "channel":
            self._publishes = False
            self._journal.log(
                f"Redis does not let this user publish to {self._channel}: the live log is in the stream alone.",
                "warning",
            )
            return True
        if self._way == "channel" or (self._way == "transaction" and not self._publishes):
            self._sent = self.delivered  # what was refused did not go out
            return False
        self._way = _NEXT_WAY[self._way]
        if self._way == "channel":
            self._journal.log(
                f"Redis does not let this user write the stream {self._stream} ({refusal}): the live log goes to the channel"
                " alone, and who comes late sees nothing of it.",
                "warning",
            )
        return True

    def _message(self, event: bytes) -> str | bytes | None:
        """Give what goes to the channel for an event: nothing for one without a line."""
        line = line_of_output(event)
        own = line is None  # buildrunner's words, or a sign of life
        if line is None:
            fields = json.loads(event)
            line = fields.get("log")
            if line is None:
                return None
            own = fields["type"] != "log"
        plain = without_colour(line)
        # A build's own line must not end a viewer early, not one either that trims what it gets.
        forged = not own and (plain.strip() == "Done" or plain.startswith(_END_WORDS))
        if self._log_format == "text":
            return f" {plain}" if forged else plain
        if forged:
            return json.dumps({**json.loads(event), "log": f" {line}"}, ensure_ascii=False, separators=(",", ":"))
        return event

    def _in_trouble(self, error: Exception) -> None:
        now = anyio.current_time()
        self.trouble = explain(error)
        if self._trouble_since is None:
            self._trouble_since = (
                self._asking_since or now
            )  # a frozen server is noticed when its time to answer is over
        self._asking_since = None
        # A connection that was cut is usually back before a sentence about it could be read.
        if not self._told and (not self._ever_delivered or now - self._trouble_since >= 1):
            self._told = True
            self._journal.log(
                f"The live log is not delivered: Redis at {address(self._uri)} {self.trouble}."
                " The build goes on; it is tried again.",
                "warning",
            )

    def _out_of_trouble(self) -> None:
        self.trouble = self._trouble_since = None
        if self._told:
            self._told = False
            self._journal.log("The live log goes on: Redis answers again.")


def address(uri: str) -> str:
    """Give where a Redis is, without user and password."""
    parts = urlsplit(uri)
    return parts.path if parts.scheme == "unix" else f"{parts.hostname}:{parts.port or 6379}"


def _packed_in_c(connection: Any) -> Any:
    """Let hiredis pack commands, as redis-py has it do in its synchronous client: 1,000 arguments take 0.06 ms, not 0.8."""
    import hiredis

    class Packed(connection):  # type: ignore[misc]
        def pack_command(self, *arguments: Any) -> list[bytes]:
            name, *others = arguments
            return [hiredis.pack_command((*name.split(), *others))]

    return Packed


async def _again_if_changed(errors: Any, transact: Callable[[], Awaitable[_T]]) -> _T:
    """Do a transaction once more when the stream changed between its look and its write, which then did nothing."""
    while True:
        try:
            return await transact()
        except errors.WatchError:
            await anyio.sleep(random.uniform(0.0, 0.02))  # noqa: S311 - so that two runs do not meet again


def _transaction(client: Redis) -> Any:  # its `multi` has no types
    return client.pipeline(transaction=True)


def explain(error: Exception) -> str:
    """Complete the sentence "Redis at … " for people, for whatever its client raised."""
    name, text = type(error).__name__, " ".join(str(error).split())
    cause: BaseException | None = error
    while cause:
        if isinstance(cause, ssl.SSLError):
            return f"cannot be trusted or does not speak TLS ({text})"
        if isinstance(cause, FileNotFoundError):
            return "cannot be found: there is no such socket"
        if isinstance(cause, ConnectionRefusedError):
            return "refuses connections"
        if isinstance(cause, socket.gaierror):
            return "cannot be found: its host name does not resolve"
        cause = cause.__cause__ or cause.__context__
    if isinstance(error, TimeoutError) or name == "TimeoutError":
        return f"does not answer within {ANSWER_SECONDS:.0f} s"
    if name == "AuthenticationError" or re.match("(WRONGPASS|NOAUTH)", text):
        return "refuses the user or password of REDIS_URI"
    if refusal := _REFUSED.search(text):
        return f"does not allow this user what is needed ({refusal[0]})"
    if name in {"MovedError", "AskError", "ClusterDownError"}:
        return "is a cluster of several nodes, which is not supported: use one with cluster mode off, or of one shard"
    if name == "OutOfMemoryError" or text.startswith("OOM"):
        return "is out of memory (its maxmemory is reached)"
    return f"cannot be used ({text or name})"
