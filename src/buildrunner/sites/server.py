"""Answer the requests of visitors: which site, which object of it by its rules, and in which form."""

from __future__ import annotations

import asyncio
import sys
import traceback
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Literal

from aiohttp import web

from buildrunner.errors import BuildEnded
from buildrunner.project.output.pages import is_page
from buildrunner.routing.route import Answer, Request
from buildrunner.s3 import ObjectResponse
from buildrunner.sites.cache import StoredObject
from buildrunner.sites.catalog import Catalog, Unavailable
from buildrunner.sites.compression import is_compressible, make_compressor
from buildrunner.sites.index import Indexed, RulesTooSlow, SiteIndex
from buildrunner.sites.negotiation import (
    byte_range,
    encodings_of,
    host_name,
    matches_etag,
    split_target,
    variant_etag,
)
from buildrunner.sites.objects import SMALL_BYTES, Changed, Objects
from buildrunner.sites.reply import Reply, Written, head_of_304, make_head, object_headers, plain_page
from buildrunner.web.limits import Clients, TooManyRequests, Viewer, Viewers

_ATTEMPTS = 3  # each after the site was read again
_STREAMS = 48  # large objects at once; fewer than connections to S3, so that small ones get through
_COMPRESSED_STREAMS = 8  # of them
_METHODS = {"GET", "HEAD"}
_ALLOW = ("Allow", "GET, HEAD")
_NO_STORE = ("Cache-Control", "no-store")
_RETRY = ("Retry-After", "5")
_AWAY = "The storage of this site does not answer. Try again later."


@dataclass(frozen=True, slots=True)
class _Target:
    """What a request asks for."""

    path: str  # as it was sent
    query: str
    host: str


class SiteServer:
    """The one handler of all requests.

    Args:
        catalog: of the sites.
        objects: of their bucket.
        viewers: clients that receive long responses.
        find_slug: returns the slug that a host name stands for; None if there is none.

    """

    def __init__(
        self, catalog: Catalog, objects: Objects, viewers: Viewers, find_slug: Callable[[str], str | None]
    ) -> None:
        self._catalog = catalog
        self._objects = objects
        self._viewers = viewers
        self._find_slug = find_slug
        self._clients = Clients()
        self._streams = asyncio.Semaphore(_STREAMS)
        self._compressed_streams = 0
        self.draining = False

    async def handle(self, request: web.BaseRequest) -> web.StreamResponse:
        """Answer a request; the answer is written when this returns."""
        reply = Reply(request, self._viewers, is_last=self.draining)
        try:
            return await self._answer(request, reply)
        except ConnectionError:  # the visitor has left
            return reply.abort()
        except Exception as error:
            if not reply.started:
                return await self._refuse(error, reply)
            if not isinstance(error, BuildEnded):
                traceback.print_exception(error)
            return reply.abort()  # so that what was cut short is not taken for all

    async def _refuse(self, error: Exception, reply: Reply) -> Written:
        if isinstance(error, TooManyRequests):
            return await reply.send(*plain_page(429, [_RETRY, _NO_STORE], "Too many requests at once."))
        if isinstance(error, RulesTooSlow):
            return await reply.send(*plain_page(503, [_RETRY, _NO_STORE], "The rules of this site take too long."))
        if isinstance(error, (Unavailable, BuildEnded, Changed)):
            return await reply.send(*plain_page(503, [_RETRY, _NO_STORE], _AWAY))
        traceback.print_exception(error)
        print("buildrunner: Internal error while answering a visitor.", file=sys.stderr, flush=True)
        return await reply.send(*plain_page(500, [_NO_STORE]))

    async def _answer(self, request: web.BaseRequest, reply: Reply) -> Written:
        if request.method not in _METHODS:
            return await reply.send(*plain_page(405, [_ALLOW]))
        named, path, query = split_target(request.raw_path)
        hosts = request.headers.getall("Host", ())
        host = host_name(named if named is not None else hosts[0] if len(hosts) == 1 else "")
        if host is None:
            return await reply.send(*plain_page(400, (), "The Host header is missing or malformed."))
        slug = self._find_slug(host)
        if slug is None:
            return await reply.send(*plain_page(404, [_NO_STORE], "There is no such site."))
        target = _Target(path, query, host)
        index = self._catalog.current(slug)
        if index:
            answer = index.known_answer(path, query) or index.answer(_routed(request, target))
            if answer.key is not None and (found := index.find(answer.key)):
                stored = self._objects.cached(self._catalog.prefix_of(slug) + answer.key, found)
                if stored:
                    return await self._send(request, reply, answer, stored)
        with self._clients.request(request):
            return await self._look_up(request, reply, slug, target, index)

    async def _look_up(
        self, request: web.BaseRequest, reply: Reply, slug: str, target: _Target, index: SiteIndex | None
    ) -> Written:
        """Answer with what has to be waited for; `index` is the site, unless it has to be found first."""
        seen: StoredObject | None = None
        for attempt in range(_ATTEMPTS):
            index = index or await self._catalog.find(slug)
            if index is None:
                return await reply.send(*plain_page(404, [_NO_STORE], "There is no such site."))
            answer = index.known_answer(target.path, target.query) or index.answer(_routed(request, target))
            found = None if answer.key is None else index.find(answer.key)
            if answer.key is None or found is None:
                return await self._send_plain(reply, answer)
            key = self._catalog.prefix_of(slug) + answer.key
            # An asset goes with the page that was there before, too; a page may need what this index does not have.
            any_version = not (is_page(answer.key) and self._catalog.trusts_etags(slug)) or attempt == _ATTEMPTS - 1
            try:
                if found.size > SMALL_BYTES:
                    async with self._streams:
                        if request.transport is None:
                            raise ConnectionResetError
                        return await self._stream(request, reply, answer, key, found, any_version=any_version)
                stored = await self._objects.load(key, found, any_version=any_version)
            except Changed as changed:
                if seen and changed.stored and seen.etag == changed.stored.etag:
                    self._catalog.distrust_etags(slug)
                    self._objects.remember(key, found, changed.stored)
                seen = changed.stored
                await self._catalog.reload(slug, changed.at)
                index = None
                continue
            return await self._send(request, reply, answer, stored)
        raise Unavailable

    async def _send_plain(self, reply: Reply, answer: Answer) -> Written:
        headers = list(answer.headers)
        if answer.vary:
            headers.append(("Vary", ", ".join(answer.vary)))
        if answer.location is not None:
            headers.append(("Location", answer.location))
        return await reply.send(*plain_page(answer.status, headers))

    async def _send(self, request: web.BaseRequest, reply: Reply, answer: Answer, stored: StoredObject) -> Written:
        """Answer with an object that is in memory."""
        headers = request.headers
        encoding: str | None = None
        body: bytes | None = stored.body
        is_whole = answer.status != 200 or "Range" not in headers
        if stored.compressible and is_whole:
            for each in encodings_of(headers.get("Accept-Encoding", "")):
                compressed = await self._objects.variant(stored, each)
                if compressed is not None:
                    encoding, body = each, compressed
                    break
        assert body is not None
        if answer.status == 200:
            none_match = headers.get("If-None-Match")
            if none_match is not None and matches_etag(none_match, stored.etag):
                return await reply.send(_head_of(answer, stored, encoding, None))
            if not is_whole and (wanted := _wanted(request, stored.etag, len(body))) is not None:
                return await self._send_part(reply, answer, stored, wanted)
        return await reply.send(_head_of(answer, stored, encoding, len(body)), body)

    async def _send_part(self, reply: Reply, answer: Answer, stored: StoredObject, wanted: range) -> Written:
        size = len(stored.body)
        lines = object_headers(
            answer,
            stored.headers,
            etag=variant_etag(stored.etag, None),
            compressible=stored.compressible,
            encoding=None,
        )
        if not wanted:
            return await reply.send(*plain_page(416, [("Content-Range", f"bytes */{size}")]))
        part = stored.body[wanted.start : wanted.stop]
        return await reply.send(make_head(206, [*lines, *_part_headers(wanted, size)]), part)

    async def _stream(
        self, request: web.BaseRequest, reply: Reply, answer: Answer, key: str, found: Indexed, *, any_version: bool
    ) -> Written:
        """Answer with an object that is too large for the memory."""
        wanted = _wanted(request, found.etag, found.size) if answer.status == 200 else None
        if wanted is not None and not wanted:
            return await reply.send(*plain_page(416, [("Content-Range", f"bytes */{found.size}")]))
        none_match = request.headers.get("If-None-Match")
        is_known = answer.status == 200 and none_match is not None and matches_etag(none_match, found.etag)
        method: Literal["GET", "HEAD"] = "GET" if reply.has_body and not is_known else "HEAD"
        if method == "HEAD":
            wanted = None
        async with self._objects.open(key, found, method=method, wanted=wanted, any_version=any_version) as (
            source,
            stored,
        ):
            compressible = "content-encoding" not in stored and is_compressible(stored.get("content-type", ""))
            encoding = None
            if compressible and wanted is None and reply.can_chunk and self._compressed_streams < _COMPRESSED_STREAMS:
                encoding = next(iter(encodings_of(request.headers.get("Accept-Encoding", ""))), None)
            etag = variant_etag(source.etag, encoding)
            lines = object_headers(answer, stored, etag=etag, compressible=compressible, encoding=encoding)
            if is_known:
                return await reply.send(head_of_304(lines))
            if encoding is None:
                size = _part_headers(wanted, found.size) if wanted else [("Content-Length", str(source.size))]
            else:
                size = [("Transfer-Encoding", "chunked")]
            head = make_head(206 if wanted else answer.status, [*lines, *size])
            if not reply.has_body:
                return await reply.send(head)
            reply.start(head)
            with self._viewers.viewer(request) as viewer:
                if encoding:
                    await self._send_compressed(viewer, reply, source, encoding)
                else:
                    async for chunk in source.chunks():
                        await viewer.write(reply, chunk, len(chunk) or 1)
        return reply.end()

    async def _send_compressed(self, viewer: Viewer, reply: Reply, source: ObjectResponse, encoding: str) -> None:
        compressor = make_compressor(encoding)
        self._compressed_streams += 1
        try:
            async for chunk in source.chunks():
                ready = await asyncio.to_thread(compressor.add, chunk)
                if ready:
                    await viewer.write(reply, b"%x\r\n%b\r\n" % (len(ready), ready), len(ready) + 16)
            rest = await asyncio.to_thread(compressor.end)
            last = b"%x\r\n%b\r\n" % (len(rest), rest) if rest else b""
            await viewer.write(reply, last + b"0\r\n\r\n", len(rest) + 32)
        finally:
            self._compressed_streams -= 1


def _head_of(answer: Answer, stored: StoredObject, encoding: str | None, length: int | None) -> bytes:
    """Return the head of an answer with an object in memory; without a length, that of a 304."""
    heads = stored.heads_304 if length is None else stored.heads
    known = heads.get(encoding or "")
    if known is None or known[0] is not answer:
        etag = variant_etag(stored.etag, encoding)
        lines = object_headers(answer, stored.headers, etag=etag, compressible=stored.compressible, encoding=encoding)
        whole = [*lines, ("Content-Length", str(length))]
        known = heads[encoding or ""] = (
            answer,
            head_of_304(lines) if length is None else make_head(answer.status, whole),
        )
    return known[1]


def _routed(request: web.BaseRequest, target: _Target) -> Request:
    return Request(target.path, target.query, request.method, target.host, _LowerCase(request.headers))


class _LowerCase(Mapping[str, str]):
    """The headers of a request by their names in lower case, without copying them: rules seldom ask."""

    def __init__(self, headers: Mapping[str, str]) -> None:
        self._headers = headers  # whose names have no case

    def __getitem__(self, name: str) -> str:
        return self._headers[name]

    def __iter__(self) -> Iterator[str]:
        return (name.lower() for name in self._headers)

    def __len__(self) -> int:
        return len(self._headers)


def _wanted(request: web.BaseRequest, etag: str, size: int) -> range | None:
    """Return the bytes that a request wants of an object; None if it wants all, or another version of it."""
    header = request.headers.get("Range")
    if header is None or request.method != "GET":
        return None
    condition = request.headers.get("If-Range")
    if condition is not None and condition.strip() != variant_etag(etag, None):
        return None
    return byte_range(header, size)


def _part_headers(wanted: range, size: int) -> list[tuple[str, str]]:
    return [
        ("Content-Range", f"bytes {wanted.start}-{wanted.stop - 1}/{size}"),
        ("Content-Length", str(len(wanted))),
    ]
