"""Check Redis: that it answers, and each command that a build sends, with a stream and a channel of their own."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from email.utils import formatdate
from typing import TYPE_CHECKING, Any

import anyio

from buildrunner.commands.doctor.check import Check, Checks
from buildrunner.events.sinks.redis.connection import (
    address,
    explain,
    find_refusal,
    find_sentinel,
    open_client,
    reconnect,
)

if TYPE_CHECKING:
    from redis.asyncio import Redis

_HINT = "Check REDIS_URI (rediss:// for a server that speaks TLS) and the network: firewall, security group, DNS."
_ALLOW = "Allow them to the user of REDIS_URI: docs/events.md has the line for ACL SETUSER."
_CLEANUP_SECONDS = 10.0


class RedisChecks:
    """Checks the Redis of builds.

    Args:
        uri: `REDIS_URI`.
        stream: a key that no build uses.
        channel: a channel that no build uses.
        clock: takes what the server says about the time, in the format of HTTP.

    """

    def __init__(self, uri: str, *, stream: str, channel: str, clock: Callable[[str], None]) -> None:
        self._uri = uri
        self._stream = stream
        self._channel = channel
        self._clock = clock
        self._refused: dict[str, str] = {}  # the command, and what the server says

    async def run(self) -> Checks:
        """Yield the checks."""
        client = open_client(self._uri)
        try:
            reached = await self._reach(client)
            yield reached
            if reached.status == "failed":
                return
            try:
                yield await self._check_stream(client)
            finally:
                await self._clean_up(client)
            yield await self._check_channel(client)
        finally:
            with anyio.move_on_after(_CLEANUP_SECONDS, shield=True):
                await client.aclose()

    async def _reach(self, client: Redis) -> Check:
        started = time.monotonic()
        try:
            await client.initialize()
            seconds = time.monotonic() - started
            answer = await self._send(client, "TIME")
            if answer:
                self._clock(formatdate(int(answer[0]), usegmt=True))
        except Exception as error:  # _failed describes any error of the client
            return await self._failed("redis", client, error)
        return Check("redis", "ok", f"Redis at {address(self._uri)} answers in {seconds * 1000:.0f} ms.")

    async def _check_stream(self, client: Redis) -> Check:
        key = self._stream
        try:
            entry = await self._send(client, "XADD", key, "*", "event", "{}")
            commands = [("EXISTS", key), ("XINFO STREAM", key), ("EXPIRE", key, "60"), ("XTRIM", key, "MAXLEN", "0")]
            for command in commands:
                if entry or command[0] != "XINFO STREAM":  # which fails without a stream
                    await self._send(client, *command)
            script = await self._send(client, "EVAL", "return 1", "0")
        except Exception as error:
            return await self._failed("redis stream", client, error)
        if lacking := [name for name in self._refused if name != "EVAL"]:
            return Check(
                "redis stream",
                "failed",
                f"Redis does not allow this user {', '.join(lacking)}: the live log only goes to the channel.",
                _ALLOW,
            )
        if script is None:
            return Check(
                "redis stream",
                "warning",
                "Redis does not allow this user EVAL: builds use transactions, which take twice the round trips.",
                "Allow +eval +evalsha to the user of REDIS_URI.",
            )
        return Check("redis stream", "ok", f"An entry ({entry}) was written to a stream and removed.")

    async def _check_channel(self, client: Redis) -> Check:
        try:
            sent = await self._send(client, "PUBLISH", self._channel, "")
        except Exception as error:
            return await self._failed("redis channel", client, error)
        if sent is None:
            return Check(
                "redis channel",
                "failed",
                f"Redis does not allow this user PUBLISH to {self._channel}: viewers of the channel see nothing.",
                "Allow +publish and the channels (&logs:*) to the user of REDIS_URI.",
            )
        return Check("redis channel", "ok", "A message was published to a channel.")

    async def _send(self, client: Redis, *command: str) -> Any:
        """Send a command; return None, and note it, where this user may not run it."""
        call: Callable[..., Awaitable[Any]] = client.execute_command
        try:
            return await call(*command)
        except Exception as error:
            error = await find_sentinel(client, error)
            refusal = find_refusal(error)
            if refusal is None:
                raise error from None
            self._refused[command[0]] = refusal
            await reconnect(client)
            return None

    async def _failed(self, name: str, client: Redis, error: Exception) -> Check:
        return Check(name, "failed", f"Redis at {address(self._uri)} {explain(error)}.", _HINT)

    async def _clean_up(self, client: Redis) -> None:
        """Remove the stream, as far as a user may that only writes logs."""
        from redis.exceptions import RedisError

        commands = [("XTRIM", self._stream, "MAXLEN", "0"), ("EXPIRE", self._stream, "1")]
        if "EXPIRE" in self._refused:
            commands.append(("DEL", self._stream))
        with anyio.move_on_after(_CLEANUP_SECONDS, shield=True):
            for command in commands:
                with suppress(RedisError, OSError):
                    await self._send(client, *command)
