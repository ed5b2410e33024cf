"""Large objects, in parts: begin, send, put together, and ask what became of that when its answer was lost."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import anyio

from buildrunner.concurrency.cancellation import cleanup
from buildrunner.concurrency.parallel import in_parallel
from buildrunner.s3.bodies import Slice, composite_digest, to_base64
from buildrunner.s3.compatibility import plain_etag

if TYPE_CHECKING:
    from types_aiobotocore_s3 import S3Client

ABORT_WITHIN = 5  # seconds for clearing away an upload that is given up, also when the run is being cancelled
_ASK_WITHIN = 10  # seconds for HeadObject, when a server that may have acted does not say so
_MD5 = re.compile("[0-9a-f]{32}")


@dataclass(frozen=True, slots=True)
class SentPart:
    """A part that the server has."""

    etag: str
    digest: bytes  # SHA-256


async def put_in_parts(
    client: S3Client,
    bucket: str,
    key: str,
    parts: Sequence[Slice],
    headers: dict[str, Any],
    send_part: Callable[[str, int, Slice], Awaitable[SentPart]],
    *,
    checksums: bool,
    at_once: int,
    check: Callable[[], None],
) -> tuple[str, list[bytes]]:
    """Store an object in parts; return its ETag and the SHA-256 of each part. Raises what botocore does.

    Args:
        client, bucket, key: where.
        parts: of the body.
        headers: of the object, by botocore's names.
        send_part: sends one, given the id of the upload and its number from 1.
        checksums: the server takes x-amz-checksum-sha256.
        at_once: parts in flight.
        check: raises when the object must not come to be, once all parts are there.

    """
    algorithm: dict[str, Any] = {"ChecksumAlgorithm": "SHA256"} if checksums else {}
    upload = await client.create_multipart_upload(Bucket=bucket, Key=key, **algorithm, **headers)
    upload_id = upload["UploadId"]
    sent: dict[int, SentPart] = {}

    async def send(number: int) -> None:
        sent[number] = await send_part(upload_id, number, parts[number - 1])

    try:
        await in_parallel(send, range(1, len(parts) + 1), limit=at_once)
        check()
        done = [sent[number] for number in sorted(sent)]
        size = sum(part.size for part in parts)
        etag = await _Completion(client, bucket, key, headers, done, size, checksums).complete(upload_id)
    except BaseException:
        with cleanup(ABORT_WITHIN), suppress(Exception):
            # The first cause is what people are told; a lifecycle rule clears away what is left.
            await client.abort_multipart_upload(Bucket=bucket, Key=key, UploadId=upload_id)
        raise
    return etag, [part.digest for part in done]


@dataclass(frozen=True, slots=True)
class _Completion:
    """The end of an upload: the parts become the object."""

    client: S3Client
    bucket: str
    key: str
    headers: dict[str, Any]
    parts: Sequence[SentPart]
    size: int  # bytes
    checksums: bool

    async def complete(self, upload_id: str) -> str:
        named: list[Any] = [
            {"PartNumber": number, "ETag": f'"{part.etag}"'}
            | ({"ChecksumSHA256": to_base64(part.digest)} if self.checksums else {})
            for number, part in enumerate(self.parts, 1)
        ]
        try:
            answer = await self.client.complete_multipart_upload(
                Bucket=self.bucket, Key=self.key, UploadId=upload_id, MultipartUpload={"Parts": named}
            )
        except Exception:
            # Most servers forget an upload with its completion: whoever lost the answer is told NoSuchUpload when asking again.
            if (etag := await self._find()) is None:
                raise
            return etag
        return plain_etag(answer.get("ETag")) or await self._find() or ""

    async def _find(self) -> str | None:
        """Return the ETag of the object if it is the one of these parts, by its checksum, or by the ETag that they make."""
        mode: dict[str, Any] = {"ChecksumMode": "ENABLED"} if self.checksums else {}
        head: Any = None
        with anyio.move_on_after(_ASK_WITHIN), suppress(Exception):  # the first error is the one that is told
            head = await self.client.head_object(Bucket=self.bucket, Key=self.key, **mode)
        if not head or head.get("ContentLength") != self.size:
            return None
        if any(head.get(name, value) != value for name, value in self.headers.items()):
            return None  # the same body as before, with the headers of before
        etag = plain_etag(head.get("ETag"))
        if there := head.get("ChecksumSHA256"):
            expected = to_base64(composite_digest([part.digest for part in self.parts]))
            return etag if there.partition("-")[0] == expected else None
        if not all(_MD5.fullmatch(part.etag) for part in self.parts):
            return None
        digests = b"".join(bytes.fromhex(part.etag) for part in self.parts)
        expected = f"{hashlib.md5(digests, usedforsecurity=False).hexdigest()}-{len(self.parts)}"
        return etag if etag == expected else None
