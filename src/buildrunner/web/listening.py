"""Listen for connections, no more of them than the process has descriptors for."""

from __future__ import annotations

import asyncio
import ipaddress
import logging
import resource
import socket
from contextlib import suppress

KEEP_ALIVE_SECONDS = 75.0  # of an idle connection: longer than proxies keep one (nginx and ALB: 60)
BACKLOG = 1024
_SEND_BUFFER_BYTES = (
    128 * 2**10
)  # of each socket in the kernel, which doubles it: a viewer that takes nothing holds no more
_MAX_CONNECTIONS = 10_000
_OTHER_DESCRIPTORS = 300


class RefusedConnection(asyncio.Protocol):
    """A connection that is one too many."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        transport.write(
            b"HTTP/1.1 503 Service Unavailable\r\nRetry-After: 5\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
        )
        transport.close()


def silent_logger(name: str) -> logging.Logger:
    """Return a logger for aiohttp, which writes requests that it cannot parse as they are, secrets included."""
    logger = logging.Logger(name)
    logger.addHandler(logging.NullHandler())
    return logger


def listen(host: str, port: int) -> socket.socket:
    """Return a listening socket.

    Raises:
        OSError: the address is not available.

    """
    family, kind, number, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[
        0
    ]
    listener = socket.socket(family, kind, number)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _SEND_BUFFER_BYTES)
        listener.bind(address)
        listener.listen(BACKLOG)
        listener.setblocking(False)
    except BaseException:
        listener.close()
        raise
    return listener


def address_of(host: str, listener: socket.socket) -> str:
    """Return the address of a listening socket, `http://HOST:PORT`."""
    shown = f"[{host}]" if ":" in host else host
    return f"http://{shown}:{listener.getsockname()[1]}"


def raise_connection_limit() -> int:
    """Allow as many open files as the machine does, and return how many connections that is enough for."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = _MAX_CONNECTIONS + _OTHER_DESCRIPTORS
    if soft < wanted:
        with suppress(ValueError, OSError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (min(wanted, hard) if hard >= 0 else wanted, hard))
        soft = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    return min(_MAX_CONNECTIONS, max(16, soft - _OTHER_DESCRIPTORS))


def is_loopback(host: str) -> bool:
    """Return whether a host of a URL or `--host` is this machine: `localhost`, a name below it, or a loopback address."""
    host = host.lower().removeprefix("[").removesuffix("]")
    if host == "localhost" or host.endswith(".localhost"):
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
