"""What servers other than AWS do not support or write in another way; each is found out once and holds for the whole run.

The refusals below are those of Backblaze B2 (400 InvalidArgument), Cloudflare R2, Alibaba OSS and older gateways (501
NotImplemented), Google's interoperability (403 SignatureDoesNotMatch), OCI and OVH (400 for deletions without a digest they know).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from botocore.exceptions import ClientError

# A 400 with one of these codes has nothing to do with what a server supports.
_ABOUT_SOMETHING_ELSE = {
    "AuthorizationHeaderMalformed",
    "BadDigest",
    "EntityTooLarge",
    "EntityTooSmall",
    "ExpiredToken",
    "ExpiredTokenException",
    "IllegalLocationConstraintException",
    "IncompleteBody",
    "InvalidBucketName",
    "InvalidDigest",
    "InvalidPart",
    "InvalidToken",
    "KeyTooLongError",
    "NoSuchBucket",
    "NoSuchUpload",
    "RequestTimeout",
    "TokenRefreshRequired",
    "XAmzContentChecksumMismatch",
    "XMinioParentIsObject",
}


@dataclass(slots=True)
class Compatibility:
    """What a server is known to support, which is everything until it has refused it."""

    checksums: bool = True  # x-amz-checksum-*. Without, each body is sent with its MD5
    deletes_many: bool = True  # DeleteObjects


def may_refuse_checksums(error: ClientError) -> bool:
    """Return whether a request may have been refused for its checksum headers, so that it is worth one more without."""
    code, status = _code_and_status(error)
    return _is_unsupported(code, status) or code == "SignatureDoesNotMatch"


def may_refuse_conditions(error: ClientError) -> bool:
    """Return whether a conditional write may have been refused for If-Match or If-None-Match."""
    return _is_unsupported(*_code_and_status(error))


def may_refuse_many(error: ClientError) -> bool:
    """Return whether DeleteObjects may be refused where DeleteObject is not."""
    code, status = _code_and_status(error)
    # "500" is what botocore makes of a success that is no XML, too.
    missing = (status in {404, 405, 411, 415} and code != "NoSuchBucket") or code == "500"
    return missing or code == "SignatureDoesNotMatch" or _is_unsupported(code, status)


def plain_etag(etag: str | None) -> str:
    """Return an ETag without quotes and `W/`, which servers and proxies write or leave out; empty where there is none."""
    return (etag or "").strip().removeprefix("W/").strip('"')


def is_listing(page: Mapping[str, Any]) -> bool:
    """Return whether an answer is a ListBucketResult: of a web page nothing of one is left, which looks like an empty bucket."""
    return not page.keys().isdisjoint({"Name", "IsTruncated", "KeyCount", "MaxKeys", "Contents"})


def _is_unsupported(code: str, status: int) -> bool:
    return status == 501 or (status == 400 and code not in _ABOUT_SOMETHING_ELSE and not code.startswith("KMS."))


def _code_and_status(error: ClientError) -> tuple[str, int]:
    code = str(error.response.get("Error", {}).get("Code", ""))
    return code, int(error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0))
