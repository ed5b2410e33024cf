"""The few operations on S3 that are needed, over aiobotocore; `failures` says in words for people how they fail.

One client serves all buckets of a run: `open_s3` gives it, `S3.bucket` names one of them.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import io
import os
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Collection, Iterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import quote

import anyio
from anyio import to_thread

from buildrunner.cancellation import cleanup
from buildrunner.errors import BuildFailed
from buildrunner.site.failures import (
    ATTEMPTS,
    CONNECT_TIMEOUT,
    READ_TIMEOUT,
    ConditionsUnsupported,
    Operation,
    code_of,
    explained,
)
from buildrunner.site.hot import HotPath

if TYPE_CHECKING:
    from aiobotocore.config import AioConfig
    from aiobotocore.session import AioSession
    from types_aiobotocore_s3 import S3Client
    from types_aiobotocore_s3.type_defs import CompletedPartTypeDef

_T = TypeVar("_T")

MULTIPART_ABOVE = 16 * 2**20  # bytes
PART_SIZE = 8 * 2**20  # bytes
MAX_PARTS = 10_000  # https://docs.aws.amazon.com/AmazonS3/latest/userguide/qfacts.html
# Bytes of bodies in memory at once, over all buckets: whoever wants more waits until another body is sent. Four parts,
# which fill a link of 1 Gbit/s at 60 ms. botocore copies each once more: when all of it goes through aiobotocore, the process
# peaks at 163 MB, 65 MB of which are there without any body.
BYTES_IN_FLIGHT = 32 * 2**20
CLOSE_WITHIN = 2  # seconds, also when the run is being cancelled: what stays open is complained about on the console
ABORT_WITHIN = 5  # seconds for clearing away an upload that is given up, also when the run is being cancelled

_READ_AT_ONCE = 256 * 2**10  # bytes: what is read without a thread, and at a time
_SENT_AT_ONCE = 64 * 2**10  # bytes of a large body: TLS takes room for them twice on each connection
_WRITES = "Something still writes to it after the build has ended. Wait for that in the build script."
_HEADER_NAMES = {"ContentType": "content-type", "CacheControl": "cache-control"}  # botocore's names and those of HTTP


@asynccontextmanager
async def open_s3(*, region: str | None, endpoint_url: str | None, concurrency: int) -> AsyncIterator[S3]:
    """Give a client of S3 for up to `concurrency` requests at once.

    Credentials are found by AWS's default chain when the first request is made. The import and the reading of
    botocore's models, some half a second, happen in a thread, so that a build's output is read meanwhile.
    """
    stack = AsyncExitStack()
    s3 = None
    try:
        with explained("put", bucket="", key="", endpoint_url=endpoint_url):
            session, config = await to_thread.run_sync(_import_client, concurrency, endpoint_url is not None)
            client = await stack.enter_async_context(
                session.create_client("s3", region_name=region, endpoint_url=endpoint_url, config=config)
            )
        yield (s3 := S3(client, endpoint_url, concurrency))
    finally:
        if s3 is not None:
            s3.close()
        with anyio.move_on_after(CLOSE_WITHIN, shield=True):  # when the result is delivered
            await stack.aclose()


def _import_client(concurrency: int, has_endpoint: bool) -> tuple[AioSession, AioConfig]:
    from aiobotocore.config import AioConfig
    from aiobotocore.httpsession import AIOHTTPSession
    from aiobotocore.session import get_session
    from botocore.exceptions import ReadTimeoutError

    for name in [name for name, value in os.environ.items() if name.startswith("AWS_") and not value]:
        del os.environ[name]  # a variable that is empty is not set: botocore looks for a profile without a name

    class Session(AIOHTTPSession):
        """Gives up on a server that does not take the body: aiohttp counts from its end, and not while it awaits 100 Continue."""

        async def send(self, request: Any) -> Any:
            if request.method != "PUT":
                return await super().send(request)
            loop = asyncio.get_running_loop()
            place: Callable[[], int] = getattr(request.body, "tell", int)
            timer: asyncio.TimerHandle | None = None

            def look(seen: int, since: float) -> None:
                nonlocal timer
                if (now_at := place()) != seen:
                    seen, since = now_at, loop.time()
                if loop.time() - since >= READ_TIMEOUT:
                    scope.cancel()
                else:
                    timer = loop.call_later(1, look, seen, since)

            look(place(), loop.time())
            try:
                with anyio.CancelScope() as scope:
                    return await super().send(request)
            finally:
                if timer:
                    timer.cancel()
            raise ReadTimeoutError(endpoint_url=request.url)

    session = get_session()
    session.get_component("response_parser_factory").set_parser_defaults(timestamp_parser=_timestamp)
    loader = session.get_component("data_loader")  # what it has read once, it keeps
    for model in ("service-2", "endpoint-rule-set-1", "paginators-1", "waiters-2"):
        loader.load_service_model("s3", model)
    for data in ("endpoints", "partitions", "sdk-default-configuration", "_retry"):
        loader.load_data(data)
    config = AioConfig(
        connect_timeout=CONNECT_TIMEOUT,
        read_timeout=READ_TIMEOUT,
        retries={"mode": "standard", "total_max_attempts": ATTEMPTS},
        max_pool_connections=concurrency,
        tcp_keepalive=True,
        http_session_cls=Session,
        # Each object gets a SHA-256 from here; CRCs that the client adds by itself trouble servers other than AWS.
        request_checksum_calculation="when_required",
        response_checksum_validation="when_required",
        s3={"addressing_style": "path" if has_endpoint else "auto"},
    )
    return session, config


@dataclass(frozen=True, slots=True)
class Stored:
    """What is known of an object once the server has it."""

    etag: str  # as the server answered it, and as its listings show it
    sha256: str  # of `sha256_of`


@dataclass(frozen=True, slots=True)
class Listed:
    """An object as a listing shows it."""

    etag: str
    size: int  # bytes
    modified: datetime  # with a time zone


@dataclass(frozen=True, slots=True)
class Fetched:
    """A small object that was read."""

    body: bytes
    etag: str
    age: float  # seconds since it was written, by the server's own clock and in whole ones


def _timestamp(text: str) -> datetime:
    """Read a time as listings have it; botocore's own reader takes four fifths of the time that a listing needs."""
    from botocore.utils import parse_timestamp

    try:
        return datetime.fromisoformat(text)
    except ValueError:
        return parse_timestamp(text)


class S3:
    """A client that all buckets of a run share, with its bound on memory."""

    def __init__(self, client: S3Client, endpoint_url: str | None, concurrency: int) -> None:
        self._client = client
        self._endpoint_url = endpoint_url
        self._concurrency = concurrency
        # Small bodies are held while they wait for another attempt, and so for their turn, which others have: all of them
        # together have to leave room for a large one, or both would wait for each other.
        self._memory = _Bytes(max(BYTES_IN_FLIGHT, concurrency * _READ_AT_ONCE + MULTIPART_ABOVE))
        self._hot: dict[str, HotPath] = {}
        self._learning = anyio.Lock()

    def bucket(self, name: str) -> Bucket:
        """Name a bucket; asks nobody whether it is there."""
        hot = self._hot.setdefault(name, HotPath(self._client, self._concurrency))
        return Bucket(name, self._client, hot, self._memory, self._endpoint_url)

    async def warm_up(self, bucket: str) -> None:
        """Have credentials found, a connection made and the hot path to a bucket learnt before they are needed."""
        async with self._learning:  # one at a time: who learns sees all requests of the client
            await self._hot.setdefault(bucket, HotPath(self._client, self._concurrency)).learn(bucket)

    def close(self) -> None:
        """Close the connections of the hot paths."""
        for hot in self._hot.values():
            hot.close()


class Bucket:
    """One bucket. Every method raises BuildFailed with what went wrong in words for people."""

    def __init__(self, name: str, client: S3Client, hot: HotPath, memory: _Bytes, endpoint_url: str | None) -> None:
        self.name = name
        self._client = client
        self._hot = hot
        self._memory = memory
        self._endpoint_url = endpoint_url

    async def put(self, key: str, body: bytes, *, content_type: str, cache_control: str | None = None) -> None:
        """Write a small object, whose SHA-256 the server verifies."""
        async with self._hot.turn(), self._memory.hold(len(body)):
            await self._put(key, body, hashlib.sha256(body).digest(), _headers(content_type, cache_control))

    async def put_file(
        self,
        key: str,
        descriptor: int,
        size: int,
        *,
        content_type: str,
        cache_control: str | None = None,
        parts_in_flight: int = BYTES_IN_FLIGHT // PART_SIZE,
        check: Callable[[], None] = lambda: None,
    ) -> Stored:
        """Write the first `size` bytes of a file, in parts when there are more than 16 MiB.

        Large bodies are read twice, for the checksum and while they are sent, and take next to no memory; only one that goes
        through aiobotocore is in memory as a whole. Reads with pread, so the descriptor's own position is left alone. When a part
        fails or the caller is cancelled, what was sent is cleared away. So it is when `check`, called before parts that are all
        there become the object, raises: each has its checksum, but nothing else says that they are of one state of the file.
        """
        headers = _headers(content_type, cache_control)
        if size > MULTIPART_ABOVE:
            return await self._put_parts(key, descriptor, size, headers, parts_in_flight, check)
        if size <= _READ_AT_ONCE:  # a hop through a thread costs as much as reading and hashing that
            async with self._hot.turn(), self._memory.hold(size):
                body = b"".join(_pieces(key, descriptor, 0, size))
                digest = hashlib.sha256(body).digest()
                return Stored(await self._put(key, body, digest, headers), digest.hex())
        part = _Slice(key, descriptor, 0, size)
        async with self._hot.turn():
            digest = await to_thread.run_sync(part.digest)
            return Stored(await self._put(key, part, digest, headers), digest.hex())

    async def put_if(self, key: str, body: bytes, *, content_type: str, replacing: str | None) -> str | None:
        """Write a small object if what is there has the ETag `replacing`, or nothing is there (None), and give its ETag.

        Gives None when something else is there. Raises ConditionsUnsupported where the server has no conditional writes.
        https://docs.aws.amazon.com/AmazonS3/latest/userguide/conditional-writes.html
        """
        from botocore.exceptions import ClientError

        condition = {"IfMatch": replacing} if replacing else {"IfNoneMatch": "*"}
        unsupported = False
        with self._explained("put", key):
            try:
                answer = await self._client.put_object(
                    Bucket=self.name,
                    Key=key,
                    Body=body,
                    ChecksumAlgorithm="SHA256",
                    ContentType=content_type,
                    **condition,  # type: ignore[arg-type]
                )
                return answer["ETag"]
            except ClientError as error:
                code = code_of(error)
                unsupported = code in {"NotImplemented", "501"}
                lost = code in {"PreconditionFailed", "ConditionalRequestConflict", "NoSuchKey", "412", "409", "404"}
                if not (lost or unsupported):
                    raise
        if unsupported:
            raise ConditionsUnsupported
        return None

    async def get(self, key: str, *, most: int) -> Fetched | None:
        """Read a small object; None when it is not there, or larger than `most` bytes."""
        from email.utils import parsedate_to_datetime

        with self._explained("get", key):
            try:
                answer = await self._client.get_object(Bucket=self.name, Key=key)
            except self._client.exceptions.NoSuchKey:
                return None
            async with answer["Body"] as stream:
                if answer["ContentLength"] > most:
                    return None
                body = await stream.read()
        date = answer["ResponseMetadata"]["HTTPHeaders"].get("date")
        age = (parsedate_to_datetime(date) - answer["LastModified"]).total_seconds() if date else 0.0
        return Fetched(body, answer["ETag"], max(0.0, age))

    async def list_objects(self, prefix: str) -> dict[str, Listed]:
        """Give every key that begins with `prefix`. Raises AccessRefused where listing is not allowed."""
        objects: dict[str, Listed] = {}
        with self._explained("list", ""):
            async for page in self._client.get_paginator("list_objects_v2").paginate(Bucket=self.name, Prefix=prefix):
                for entry in page.get("Contents", ()):
                    objects[entry["Key"]] = Listed(entry["ETag"], entry["Size"], entry["LastModified"])
        return objects

    async def delete(self, keys: Sequence[str]) -> dict[str, str]:
        """Delete up to 1,000 objects in one request, and give why of those that S3 refused: the code of each."""
        with self._explained("delete", keys[0]):
            answer = await self._client.delete_objects(
                Bucket=self.name, Delete={"Objects": [{"Key": key} for key in keys], "Quiet": True}
            )
        return {error.get("Key", ""): error.get("Code", "unknown") for error in answer.get("Errors", ())}

    async def lines(self, key: str) -> AsyncIterator[list[bytes]]:
        """Give the lines of an object as they come, without their ends; nothing when there is no such object."""
        rest = b""
        with self._explained("get", key):
            try:
                answer = await self._client.get_object(Bucket=self.name, Key=key)
            except self._client.exceptions.NoSuchKey:
                return
            async with answer["Body"] as body:
                async for chunk in body.iter_chunks(65536):
                    *lines, rest = (rest + chunk).split(b"\n")
                    yield lines

    async def stream(self, key: str) -> AsyncGenerator[bytes]:
        """Give the body of an object by pieces, as they come; nothing when there is no such object."""
        with self._explained("get", key):
            try:
                answer = await self._client.get_object(Bucket=self.name, Key=key)
            except self._client.exceptions.NoSuchKey:
                return
            async with answer["Body"] as body:
                async for chunk in body.iter_chunks(_READ_AT_ONCE):
                    yield chunk

    async def remove(self, key: str) -> None:
        """Remove an object; it is no error when there is none."""
        with self._explained("delete", key):
            await self._client.delete_object(Bucket=self.name, Key=key)

    async def _put(self, key: str, body: bytes | _Slice, digest: bytes, headers: dict[str, str]) -> str:
        # Some servers keep the checksum only where its algorithm is named.
        named = {_HEADER_NAMES[name]: value for name, value in headers.items()} | {
            "x-amz-sdk-checksum-algorithm": "SHA256"
        }
        if isinstance(body, bytes):
            etag = await self._hot.put(key, body, len(body), digest, named)
        else:
            etag = await self._hot.put(key, body.pieces, body.size, digest, named)
        if etag:
            return etag
        async with self._whole(body, digest) as whole:
            with self._explained("put", key):
                answer = await self._client.put_object(
                    Bucket=self.name,
                    Key=key,
                    Body=whole,
                    ChecksumAlgorithm="SHA256",
                    ChecksumSHA256=_base64(digest),
                    **headers,  # type: ignore[arg-type]
                )
        return answer["ETag"]

    @asynccontextmanager
    async def _whole(self, body: bytes | _Slice, digest: bytes) -> AsyncIterator[bytes | io.BytesIO]:
        """Have a body in memory when there is room for it, as botocore wants it."""
        if isinstance(body, bytes):
            yield body
            return
        async with self._memory.hold(body.size):
            yield await to_thread.run_sync(body.read, _room_for(body.size), digest)

    async def _put_parts(
        self,
        key: str,
        descriptor: int,
        size: int,
        headers: dict[str, str],
        parts_in_flight: int,
        check: Callable[[], None],
    ) -> Stored:
        parts = _parts(key, descriptor, size)
        done: dict[int, CompletedPartTypeDef] = {}
        digests: dict[int, bytes] = {}
        with self._explained("put", key):
            upload = await self._client.create_multipart_upload(
                Bucket=self.name,
                Key=key,
                ChecksumAlgorithm="SHA256",
                **headers,  # type: ignore[arg-type]
            )
        upload_id = upload["UploadId"]

        async def send_part(number: int) -> None:
            part = parts[number - 1]
            query = f"partNumber={number}&uploadId={quote(upload_id, safe='-_.~')}"
            async with self._hot.turn():
                digest = await to_thread.run_sync(part.digest)
                etag = await self._hot.put(key, part.pieces, part.size, digest, {}, query)
                if etag is None:
                    async with self._whole(part, digest) as whole:
                        with self._explained("put", key):
                            answer = await self._client.upload_part(
                                Bucket=self.name,
                                Key=key,
                                UploadId=upload_id,
                                PartNumber=number,
                                Body=whole,
                                ChecksumSHA256=_base64(digest),
                            )
                        etag = answer["ETag"]
            done[number] = {"PartNumber": number, "ETag": etag, "ChecksumSHA256": _base64(digest)}
            digests[number] = digest

        try:
            await in_parallel(send_part, range(1, len(parts) + 1), limit=parts_in_flight)
            check()
            with self._explained("put", key):
                answer = await self._client.complete_multipart_upload(
                    Bucket=self.name,
                    Key=key,
                    UploadId=upload_id,
                    MultipartUpload={"Parts": [done[number] for number in sorted(done)]},
                )
        except BaseException:
            with cleanup(ABORT_WITHIN):
                try:
                    with self._explained("put", key):
                        await self._client.abort_multipart_upload(Bucket=self.name, Key=key, UploadId=upload_id)
                except BuildFailed:
                    pass  # the first cause is what people are told; a lifecycle rule clears away what is left
            raise
        return Stored(answer["ETag"], _composite([digests[number] for number in sorted(digests)]))

    @contextmanager
    def _explained(self, operation: Operation, key: str) -> Iterator[None]:
        with explained(operation, bucket=self.name, key=key, endpoint_url=self._endpoint_url):
            yield


async def in_parallel(work: Callable[[_T], Awaitable[None]], items: Collection[_T], *, limit: int) -> None:
    """Do `work` for each of `items`, begun in their order, `limit` at once.

    The first failure stops the rest at once, and is raised as itself and not in a group.
    """
    waiting = iter(items)

    async def worker() -> None:
        for item in waiting:
            await work(item)

    try:
        async with anyio.create_task_group() as workers:
            for _ in range(min(limit, len(items))):
                workers.start_soon(worker)
    except BaseExceptionGroup as group:
        error: BaseException = group
        while isinstance(error, BaseExceptionGroup):
            error = error.exceptions[0]
        raise error from None


class _Bytes:
    """A bound on the bytes held at once. Who wants more waits in line, so that a large body is not passed by."""

    def __init__(self, total: int) -> None:
        self._total = total
        self._free = total
        self._first_in_line = anyio.Lock(fast_acquire=True)
        self._freed = anyio.Event()

    @asynccontextmanager
    async def hold(self, count: int) -> AsyncIterator[None]:
        count = min(count, self._total)
        if self._free >= count and not self._first_in_line.locked():
            self._free -= count
        else:
            async with self._first_in_line:
                while self._free < count:
                    self._freed = anyio.Event()
                    await self._freed.wait()
                self._free -= count
        try:
            yield
        finally:
            self._free += count
            self._freed.set()


def _headers(content_type: str, cache_control: str | None) -> dict[str, str]:
    return {"ContentType": content_type} | ({"CacheControl": cache_control} if cache_control else {})


def _room_for(size: int) -> io.BytesIO:
    """Give a body of `size` bytes to be filled in place.

    aiohttp sends a BytesIO by pieces and bytes as a whole, which copies them into its buffer. It is made in the event
    loop's thread: what each of many threads allocates, malloc keeps for each of them.
    """
    body = io.BytesIO()
    if size:
        body.seek(size - 1)
        body.write(b"\0")
        body.seek(0)
    return body


@dataclass(frozen=True, slots=True)
class _Slice:
    """A part of a file that will be the body of a request. What is read of it raises BuildFailed when there is less."""

    key: str
    descriptor: int
    offset: int
    size: int

    def digest(self) -> bytes:
        found = hashlib.sha256()
        for piece in _pieces(self.key, self.descriptor, self.offset, self.size):
            found.update(piece)
        return found.digest()

    def pieces(self) -> Iterator[bytes]:
        return _pieces(self.key, self.descriptor, self.offset, self.size, _SENT_AT_ONCE)

    def read(self, body: io.BytesIO, digest: bytes) -> io.BytesIO:
        with body.getbuffer() as room:
            filled = 0
            for piece in _pieces(self.key, self.descriptor, self.offset, self.size):
                room[filled : filled + len(piece)] = piece
                filled += len(piece)
            if hashlib.sha256(room).digest() != digest:
                raise BuildFailed(
                    "upload", f"What is to become {self.key} changed while it was being published.", _WRITES
                )
        return body


def sha256_of(key: str, descriptor: int, size: int) -> str:
    """Give what `Stored.sha256` is when the first `size` bytes of a file are sent as the object `key`.

    Hexadecimal, as sha256sum(1) prints it. An object that is sent in parts has the SHA-256 of its parts' SHA-256 instead, with `-`
    and how many these are behind it: S3's composite checksum.
    https://docs.aws.amazon.com/AmazonS3/latest/userguide/checking-object-integrity-upload.html
    """
    if size <= MULTIPART_ABOVE:
        return _Slice(key, descriptor, 0, size).digest().hex()
    return _composite([part.digest() for part in _parts(key, descriptor, size)])


def _parts(key: str, descriptor: int, size: int) -> list[_Slice]:
    part_size = max(PART_SIZE, -(-size // MAX_PARTS))
    return [_Slice(key, descriptor, offset, min(part_size, size - offset)) for offset in range(0, size, part_size)]


def _composite(digests: Sequence[bytes]) -> str:
    return f"{hashlib.sha256(b''.join(digests)).hexdigest()}-{len(digests)}"


def _pieces(key: str, descriptor: int, offset: int, size: int, at_once: int = _READ_AT_ONCE) -> Iterator[bytes]:
    while size:
        try:
            piece = os.pread(descriptor, min(size, at_once), offset)
        except OSError as error:
            raise BuildFailed("upload", f"What is to become {key} cannot be read: {error.strerror}.") from None
        if not piece:
            raise BuildFailed(
                "upload",
                f"What is to become {key} grew shorter while it was being published.",
                _WRITES,
            )
        yield piece
        size, offset = size - len(piece), offset + len(piece)


def _base64(digest: bytes) -> str:
    return base64.b64encode(digest).decode()
