"""Relay HTTP requests to a real server: record them, hold some, and inject faults into others.

A fault is a coroutine with the `Exchange` as its argument: one of those below, or a test's own.
"""

from __future__ import annotations

import asyncio
import socket
import threading
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass
from types import TracebackType
from typing import Self

_AT_ONCE = 65536  # bytes


@dataclass(frozen=True, slots=True)
class Request:
    """A request, as its head describes it."""

    method: str
    path: str  # as sent: /bucket/key
    query: str
    head: bytes
    times: int  # how often it was sent, including this time; the id of a multipart upload is ignored

    def __str__(self) -> str:
        return f"{self.method} {self.path}"

    def header(self, name: str) -> str:
        """Return the value of a header; empty if it is missing."""
        for line in self.head.decode("latin-1").split("\r\n")[1:]:
            found, _, value = line.partition(":")
            if found.lower() == name.lower():
                return value.strip()
        return ""


class Exchange:
    """A request on its way to the server, and its response."""

    def __init__(self, request: Request, client: _Side, server: _Side) -> None:
        self.request = request
        self.left = int(request.header("content-length") or 0)  # unread bytes of the body
        self.answered = asyncio.Event()  # the server has answered
        self.keep_answer = False
        self.change_answer: Callable[[bytes, bytes], tuple[bytes, bytes]] | None = None  # its head and body
        self._answer = b""  # the response so far, if it is to be changed
        self._client = client
        self._server = server

    async def send_head(self, head: bytes | None = None) -> None:
        await self._server.write(head or self.request.head)

    async def send_body(self, size: int | None = None, change: Callable[[bytes], bytes] = lambda data: data) -> None:
        """Pass on `size` bytes of the body, or the rest of it."""
        size = self.left if size is None else size
        while size:
            data = await self._read(min(size, _AT_ONCE))
            size -= len(data)
            await self._server.write(change(data))

    async def send(self) -> None:
        await self.send_head()
        await self.send_body()

    async def skip_body(self) -> None:
        while self.left:
            await self._read(_AT_ONCE)

    async def answer(self, head: str, body: str) -> None:
        """Respond instead of the server."""
        await self._client.write(f"HTTP/1.1 {head}\r\nContent-Length: {len(body)}\r\n\r\n{body}".encode())

    async def pass_answer(self, data: bytes) -> None:
        """Pass on the response of the server."""
        if data.startswith(b"HTTP/1.1 100"):  # the client waits for it before it sends the body
            await self._client.write(data)
            return
        if self.change_answer:
            self._answer += data
            if (whole := _whole_answer(self._answer, self.request.method)) is None:
                return
            head, body = self.change_answer(*whole)
            length = b"" if self.request.method == "HEAD" else b"Content-Length: %d\r\n" % len(body)
            data = head + length + b"\r\n" + body
        self.answered.set()
        if not self.keep_answer:
            await self._client.write(data)

    async def until_given_up(self) -> None:
        """Wait until the client has closed the connection."""
        await self._client.reader.read(1)

    def cut(self) -> None:
        """Reset the connection to the client, which also closes the one to the server."""
        linger = b"\1\0\0\0\0\0\0\0"  # struct linger {1, 0}
        self._client.writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
        self._client.writer.transport.abort()
        raise ConnectionAbortedError

    async def _read(self, most: int) -> bytes:
        data = await self._client.reader.read(min(most, self.left))
        if not data:
            raise ConnectionAbortedError
        self.left -= len(data)
        return data


Fault = Callable[[Exchange], Awaitable[None]]


async def cut_before_the_body(exchange: Exchange) -> None:
    exchange.cut()


async def cut_in_the_body(exchange: Exchange) -> None:
    await exchange.send_head()
    await exchange.send_body(exchange.left // 2)
    exchange.cut()


async def cut_after_the_body(exchange: Exchange) -> None:
    """Lose the response of a server that has executed the request."""
    exchange.keep_answer = True
    await exchange.send()
    await exchange.answered.wait()
    exchange.cut()


async def never_answer(exchange: Exchange) -> None:
    await exchange.skip_body()
    await exchange.until_given_up()


async def stop_in_the_body(exchange: Exchange) -> None:
    """Stop reading the body, like a network that loses all packets."""
    await exchange.send_head()
    await exchange.send_body(exchange.left // 4)
    await asyncio.get_running_loop().create_future()


async def change_the_body(exchange: Exchange) -> None:
    """Change the body of the request without changing its length."""
    await exchange.send_head()
    await exchange.send_body(change=lambda data: bytes(byte ^ 1 for byte in data))


def changed_answer(change: Callable[[bytes, bytes], tuple[bytes, bytes]]) -> Fault:
    """Execute the request, and change the response: its head, without the final empty line, and its body."""

    async def pass_changed(exchange: Exchange) -> None:
        exchange.change_answer = change
        await exchange.send()

    return pass_changed


def _whole_answer(data: bytes, method: str) -> tuple[bytes, bytes] | None:
    head, found, body = data.partition(b"\r\n\r\n")
    if not found:
        return None
    lines = head.split(b"\r\n")
    named = {name.lower(): value.strip() for name, _, value in (line.partition(b":") for line in lines[1:])}
    if named.get(b"transfer-encoding") == b"chunked":
        if not body.endswith(b"0\r\n\r\n"):
            return None
        whole = b""
        while (size := int(body.partition(b"\r\n")[0], 16)) > 0:
            body = body.partition(b"\r\n")[2]
            whole, body = whole + body[:size], body[size + 2 :]
        body = whole
    elif method != "HEAD" and len(body) < int(named.get(b"content-length", b"0")):
        return None
    framing = () if method == "HEAD" else (b"content-length:", b"transfer-encoding:")
    kept = [line for line in lines if not line.lower().startswith(framing)]
    return b"\r\n".join(kept) + b"\r\n", body


def answer(status: int, code: str, *headers: str, text: str = "said so by a test") -> Fault:
    """Refuse a request like S3: before the body, if the client sent Expect: 100-continue."""

    async def refuse(exchange: Exchange) -> None:
        body = f'<?xml version="1.0" encoding="UTF-8"?>\n<Error><Code>{code}</Code><Message>{text}</Message></Error>'
        head = "\r\n".join([f"{status} Test", "Content-Type: application/xml", *headers])
        if exchange.request.header("expect"):
            await exchange.answer(f"{head}\r\nConnection: close", body)
            await exchange.until_given_up()
            return
        await exchange.skip_body()
        await exchange.answer(head, "" if exchange.request.method == "HEAD" else body)

    return refuse


class Relay:
    """Passes bytes on unchanged, so that signatures stay valid. Held requests wait until `release`."""

    def __init__(self, target: int, host: str = "127.0.0.1") -> None:
        self.requests: list[str] = []  # "PUT /sites/demo/index.html", in the order of arrival
        self.hold: Callable[[str], bool] = lambda _request: False
        self.fault: Callable[[Request], Fault | None] = lambda _request: None
        self.first_fault: float | None = None  # monotonic clock, seconds
        self.held = threading.Event()  # a request is being held
        self._target = (host, target)
        self._listener = socket.socket()
        self._listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _AT_ONCE)  # so that clients notice unread data
        self._listener.bind((host, 0))
        self._listener.listen(100)
        self.port = int(self._listener.getsockname()[1])
        self._times: Counter[tuple[str, str, str]] = Counter()
        self._connections: set[asyncio.Task[None]] = set()
        self._sides: set[_Side] = set()
        self._loop = asyncio.new_event_loop()
        self._released = asyncio.Event()
        self._ended = asyncio.Event()
        self._thread = threading.Thread(target=self._loop.run_until_complete, args=(self._serve(),), daemon=True)
        self._thread.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._loop.call_soon_threadsafe(self._ended.set)
        self._thread.join()
        self._loop.close()

    def release(self) -> None:
        self._loop.call_soon_threadsafe(self._released.set)

    async def _serve(self) -> None:
        server = await asyncio.start_server(self._accept, sock=self._listener)
        await self._ended.wait()
        server.close()
        await asyncio.sleep(0)  # so that the tasks of connections that were just accepted begin
        while self._connections:
            for task in self._connections:
                task.cancel()
            await asyncio.gather(*self._connections, return_exceptions=True)
        for side in self._sides:  # including those with unsent data
            with suppress(AttributeError):  # of a transport that is closed already, in Python 3.11
                side.writer.transport.abort()
        await asyncio.sleep(0.01)

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task
        self._connections.add(task)
        client = _Side(reader, writer)
        server: _Side | None = None
        self._sides.add(client)
        try:
            with suppress(OSError, asyncio.IncompleteReadError, asyncio.CancelledError):
                server = _Side(*await asyncio.open_connection(*self._target))
                self._sides.add(server)
                await self._relay(client, server)
        finally:
            for side in (client, server):
                if side:
                    side.writer.close()
            self._connections.discard(task)

    async def _relay(self, client: _Side, server: _Side) -> None:
        exchange: Exchange | None = None

        async def pass_answers() -> None:
            with suppress(OSError):
                while data := await server.reader.read(_AT_ONCE):
                    assert exchange
                    await exchange.pass_answer(data)
            client.writer.close()

        answers = asyncio.create_task(pass_answers())
        try:
            while True:
                head = await client.reader.readuntil(b"\r\n\r\n")
                request = self._note(head)
                exchange = Exchange(request, client, server)
                if self.hold(str(request)):
                    self.held.set()
                    await self._released.wait()
                if fault := self.fault(request):
                    self.first_fault = self.first_fault or time.monotonic()
                    await fault(exchange)
                else:
                    await exchange.send()
        finally:
            answers.cancel()
            await asyncio.gather(answers, return_exceptions=True)

    def _note(self, head: bytes) -> Request:
        method, target, _ = head.split(b"\r\n", 1)[0].decode().split(" ")
        path, _, query = target.partition("?")
        self.requests.append(f"{method} {path}")
        part = next((field for field in query.split("&") if field.startswith(("partNumber=", "uploads"))), "")
        same = (method, path, part)
        self._times[same] += 1
        return Request(method, path, query, head, self._times[same])


@dataclass(frozen=True, slots=True)
class _Side:
    """A connection."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter

    async def write(self, data: bytes) -> None:
        self.writer.write(data)
        await self.writer.drain()
