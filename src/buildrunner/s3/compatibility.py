"""Detect what servers other than AWS do not support or write differently; each limit is detected once per build.

The refusals below are those of Backblaze B2 (400 InvalidArgument), Cloudflare R2, Alibaba OSS and older gateways (501
NotImplemented), Google's interoperability (403 SignatureDoesNotMatch), OCI and OVH (400 for deletions without a digest they know).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from botocore.exceptions import ClientError

# A 400 with one of these codes doesn't depend on what the server supports.
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
    """What a server supports; everything, until it refuses something."""

    checksums: bool = True  # x-amz-checksum-*; if false, each body is sent with its MD5
    deletes_many: bool = True  # DeleteObjects


def may_refuse_checksums(error: ClientError) -> bool:
    """Return whether a request may have been refused because of its checksum headers, so that it should be sent without."""
    code, status = _code_and_status(error)
    return _is_unsupported(code, status) or code == "SignatureDoesNotMatch"


def may_refuse_conditions(error: ClientError) -> bool:
    """Return whether a conditional write may have been refused because of If-Match or If-None-Match."""
    return _is_unsupported(*_code_and_status(error))


def may_refuse_many(error: ClientError) -> bool:
    """Return whether a server may refuse DeleteObjects but accept DeleteObject."""
    code, status = _code_and_status(error)
    # botocore also reports "500" for a success that is not XML.
    missing = (status in {404, 405, 411, 415} and code != "NoSuchBucket") or code == "500"
    return missing or code == "SignatureDoesNotMatch" or _is_unsupported(code, status)


def plain_etag(etag: str | None) -> str:
    """Return an ETag without quotes and `W/`, which servers and proxies write or leave out; empty if there is none."""
    return (etag or "").strip().removeprefix("W/").strip('"')


def is_listing(page: Mapping[str, Any]) -> bool:
    """Return whether a response is a ListBucketResult; a parsed web page would look like an empty bucket."""
    return not page.keys().isdisjoint({"Name", "IsTruncated", "KeyCount", "MaxKeys", "Contents"})


def _is_unsupported(code: str, status: int) -> bool:
    return status == 501 or (status == 400 and code not in _ABOUT_SOMETHING_ELSE and not code.startswith("KMS."))


def _code_and_status(error: ClientError) -> tuple[str, int]:
    code = str(error.response.get("Error", {}).get("Code", ""))
    return code, int(error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0))
