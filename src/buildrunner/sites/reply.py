"""Write answers to a connection: heads as bytes that are made once, bodies in pieces that a slow visitor cannot pile up."""

from __future__ import annotations

import html
import re
import time
from collections.abc import Iterable, Mapping
from email.utils import formatdate
from functools import lru_cache
from http import HTTPStatus

from aiohttp import web

from buildrunner.routing.header_values import steers_proxies
from buildrunner.routing.route import Answer
from buildrunner.web.limits import Viewers

SLICE_BYTES = 64 * 2**10
# What frames a body is never a rule's or an object's to say.
_OURS = {"content-length", "transfer-encoding", "connection", "keep-alive", "date", "etag", "vary", "accept-ranges"}
_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_CONTROLS = re.compile(r"[\x00-\x08\x0a-\x1f\x7f]")
_NOT_WITH_304 = {"content-type", "content-encoding"}


class Written(web.StreamResponse):
    """What aiohttp is given for an answer that is written already."""

    def __init__(self, *, keep_alive: bool) -> None:
        super().__init__()
        self._keeps = keep_alive

    async def prepare(self, request: web.BaseRequest) -> None:
        """Do nothing."""

    async def write_eof(self, data: bytes = b"") -> None:
        """Do nothing."""

    @property
    def keep_alive(self) -> bool:
        """Whether the connection may be used again."""
        return self._keeps


_KEEP, _CLOSE = Written(keep_alive=True), Written(keep_alive=False)


class Reply:
    """Writes the answer to one request."""

    def __init__(self, request: web.BaseRequest, viewers: Viewers, *, is_last: bool) -> None:
        self._request = request
        self._viewers = viewers
        self._keeps = request.keep_alive and not is_last
        self.has_body = request.method != "HEAD"
        self.can_chunk = request.version >= (1, 1)
        self.started = False

    async def send(self, head: bytes, body: bytes = b"") -> Written:
        """Write a head, which ends with the line of its last header, and a body whose length it names."""
        if not self.has_body:
            body = b""
        data = self._end(head)
        if len(body) <= SLICE_BYTES:
            data, body = data + body, b""
        transport = self._request.transport
        if transport is None:
            raise ConnectionResetError
        self.started = True
        transport.write(data)
        if body or transport.get_write_buffer_size():
            with self._viewers.viewer(self._request) as viewer:
                viewer.count(len(data))
                await viewer.write(self, body, SLICE_BYTES)
                await self._request.writer.drain()
        return _KEEP if self._keeps else _CLOSE

    def start(self, head: bytes) -> None:
        """Write the head of a body that is written by pieces."""
        transport = self._request.transport
        if transport is None:
            raise ConnectionResetError
        self.started = True
        transport.write(self._end(head))

    async def write(self, data: bytes | memoryview) -> None:
        """Write a piece; returns when there is room for another."""
        transport = self._request.transport
        if transport is None or transport.is_closing():
            raise ConnectionResetError
        transport.write(data)
        await self._request.writer.drain()

    def end(self) -> Written:
        """Return the response object for aiohttp after a body was written in pieces."""
        return _KEEP if self._keeps else _CLOSE

    def abort(self) -> Written:
        """Close the connection at once."""
        if self._request.transport:
            self._request.transport.abort()
        return _CLOSE

    def _end(self, head: bytes) -> bytes:
        if not self._keeps:
            return head + _date(int(time.time())) + b"Connection: close\r\n\r\n"
        if not self.can_chunk:  # HTTP/1.0 asks for it
            return head + _date(int(time.time())) + b"Connection: keep-alive\r\n\r\n"
        return head + _date(int(time.time())) + b"\r\n"


@lru_cache(1)
def _date(now: int) -> bytes:
    return f"Date: {formatdate(now, usegmt=True)}\r\n".encode()


def make_head(status: int, headers: Iterable[tuple[str, str]]) -> bytes:
    """Return a status line and headers, without the empty line at the end. What is no header is left out."""
    lines = [f"HTTP/1.1 {status} {HTTPStatus(status).phrase}\r\n"]
    lines += [
        f"{name}: {value}\r\n" for name, value in headers if _NAME.fullmatch(name) and not _CONTROLS.search(value)
    ]
    return "".join(lines).encode(errors="replace")


def object_headers(
    answer: Answer, stored: Mapping[str, str], *, etag: str, compressible: bool, encoding: str | None
) -> list[tuple[str, str]]:
    """Return the headers of an answer with an object, but for those of its length.

    Args:
        answer: whose headers replace those that are stored.
        stored: with the object; names in lower case.
        etag: as it is sent.
        compressible: the body depends on Accept-Encoding.
        encoding: that the body was given here.

    """
    replaced = {name.lower() for name, _ in answer.headers} | set(answer.removed) | _OURS
    headers = [(_title(name), value) for name, value in stored.items() if name not in replaced]
    vary = [value for name, value in answer.headers if name.lower() == "vary"]
    headers += [(name, value) for name, value in answer.headers if not _is_ours(name.lower())]
    if "content-type" not in stored and "content-type" not in replaced:
        headers.append(("Content-Type", "application/octet-stream"))
    if encoding:
        headers.append(("Content-Encoding", encoding))
    vary += [*(["Accept-Encoding"] if compressible else []), *(_title(name) for name in answer.vary)]
    names = dict.fromkeys(name.strip() for value in vary for name in value.split(",") if name.strip())
    known: dict[str, str] = {}
    for name in names:
        known.setdefault(name.lower(), name)
    if known:
        headers.append(("Vary", ", ".join(known.values())))
    if answer.status == 200:
        headers.append(("ETag", etag))
        headers.append(("Accept-Ranges", "bytes"))
    return headers


def head_of_304(headers: Iterable[tuple[str, str]]) -> bytes:
    """Return the head that says that a visitor has the object already (RFC 9110, 15.4.5)."""
    return make_head(304, [each for each in headers if each[0].lower() not in _NOT_WITH_304])


def plain_page(status: int, headers: Iterable[tuple[str, str]] = (), sentence: str = "") -> tuple[bytes, bytes]:
    """Return head and body of a page that no author has written."""
    phrase = HTTPStatus(status).phrase
    title = html.escape(f"{status} {phrase}")
    body = (
        f'<!doctype html><html lang="en"><meta charset="utf-8"><title>{title}</title>'
        f'<meta name="viewport" content="width=device-width"><body style="font:1rem/1.5 system-ui;margin:3rem">'
        f"<h1>{title}</h1>{f'<p>{html.escape(sentence)}</p>' if sentence else ''}</html>\n"
    ).encode()
    own = [("Content-Type", "text/html; charset=utf-8"), ("Content-Length", str(len(body)))]
    kept = [(name, value) for name, value in headers if name.lower() != "content-type" and not _is_ours(name.lower())]
    return make_head(status, [*kept, *own]), body


def _is_ours(name: str) -> bool:
    """Return whether no rule sets a header here, whose name is in lower case."""
    return name in _OURS or steers_proxies(name)


def _title(name: str) -> str:
    return "-".join(part.capitalize() for part in name.split("-"))
