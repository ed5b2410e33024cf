"""Ask a server what these credentials, and the public, may do with a key. Nothing is left in the bucket.

Where an object could not be removed again, a permission is found out by a request that S3 refuses for another reason once it
has allowed it: it authorizes a request before it looks at the digest of the body, and before it looks for the key.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from buildrunner.s3.errors import AccessRefused, Operation, code_of, explained

if TYPE_CHECKING:
    from types_aiobotocore_s3 import S3Client

_BODY = b"Written by buildrunner doctor.\n"
_NO_MD5 = "AAAAAAAAAAAAAAAAAAAAAA=="  # the digest of another body
_DIGEST_REFUSED = {"BadDigest", "InvalidDigest", "XAmzContentChecksumMismatch"}
_MISSING = {"NoSuchKey", "404"}


@dataclass(frozen=True, slots=True)
class PublicAnswer:
    """What a request without credentials was answered with."""

    status: int  # of HTTP
    date: str  # the server's clock, as HTTP writes it; empty where it says none

    @property
    def is_readable(self) -> bool:
        return 200 <= self.status < 300


class PermissionProbe:
    """Tries the operations of a build on keys of one bucket. Each raises S3Failed when it is refused, or fails."""

    def __init__(self, name: str, client: S3Client, endpoint_url: str | None) -> None:
        self.name = name
        self._client = client
        self._endpoint_url = endpoint_url

    async def put(self, key: str) -> None:
        """Write a small object."""
        with self._explained("put", key):
            await self._client.put_object(Bucket=self.name, Key=key, Body=_BODY, ContentType="text/plain")

    async def may_put(self, key: str) -> bool:
        """Try to write an object whose digest is wrong; return whether the server stored it all the same."""
        from botocore.exceptions import ClientError

        with self._explained("put", key):
            try:
                await self._client.put_object(Bucket=self.name, Key=key, Body=_BODY, ContentMD5=_NO_MD5)
            except ClientError as error:
                if code_of(error) not in _DIGEST_REFUSED:
                    raise
                return False
        return True

    async def put_in_parts(self, key: str) -> None:
        """Begin an upload in parts, and abort it."""
        with self._explained("put", key):
            begun = await self._client.create_multipart_upload(Bucket=self.name, Key=key)
            try:
                await self._client.abort_multipart_upload(Bucket=self.name, Key=key, UploadId=begun["UploadId"])
            except self._client.exceptions.NoSuchUpload:
                return

    async def get(self, key: str) -> None:
        """Read an object that may be missing; S3 reports that only to a role with s3:GetObject."""
        from botocore.exceptions import ClientError

        with self._explained("get", key):
            try:
                answer = await self._client.get_object(Bucket=self.name, Key=key)
                async with answer["Body"] as body:
                    await body.read()
            except ClientError as error:
                # "not authorized to perform: s3:ListBucket": without it, S3 hides that an object is missing.
                said = str(error.response.get("Error", {}).get("Message"))
                if code_of(error) not in _MISSING and "s3:ListBucket" not in said:
                    raise

    async def list_keys(self, prefix: str) -> list[str]:
        """Return up to 1,000 keys that begin with a prefix."""
        with self._explained("list", ""):
            page = await self._client.list_objects_v2(Bucket=self.name, Prefix=prefix)
            return [entry["Key"] for entry in page.get("Contents", ())]

    async def delete(self, key: str) -> None:
        """Remove an object, which may be missing."""
        from botocore.exceptions import ClientError

        with self._explained("delete", key):
            try:
                await self._client.delete_object(Bucket=self.name, Key=key)
            except ClientError as error:
                if code_of(error) not in _MISSING:
                    raise

    async def remove_if_possible(self, *keys: str) -> list[str]:
        """Remove objects; return those that are left."""
        left = []
        for key in keys:
            try:
                await self.delete(key)
            except AccessRefused:
                left.append(key)
        return left

    async def ask_as_public(self, key: str) -> PublicAnswer:
        """Ask for an object without credentials.

        Raises:
            OSError: there was no answer.

        """
        return await self._ask(await self._address("get_object", Key=key))

    async def list_as_public(self, prefix: str) -> PublicAnswer:
        """Ask for a list of keys without credentials. Raises OSError."""
        return await self._ask(f"{await self._address('list_objects_v2')}?list-type=2&max-keys=1&prefix={prefix}")

    async def _address(self, operation: str, **parameters: Any) -> str:
        signed = await self._client.generate_presigned_url(operation, Params={"Bucket": self.name, **parameters})
        return signed.partition("?")[0]

    async def _ask(self, address: str) -> PublicAnswer:
        import aiohttp
        from yarl import URL

        session = aiohttp.ClientSession(trust_env=True, timeout=aiohttp.ClientTimeout(total=10))
        try:
            async with session, session.get(URL(address, encoded=True), allow_redirects=False) as response:
                return PublicAnswer(response.status, response.headers.get("Date", ""))
        except (aiohttp.ClientError, TimeoutError) as error:
            raise OSError(str(error) or type(error).__name__) from None

    @contextmanager
    def _explained(self, operation: Operation, key: str) -> Iterator[None]:
        with explained(operation, bucket=self.name, key=key, endpoint_url=self._endpoint_url):
            yield
