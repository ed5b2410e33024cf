"""Bound what viewers can take: requests of one address, connections in all, and how long one may take nothing."""

from __future__ import annotations

import asyncio
import fcntl
import ipaddress
import struct
import termios
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import lru_cache
from typing import Protocol

from aiohttp import web

STALLED_SECONDS = 30.0
_LOOK_SECONDS = 2.0
MAX_PER_ADDRESS = 512  # requests at once; an office, or a node of a CDN, is one address


class TooManyRequests(Exception):
    """One address has too many requests at once."""


class Clients:
    """Open requests by client address."""

    def __init__(self) -> None:
        self._requests: Counter[str] = Counter()

    @contextmanager
    def request(self, request: web.BaseRequest) -> Iterator[None]:
        """Count a request while it lasts."""
        address = client_address(request.remote, request.headers.getall("X-Forwarded-For", []))
        if address is None:
            yield
            return
        if self._requests[address] >= MAX_PER_ADDRESS:
            raise TooManyRequests
        self._requests[address] += 1
        try:
            yield
        finally:
            self._requests[address] -= 1
            if not self._requests[address]:
                del self._requests[address]


def client_address(peer: str | None, forwarded: list[str]) -> str | None:
    """Return the public address of the client, or None if it is unknown.

    Of X-Forwarded-For, only the last entry counts, and only from a proxy in a private network. The client sets the others.
    """
    if not _is_private(peer):
        return peer
    last = ",".join(forwarded).rpartition(",")[2].strip()
    return last if last and not _is_private(last) else None


@lru_cache(4096)
def _is_private(address: str | None) -> bool:
    try:
        return not ipaddress.ip_address(address or "").is_global
    except ValueError:
        return True


class Writer(Protocol):
    """Destination of a body in pieces, with back-pressure."""

    async def write(self, data: bytes | memoryview) -> None:
        """Write a piece."""


class Viewer:
    """A client that receives a long response."""

    def __init__(self, request: web.BaseRequest, now: float) -> None:
        self.written_at = now
        self._transport = request.transport
        self._socket = request.transport.get_extra_info("socket") if request.transport else None
        self._written = 0  # bytes
        self._taken = 0  # bytes, when it was looked at last
        self._progress_at = now

    def count(self, written: int) -> None:
        """Count bytes that were written in another way."""
        self._written += written

    async def write(self, response: Writer, data: bytes, most: int) -> None:
        """Send data in slices; returns when all but a small rest was taken."""
        for at in range(0, len(data), most):
            piece = memoryview(data)[at : at + most] if len(data) > most else data
            self._written += len(piece)
            await response.write(piece)
        self.written_at = time.monotonic()

    def look(self, now: float) -> None:
        """Disconnect a viewer that has taken nothing for long while something waits."""
        transport = self._transport
        if transport is None or transport.is_closing():
            return
        waiting = transport.get_write_buffer_size() + _unsent(self._socket)
        taken = self._written - waiting
        if not waiting or taken != self._taken:
            self._taken, self._progress_at = taken, now
        elif now - self._progress_at >= STALLED_SECONDS:
            transport.abort()


class Viewers:
    """All who are sent a log."""

    def __init__(self) -> None:
        self._viewers: dict[Viewer, asyncio.Task[object] | None] = {}

    @contextmanager
    def viewer(self, request: web.BaseRequest) -> Iterator[Viewer]:
        """Count a viewer while the request lasts."""
        viewer = Viewer(request, time.monotonic())
        self._viewers[viewer] = asyncio.current_task()
        try:
            yield viewer
        finally:
            del self._viewers[viewer]

    async def watch(self) -> None:
        """Look after all of them until cancelled."""
        while True:
            await asyncio.sleep(_LOOK_SECONDS)
            now = time.monotonic()
            for viewer in list(self._viewers):
                viewer.look(now)

    def leave(self) -> None:
        """End all of their requests."""
        for task in self._viewers.values():
            if task:
                task.cancel()


def _unsent(socket: object) -> int:
    """Return how many bytes the kernel holds that the viewer's machine has not got (SIOCOUTQ, tcp(7))."""
    with suppress(OSError, AttributeError, ValueError):
        return int(struct.unpack("i", fcntl.ioctl(socket.fileno(), termios.TIOCOUTQ, b"\0" * 4))[0])  # type: ignore[attr-defined]
    return 0
