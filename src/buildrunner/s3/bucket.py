"""The few operations on S3 that are needed, over aiobotocore; `failures` says in words for people how they fail.

One client serves all buckets of a run: `open_s3` gives it, `S3.bucket` names one of them.
"""

from __future__ import annotations

import asyncio
import hashlib
import io
import os
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import quote

import anyio
from anyio import to_thread

from buildrunner.concurrency.parallel import in_parallel
from buildrunner.s3.bodies import (
    MULTIPART_ABOVE,
    PART_SIZE,
    READ_AT_ONCE,
    ByteLimit,
    Slice,
    composite,
    pieces_of,
    room_for,
    slices_of,
    to_base64,
)
from buildrunner.s3.compatibility import (
    Compatibility,
    is_listing,
    may_refuse_checksums,
    may_refuse_conditions,
    may_refuse_many,
    plain_etag,
)
from buildrunner.s3.errors import (
    ATTEMPTS,
    CONNECT_TIMEOUT,
    READ_TIMEOUT,
    ConditionsUnsupported,
    NotS3,
    Operation,
    code_of,
    explained,
)
from buildrunner.s3.fast_put import FastPut
from buildrunner.s3.multipart import SentPart, put_in_parts
from buildrunner.s3.small_objects import ClientWriter, SmallObjectWriter

if TYPE_CHECKING:
    from aiobotocore.config import AioConfig
    from aiobotocore.session import AioSession
    from types_aiobotocore_s3 import S3Client
    from types_aiobotocore_s3.type_defs import GetObjectOutputTypeDef

    from buildrunner.s3.permissions import PermissionProbe
    from buildrunner.s3.reader import ObjectReader

_T = TypeVar("_T")

# Bytes of bodies in memory at once, over all buckets: whoever wants more waits until another body is sent. Four parts,
# which fill a link of 1 Gbit/s at 60 ms. botocore copies each once more: when all of it goes through aiobotocore, the process
# peaks at 163 MB, 65 MB of which are there without any body.
BYTES_IN_FLIGHT = 32 * 2**20
MAX_LINE = 2**20  # bytes: an event or an entry of a manifest has some kilobytes at the most
CLOSE_WITHIN = 2  # seconds, also when the run is being cancelled: what stays open is complained about on the console
_DELETIONS_AT_ONCE = 16  # where a server deletes one object a request
_HEADER_NAMES = {  # botocore's names and those of HTTP
    "ContentType": "content-type",
    "CacheControl": "cache-control",
    "ChecksumAlgorithm": "x-amz-sdk-checksum-algorithm",
    "ChecksumSHA256": "x-amz-checksum-sha256",
    "ContentMD5": "content-md5",
}


@asynccontextmanager
async def open_s3(
    *,
    region: str | None,
    endpoint_url: str | None,
    concurrency: int,
    fast_put: bool = True,
    keys: tuple[str, str] | None = None,
) -> AsyncIterator[S3]:
    """Return a client of S3 for up to `concurrency` requests at once.

    Credentials are `keys`, an access key and its secret, or found by AWS's default chain when the first request is made. The
    import and the reading of
    botocore's models, some half a second, happen in a thread, so that a build's output is read meanwhile.
    """
    stack = AsyncExitStack()
    s3 = None
    try:
        with explained("put", bucket="", key="", endpoint_url=endpoint_url):
            session, config = await to_thread.run_sync(_import_client, concurrency, endpoint_url is not None)
            client = await stack.enter_async_context(
                session.create_client(
                    "s3",
                    region_name=region,
                    endpoint_url=endpoint_url,
                    config=config,
                    aws_access_key_id=keys and keys[0],
                    aws_secret_access_key=keys and keys[1],
                )
            )
        yield (s3 := S3(client, endpoint_url, concurrency, fast_put=fast_put))
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

    etag: str  # of `plain_etag`; empty where the server says none
    sha256: str  # of `sha256_of`


@dataclass(frozen=True, slots=True)
class Listed:
    """An object as a listing shows it."""

    etag: str  # of `plain_etag`
    size: int  # bytes
    modified: datetime  # with a time zone


@dataclass(frozen=True, slots=True)
class Part:
    """A range of an object."""

    body: bytes
    size: int  # bytes of the whole object
    etag: str  # of `plain_etag`


@dataclass(frozen=True, slots=True)
class Fetched:
    """A small object that was read."""

    body: bytes
    etag: str  # of `plain_etag`
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

    def __init__(self, client: S3Client, endpoint_url: str | None, concurrency: int, *, fast_put: bool = True) -> None:
        self._client = client
        self._fast_put = fast_put
        self._endpoint_url = endpoint_url
        self._concurrency = concurrency
        # Small bodies are held while they wait for another attempt, and so for their turn, which others have: all of them
        # together have to leave room for a large one, or both would wait for each other.
        self._memory = ByteLimit(max(BYTES_IN_FLIGHT, concurrency * READ_AT_ONCE + MULTIPART_ABOVE))
        self._compatibility = Compatibility()
        self._writers: dict[str, SmallObjectWriter] = {}
        self._learning = anyio.Lock()

    def bucket(self, name: str) -> Bucket:
        """Name a bucket; asks nobody whether it is there."""
        return Bucket(name, self._client, self._writer(name), self._memory, self._compatibility, self._endpoint_url)

    def probe(self, name: str) -> PermissionProbe:
        """Return what finds out which permissions there are for a bucket."""
        from buildrunner.s3.permissions import PermissionProbe

        return PermissionProbe(name, self._client, self._endpoint_url)

    @asynccontextmanager
    async def open_readers(self, *names: str) -> AsyncIterator[list[ObjectReader]]:
        """Return a reader for each of these buckets; they share up to `concurrency` connections of their own."""
        from buildrunner.s3.reader import ObjectReader, open_session

        async with open_session(self._concurrency) as session:
            readers = [ObjectReader(self._client, name, self._endpoint_url, session) for name in names]
            try:
                yield readers
            finally:
                for reader in readers:
                    reader.close()

    async def warm_up(self, bucket: str) -> None:
        """Have credentials found, a connection made and the fast path to a bucket learnt before they are needed."""
        async with self._learning:  # one at a time: who learns sees all requests of the client
            await self._writer(bucket).learn(bucket)

    def close(self) -> None:
        """Close the connections of the writers."""
        for writer in self._writers.values():
            writer.close()

    def _writer(self, bucket: str) -> SmallObjectWriter:
        if bucket not in self._writers:
            fast = self._fast_put
            self._writers[bucket] = (
                FastPut(self._client, self._concurrency) if fast else ClientWriter(self._concurrency)
            )
        return self._writers[bucket]


class Bucket:
    """One bucket. Every method raises BuildFailed with what went wrong in words for people."""

    def __init__(
        self,
        name: str,
        client: S3Client,
        writer: SmallObjectWriter,
        memory: ByteLimit,
        compatibility: Compatibility,
        endpoint_url: str | None,
    ) -> None:
        self.name = name
        self._client = client
        self._writer = writer
        self._memory = memory
        self._compatibility = compatibility
        self._endpoint_url = endpoint_url

    @property
    def takes_checksums(self) -> bool:
        """Whether the server is not known to refuse SHA-256 checksums."""
        return self._compatibility.checksums

    async def put(self, key: str, body: bytes, *, content_type: str, cache_control: str | None = None) -> None:
        """Write a small object, whose SHA-256 the server verifies."""
        async with self._writer.turn(), self._memory.hold(len(body)):
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
        if size <= READ_AT_ONCE:  # a hop through a thread costs as much as reading and hashing that
            async with self._writer.turn(), self._memory.hold(size):
                body = b"".join(pieces_of(key, descriptor, 0, size))
                digest = hashlib.sha256(body).digest()
                return Stored(await self._put(key, body, digest, headers), digest.hex())
        part = Slice(key, descriptor, 0, size)
        async with self._writer.turn():
            digest = await to_thread.run_sync(part.digest)
            return Stored(await self._put(key, part, digest, headers), digest.hex())

    async def put_if(self, key: str, body: bytes, *, content_type: str, replacing: str | None) -> str | None:
        """Write a small object if what is there has the ETag `replacing`, or nothing is there (None), and return its ETag.

        Gives None when something else is there. Raises ConditionsUnsupported where the server has no conditional writes.
        https://docs.aws.amazon.com/AmazonS3/latest/userguide/conditional-writes.html
        """
        from botocore.exceptions import ClientError

        condition: dict[str, Any] = {"IfMatch": f'"{replacing}"'} if replacing else {"IfNoneMatch": "*"}
        digest = hashlib.sha256(body).digest()

        async def put(checksums: bool) -> str:
            answer = await self._client.put_object(
                Bucket=self.name,
                Key=key,
                Body=body,
                ContentType=content_type,
                **await self._integrity(body, digest, checksums),
                **condition,
            )
            return plain_etag(answer.get("ETag"))

        unsupported = False
        with self._explained("put", key):
            try:
                return await self._with_checksums(put) or None
            except ClientError as error:
                code = code_of(error)
                unsupported = may_refuse_conditions(error)
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
            answer = await self._get(key)
            if answer is None:
                return None
            body = bytearray()
            async with answer["Body"] as stream:
                async for chunk in stream.iter_chunks(READ_AT_ONCE):
                    body += chunk
                    if len(body) > most:
                        return None
            date = answer["ResponseMetadata"]["HTTPHeaders"].get("date")
            modified: datetime | None = answer.get("LastModified")
            age = (parsedate_to_datetime(date) - modified).total_seconds() if date and modified is not None else 0.0
        return Fetched(bytes(body), plain_etag(answer.get("ETag")), max(0.0, age))

    async def get_range(self, key: str, *, start: int, length: int, etag: str | None = None) -> Part | None:
        """Read up to `length` bytes of an object.

        Args:
            start: offset of the first byte; a negative one counts from the end, where `length` is not looked at.
            etag: of `plain_etag`, that the object must still have.

        Returns:
            None when it is not there, has another ETag, or ends before `start`.

        """
        from botocore.exceptions import ClientError

        wanted = f"bytes={start}-{start + length - 1}" if start >= 0 else f"bytes={start}"
        condition: dict[str, Any] = {"IfMatch": f'"{etag}"'} if etag else {}
        with self._explained("get", key):
            try:
                answer = await self._client.get_object(Bucket=self.name, Key=key, Range=wanted, **condition)
            except ClientError as error:
                if code_of(error) in {"NoSuchKey", "404", "PreconditionFailed", "412", "InvalidRange", "416"}:
                    return None
                raise
            async with answer["Body"] as stream:
                body = await stream.read()
        _, _, total = answer.get("ContentRange", "").rpartition("/")
        if not total.isdigit():  # a server without ranges has sent all of it
            total, body = str(len(body)), body[start : start + length] if start >= 0 else body[start:]
        return Part(body, int(total), plain_etag(answer.get("ETag")))

    async def list_objects(self, prefix: str) -> dict[str, Listed]:
        """Return every key that begins with `prefix`. Raises AccessRefused where listing is not allowed."""
        objects: dict[str, Listed] = {}
        place: dict[str, Any] = {"Bucket": self.name, "Prefix": prefix}
        ask: Any = self._client.list_objects_v2
        with self._explained("list", ""):
            while True:
                page = await ask(**place)
                if not is_listing(page):
                    raise NotS3
                before = len(objects)
                for entry in page.get("Contents", ()):
                    modified = entry.get("LastModified") or datetime.now(UTC)
                    objects[entry["Key"]] = Listed(plain_etag(entry.get("ETag")), entry.get("Size", 0), modified)
                if not page.get("IsTruncated"):
                    return objects
                if len(objects) == before:
                    raise NotS3  # the same page again and again
                if token := page.get("NextContinuationToken"):
                    place["ContinuationToken"] = token
                else:  # a server that has no second version of listings takes it for the first
                    ask = self._client.list_objects
                    place |= {"Marker": next(reversed(objects))}

    async def delete(self, keys: Sequence[str]) -> dict[str, str]:
        """Delete up to 1,000 objects, and return the code with which the server refused each of the others.

        In one request, and one by one where the server has none for many, or does not name what it has deleted.
        """
        from botocore.exceptions import ClientError
        from botocore.parsers import ResponseParserError

        refused: dict[str, str] = {}
        left = list(keys)
        with self._explained("delete", keys[0]):
            if self._compatibility.deletes_many:
                try:
                    answer = await self._client.delete_objects(
                        Bucket=self.name,
                        Delete={"Objects": [{"Key": key} for key in keys]},
                        ChecksumAlgorithm="SHA256",
                    )
                    refused = {error.get("Key", ""): error.get("Code", "unknown") for error in answer.get("Errors", ())}
                    done = {each.get("Key") for each in answer.get("Deleted", ())}
                    left = [key for key in keys if key not in done and key not in refused]
                except ResponseParserError:
                    self._compatibility.deletes_many = False
                except ClientError as error:
                    if not may_refuse_many(error):
                        raise
                    self._compatibility.deletes_many = False

            async def remove(key: str) -> None:
                try:
                    await self._client.delete_object(Bucket=self.name, Key=key)
                except ClientError as error:
                    if code_of(error) not in {"NoSuchKey", "404"}:
                        refused[key] = code_of(error)

            await in_parallel(remove, left, limit=_DELETIONS_AT_ONCE)
        return refused

    async def lines(self, key: str) -> AsyncGenerator[list[bytes]]:
        """Return the lines of an object as they come, without their ends; nothing when there is no such object.

        What is behind the last end of a line is not one, and nothing follows one that is longer than `MAX_LINE`.
        """
        rest = b""
        with self._explained("get", key):
            answer = await self._get(key)
            if answer is None:
                return
            async with answer["Body"] as body:
                async for chunk in body.iter_chunks(65536):
                    *lines, rest = (rest + chunk).split(b"\n")
                    yield lines
                    if len(rest) > MAX_LINE:
                        return

    async def stream(self, key: str) -> AsyncGenerator[bytes]:
        """Return the body of an object by pieces, as they come; nothing when there is no such object."""
        with self._explained("get", key):
            answer = await self._get(key)
            if answer is None:
                return
            async with answer["Body"] as body:
                async for chunk in body.iter_chunks(READ_AT_ONCE):
                    yield chunk

    async def remove(self, key: str) -> None:
        """Remove an object; it is no error when there is none."""
        with self._explained("delete", key):
            await self._client.delete_object(Bucket=self.name, Key=key)

    async def _get(self, key: str) -> GetObjectOutputTypeDef | None:
        from botocore.exceptions import ClientError

        try:
            return await self._client.get_object(Bucket=self.name, Key=key)
        except ClientError as error:
            if code_of(error) not in {"NoSuchKey", "404"}:
                raise
        return None

    async def _put(self, key: str, body: bytes | Slice, digest: bytes, headers: dict[str, str]) -> str:
        named = {_HEADER_NAMES[name]: value for name, value in headers.items()}
        if etag := await self._put_fast(key, body, digest, named, checksums=self._compatibility.checksums):
            return etag

        async def put(checksums: bool) -> str:
            answer = await self._client.put_object(
                Bucket=self.name,
                Key=key,
                Body=whole,
                **await self._integrity(body, digest, checksums),
                **headers,  # type: ignore[arg-type]
            )
            return plain_etag(answer.get("ETag"))

        with self._explained("put", key):
            async with self._whole(body, digest) as whole:
                etag = await self._with_checksums(put)
            return etag or await self._find(key, len(body) if isinstance(body, bytes) else body.size)

    async def _put_fast(
        self,
        key: str,
        body: bytes | Slice,
        digest: bytes,
        headers: dict[str, str],
        query: str = "",
        *,
        checksums: bool,
    ) -> str:
        """Store a body on the hot path; give its ETag, or nothing when it is not stored for any reason."""
        integrity = await self._integrity(body, digest, checksums)
        headers = headers | {_HEADER_NAMES[name]: value for name, value in integrity.items()}
        pieces, size = (body, len(body)) if isinstance(body, bytes) else (body.pieces, body.size)
        return plain_etag(await self._writer.put(key, pieces, size, digest, headers, query))

    async def _find(self, key: str, size: int) -> str:
        """Return the ETag of an object whose server said none when it stored it. One that is no S3 stores nothing."""
        head = await self._client.head_object(Bucket=self.name, Key=key)
        if head.get("ContentLength") != size:
            raise NotS3
        return plain_etag(head.get("ETag"))

    async def _with_checksums(self, send: Callable[[bool], Awaitable[_T]]) -> _T:
        """Send with SHA-256 checksums; where they are refused, and it goes well without, never again with them."""
        from botocore.exceptions import ClientError

        if self._compatibility.checksums:
            try:
                return await send(True)
            except ClientError as error:
                if not may_refuse_checksums(error):
                    raise
            sent = await send(False)
            self._compatibility.checksums = False
            return sent
        return await send(False)

    async def _integrity(self, body: bytes | Slice, digest: bytes, checksums: bool) -> dict[str, Any]:
        """Return the headers, by botocore's names, with which the server verifies a body."""
        if checksums:  # some servers keep the checksum only where its algorithm is named
            return {"ChecksumAlgorithm": "SHA256", "ChecksumSHA256": to_base64(digest)}
        if isinstance(body, bytes):
            return {"ContentMD5": to_base64(hashlib.md5(body, usedforsecurity=False).digest())}
        return {"ContentMD5": to_base64(await to_thread.run_sync(body.md5))}

    @asynccontextmanager
    async def _whole(self, body: bytes | Slice, digest: bytes) -> AsyncIterator[bytes | io.BytesIO]:
        """Have a body in memory when there is room for it, as botocore wants it."""
        if isinstance(body, bytes):
            yield body
            return
        async with self._memory.hold(body.size):
            yield await to_thread.run_sync(body.read, room_for(body.size), digest)

    async def _put_parts(
        self,
        key: str,
        descriptor: int,
        size: int,
        headers: dict[str, str],
        parts_in_flight: int,
        check: Callable[[], None],
    ) -> Stored:
        async def put(checksums: bool) -> tuple[str, list[bytes]]:
            async def send(upload_id: str, number: int, part: Slice) -> SentPart:
                query = f"partNumber={number}&uploadId={quote(upload_id, safe='-_.~')}"
                async with self._writer.turn():
                    digest = await to_thread.run_sync(part.digest)
                    etag = await self._put_fast(key, part, digest, {}, query, checksums=checksums)
                    if not etag:
                        async with self._whole(part, digest) as whole:
                            answer = await self._client.upload_part(
                                Bucket=self.name,
                                Key=key,
                                UploadId=upload_id,
                                PartNumber=number,
                                Body=whole,
                                **await self._integrity(part, digest, checksums),
                            )
                        etag = plain_etag(answer.get("ETag"))
                return SentPart(etag, digest)

            return await put_in_parts(
                self._client,
                self.name,
                key,
                slices_of(key, descriptor, size),
                headers,
                send,
                checksums=checksums,
                at_once=parts_in_flight,
                check=check,
            )

        with self._explained("put", key):
            try:
                etag, digests = await self._with_checksums(put)
            except self._client.exceptions.NoSuchUpload:  # somebody has cleared it away
                etag, digests = await self._with_checksums(put)
            return Stored(etag or await self._find(key, size), composite(digests))

    @contextmanager
    def _explained(self, operation: Operation, key: str) -> Iterator[None]:
        with explained(operation, bucket=self.name, key=key, endpoint_url=self._endpoint_url):
            yield


def _headers(content_type: str, cache_control: str | None) -> dict[str, str]:
    return {"ContentType": content_type} | ({"CacheControl": cache_control} if cache_control else {})
