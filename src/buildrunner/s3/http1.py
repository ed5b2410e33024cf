"""Keep connections to one S3 server open, and speak as much HTTP/1.1 on them as small objects need.

It is strict: a response that violates RFC 9112 closes its connection and counts as none, because callers have a fallback.
No server can make it wait forever or use much memory: a request without progress times out, and the size of a response is
limited.
"""

from __future__ import annotations

import asyncio
import fcntl
import re
import ssl
import sys
import termios
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass

import anyio

CONNECT_TIMEOUT = 5  # seconds, including the TLS handshake
# Seconds without progress: sending bytes of the request, and after that receiving the whole response. With the four attempts of
# aiobotocore that follow, a build finds out within two minutes that it cannot succeed.
STALLED_AFTER = 10
MAX_HEAD = 64 * 2**10  # bytes, including interim responses
MAX_BODY = 64 * 2**10  # bytes; S3's error documents are smaller than 1,000 bytes
_MAX_CHUNKS = 1000  # parsing starts again from the first chunk whenever more arrive
_HELD = 64 * 2**10  # bytes of a body buffered for the kernel; asyncio's limit for TLS is eight times as high
_IDLE_FOR = 12  # seconds, as in aiobotocore: proxies drop connections that are idle for longer
_LOOK_EACH = 1  # second between two checks for progress
_OTHER_FAMILY_AFTER = 0.25  # seconds: https://www.rfc-editor.org/rfc/rfc8305#section-8
_STATUS_LINE = re.compile(rb"HTTP/1\.([01]) ([1-9]\d\d)(?: [^\r\n\0]*)?")
_FIELDS = re.compile(rb"(?:[!#$%&'*+.^_`|~0-9A-Za-z-]++:[^\r\n\0]*+\r\n)*+")
_OF_FRAMING = {b"content-length", b"transfer-encoding"}
_CHUNK = re.compile(rb"([0-9A-Fa-f]{1,8})[ \t]*(?:;[^\r\n\0]*)?")


class ProtocolError(Exception):
    """The server does not speak HTTP/1.1, or its response is too large."""


@dataclass(frozen=True, slots=True)
class HttpResponse:
    """A response of the server."""

    status: int
    headers: dict[bytes, bytes]  # names in lower case; the last value of a repeated name, unless its values must agree
    body: bytes
    keep: bool  # whether the connection may be reused


class Connections:
    """Keep as many connections to one server open as there were concurrent requests.

    Args:
        host: host name or address, without brackets.
        tls: context that verifies certificates; None without TLS.

    """

    def __init__(self, host: str, port: int, tls: ssl.SSLContext | None) -> None:
        self._host = host
        self._port = port
        self._tls = tls
        self._open: set[_Connection] = set()
        self._idle: list[_Connection] = []  # the most recently used connection is last, and reused first
        self._looking: asyncio.TimerHandle | None = None

    async def request(
        self, head: bytes, body: bytes | Callable[[], Iterable[bytes]], *, max_body: int = MAX_BODY
    ) -> HttpResponse:
        """Send a request, and return the response.

        The server may close an idle connection while a request is on its way. Then the request is sent once more over a new
        connection, so it must be safe to repeat.

        Args:
            head: request line and headers, including `content-length` and the empty line at the end.
            body: the body, or a function that returns its pieces from the start at each call.
            max_body: maximum size of the response body, bytes.

        Raises:
            OSError: the server is unreachable or untrusted, or closed the connection; TimeoutError without progress.
            ProtocolError: the response is not valid.

        """
        connection = self._reusable()
        if connection:
            try:
                return await self._exchange(connection, head, body, max_body)
            except (ConnectionError, ssl.SSLError):
                if connection.has_answered:
                    raise
        return await self._exchange(await self._connect(), head, body, max_body)

    def close(self) -> None:
        """Close all connections immediately, including those in use."""
        for connection in list(self._open):
            connection.abort()
        if self._looking:
            self._looking.cancel()

    def _reusable(self) -> _Connection | None:
        oldest = asyncio.get_running_loop().time() - _IDLE_FOR
        while self._idle:
            connection = self._idle.pop()
            if connection.since >= oldest and not connection.is_closing:
                return connection
            connection.abort()
        return None

    async def _connect(self) -> _Connection:
        loop = asyncio.get_running_loop()
        with anyio.fail_after(CONNECT_TIMEOUT):
            _, connection = await loop.create_connection(
                lambda: _Connection(loop, self._open),
                self._host,
                self._port,
                ssl=self._tls,
                server_hostname=self._host.rstrip(".") if self._tls else None,
                happy_eyeballs_delay=_OTHER_FAMILY_AFTER,
            )
        return connection

    async def _exchange(
        self, connection: _Connection, head: bytes, body: bytes | Callable[[], Iterable[bytes]], max_body: int
    ) -> HttpResponse:
        if not self._looking:
            self._looking = asyncio.get_running_loop().call_later(_LOOK_EACH, self._look)
        answer = await connection.exchange(head, body, max_body)
        if answer.keep:
            self._idle.append(connection)
        else:
            connection.abort()
        return answer

    def _look(self) -> None:
        loop = asyncio.get_running_loop()
        self._looking = loop.call_later(_LOOK_EACH, self._look)
        busy = [connection.look(loop.time()) for connection in self._open]
        if not any(busy):
            self._looking.cancel()
            self._looking = None


class _Connection(asyncio.Protocol):
    """One connection, which carries at most one request at a time."""

    def __init__(self, loop: asyncio.AbstractEventLoop, register: set[_Connection]) -> None:
        self.since = loop.time()  # time of the last progress
        self.has_answered = False  # whether any part of the response has arrived
        self._loop = loop
        self._register = register
        self._transport: asyncio.Transport
        self._answer: asyncio.Future[HttpResponse | Exception] | None = None  # set during a request
        self._max_body = MAX_BODY  # bytes of the response
        self._received = bytearray()
        self._room: asyncio.Future[None] | None = None  # set while the transport's buffer is full
        self._unsent = 0  # bytes at the last check

    async def exchange(
        self, head: bytes, body: bytes | Callable[[], Iterable[bytes]], max_body: int = MAX_BODY
    ) -> HttpResponse:
        """Send a request and return its response; close the connection if that fails or is cancelled."""
        transport = self._transport
        answered: asyncio.Future[HttpResponse | Exception] = self._loop.create_future()
        self._answer, self.has_answered, self.since = answered, False, self._loop.time()
        self._max_body = max_body
        whole = True
        try:
            if isinstance(body, bytes):
                transport.write(head + body)
            else:
                transport.write(head)
                for piece in body():
                    if self._room:
                        await self._room
                    if whole := not answered.done():
                        self.since = self._loop.time()
                        transport.write(piece)
                    else:
                        break  # refused, or the connection is lost
            answer = await answered
            if isinstance(answer, Exception):
                raise answer
        except BaseException:
            self.abort()
            raise
        finally:
            self._answer = None
        # A response before the end of the request leaves the rest of the body on the connection, where the server may read it as
        # another request. It can't be known what the server has read, but it can't have stored a body that it has not read.
        if not answer.keep or (whole and (answer.status == 200 or not body) and not transport.get_write_buffer_size()):
            return answer
        return HttpResponse(answer.status, answer.headers, answer.body, keep=False)

    @property
    def is_closing(self) -> bool:
        return self._transport.is_closing()

    def abort(self) -> None:
        self._transport.abort()

    def look(self, now: float) -> bool:
        """Return whether a request is in progress, and abort it if it made no progress for too long."""
        if not self._answer:
            return False
        if (unsent := self._transport.get_write_buffer_size() + self._unacknowledged()) != self._unsent:
            self._unsent, self.since = unsent, now
        elif now - self.since >= STALLED_AFTER:
            self._fail(TimeoutError())
            self.abort()
        return True

    def _unacknowledged(self) -> int:
        """Return how many bytes the kernel has not transmitted yet; on a slow network that takes long."""
        there = self._transport.get_extra_info("socket")  # None briefly after TLS lost its connection
        with suppress(OSError, ValueError):
            return (
                int.from_bytes(fcntl.ioctl(there.fileno(), termios.TIOCOUTQ, bytes(4)), sys.byteorder) if there else 0
            )
        return 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        transport.set_write_buffer_limits(_HELD)
        self._transport = transport
        self._register.add(self)

    def data_received(self, data: bytes) -> None:
        if not self._answer or self._answer.done():
            self.abort()  # data without a request
            return
        self.has_answered = True
        self._received += data
        self._parse(ended=False)

    def pause_writing(self) -> None:
        self._room = self._loop.create_future()

    def resume_writing(self) -> None:
        if self._room and not self._room.done():
            self._room.set_result(None)
        self._room = None

    def connection_lost(self, error: Exception | None) -> None:
        self._register.discard(self)
        if self._answer and not self._answer.done() and error is None and self._received:
            self._parse(ended=True)
        self._fail(ConnectionResetError("closed without an answer") if error is None else error)
        self.resume_writing()

    def _parse(self, *, ended: bool) -> None:
        assert self._answer
        try:
            answer = parse(self._received, ended=ended, max_body=self._max_body)
        except ProtocolError as error:
            self._fail(error)
            self.abort()
            return
        if answer:
            self._received.clear()
            self._answer.set_result(answer)
            self.resume_writing()  # the rest of the body is not needed

    def _fail(self, error: Exception) -> None:
        if self._answer and not self._answer.done():
            self._answer.set_result(error)
            self.resume_writing()


def parse(received: bytes | bytearray, *, ended: bool, max_body: int = MAX_BODY) -> HttpResponse | None:
    """Parse a response to a request other than HEAD and CONNECT; return None if it is incomplete.

    `ended` is true if the connection is closed. https://www.rfc-editor.org/rfc/rfc9112

    Raises:
        ProtocolError: the response is invalid, whatever follows.

    """
    start = 0
    while True:
        end = received.find(b"\r\n\r\n", start, MAX_HEAD)
        if end < 0:
            if len(received) >= MAX_HEAD or not b"HTTP/1.".startswith(bytes(received[start : start + 7])):
                raise ProtocolError
            return None
        status_line, _, fields = bytes(received[start : end + 2]).partition(b"\r\n")
        start = end + 4
        found = _STATUS_LINE.fullmatch(status_line)
        if not found or found[2] == b"101" or not _FIELDS.fullmatch(fields):
            raise ProtocolError
        if found[2][:1] != b"1":  # else an interim response, such as 100 Continue, precedes the final one
            break
    status = int(found[2])
    headers: dict[bytes, bytes] = {}
    for field in fields.split(b"\r\n")[:-1]:
        name, _, value = field.partition(b":")
        name, value = name.lower(), value.strip(b" \t")
        if name in _OF_FRAMING and headers.get(name, value) != value:
            raise ProtocolError
        if name == b"connection" and name in headers:
            value = b"%s, %s" % (headers[name], value)
        headers[name] = value
    wanted = headers.get(b"connection", b"").lower()
    keep = b"close" not in wanted if found[1] == b"1" else b"keep-alive" in wanted
    length = headers.get(b"content-length")
    if status in {204, 304}:
        body: bytes | None = b""
        end = start
    elif coding := headers.get(b"transfer-encoding"):
        if length is not None or coding.lower() != b"chunked":
            raise ProtocolError
        body, end = _dechunk(received, start, max_body)
    elif length is not None:
        if not length.isdigit() or len(length) > 10 or int(length) > max_body:
            raise ProtocolError
        end = start + int(length)
        body = bytes(received[start:end]) if len(received) >= end else None
    else:  # the body ends when the server closes the connection
        if len(received) - start > max_body:
            raise ProtocolError
        body, end, keep = bytes(received[start:]) if ended else None, len(received), False
    if body is None:
        return None
    return HttpResponse(status, headers, body, keep=keep and len(received) == end)


def _dechunk(received: bytes | bytearray, start: int, max_body: int) -> tuple[bytes | None, int]:
    """Return a chunked body and its end; None if it is incomplete."""
    body = bytearray()
    at, most = start, start + 2 * max_body
    for _ in range(_MAX_CHUNKS):
        end = received.find(b"\r\n", at, most)
        if end < 0:
            if len(received) >= most or len(received) - at > 4096:
                raise ProtocolError
            return None, 0
        found = _CHUNK.fullmatch(received, at, end)
        if not found:
            raise ProtocolError
        size = int(found[1], 16)
        if len(body) + size > max_body:
            raise ProtocolError
        at = end + 2
        if not size:
            break
        if len(received) < at + size + 2:
            return None, 0
        if received[at + size : at + size + 2] != b"\r\n":
            raise ProtocolError
        body += received[at : at + size]
        at += size + 2
    else:
        raise ProtocolError
    # Skip trailers up to an empty line.
    while True:
        end = received.find(b"\r\n", at, most)
        if end < 0:
            if len(received) >= most:
                raise ProtocolError
            return None, 0
        if end == at:
            return bytes(body), end + 2
        at = end + 2
