"""Test the HTTP/1.1 client with unusual and hostile servers."""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import anyio
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from buildrunner.s3 import http1
from buildrunner.s3.http1 import MAX_BODY, MAX_HEAD, Connections, HttpResponse, ProtocolError, parse
from support.certificates import make_certificate

OK = b'HTTP/1.1 200 OK\r\nETag: "e"\r\nContent-Length: 0\r\n\r\n'
STORED = HttpResponse(200, {b"etag": b'"e"', b"content-length": b"0"}, b"", keep=True)


# --- what is read of an answer -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("received", "status", "body", "keep"),
    [
        (b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nabc", 200, b"abc", True),
        (b"HTTP/1.1 503 \r\ncontent-length:1  \r\nCONTENT-LENGTH: 1\r\n\r\na", 503, b"a", True),
        (b"HTTP/1.1 404\r\nContent-Length: 0\r\nConnection: Close\r\n\r\n", 404, b"", False),
        (b"HTTP/1.0 200 OK\r\nContent-Length: 1\r\n\r\na", 200, b"a", False),
        (b"HTTP/1.0 200 OK\r\nContent-Length: 1\r\nConnection: keep-alive\r\n\r\na", 200, b"a", True),
        (b"HTTP/1.1 204 No Content\r\nETag: x\r\n\r\n", 204, b"", True),
        (b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 X\r\nLink: y\r\n\r\n" + OK, 200, b"", True),
        (b"HTTP/1.1 500 E\r\nTransfer-Encoding: Chunked\r\n\r\n2;a=b\r\nab\r\n01 \r\nc\r\n0\r\n\r\n", 500, b"abc", True),
        (b"HTTP/1.1 500 E\r\nTransfer-Encoding: chunked\r\n\r\n0\r\nTrailer: x\r\n\r\n", 500, b"", True),
    ],
)  # fmt: skip
def test_an_answer_is_there_with_its_last_byte_and_not_before(
    received: bytes, status: int, body: bytes, keep: bool
) -> None:
    assert {parse(received[:size], ended=False) for size in range(len(received))} == {None}
    answer = parse(received, ended=False)
    assert answer
    assert (answer.status, answer.body, answer.keep) == (status, body, keep)
    more = parse(received + b"HTTP/1.1 ", ended=False)
    assert more
    assert not more.keep, "what nobody has asked for could be taken for the next answer"


def test_a_body_without_a_length_ends_with_the_connection() -> None:
    received = b"HTTP/1.1 200 OK\r\nETag: e\r\n\r\nabc"

    assert parse(received, ended=False) is None
    assert parse(received, ended=True) == HttpResponse(200, {b"etag": b"e"}, b"abc", keep=False)
    assert parse(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nabc", ended=True) is None


@pytest.mark.parametrize(
    "received",
    [
        b"SSH-2.0-OpenSSH_9.2\r\n",
        b"\x15\x03\x03\x00\x02\x02\x50",
        b"\r\n\r\n",
        b"HTTP/2 200 OK\r\n\r\n",
        b"HTTP/1.1 20 OK\r\n\r\n",
        b"HTTP/1.1 2000 OK\r\n\r\n",
        b"HTTP/1.1 099 OK\r\n\r\n",
        b"HTTP/1.1 101 Switching Protocols\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nno colon\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nName : x\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nA: b\r\n folded\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nA: b\nC: d\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nA: \0\r\n\r\n",
        b"HTTP/1.1 200 OK\nContent-Length: 0\n\n\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 1, 1\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: +1\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: \r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: " + b"0" * 30 + b"9\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: " + b"9" * 9000 + b"\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 65537\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n-1\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0x1\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nabc",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nFFFFFFFF\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n9000\r\n" + bytes(0x9000) + b"\r\n9000\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + 1001 * b"1\r\na\r\n" + b"0\r\n\r\n",
    ],
)
def test_what_is_no_answer_or_a_doubtful_one_is_refused(received: bytes) -> None:
    with pytest.raises(ProtocolError):
        parse(received, ended=False)


@given(st.binary(max_size=200) | st.binary(max_size=200).map(lambda rest: b"HTTP/1.1 200 OK\r\n" + rest), st.booleans())
@example(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n00000000001\r\n", False)
def test_whatever_comes_is_an_answer_or_none_or_garbled(received: bytes, ended: bool) -> None:
    with suppress(ProtocolError):
        answer = parse(received, ended=ended)
        assert answer is None or 200 <= answer.status <= 999


CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"


@pytest.mark.parametrize(
    ("start", "more"),
    [
        (b"HTTP/1.1 200 OK\r\n", b"A: b\r\n"),
        (b"HTTP/1.1 200 ", b"o"),
        (b"", b"HTTP/1.1 100 Continue\r\n\r\n"),
        (b"HTTP/1.1 200 OK\r\n\r\n", b"a"),
        (CHUNKED, b"1\r\na\r\n"),
        (CHUNKED, b"1;" + b"a" * 4000 + b"\r\na\r\n"),
        (CHUNKED + b"1;", b"a"),
        (CHUNKED + b"0\r\n", b"A: b\r\n"),
    ],
)
def test_an_answer_without_an_end_is_given_up(start: bytes, more: bytes) -> None:
    def go_on() -> None:
        received = start
        while len(received) < 2 * (MAX_HEAD + MAX_BODY):
            received += more * (1000 // len(more) + 1)
            assert parse(received, ended=False) is None

    with pytest.raises(ProtocolError):
        go_on()


# --- connections ---------------------------------------------------------------------------------------------------------

Serve = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http1, "STALLED_AFTER", 0.4)
    monkeypatch.setattr(http1, "_LOOK_EACH", 0.05)


@asynccontextmanager
async def server(
    serve: Serve, tls: ssl.SSLContext | None = None, trust: ssl.SSLContext | None = None, host: str = "127.0.0.1"
) -> AsyncIterator[Connections]:
    """Yield a client for a server that calls `serve` with each connection, and then closes it."""
    left: set[asyncio.StreamWriter] = set()

    async def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        left.add(writer)
        with suppress(ConnectionError, asyncio.IncompleteReadError):
            await serve(reader, writer)
        writer.close()

    listener = socket.socket()
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2**16)  # what is not read is not sent
    listener.bind(("127.0.0.1", 0))
    listening = await asyncio.start_server(accept, sock=listener, ssl=tls)
    client = Connections(host, listener.getsockname()[1], trust)
    try:
        with anyio.fail_after(60):
            yield client
    finally:
        client.close()
        listening.close()
        for writer in left:
            writer.transport.abort()
        await anyio.sleep(0.01)


async def read(reader: asyncio.StreamReader) -> tuple[bytes, bytes]:
    """Read a request; return its head and body."""
    head = await reader.readuntil(b"\r\n\r\n")
    return head, await reader.readexactly(int(head.partition(b"content-length: ")[2].split()[0]))


async def until_closed(client: Connections) -> None:
    while client._open:
        await anyio.sleep(0.01)


def put(body: bytes | int) -> bytes:
    return b"PUT /k HTTP/1.1\r\nhost: h\r\ncontent-length: %d\r\n\r\n" % (body if isinstance(body, int) else len(body))


@pytest.mark.anyio
async def test_connections_are_reused_up_to_the_number_of_requests() -> None:
    bodies: list[bytes] = []
    made = 0

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal made
        made += 1
        while True:
            bodies.append((await read(reader))[1])
            await asyncio.sleep(0.001)
            writer.write(OK)

    async with server(serve) as client:

        async def some(first: int) -> None:
            for number in range(first, 40, 4):
                assert await client.request(put(number), bytes(number)) == STORED

        async with anyio.create_task_group() as tasks:
            for first in range(4):
                tasks.start_soon(some, first)

    assert sorted(map(len, bodies)) == list(range(40))
    assert made == 4


@pytest.mark.anyio
@pytest.mark.parametrize("how", ["closed before", "closed after", "reset after"])
async def test_an_unanswered_request_on_a_reused_connection_is_resent(how: str) -> None:
    """The server may close an idle connection while a request is on its way."""
    asked: list[bytes] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        asked.append((await read(reader))[1])
        writer.write(OK)
        if len(asked) == 1 and how != "closed before":
            asked.append((await read(reader))[1])
            if how == "reset after":
                writer.transport.abort()
        elif len(asked) > 1:
            await reader.read()

    async with server(serve) as client:
        await client.request(put(b"one"), b"one")
        if how == "closed before":
            await until_closed(client)
        assert await client.request(put(b"two"), lambda: iter([b"t", b"wo"])) == STORED

    assert asked == [b"one", b"two"] if how == "closed before" else [b"one", b"two", b"two"]


@pytest.mark.anyio
@pytest.mark.parametrize(
    "said", [b"", b"HTTP/1.1 200 OK\r\nContent-Le", b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nabc"]
)
async def test_a_connection_that_breaks_in_an_answer_is_an_error(said: bytes) -> None:
    asked = 0

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal asked
        asked += 1
        await read(reader)
        writer.write(said)

    async with server(serve) as client:
        with pytest.raises(ConnectionError):
            await client.request(put(b"a"), b"a")

    assert asked == 1


@pytest.mark.anyio
async def test_half_a_reply_on_a_reused_connection_is_not_retried() -> None:
    asked = 0

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal asked
        for said in (OK, OK[:20]):
            await read(reader)
            asked += 1
            writer.write(said)

    async with server(serve) as client:
        await client.request(put(b"a"), b"a")
        with pytest.raises(ConnectionError):
            await client.request(put(b"a"), b"a")

    assert asked == 2


@pytest.mark.anyio
async def test_a_response_that_ends_with_the_connection_is_valid() -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read(reader)
        writer.write(b"HTTP/1.1 503 Slow Down\r\n\r\n<Code>SlowDown</Code>")

    async with server(serve) as client:
        assert (await client.request(put(b"a"), b"a")).body == b"<Code>SlowDown</Code>"


@pytest.mark.anyio
@pytest.mark.parametrize("why", ["the server asked for it", "it was idle for long"])
async def test_a_connection_that_is_not_to_be_used_again_is_closed(monkeypatch: pytest.MonkeyPatch, why: str) -> None:
    monkeypatch.setattr(http1, "_IDLE_FOR", 0.05)
    said = OK.replace(b"ETag", b"Connection: close\r\nETag") if why == "the server asked for it" else OK
    closed = asyncio.Event()
    made = 0

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal made
        made += 1
        await read(reader)
        writer.write(said)
        await reader.read()
        closed.set()

    async with server(serve) as client:
        await client.request(put(b"a"), b"a")
        await anyio.sleep(0.1)
        await client.request(put(b"a"), b"a")
        await closed.wait()

    assert made == 2


@pytest.mark.anyio
async def test_after_an_error_reply_the_next_request_reconnects() -> None:
    """The response may arrive before the server has read the body, which it would treat as another request."""
    unread = True

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal unread
        while True:
            head = await reader.readuntil(b"\r\n\r\n")
            if unread:
                unread = False
                writer.write(OK.replace(b"200 OK", b"503 Slow Down"))
            else:
                await reader.readexactly(int(head.partition(b"content-length: ")[2].split()[0]))
                await asyncio.sleep(0.05)
                writer.write(OK.replace(b'"e"', b'"of the other"') if head.startswith(b"GET") else OK)

    body = b"GET /other HTTP/1.1\r\ncontent-length: 0\r\n\r\n"
    async with server(serve) as client:
        assert (await client.request(put(body), body)).status == 503
        assert (await client.request(put(b"a"), b"a")) == STORED


@pytest.mark.anyio
async def test_after_garbage_the_next_request_reconnects() -> None:
    said = [b"220 mail.example.com ESMTP\r\n", OK]

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read(reader)
        writer.write(said.pop(0))
        await reader.read()

    async with server(serve) as client:
        with pytest.raises(ProtocolError):
            await client.request(put(b"a"), b"a")
        assert await client.request(put(b"a"), b"a") == STORED


@pytest.mark.anyio
async def test_an_early_reply_stops_the_body_and_ends_the_connection() -> None:
    """S3 answers a large object with 503 or 403 as soon as it has read the head."""
    made = 0
    given: list[bytes] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal made
        made += 1
        head = await reader.readuntil(b"\r\n\r\n")
        if made == 1:
            writer.write(b"HTTP/1.1 503 Slow Down\r\nContent-Length: 0\r\n\r\n")
            await asyncio.sleep(30)
        await reader.readexactly(int(head.partition(b"content-length: ")[2].split()[0]))
        writer.write(OK)

    def pieces() -> Iterator[bytes]:
        for _ in range(200):
            given.append(bytes(2**18))
            yield given[-1]

    async with server(serve) as client:
        began = anyio.current_time()
        answer = await client.request(put(200 * 2**18), pieces)
        assert anyio.current_time() - began < http1.STALLED_AFTER
        assert (answer.status, answer.keep) == (503, False)
        assert len(given) < 200
        assert await client.request(put(b"a"), b"a") == STORED

    assert made == 2


@pytest.mark.anyio
async def test_an_early_reply_before_a_small_body_is_sent_reconnects() -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(OK)
        await asyncio.sleep(30)

    async with server(serve) as client:
        assert not (await client.request(put(2**25), bytes(2**25))).keep


@pytest.mark.anyio
async def test_a_body_is_read_no_faster_than_it_is_sent() -> None:
    given = 0
    go_on = asyncio.Event()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        await go_on.wait()
        await reader.readexactly(int(head.partition(b"content-length: ")[2].split()[0]))
        writer.write(OK)

    def pieces() -> Iterator[bytes]:
        nonlocal given
        for _ in range(200):
            given += 2**18
            yield bytes(2**18)

    async with server(serve) as client, anyio.create_task_group() as tasks:
        tasks.start_soon(client.request, put(200 * 2**18), pieces)
        await anyio.sleep(0.3)
        held = given
        go_on.set()

    assert held < 100 * 2**18, "most of it waits where it is"
    assert given == 200 * 2**18


@pytest.mark.anyio
@pytest.mark.usefixtures("impatient")
@pytest.mark.parametrize("body", [b"a", bytes(2**23)], ids=["no answer", "no room"])
async def test_a_server_that_takes_no_step_forward_is_given_up(body: bytes) -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        await asyncio.sleep(30)

    async with server(serve) as client:
        for sent in (body, lambda: iter([body])):
            with pytest.raises(TimeoutError):
                await client.request(put(body), sent)


@pytest.mark.anyio
@pytest.mark.usefixtures("impatient")
async def test_an_answer_that_trickles_is_given_up() -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read(reader)
        writer.write(b"HTTP/1.1 200 OK\r\n")
        while True:
            writer.write(b"A: b\r\n")
            await writer.drain()
            await asyncio.sleep(0.05)

    async with server(serve) as client:
        with pytest.raises(TimeoutError):
            await client.request(put(b"a"), b"a")


@pytest.mark.anyio
@pytest.mark.usefixtures("impatient")
async def test_a_slow_way_is_no_silent_server(monkeypatch: pytest.MonkeyPatch) -> None:
    """It takes longer than the limit for silence, but makes progress all the time."""
    monkeypatch.setattr(http1, "STALLED_AFTER", 1)

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        left = int(head.partition(b"content-length: ")[2].split()[0])
        while left:
            left -= len(await reader.read(2**21))
            await asyncio.sleep(0.03)
        writer.write(OK)

    async with server(serve) as client:
        began = anyio.current_time()
        assert await client.request(put(2**24), bytes(2**24)) == STORED
        assert anyio.current_time() - began > 2 * http1.STALLED_AFTER


@pytest.mark.anyio
async def test_a_cancelled_request_closes_its_connection() -> None:
    asked, gone = asyncio.Event(), asyncio.Event()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read(reader)
        if not asked.is_set():
            asked.set()
            with suppress(ConnectionError):
                await reader.read()
            gone.set()
        writer.write(OK)

    async with server(serve) as client:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(client.request, put(b"a"), b"a")
            await asked.wait()
            tasks.cancel_scope.cancel()
        await gone.wait()
        assert await client.request(put(b"b"), b"b") == STORED


@pytest.mark.anyio
async def test_an_unrequested_response_is_not_used_for_the_next() -> None:
    made = 0

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal made
        made += 1
        await read(reader)
        writer.write(OK)
        await asyncio.sleep(0.02)
        writer.write(OK.replace(b'"e"', b'"x"'))
        await reader.read()

    async with server(serve) as client:
        for _ in range(2):
            assert await client.request(put(b"a"), b"a") == STORED
            await until_closed(client)

    assert made == 2


@pytest.mark.anyio
async def test_an_error_while_a_body_is_read_is_raised_unchanged() -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()

    def pieces() -> Iterator[bytes]:
        yield b"a"
        raise LookupError

    async with server(serve) as client:
        with pytest.raises(LookupError):
            await client.request(put(2), pieces)


@pytest.mark.anyio
async def test_a_server_that_is_not_there_is_an_error_of_the_system() -> None:
    async with server(lambda *_: asyncio.sleep(0)) as client:
        pass
    with pytest.raises(ConnectionRefusedError):
        await client.request(put(b"a"), b"a")


@pytest.mark.anyio
async def test_a_handshake_that_is_not_answered_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http1, "CONNECT_TIMEOUT", 0.2)

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await asyncio.sleep(30)

    async with server(serve, trust=ssl.create_default_context(), host="localhost") as client:
        with pytest.raises(TimeoutError):
            await client.request(put(b"a"), b"a")


@pytest.mark.anyio
@pytest.mark.parametrize("body", [b"abc", bytes(2**22)], ids=["small", "large"])
async def test_over_tls_it_is_the_same(tmp_path: Path, body: bytes) -> None:
    certificate = make_certificate(tmp_path, "localhost")
    asked: list[bytes] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        for _ in range(2):
            asked.append((await read(reader))[1])
            writer.write(OK)

    trust = ssl.create_default_context(cafile=certificate.authority)
    async with server(serve, certificate.server_context(), trust, "localhost") as client:
        for _ in range(3):  # the third one over another connection
            assert await client.request(put(body), lambda: iter([body])) == STORED

    assert asked == [body] * 3


@pytest.mark.anyio
@pytest.mark.parametrize("name", ["localhost", "s3.example.com"])
async def test_a_certificate_of_another_authority_or_name_is_refused(tmp_path: Path, name: str) -> None:
    certificate = make_certificate(tmp_path, name)
    asked: list[bytes] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        asked.append(await reader.read(1))

    trust = ssl.create_default_context(cafile=None if name == "localhost" else certificate.authority)
    async with server(serve, certificate.server_context(), trust, "localhost") as client:
        with pytest.raises(ssl.SSLCertVerificationError):
            await client.request(put(b"a"), b"a")

    assert [sent for sent in asked if sent] == []


@pytest.mark.anyio
async def test_a_tls_connection_lost_during_a_check_does_not_stop_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(http1, "_LOOK_EACH", 0.0005)
    monkeypatch.setattr(http1, "STALLED_AFTER", 0.5)
    certificate = make_certificate(tmp_path, "localhost")
    faults: list[object] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: faults.append(context.get("exception")))
    silent = False

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        if silent:
            await asyncio.sleep(60)
        writer.transport.abort()

    trust = ssl.create_default_context(cafile=certificate.authority)
    async with server(serve, certificate.server_context(), trust, "localhost") as client:

        async def some() -> None:
            for _ in range(25):
                with suppress(OSError):
                    await client.request(put(b"a"), b"a")

        async with anyio.create_task_group() as tasks:
            for _ in range(8):
                tasks.start_soon(some)
        silent = True
        with pytest.raises(TimeoutError), anyio.fail_after(30):
            await client.request(put(b"a"), b"a")

    assert [fault for fault in faults if isinstance(fault, AttributeError)] == []
