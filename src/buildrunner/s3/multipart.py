"""Store large objects in parts, and find out whether a completion whose response was lost succeeded."""

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

ABORT_WITHIN = 5  # seconds for aborting a failed upload, also during a cancellation
_ASK_WITHIN = 10  # seconds for HeadObject after a completion whose response was lost
_MD5 = re.compile("[0-9a-f]{32}")


@dataclass(frozen=True, slots=True)
class SentPart:
    """A part that the server has stored."""

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
    """Store an object in parts; return its ETag and the SHA-256 of each part.

    Args:
        client: aiobotocore's client.
        bucket: name of the bucket.
        key: key of the object.
        parts: parts of the body.
        headers: headers of the object, by botocore's names.
        send_part: function that sends a part, given the id of the upload and the number of the part from 1.
        checksums: whether the server supports x-amz-checksum-sha256.
        at_once: parts sent at the same time.
        check: function that is called before completion, and raises if the object must not be created.

    Raises:
        ClientError: S3 refused a request; other errors of botocore are possible.

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
            # Report the first error. A lifecycle rule removes parts that could not be aborted.
            await client.abort_multipart_upload(Bucket=bucket, Key=key, UploadId=upload_id)
        raise
    return etag, [part.digest for part in done]


@dataclass(frozen=True, slots=True)
class _Completion:
    """Complete an upload: combine its parts into the object."""

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
            # Most servers forget the upload when it completes, so a retry after a lost response fails with NoSuchUpload.
            if (etag := await self._find()) is None:
                raise
            return etag
        return plain_etag(answer.get("ETag")) or await self._find() or ""

    async def _find(self) -> str | None:
        """Return the ETag of the object if it consists of these parts, according to its checksum or its multipart ETag."""
        mode: dict[str, Any] = {"ChecksumMode": "ENABLED"} if self.checksums else {}
        head: Any = None
        with anyio.move_on_after(_ASK_WITHIN), suppress(Exception):  # the first error is reported
            head = await self.client.head_object(Bucket=self.bucket, Key=self.key, **mode)
        if not head or head.get("ContentLength") != self.size:
            return None
        if any(head.get(name, value) != value for name, value in self.headers.items()):
            return None  # an earlier object with the same body but other headers
        etag = plain_etag(head.get("ETag"))
        if there := head.get("ChecksumSHA256"):
            expected = to_base64(composite_digest([part.digest for part in self.parts]))
            return etag if there.partition("-")[0] == expected else None
        if not all(_MD5.fullmatch(part.etag) for part in self.parts):
            return None
        digests = b"".join(bytes.fromhex(part.etag) for part in self.parts)
        expected = f"{hashlib.md5(digests, usedforsecurity=False).hexdigest()}-{len(self.parts)}"
        return etag if etag == expected else None
