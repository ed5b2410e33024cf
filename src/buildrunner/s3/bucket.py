"""One bucket: the few operations that are needed, over aiobotocore. `errors` explains their failures to people."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from buildrunner.concurrency.parallel import in_parallel
from buildrunner.s3.bodies import READ_AT_ONCE
from buildrunner.s3.compatibility import Compatibility, is_listing, may_refuse_many, plain_etag
from buildrunner.s3.errors import NotS3, Operation, code_of, explained
from buildrunner.s3.object_writer import PARTS_IN_FLIGHT, ObjectWriter, Stored

if TYPE_CHECKING:
    from types_aiobotocore_s3 import S3Client
    from types_aiobotocore_s3.type_defs import GetObjectOutputTypeDef

MAX_LINE = 2**20  # bytes; an event or an entry of a manifest is a few kilobytes at most
_DELETIONS_AT_ONCE = 16  # for servers that delete one object per request


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
    age: float  # whole seconds since it was written, by the clock of the server


class Bucket:
    """One bucket. Every method raises BuildFailed with a reason and a hint for people.

    Args:
        name: name of the bucket.
        client: aiobotocore's client.
        writer: stores objects in this bucket.
        compatibility: known limits of the server, shared by all buckets.
        endpoint_url: address of the server; None for AWS.

    """

    def __init__(
        self,
        name: str,
        client: S3Client,
        writer: ObjectWriter,
        compatibility: Compatibility,
        endpoint_url: str | None,
    ) -> None:
        self.name = name
        self._client = client
        self._writer = writer
        self._compatibility = compatibility
        self._endpoint_url = endpoint_url

    @property
    def takes_checksums(self) -> bool:
        """Whether the server accepts SHA-256 checksums, as far as is known."""
        return self._compatibility.checksums

    async def put(self, key: str, body: bytes, *, content_type: str, cache_control: str | None = None) -> None:
        """Write a small object, whose SHA-256 the server verifies."""
        await self._writer.put(key, body, content_type=content_type, cache_control=cache_control)

    async def put_file(
        self,
        key: str,
        descriptor: int,
        size: int,
        *,
        content_type: str,
        cache_control: str | None = None,
        parts_in_flight: int = PARTS_IN_FLIGHT,
        check: Callable[[], None] = lambda: None,
    ) -> Stored:
        """Write the first `size` bytes of a file, in parts if there are more than MULTIPART_ABOVE.

        It reads with pread, so the position of the descriptor stays the same. The parts of an upload that fails or is cancelled
        are removed.

        Args:
            key: key of the object.
            descriptor: open file.
            size: bytes to write.
            content_type: Content-Type of the object.
            cache_control: Cache-Control of the object.
            parts_in_flight: parts sent at the same time.
            check: function called before the sent parts become the object; it raises if the file changed meanwhile. Each part
                has a checksum, but only this check shows that they are of one state of the file.

        """
        return await self._writer.put_file(
            key,
            descriptor,
            size,
            content_type=content_type,
            cache_control=cache_control,
            parts_in_flight=parts_in_flight,
            check=check,
        )

    async def put_if(self, key: str, body: bytes, *, content_type: str, replacing: str | None) -> str | None:
        """Write a small object if the present one has the ETag `replacing`, or none exists (None).

        https://docs.aws.amazon.com/AmazonS3/latest/userguide/conditional-writes.html

        Returns:
            Its ETag; None if another object exists.

        Raises:
            ConditionsUnsupported: the server has no conditional writes.

        """
        return await self._writer.put_if(key, body, content_type=content_type, replacing=replacing)

    async def get(self, key: str, *, most: int) -> Fetched | None:
        """Read a small object; None if it does not exist or is larger than `most` bytes."""
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
            key: key of the object.
            start: offset of the first byte; a negative one counts from the end and ignores `length`.
            length: number of bytes.
            etag: ETag that the object must still have, in the form of `plain_etag`.

        Returns:
            None if the object does not exist, has another ETag, or ends before `start`.

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
        if not total.isdigit():  # a server without support for ranges sent the whole object
            total, body = str(len(body)), body[start : start + length] if start >= 0 else body[start:]
        return Part(body, int(total), plain_etag(answer.get("ETag")))

    async def list_objects(self, prefix: str) -> dict[str, Listed]:
        """Return every object whose key begins with `prefix`.

        Raises:
            AccessRefused: the credentials may not list the bucket.

        """
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
                    raise NotS3  # the same page as before
                if token := page.get("NextContinuationToken"):
                    place["ContinuationToken"] = token
                else:  # a server without ListObjectsV2 treats the request as ListObjects
                    ask = self._client.list_objects
                    place |= {"Marker": next(reversed(objects))}

    async def delete(self, keys: Sequence[str]) -> dict[str, str]:
        """Delete up to 1,000 objects, in one request if the server supports that, else one by one.

        Returns:
            Key → error code of the server, for every object that it did not delete.

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
        """Yield the lines of an object as they arrive, without line breaks; nothing if the object does not exist.

        An incomplete last line is left out. A line longer than MAX_LINE ends the iteration.
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
        """Yield the body of an object in pieces as they arrive; nothing if the object does not exist."""
        with self._explained("get", key):
            answer = await self._get(key)
            if answer is None:
                return
            async with answer["Body"] as body:
                async for chunk in body.iter_chunks(READ_AT_ONCE):
                    yield chunk

    async def remove(self, key: str) -> None:
        """Remove an object; a missing object is not an error."""
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

    @contextmanager
    def _explained(self, operation: Operation, key: str) -> Iterator[None]:
        with explained(operation, bucket=self.name, key=key, endpoint_url=self._endpoint_url):
            yield
