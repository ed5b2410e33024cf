"""Read objects for a server that responds to visitors: conditionally, in ranges, and as a stream.

As in `fast_put`, requests are signed here, because aiobotocore needs more than a millisecond of CPU for each. aiobotocore makes
them where it is required (a proxy, another kind of signature).
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator, AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal
from urllib.parse import quote

import aiohttp
import yarl

from buildrunner import __version__
from buildrunner.concurrency.retry import RetryPolicy
from buildrunner.s3.bodies import READ_AT_ONCE
from buildrunner.s3.compatibility import plain_etag
from buildrunner.s3.errors import AccessRefused, S3Failed, Unreachable, code_of, explained, quoted
from buildrunner.s3.http1 import Connections, ProtocolError
from buildrunner.s3.signing import EMPTY_SHA256, Location, Signer, locate

if TYPE_CHECKING:
    from types_aiobotocore_s3 import S3Client

# Headers that are stored with an object, and belong to its body.
STORED_HEADERS = ("content-type", "cache-control", "content-disposition", "content-language", "content-encoding")
_SMALL_AT_ONCE = 64
_ENCODED = [(name, name.encode()) for name in STORED_HEADERS]
_USER_AGENT = f"user-agent: buildrunner/{__version__}\r\n\r\n"
_CONNECT_SECONDS = 3.0
_SILENT_SECONDS = 10.0  # between two pieces of a response
_IDLE_SECONDS = 12.0  # as in aiobotocore: proxies drop connections that are idle for longer
_RETRY = RetryPolicy(first=0.05, longest=0.4, jitter=(0.5, 1.0), most=3)  # a visitor is waiting
_PASSES = {429, 500, 502, 503, 504}
_ANSWERS = {200, 206, 304, 404, 412, 416}
_STATUS_OF_CODES = {"NoSuchKey": 404, "PreconditionFailed": 412, "InvalidRange": 416, "NotModified": 304}
_MAX_OF_ERROR = 64 * 2**10  # bytes

_debug = logging.getLogger(__name__).debug


@dataclass(frozen=True, slots=True)
class ObjectResponse:
    """The response to a request for an object, and its body, which can be read once."""

    status: int  # 200, 206, 304, 404, 412 or 416
    etag: str  # of `plain_etag`
    size: int  # bytes of the body; size of the whole object if the status is 200
    headers: Mapping[str, str]  # of the object; names in lower case
    _chunks: AsyncIterator[bytes]

    @property
    def stored_headers(self) -> dict[str, str]:
        """Those of STORED_HEADERS that the object has."""
        return {name: self.headers[name] for name in STORED_HEADERS if name in self.headers}

    async def chunks(self) -> AsyncGenerator[bytes]:
        """Yield the body in pieces as they arrive."""
        async for chunk in self._chunks:
            yield chunk

    async def read(self) -> bytes:
        """Return the whole body."""
        return b"".join([chunk async for chunk in self._chunks])


@dataclass(frozen=True, slots=True)
class SmallObject:
    """An object that was read as a whole."""

    etag: str  # of `plain_etag`
    headers: dict[str, str]  # of STORED_HEADERS; names in lower case
    body: bytes


class _Answered(Exception):
    """A response that aiobotocore alone would raise as an exception."""

    def __init__(self, status: int) -> None:
        super().__init__(status)
        self.status = status


class ObjectReader:
    """Read objects of one bucket."""

    def __init__(self, client: S3Client, bucket: str, endpoint_url: str | None, session: aiohttp.ClientSession) -> None:
        self._client = client
        self._bucket = bucket
        self._endpoint_url = endpoint_url
        self._session = session
        self._signer = Signer(client)
        self._location: Location | None = None
        self._connections: Connections | None = None  # for small objects
        self._turns = asyncio.Semaphore(_SMALL_AT_ONCE)
        self._learning = asyncio.Lock()
        self._learnt = False

    async def warm_up(self) -> None:
        """Load credentials and resolve the address of the bucket in advance; a second call does nothing."""
        async with self._learning:
            if not self._learnt:
                found = self._location = await locate(self._client, self._bucket)
                self._connections = Connections(found.hostname, found.port, found.tls) if found else None
                self._learnt = True

    def close(self) -> None:
        """Close the connections for small objects."""
        if self._connections:
            self._connections.close()
            self._connections = None

    async def read(self, key: str, *, max_bytes: int) -> SmallObject | None:
        """Read a small object, at half the CPU time of `open`; None where it is not there, or is larger than that.

        Raises:
            S3Failed: the server cannot be reached (Unreachable), refuses (AccessRefused), or fails.

        """
        if not self._learnt:
            await self.warm_up()
        location, connections = self._location, self._connections
        if location and connections:
            path = location.path + quote(key, safe="/-_.~")
            try:
                async with self._turns:
                    signed = await self._signer.sign_plain(path, host=location.host, region=location.region)
                    head = f"GET {path} HTTP/1.1\r\n{signed}{_USER_AGENT}".encode("ascii")
                    answer = await connections.request(head, b"", max_body=max_bytes)
            except (OSError, ProtocolError) as error:
                _debug("GET %s: %s", key, type(error).__name__)
            else:
                if answer.status == 404:
                    return None
                if answer.status == 200:
                    found = answer.headers
                    headers = {name: found[each].decode("latin-1") for name, each in _ENCODED if each in found}
                    return SmallObject(plain_etag(found.get(b"etag", b"").decode("latin-1")), headers, answer.body)
        async with self.open(key) as opened:  # which tries again, and knows the words for what fails
            if opened.status != 200 or opened.size > max_bytes:
                return None
            return SmallObject(opened.etag, opened.stored_headers, await opened.read())

    @asynccontextmanager
    async def open(
        self,
        key: str,
        *,
        method: Literal["GET", "HEAD"] = "GET",
        unless: str | None = None,
        ranges: str | None = None,
    ) -> AsyncIterator[ObjectResponse]:
        """Request an object.

        Args:
            key: key of the object.
            method: GET, or HEAD for a response without body.
            unless: ETag in the form of `plain_etag`; the response is 304 if the object still has it.
            ranges: value of the Range header.

        Raises:
            S3Failed: the server is unreachable (Unreachable), refuses (AccessRefused) or fails, also while the body is read.

        """
        await self.warm_up()
        headers = {}
        if unless:
            headers["if-none-match"] = f'"{unless}"'
        if ranges:
            headers["range"] = ranges
        if self._location is None:
            async with self._open_by_client(key, method, headers) as found:
                yield found
            return
        answer = await self._request(self._location, key, method, headers)
        try:
            yield ObjectResponse(
                answer.status,
                plain_etag(answer.headers.get("ETag")),
                int(answer.headers.get("Content-Length") or 0),
                {name.lower(): value for name, value in answer.headers.items()},
                self._chunks(answer, key),
            )
        finally:
            answer.release()  # closes the connection if part of the body was not read

    async def _request(
        self, location: Location, key: str, method: str, headers: Mapping[str, str]
    ) -> aiohttp.ClientResponse:
        path = location.path + quote(key, safe="/-_.~")
        port = f":{location.port}" if ":" not in location.host.rpartition("]")[2] else ""
        url = yarl.URL(f"{location.scheme}://{location.host}{port}{path}", encoded=True)
        retries = 0
        while True:
            signed = await self._signer.sign(
                method, path, "", headers, host=location.host, region=location.region, sha256=EMPTY_SHA256
            )
            failure: Exception
            try:
                answer = await self._session.request(
                    method, url, headers=signed, allow_redirects=False, ssl=location.tls or True
                )
            except (aiohttp.ClientError, TimeoutError, OSError) as error:
                failure = self._unreachable(error)
            else:
                if answer.status in _ANSWERS:
                    return answer
                failure = await self._failure(answer, key)
                if answer.status not in _PASSES:
                    raise failure
            if retries >= _RETRY.most or isinstance(failure.__cause__, TimeoutError):
                raise failure from None
            await asyncio.sleep(_RETRY.pause(retries))
            retries += 1

    async def _chunks(self, answer: aiohttp.ClientResponse, key: str) -> AsyncIterator[bytes]:
        try:
            async for chunk in answer.content.iter_chunked(READ_AT_ONCE):
                yield chunk
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            raise self._unreachable(error) from None

    def _unreachable(self, error: Exception) -> Unreachable:
        where = (self._endpoint_url or "S3").rpartition("//")[2].rpartition("@")[2]
        failure = Unreachable(f"{where} does not answer ({type(error).__name__}).", None)
        failure.__cause__ = error
        return failure

    async def _failure(self, answer: aiohttp.ClientResponse, key: str) -> S3Failed:
        try:
            said = (await answer.content.read(_MAX_OF_ERROR)).decode(errors="replace")
        except (aiohttp.ClientError, TimeoutError, OSError):
            said = ""
        finally:
            answer.release()
        message = said.partition("<Message>")[2].partition("</Message>")[0]
        if answer.status == 403:
            return AccessRefused("get", self._bucket, key, message)
        return S3Failed(f"S3 answered HTTP {answer.status} for the bucket {self._bucket}: {quoted(message)}")

    @asynccontextmanager
    async def _open_by_client(
        self, key: str, method: Literal["GET", "HEAD"], headers: Mapping[str, str]
    ) -> AsyncIterator[ObjectResponse]:
        options: dict[str, Any] = {}
        if "if-none-match" in headers:
            options["IfNoneMatch"] = headers["if-none-match"]
        if "range" in headers:
            options["Range"] = headers["range"]
        ask: Any = self._client.get_object if method == "GET" else self._client.head_object
        try:
            with self._explained(key):
                answer = await ask(Bucket=self._bucket, Key=key, **options)
        except _Answered as answered:
            yield ObjectResponse(answered.status, "", 0, {}, _no_chunks())
            return
        about = answer["ResponseMetadata"]
        found = about["HTTPHeaders"]
        status, etag, size = about["HTTPStatusCode"], plain_etag(answer.get("ETag")), answer["ContentLength"]
        if method == "HEAD":
            yield ObjectResponse(status, etag, size, found, _no_chunks())
            return
        async with answer["Body"] as body:
            yield ObjectResponse(status, etag, size, found, self._explained_chunks(body, key))

    async def _explained_chunks(self, body: Any, key: str) -> AsyncIterator[bytes]:
        chunks = aiter(body.iter_chunks(READ_AT_ONCE))
        while True:
            with self._explained(key):
                chunk = await anext(chunks, None)
            if chunk is None:
                return
            yield chunk

    @contextmanager
    def _explained(self, key: str) -> Iterator[None]:
        from botocore.exceptions import ClientError

        answered = None
        with explained("get", bucket=self._bucket, key=key, endpoint_url=self._endpoint_url):
            try:
                yield
            except ClientError as error:
                answered = _STATUS_OF_CODES.get(code_of(error)) or error.response["ResponseMetadata"]["HTTPStatusCode"]
                if answered not in _ANSWERS:
                    raise
        if answered:
            raise _Answered(answered)


async def _no_chunks() -> AsyncIterator[bytes]:
    for chunk in list[bytes]():
        yield chunk


@asynccontextmanager
async def open_session(concurrency: int) -> AsyncIterator[aiohttp.ClientSession]:
    """Open the session that readers of several buckets share, for up to `concurrency` concurrent requests."""
    timeout = aiohttp.ClientTimeout(total=None, sock_connect=_CONNECT_SECONDS, sock_read=_SILENT_SECONDS)
    connector = aiohttp.TCPConnector(limit=concurrency, keepalive_timeout=_IDLE_SECONDS)
    async with aiohttp.ClientSession(
        connector=connector,
        timeout=timeout,
        auto_decompress=False,
        cookie_jar=aiohttp.DummyCookieJar(),
        skip_auto_headers=("Accept", "Accept-Encoding", "Content-Type"),
    ) as session:
        yield session
