"""Store bodies in a bucket so that the server verifies them: on the fast path, through aiobotocore, or in parts."""

from __future__ import annotations

import hashlib
import io
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractContextManager, asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import quote

from anyio import to_thread

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
from buildrunner.s3.compatibility import Compatibility, may_refuse_checksums, may_refuse_conditions, plain_etag
from buildrunner.s3.errors import ConditionsUnsupported, NotS3, code_of, explained
from buildrunner.s3.multipart import SentPart, put_in_parts
from buildrunner.s3.small_objects import SmallObjectWriter

if TYPE_CHECKING:
    from types_aiobotocore_s3 import S3Client

_T = TypeVar("_T")

# Bytes of bodies in memory at once, over all buckets; more bodies wait until another one is sent. Four parts fill a link of
# 1 Gbit/s at 60 ms. botocore copies each body once more: if all of them go through aiobotocore, the process peaks at 163 MB,
# 65 MB of which it needs without any body.
BYTES_IN_FLIGHT = 32 * 2**20
PARTS_IN_FLIGHT = BYTES_IN_FLIGHT // PART_SIZE
_HEADER_NAMES = {  # botocore's name → HTTP header
    "ContentType": "content-type",
    "CacheControl": "cache-control",
    "ChecksumAlgorithm": "x-amz-sdk-checksum-algorithm",
    "ChecksumSHA256": "x-amz-checksum-sha256",
    "ContentMD5": "content-md5",
}


@dataclass(frozen=True, slots=True)
class Stored:
    """A stored object."""

    etag: str  # of `plain_etag`; empty if the server returned none
    sha256: str  # of `sha256_of`


class ObjectWriter:
    """Store objects in one bucket.

    Args:
        bucket: name of the bucket.
        client: aiobotocore's client, for everything but small bodies.
        small: writer of small bodies and parts.
        memory: bound on the bodies in memory, shared by all buckets.
        compatibility: known limits of the server, shared by all buckets.
        endpoint_url: address of the server; None for AWS.

    """

    def __init__(
        self,
        bucket: str,
        client: S3Client,
        small: SmallObjectWriter,
        memory: ByteLimit,
        compatibility: Compatibility,
        endpoint_url: str | None,
    ) -> None:
        self.small = small
        self._bucket = bucket
        self._client = client
        self._memory = memory
        self._compatibility = compatibility
        self._endpoint_url = endpoint_url

    async def put(self, key: str, body: bytes, *, content_type: str, cache_control: str | None) -> None:
        """Store a small object; see `Bucket.put`."""
        async with self.small.turn(), self._memory.hold(len(body)):
            await self._put(key, body, hashlib.sha256(body).digest(), _headers(content_type, cache_control))

    async def put_file(
        self,
        key: str,
        descriptor: int,
        size: int,
        *,
        content_type: str,
        cache_control: str | None,
        parts_in_flight: int,
        check: Callable[[], None],
    ) -> Stored:
        """Store a file; see `Bucket.put_file`.

        Large bodies are read twice, for the checksum and to send them, so that they need little memory. Only a body that goes
        through aiobotocore is in memory as a whole.
        """
        headers = _headers(content_type, cache_control)
        if size > MULTIPART_ABOVE:
            return await self._put_parts(key, descriptor, size, headers, parts_in_flight, check)
        if size <= READ_AT_ONCE:  # a thread switch costs as much as reading and hashing it
            async with self.small.turn(), self._memory.hold(size):
                body = b"".join(pieces_of(key, descriptor, 0, size))
                digest = hashlib.sha256(body).digest()
                return Stored(await self._put(key, body, digest, headers), digest.hex())
        part = Slice(key, descriptor, 0, size)
        async with self.small.turn():
            digest = await to_thread.run_sync(part.digest)
            return Stored(await self._put(key, part, digest, headers), digest.hex())

    async def put_if(self, key: str, body: bytes, *, content_type: str, replacing: str | None) -> str | None:
        """Store a small object conditionally; see `Bucket.put_if`."""
        from botocore.exceptions import ClientError

        condition: dict[str, Any] = {"IfMatch": f'"{replacing}"'} if replacing else {"IfNoneMatch": "*"}
        digest = hashlib.sha256(body).digest()

        async def put(checksums: bool) -> str:
            answer = await self._client.put_object(
                Bucket=self._bucket,
                Key=key,
                Body=body,
                ContentType=content_type,
                **await self._integrity(body, digest, checksums),
                **condition,
            )
            return plain_etag(answer.get("ETag"))

        unsupported = False
        with self._explained(key):
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

    async def _put(self, key: str, body: bytes | Slice, digest: bytes, headers: dict[str, str]) -> str:
        named = {_HEADER_NAMES[name]: value for name, value in headers.items()}
        if etag := await self._put_fast(key, body, digest, named, checksums=self._compatibility.checksums):
            return etag

        async def put(checksums: bool) -> str:
            answer = await self._client.put_object(
                Bucket=self._bucket,
                Key=key,
                Body=whole,
                **await self._integrity(body, digest, checksums),
                **headers,  # type: ignore[arg-type]
            )
            return plain_etag(answer.get("ETag"))

        with self._explained(key):
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
        """Store a body on the fast path; return its ETag, or an empty string if it was not stored."""
        integrity = await self._integrity(body, digest, checksums)
        headers = headers | {_HEADER_NAMES[name]: value for name, value in integrity.items()}
        pieces, size = (body, len(body)) if isinstance(body, bytes) else (body.pieces, body.size)
        return plain_etag(await self.small.put(key, pieces, size, digest, headers, query))

    async def _find(self, key: str, size: int) -> str:
        """Return the ETag of an object that was stored by a server that returned none.

        Raises:
            NotS3: the object does not exist, so the server is not S3.

        """
        head = await self._client.head_object(Bucket=self._bucket, Key=key)
        if head.get("ContentLength") != size:
            raise NotS3
        return plain_etag(head.get("ETag"))

    async def _with_checksums(self, send: Callable[[bool], Awaitable[_T]]) -> _T:
        """Send with SHA-256 checksums; without them from the first request on that succeeds only without."""
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
        """Return the headers, by botocore's names, that let the server verify a body."""
        if checksums:  # some servers store the checksum only if the algorithm is named
            return {"ChecksumAlgorithm": "SHA256", "ChecksumSHA256": to_base64(digest)}
        if isinstance(body, bytes):
            return {"ContentMD5": to_base64(hashlib.md5(body, usedforsecurity=False).digest())}
        return {"ContentMD5": to_base64(await to_thread.run_sync(body.md5))}

    @asynccontextmanager
    async def _whole(self, body: bytes | Slice, digest: bytes) -> AsyncIterator[bytes | io.BytesIO]:
        """Read a body into memory, as botocore requires, once the memory limit permits."""
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
                async with self.small.turn():
                    digest = await to_thread.run_sync(part.digest)
                    etag = await self._put_fast(key, part, digest, {}, query, checksums=checksums)
                    if not etag:
                        async with self._whole(part, digest) as whole:
                            answer = await self._client.upload_part(
                                Bucket=self._bucket,
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
                self._bucket,
                key,
                slices_of(key, descriptor, size),
                headers,
                send,
                checksums=checksums,
                at_once=parts_in_flight,
                check=check,
            )

        with self._explained(key):
            try:
                etag, digests = await self._with_checksums(put)
            except self._client.exceptions.NoSuchUpload:  # a lifecycle rule or another client removed it
                etag, digests = await self._with_checksums(put)
            return Stored(etag or await self._find(key, size), composite(digests))

    def _explained(self, key: str) -> AbstractContextManager[None]:
        return explained("put", bucket=self._bucket, key=key, endpoint_url=self._endpoint_url)


def _headers(content_type: str, cache_control: str | None) -> dict[str, str]:
    return {"ContentType": content_type} | ({"CacheControl": cache_control} if cache_control else {})
