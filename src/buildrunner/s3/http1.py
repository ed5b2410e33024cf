"""Connections to one S3 server that are kept open, and HTTP/1.1 on them, as much of it as small objects need.

It is strict: an answer that is not as RFC 9112 has it ends its connection and counts as none, since whoever calls has another way.
Nothing that a server does makes it wait for ever or take more than some memory: no step forward ends a request, and an answer has
an upper size.
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

CONNECT_TIMEOUT = 5  # seconds, with the handshake of TLS
# Seconds without a step forward: bytes of the request that arrive, and after the last of them the whole answer. With the four
# attempts of aiobotocore after this one a run sees within two minutes that it cannot succeed.
STALLED_AFTER = 10
MAX_HEAD = 64 * 2**10  # bytes, with the interim answers before it
MAX_BODY = 64 * 2**10  # bytes; S3's error documents have less than one thousand
_MAX_CHUNKS = 1000  # they are read from the first again when more of them have come
_HELD = 64 * 2**10  # bytes of a body that wait here for the kernel; asyncio's limit for TLS is eight times as much
_IDLE_FOR = 12  # seconds, as aiobotocore has it: what is between forgets connections that are silent for longer
_LOOK_EACH = 1  # second: how often it is seen whether requests go forward
_OTHER_FAMILY_AFTER = 0.25  # seconds: https://www.rfc-editor.org/rfc/rfc8305#section-8
_STATUS_LINE = re.compile(rb"HTTP/1\.([01]) ([1-9]\d\d)(?: [^\r\n\0]*)?")
_FIELDS = re.compile(rb"(?:[!#$%&'*+.^_`|~0-9A-Za-z-]++:[^\r\n\0]*+\r\n)*+")
_OF_FRAMING = {b"content-length", b"transfer-encoding"}
_CHUNK = re.compile(rb"([0-9A-Fa-f]{1,8})[ \t]*(?:;[^\r\n\0]*)?")


class ProtocolError(Exception):
    """A server does not speak HTTP/1.1, or says too much."""


@dataclass(frozen=True, slots=True)
class HttpResponse:
    """What a server answered."""

    status: int
    headers: dict[bytes, bytes]  # names in lower case; the last of a name, but for those that have to agree
    body: bytes
    keep: bool  # the connection may be used again


class Connections:
    """Connections to one server, of which as many are open as there were requests at once.

    Args:
        host: name or address, without brackets.
        tls: what a certificate is checked with, None where there is no TLS.

    """

    def __init__(self, host: str, port: int, tls: ssl.SSLContext | None) -> None:
        self._host = host
        self._port = port
        self._tls = tls
        self._open: set[_Connection] = set()
        self._idle: list[_Connection] = []  # the one that was used last is the last, and the next
        self._looking: asyncio.TimerHandle | None = None

    async def request(
        self, head: bytes, body: bytes | Callable[[], Iterable[bytes]], *, max_body: int = MAX_BODY
    ) -> HttpResponse:
        """Send a request, and return the response.

        A connection that was used before may be closed by the server while this is on its way: then it is sent once more,
        over a new one, so it has to be one that does no harm when it is made twice.

        Args:
            head: with the empty line at its end, and `content-length` in it.
            body: all of it, or what gives its pieces, from the beginning each time that it is called.
            max_body: bytes that the answer may have.

        Raises:
            OSError: the server cannot be reached, broke off, is not trusted; TimeoutError when it took no step forward.
            ProtocolError: it answered with something else.

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
        """Close all of them at once, whatever is under way."""
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
    """One connection, with at most one request on it."""

    def __init__(self, loop: asyncio.AbstractEventLoop, register: set[_Connection]) -> None:
        self.since = loop.time()  # of the last step forward
        self.has_answered = False  # at least in part, the request that is on it
        self._loop = loop
        self._register = register
        self._transport: asyncio.Transport
        self._answer: asyncio.Future[HttpResponse | Exception] | None = None  # while a request is on it
        self._max_body = MAX_BODY  # bytes of the answer
        self._received = bytearray()
        self._room: asyncio.Future[None] | None = None  # while the transport has enough to send
        self._unsent = 0  # bytes, when it was looked at

    async def exchange(
        self, head: bytes, body: bytes | Callable[[], Iterable[bytes]], max_body: int = MAX_BODY
    ) -> HttpResponse:
        """Send a request and return its response; closes the connection when that fails or is cancelled."""
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
                        break  # it is refused, or the connection is gone
            answer = await answered
            if isinstance(answer, Exception):
                raise answer
        except BaseException:
            self.abort()
            raise
        finally:
            self._answer = None
        # An answer that comes before the whole of the request leaves the server with a rest that it may take for another request.
        # Nobody here can tell what the server has read; but it cannot have stored a body of which it has not read all.
        if not answer.keep or (whole and (answer.status == 200 or not body) and not transport.get_write_buffer_size()):
            return answer
        return HttpResponse(answer.status, answer.headers, answer.body, keep=False)

    @property
    def is_closing(self) -> bool:
        return self._transport.is_closing()

    def abort(self) -> None:
        self._transport.abort()

    def look(self, now: float) -> bool:
        """Return whether a request is under way, and end it when it has not gone forward for too long."""
        if not self._answer:
            return False
        if (unsent := self._transport.get_write_buffer_size() + self._unacknowledged()) != self._unsent:
            self._unsent, self.since = unsent, now
        elif now - self.since >= STALLED_AFTER:
            self._fail(TimeoutError())
            self.abort()
        return True

    def _unacknowledged(self) -> int:
        """Return how many bytes the kernel has that the other side has not: on a slow way it takes long to get rid of them."""
        there = self._transport.get_extra_info("socket")  # None for a moment when TLS has lost its connection
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
            self.abort()  # nobody has asked
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
            self.resume_writing()  # what is not sent yet is not wanted

    def _fail(self, error: Exception) -> None:
        if self._answer and not self._answer.done():
            self._answer.set_result(error)
            self.resume_writing()


def parse(received: bytes | bytearray, *, ended: bool, max_body: int = MAX_BODY) -> HttpResponse | None:
    """Read an answer to a request that is neither HEAD nor CONNECT; None when there is not all of it yet.

    `ended` tells that nothing comes any more. https://www.rfc-editor.org/rfc/rfc9112

    Raises:
        ProtocolError: it is none, whatever comes.

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
        if found[2][:1] != b"1":  # else an interim answer, such as 100 Continue, with the real one behind it
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
    else:  # until the server closes the connection
        if len(received) - start > max_body:
            raise ProtocolError
        body, end, keep = bytes(received[start:]) if ended else None, len(received), False
    if body is None:
        return None
    return HttpResponse(status, headers, body, keep=keep and len(received) == end)


def _dechunk(received: bytes | bytearray, start: int, max_body: int) -> tuple[bytes | None, int]:
    """Return a body in chunks, and where it ends; None when there is not all of it yet."""
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
    # Trailers, whatever they say, up to an empty line.
    while True:
        end = received.find(b"\r\n", at, most)
        if end < 0:
            if len(received) >= most:
                raise ProtocolError
            return None, 0
        if end == at:
            return bytes(body), end + 2
        at = end + 2
