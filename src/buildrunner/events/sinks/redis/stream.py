"""Write the events of one build to the stream of its site, which always belongs to the latest build.

The id of the last entry is `<run>-<seq>`, and shows how far a build got. `run` orders the builds of a site: the start of the
build in ms by the clock of Redis. A batch is one call of a Lua script, which Redis executes completely or not at all. Where
scripts are refused, a transaction that watches the stream does the same with twice as many round trips.
"""

from __future__ import annotations

import hashlib
import random
from collections.abc import Awaitable, Callable, Sequence
from enum import IntEnum
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

import anyio

if TYPE_CHECKING:
    from redis.asyncio import Redis

_T = TypeVar("_T")

PROMPT_SECONDS = 0.05  # a response this fast is accurate enough to read the clock
MAX_NUMBER = 2**53 - 2  # largest integer of a Lua number

# Claims the stream for a build: removes entries of earlier builds, and stores the build's number as the stream's last id.
# XADD and XTRIM instead of DEL: a deleted stream forgets its last id, so that an earlier build could write again.
# ARGV: TTL in seconds, and the build's number.
# Returns '' if the stream belongs to this build, else its current number, which is not smaller, and the time (ms).
_CLAIM = """
local last, run = 0, tonumber(ARGV[2])
if redis.call('EXISTS', KEYS[1]) == 1 then
  local info = redis.call('XINFO', 'STREAM', KEYS[1])
  for i = 1, #info, 2 do
    if info[i] == 'last-generated-id' then last = tonumber(string.match(info[i + 1], '^(%d+)')) end
  end
end
if last >= run then
  local time = redis.call('TIME')
  return {string.format('%.0f', last), string.format('%.0f', time[1] * 1000 + math.floor(time[2] / 1000))}
end
redis.call('XADD', KEYS[1], ARGV[2] .. '-0', 'event', '')
redis.call('XTRIM', KEYS[1], 'MAXLEN', 0)
redis.call('EXPIRE', KEYS[1], ARGV[1])
return {'', ''}
"""

# Appends a batch. ARGV: number of the build, number of the first event, TTL in seconds, channel, 1 to continue only a stream of
# this build, number of events, the events, then the messages for the channel (none for those already sent).
# Returns {1, last id before} on success. Writes nothing and returns {0, last id} if the stream is at another event, and
# {2, last id} if it belongs to a later build. Refused writes precede all messages: after an error, none was sent.
_APPEND = """
local run, first, count = ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[6])
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
  if first ~= 1 or ARGV[5] == '1' then return {0, last} end
  if last ~= '0-0' then redis.call('XTRIM', KEYS[1], 'MAXLEN', 0) end
elseif tonumber(last_seq) ~= first - 1 then
  return {0, last}
end
for i = 1, count do
  redis.call('XADD', KEYS[1], run .. '-' .. string.format('%.0f', first + i - 1), 'event', ARGV[6 + i])
end
redis.call('EXPIRE', KEYS[1], ARGV[3])
for i = 7 + count, #ARGV do redis.call('PUBLISH', ARGV[4], ARGV[i]) end
return {1, last}
"""


class AppendOutcome(IntEnum):
    """The outcome of an append."""

    ELSEWHERE = 0
    WRITTEN = 1
    LATER = 2


class StreamPosition(NamedTuple):
    """The last id of the stream."""

    run: int
    seq: int


class StreamWriter:
    """Claim the stream for a build, and append to it.

    Args:
        key: key of the stream.
        channel: channel of the messages that are published with a batch.
        ttl: seconds that the stream exists after its last event.
        started: start of the build (clock of anyio, seconds); by default now.

    """

    def __init__(self, key: str, *, channel: str, ttl: int, started: float | None = None) -> None:
        self._key = key
        self._channel = channel
        self._ttl = ttl
        self._started = anyio.current_time() if started is None else started
        self.scripted = True  # false once Redis has refused scripts
        self.number: int | None = None  # number of the claim
        self.claimed = False

    async def claim(self, client: Redis) -> bool:
        """Claim the stream for this build; return False if a later build owns it.

        The number is the start of the build by the clock of Redis, which may have been unreachable for a while, so that a later
        claim need not be of a later build. If the stream already has that number, the claim uses the next one: another build may
        have started in the same millisecond, the response to this build's own claim may be lost, or the clock was ahead. No two
        builds can therefore use the same number.
        """
        if self.number is None:
            self.number = await self._ask_beginning(client)
        while not self.claimed:
            claim = self._claim_by_script if self.scripted else self._claim_by_transaction
            found = await claim(client, self.number)
            if found is None:
                self.claimed = True
                break
            last, now = found
            if self.number < last <= now:
                return False
            if last >= MAX_NUMBER:
                from redis.exceptions import ResponseError

                raise ResponseError(f"the last id of {self._key} is {last}-…, which no run can follow: delete it")
            self.number = last + 1
        return True

    async def append(
        self, client: Redis, first: int, events: Sequence[bytes], messages: Sequence[str | bytes], *, only_own: bool
    ) -> tuple[AppendOutcome, StreamPosition]:
        """Append events (possibly none) and publish messages, all or nothing.

        Args:
            client: client of Redis.
            first: number of the first event.
            events: encoded events.
            messages: messages for the channel.
            only_own: do nothing unless the stream belongs to this build, even for its first events.

        Returns:
            The outcome, and the last id of the stream before.

        """
        assert self.number is not None
        if self.scripted:
            arguments = (self.number, first, self._ttl, self._channel, int(only_own), len(events), *events, *messages)
            answer, last = await self._call(client, _APPEND, *arguments)
            return AppendOutcome(answer), _place(last)
        return await _again_if_changed(
            lambda: self._append_by_transaction(client, first, events, messages, only_own=only_own)
        )

    async def _ask_beginning(self, client: Redis) -> int:
        """Return the start of the build in ms, by the clock of Redis: the fastest of three responses, or a fast first one."""
        found: list[tuple[float, int]] = []
        while len(found) < 3 and (not found or min(found)[0] > PROMPT_SECONDS):
            asked = anyio.current_time()
            seconds, microseconds = await client.time()
            now = anyio.current_time()
            age = round((now - self._started) * 1000)
            found.append((now - asked, seconds * 1000 + microseconds // 1000 - age))
        return min(found)[1]

    async def _claim_by_script(self, client: Redis, number: int) -> tuple[int, int] | None:
        last, now = await self._call(client, _CLAIM, self._ttl, number)
        return (int(last), int(now)) if last else None

    async def _claim_by_transaction(self, client: Redis, number: int) -> tuple[int, int] | None:
        """Do the same as `_CLAIM`."""

        async def claim() -> tuple[int, int] | None:
            async with _transaction(client) as transaction:
                last = await self._watched_place(transaction)
                seconds, microseconds = await transaction.time()
                transaction.multi()
                if last.run < number:
                    transaction.xadd(self._key, {"event": ""}, id=f"{number}-0")
                    transaction.xtrim(self._key, maxlen=0, approximate=False)
                    transaction.expire(self._key, self._ttl)
                await transaction.execute()
            return None if last.run < number else (last.run, seconds * 1000 + microseconds // 1000)

        return await _again_if_changed(claim)

    async def _append_by_transaction(
        self, client: Redis, first: int, events: Sequence[bytes], messages: Sequence[str | bytes], *, only_own: bool
    ) -> tuple[AppendOutcome, StreamPosition]:
        """Do the same as `_APPEND`."""
        run = self.number
        assert run is not None
        async with _transaction(client) as transaction:
            last = await self._watched_place(transaction)
            answer = AppendOutcome.WRITTEN
            transaction.multi()
            if last.run > run:
                answer = AppendOutcome.LATER
            elif first != (last.seq + 1 if last.run == run else 1) or (only_own and last.run != run):
                answer = AppendOutcome.ELSEWHERE
            else:
                if last.run not in {run, 0}:
                    transaction.xtrim(self._key, maxlen=0, approximate=False)
                for seq, event in enumerate(events, first):
                    transaction.xadd(self._key, {"event": event}, id=f"{run}-{seq}")
                transaction.expire(self._key, self._ttl)
                for message in messages:
                    transaction.publish(self._channel, message)
            # Even if it is empty: it ends the watch without UNWATCH, which the user may not be permitted to use.
            await transaction.execute()
        return answer, last

    async def _call(self, client: Redis, script: str, *arguments: str | bytes | int) -> Any:
        from redis.exceptions import NoScriptError

        try:
            digest = hashlib.sha1(script.encode()).hexdigest()  # noqa: S324 - Redis names scripts by it
            return await client.evalsha(digest, 1, self._key, *arguments)
        except NoScriptError:
            return await client.eval(script, 1, self._key, *arguments)

    async def _watched_place(self, transaction: Any) -> StreamPosition:
        """Return the stream's last id; after that, the transaction fails (WatchError) if the stream changes."""
        from redis.exceptions import ResponseError

        await transaction.watch(self._key)
        try:
            return _place((await transaction.xinfo_stream(self._key))["last-generated-id"])
        except ResponseError as error:
            if "no such key" not in str(error):
                raise
        return StreamPosition(0, 0)


def _place(entry: str) -> StreamPosition:
    run, _, seq = entry.partition("-")
    return StreamPosition(int(run), int(seq))


async def _again_if_changed(transact: Callable[[], Awaitable[_T]]) -> _T:
    """Retry a transaction if the stream changed between its read and its write, which then did nothing."""
    from redis.exceptions import WatchError

    while True:
        try:
            return await transact()
        except WatchError as error:
            if error.__context__:  # also raised for a broken connection, after which the write may have been executed
                raise error.__context__ from None
            await anyio.sleep(random.uniform(0.0, 0.02))  # noqa: S311 - so that two runs do not meet again


def _transaction(client: Redis) -> Any:  # its `multi` has no types
    return client.pipeline(transaction=True)
