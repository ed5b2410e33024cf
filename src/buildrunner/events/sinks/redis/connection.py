"""Connect to Redis, and explain connection failures to people."""

from __future__ import annotations

import re
import socket
import ssl
from contextlib import suppress
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

if TYPE_CHECKING:
    from redis.asyncio import Redis

ANSWER_SECONDS = 5.0  # a server that is silent for longer counts as gone, and its connection as lost
# Messages of an ACL (redis.io/docs/latest/operate/oss_and_stack/management/security/acl), or of a server without the command.
_REFUSED = re.compile(
    r"(?i)(?:(?:this user|user \S+) has )?no permissions to (?:run the '\S+' command|access [\w ]+)"
    r"|unknown (?:redis )?command[^,]*"
)
# Reasons why a server refuses a write, by error code. Redis 6 puts the code in the middle of the message if a script was
# refused; redis-py removes the codes that it has a class for.
_NO_WRITES = {
    "OOM|OutOfMemoryError": "is out of memory (its maxmemory is reached)",
    "READONLY|ReadOnlyError": "is a read-only replica, not the primary",
    "MISCONF": "refuses writes because it cannot save its data to disk",
    "NOREPLICAS": "refuses writes because too few replicas are connected (min-replicas-to-write)",
    "LOADING|BusyLoadingError": "is still loading its data",
    "MASTERDOWN|MasterDownError": "is a replica that has lost its primary",
}
_SENTINEL = "is a Sentinel, which stores no logs: set REDIS_URI to the primary that it monitors"


class SentinelError(Exception):
    """The server is a Sentinel."""


def open_client(uri: str) -> Redis:
    """Return a client with one connection that never sends a command twice."""
    import redis.asyncio
    from redis.asyncio.retry import Retry
    from redis.backoff import NoBackoff

    client = redis.asyncio.from_url(
        uri,
        socket_connect_timeout=ANSWER_SECONDS,
        socket_timeout=ANSWER_SECONDS,
        single_connection_client=True,
        retry=Retry(NoBackoff(), 0),
        decode_responses=True,
    )
    client.connection_pool.connection_class = _packed_in_c(client.connection_pool.connection_class)
    return client


async def has_run_for(client: Redis, seconds: float) -> bool:
    """Return whether this server has certainly been the primary for that long, and still has its data.

    False if the user may not use `INFO`.
    """
    info = await _info(client)
    never_replica = str(info.get("master_replid2")).strip("0") == ""  # the client parses a string of zeros as a number
    return info.get("role") == "master" and never_replica and int(info["uptime_in_seconds"]) > seconds + 1


async def find_sentinel(client: Redis, error: Exception) -> Exception:
    """Return a better error for an unknown command on a Sentinel."""
    from redis.exceptions import RedisError

    with suppress(RedisError, OSError):
        if "unknown" in (find_refusal(error) or ""):
            info = await _info(client)
            if "sentinel" in {info.get("redis_mode"), info.get("server_mode")}:
                return SentinelError()
    return error


async def reconnect(client: Redis) -> None:
    """Reconnect if the connection is closed; after some errors of the server the client closes it."""
    await client.initialize()
    if is_closed(client):
        assert client.connection is not None
        await client.connection.disconnect(nowait=True)
        await client.connection.connect()  # type: ignore[no-untyped-call]


def is_closed(client: Redis) -> bool:
    """Return whether the server has closed the connection, so that a command sent now is certainly not executed."""
    reader = client.connection._reader if client.connection else None  # redis has no public name for it
    return reader is None or reader.at_eof() or reader.exception() is not None


def is_reply(error: BaseException) -> bool:
    """Return whether the server returned this error instead of executing the command."""
    from redis.exceptions import AuthenticationError, BusyLoadingError, ResponseError

    return isinstance(error, ResponseError | BusyLoadingError | AuthenticationError)


def find_refusal(error: Exception) -> str | None:
    """Return the server's message if this user, or this server, may not run a command."""
    found = _REFUSED.search(_words(error))
    return found[0] if found else None


def address(uri: str) -> str:
    """Return the address of a Redis server without user and password."""
    parts = urlsplit(uri)
    return parts.path if parts.scheme == "unix" else f"{parts.hostname}:{parts.port or 6379}"


def explain(error: Exception) -> str:
    """Complete the sentence "Redis at … " for an exception of the client."""
    name, text = type(error).__name__, _words(error)
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
    if isinstance(error, SentinelError) or "Sentinel instances" in text:
        return _SENTINEL
    if isinstance(error, TimeoutError) or name == "TimeoutError":
        return f"does not answer within {ANSWER_SECONDS:.0f} s"
    if name == "AuthenticationError" or re.match("(WRONGPASS|NOAUTH)", text):
        return "refuses the user or password of REDIS_URI"
    if refusal := find_refusal(error):
        return f"does not allow this user what is needed ({refusal})"
    if name in {"MovedError", "AskError", "ClusterDownError"}:
        return "is a cluster of several nodes, which is not supported: use one with cluster mode off, or of one shard"
    for codes, reason in _NO_WRITES.items():
        if name in codes.split("|") or re.search(rf"\b({codes}) ", text):
            return reason
    return f"cannot be used ({text or name})"


async def _info(client: Redis) -> dict[str, Any]:
    try:
        return dict(await client.info())
    except Exception as error:
        if not is_reply(error):
            raise
        return {}


def _words(error: Exception) -> str:
    """Return the server's message without the command quoted by the client, which contains lines of the build."""
    text = " ".join(str(error).split())
    _, quoted, words = text.rpartition(" of pipeline caused error: ")
    return words.strip("(',)") if quoted else text


def _packed_in_c(connection: Any) -> Any:
    """Let hiredis pack commands, as in redis-py's synchronous client: 1,000 arguments take 0.06 ms instead of 0.8 ms."""
    import hiredis

    class Packed(connection):  # type: ignore[misc]
        def pack_command(self, *arguments: Any) -> list[bytes]:
            name, *others = arguments
            return [hiredis.pack_command((*name.split(), *others))]

    return Packed
