"""Explain failures of S3 to people."""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Literal

from buildrunner.errors import BuildFailed

# botocore's standard mode retries temporary errors (5xx, SlowDown, timeouts, resets) with jitter, and no other 4xx errors.
# 4 × (5 s + 15 s) and the pauses stay below two minutes, in which a build must find out that it cannot succeed.
ATTEMPTS = 4
CONNECT_TIMEOUT = 5  # seconds
READ_TIMEOUT = 15  # seconds without progress, for the body and then for the response

_debug = logging.getLogger(__name__).debug

Operation = Literal["put", "get", "list", "delete"]
_PERMISSIONS: dict[Operation, str] = {
    "put": "s3:PutObject",
    "get": "s3:GetObject",
    "list": "s3:ListBucket",
    "delete": "s3:DeleteObject",
}


# AWS's messages for refusals: https://docs.aws.amazon.com/IAM/latest/UserGuide/troubleshoot_access-denied.html
_NOT_AUTHORIZED = re.compile(
    r"not authorized to perform: ([\w-]+:[\w*]+)(?: on resource: \"?([^\s\"]+))?(.*)", re.DOTALL
)
_EXPLICIT_DENY = re.compile(r"explicit deny(?: in an? ((?:[\w-]+ )?[\w-]+ (?:policy|boundary)|[\w-]+ policy))?")
_NO_POLICY = re.compile(r"because no ((?:[\w-]+ )?[\w-]+ (?:policy|boundary)|[\w-]+ policy)")
_SAYS_NOTHING = re.compile(r"(access ?denied|forbidden|access denied\.)?\.?", re.IGNORECASE)
_WHOSE = "the credentials or task role of buildrunner"


class S3Failed(BuildFailed):
    """A request failed.

    Args:
        in_doubt: whether the server may have executed the request anyway.
        cause_known: whether the reason is the cause, not only the server's message.

    """

    def __init__(
        self,
        reason: str,
        hint: str | None = None,
        *,
        in_doubt: bool = False,
        cause_known: bool = True,
        kind: str = "s3-failed",
    ) -> None:
        super().__init__("upload", reason, hint, kind=kind)
        self.in_doubt = in_doubt
        self.cause_known = cause_known


class AccessRefused(S3Failed):
    """A permission is missing; the reason names it with the bucket and key. `said` is the message of the server."""

    def __init__(self, operation: Operation, bucket: str, key: str, said: str = "") -> None:
        permission = _PERMISSIONS[operation]
        resource = f"arn:aws:s3:::{bucket}" if operation == "list" else f"arn:aws:s3:::{bucket}/{key}"
        where = f"S3 refused access to the bucket {bucket}" + (f" (key {key})" if key else "")
        why = f"the permission {permission} is missing."
        hint = f"Allow {permission} on {resource} to {_WHOSE}, and check for a bucket policy that denies it."
        if found := _NOT_AUTHORIZED.search(said):
            permission = found[1]
            if permission.startswith("kms:"):  # its name contains the account number, and logs are public
                resource = "the KMS key that encrypts the bucket"
            elif found[2] and found[2].startswith("arn:aws:s3:::"):
                resource = found[2]
            if denied := _EXPLICIT_DENY.search(found[3]):
                policy = denied[1] or "policy"
                why = f"{_article(policy)} {policy} explicitly denies {permission}."
                hint = f"Remove this deny of {permission} on {resource}, or exempt {_WHOSE} from it."
            else:
                why = f"the permission {permission} is missing."
                hint = f"Allow {permission} on {resource} to {_WHOSE}"
                missing = _NO_POLICY.search(found[3])
                hint += f" in {_article(missing[1])} {missing[1]}." if missing else "."
        elif not _SAYS_NOTHING.fullmatch(said):
            why = quoted(said)
            hint = f"If the cause is unclear, allow {permission} on {resource} to {_WHOSE}."
        super().__init__(f"{where}: {why}", hint, kind="s3-access-denied")


class Unreachable(S3Failed):
    """A server did not respond, so that another request right away would only wait as long again."""


class ConditionsUnsupported(Exception):
    """A server does not support conditional writes."""


class NotS3(Exception):
    """A server reported success, but not in the way S3 does."""


_NOT_S3_HINT = (
    "Check that AWS_ENDPOINT_URL_S3 is the address of the S3 API, not of a website or of the storage's console. "
    "Check for a proxy, too."
)
_CREDENTIALS_HINT = (
    "Check AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, and AWS_SESSION_TOKEN for temporary credentials. "
    "A trailing space or line break is a common cause."
)
# By the codes of https://docs.aws.amazon.com/AmazonS3/latest/API/ErrorResponses.html; `{bucket}` and `{key}` are filled in.
_OF_CODES: dict[str, tuple[str, str]] = {
    "NoSuchBucket": (
        "The bucket {bucket} does not exist.",
        "Check AWS_BUCKET_NAME (and STATE_BUCKET_NAME), or create the bucket.",
    ),
    "InvalidBucketName": ("{bucket} is not a valid bucket name.", "Check AWS_BUCKET_NAME."),
    "InvalidAccessKeyId": ("S3 does not know the access key.", _CREDENTIALS_HINT),
    "SignatureDoesNotMatch": (
        "S3 refused the credentials: the secret key does not belong to the access key.",
        _CREDENTIALS_HINT,
    ),
    "ExpiredToken": (
        "The AWS credentials have expired.",
        "Set new ones, or use a task role, which renews them.",
    ),
    "InvalidToken": ("S3 refused the session token.", _CREDENTIALS_HINT),
    "PermanentRedirect": (
        "The bucket {bucket} is in another AWS region.",
        "Set AWS_REGION to the region of the bucket.",
    ),
    "RequestTimeTooSkewed": (
        "S3 refused the request because the clock of this machine is wrong.",
        "Set the clock of the machine that runs the build (NTP).",
    ),
    "SlowDown": (
        "S3 kept asking to slow down.",
        "Lower UPLOAD_CONCURRENCY, or try again later.",
    ),
    "QuotaExceeded": (
        "The S3 server has no space left for {key}.",
        "Free space on the server, or raise the quota of the bucket.",
    ),
    "InternalError": (
        "S3 failed repeatedly.",
        "Run the build again. If it keeps failing, check the server's log or AWS's status page.",
    ),
    "BadDigest": (
        "{key} arrived damaged in S3.",
        "Run the build again. If it keeps failing, something between this machine and S3 changes the data.",
    ),
    "EntityTooLarge": ("{key} is larger than S3 allows for one object.", "Leave it out of the output directory."),
    "NoSuchUpload": ("S3 lost the parts of {key} before the upload was completed.", "Run the build again."),
}
_KINDS = {
    "NoSuchBucket": "bucket-missing",
    "InvalidBucketName": "bucket-missing",
    "InvalidAccessKeyId": "aws-credentials-refused",
    "SignatureDoesNotMatch": "aws-credentials-refused",
    "ExpiredToken": "aws-credentials-refused",
    "InvalidToken": "aws-credentials-refused",
    "PermanentRedirect": "bucket-in-another-region",
}
_SAME_AS = {
    "AllAccessDisabled": "AccessDenied",
    "Forbidden": "AccessDenied",
    "403": "AccessDenied",
    "AuthorizationHeaderMalformed": "PermanentRedirect",
    "IllegalLocationConstraintException": "PermanentRedirect",
    "301": "PermanentRedirect",
    "307": "PermanentRedirect",
    "ExpiredTokenException": "ExpiredToken",
    "RequestExpired": "RequestTimeTooSkewed",
    "RequestInTheFuture": "RequestTimeTooSkewed",
    "ServiceUnavailable": "SlowDown",
    "Throttling": "SlowDown",
    "TooManyRequests": "SlowDown",
    "RequestLimitExceeded": "SlowDown",
    "503": "SlowDown",
    "XMinioStorageFull": "QuotaExceeded",
    "InsufficientStorage": "QuotaExceeded",
    "507": "QuotaExceeded",
    "500": "InternalError",
    "502": "InternalError",
    "504": "InternalError",
    "404": "NoSuchBucket",
    "InvalidDigest": "BadDigest",
    "XAmzContentSHA256Mismatch": "BadDigest",
    "XAmzContentChecksumMismatch": "BadDigest",
}


@contextmanager
def explained(operation: Operation, *, bucket: str, key: str, endpoint_url: str | None) -> Iterator[None]:
    """Convert errors of botocore to BuildFailed.

    The cause is dropped, because an error of S3 can contain the signed request with its session token.
    """
    try:
        yield
    except BuildFailed:
        raise
    except Exception as error:
        _debug("%s %s/%s: %s", operation, bucket, key, type(error).__name__)
        raise _explain(error, operation, bucket, key, endpoint_url or "S3") from None


def code_of(error: Exception) -> str:
    """Return the error code of S3, or `unknown` if there is none."""
    return str(getattr(error, "response", {}).get("Error", {}).get("Code", "unknown"))


def may_have_acted(error: Exception) -> bool:
    """Return whether the server may have executed a failed request because only its response was lost."""
    from botocore.exceptions import ClientError

    if not isinstance(error, ClientError):
        return True
    status = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
    return status == 200 or (status >= 500 and status != 501) or code_of(error) in {"NoSuchUpload", "RequestTimeout"}


def quoted(said: str) -> str:
    """Return a server's message as one short sentence on one line, without account numbers."""
    text = re.sub(r"\b\d{12}\b", "…", " ".join(said.split()))[:200]
    return text if text.endswith((".", "!", "?")) else f"{text}."


def _article(noun: str) -> str:
    return f"{'an' if noun[0] in 'aeiou' else 'a'}"


def _explain(error: Exception, operation: Operation, bucket: str, key: str, endpoint: str) -> S3Failed:
    """Return the explanation of an error; unexpected errors in this area are failures of S3, not internal errors."""
    import aiohttp
    from botocore import exceptions as aws  # already imported by the code that raised the error
    from botocore.parsers import ResponseParserError

    where = endpoint.rpartition("//")[2].rpartition("@")[2]  # without user and password
    if isinstance(error, aws.ClientError):
        answer = error.response.get("Error", {})
        code = _SAME_AS.get(code_of(error), code_of(error))
        doubt = may_have_acted(error)
        status = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", "none")
        if code_of(error) in {"301", "302", "303", "307", "308"} and endpoint != "S3":
            return S3Failed(
                f"{where} redirects requests for the bucket {bucket} instead of answering them.",
                "Set AWS_REGION to the region of the bucket, or AWS_ENDPOINT_URL_S3 to the address of the S3 API itself.",
            )
        if code_of(error) in {"404", "405", "410", "unknown", ""} and endpoint != "S3":
            return S3Failed(f"{where} answered HTTP {status}, unlike S3.", _NOT_S3_HINT)
        if code_of(error) == "500" and endpoint != "S3":  # botocore reports this for a success that is not XML, too
            return S3Failed(
                f"{where} failed repeatedly, or does not answer like S3.",
                f"Check the log of the server. {_NOT_S3_HINT}",
                in_doubt=True,
                cause_known=False,
            )
        if code == "AccessDenied":
            return AccessRefused(operation, bucket, key, str(answer.get("Message") or ""))
        if code in _OF_CODES:
            reason, hint = (text.format(bucket=bucket, key=key) for text in _OF_CODES[code])
            kind = _KINDS.get(code, "s3-failed")
            return S3Failed(reason, hint, in_doubt=doubt, cause_known=code != "InternalError", kind=kind)
        said = str(answer.get("Message") or "")
        return S3Failed(
            f"S3 answered {code} (HTTP status {status}) for {f'the key {key} in ' if key else ''}the bucket {bucket}"
            + (f": {quoted(said)}" if said else "."),
            in_doubt=doubt,
            cause_known=False,
        )
    if isinstance(error, OSError) and error.filename:
        return S3Failed(
            f"The AWS configuration names the file {error.filename}, which cannot be read: {error.strerror}.",
            "Check AWS_WEB_IDENTITY_TOKEN_FILE, and other variables that name files.",
            kind="aws-configuration",
        )
    for kinds, reason, hint in (
        (
            (aws.NoCredentialsError, aws.PartialCredentialsError),
            "No complete AWS credentials were found.",
            "Give the task a role, or set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY.",
        ),
        (
            (aws.ProfileNotFound, aws.ConfigNotFound, aws.ConfigParseError, aws.InvalidConfigError),
            "The AWS configuration of this machine cannot be used.",
            "Check AWS_PROFILE and the files in ~/.aws.",
        ),
        (
            (
                aws.CredentialRetrievalError,
                aws.MetadataRetrievalError,
                aws.TokenRetrievalError,
                aws.SSOError,
                aws.UnauthorizedSSOTokenError,
            ),
            "The AWS credentials could not be fetched.",
            "Check the task role (on ECS), or sign in again (`aws sso login`) on your own machine.",
        ),
        (
            (aws.InvalidRegionError, aws.NoRegionError),
            "The AWS region is missing or malformed.",
            "Set AWS_REGION, as in eu-central-1.",
        ),
        (aws.ParamValidationError, *_OF_CODES["InvalidBucketName"]),
        (
            aws.SSLError,
            "{endpoint} does not speak TLS, or its certificate is not trusted.",
            "Check AWS_ENDPOINT_URL_S3 (http:// or https://), or name the authority's certificate in AWS_CA_BUNDLE.",
        ),
        (
            aws.ReadTimeoutError,
            f"{{endpoint}} accepted the request but did not answer within {READ_TIMEOUT} s, {ATTEMPTS} times.",
            "Run the build again. If it keeps failing, check the server and the network between it and this machine.",
        ),
        (
            (aws.ConnectionError, aws.HTTPClientError, aws.ResponseStreamingError, aiohttp.ClientError, OSError),
            "The S3 server {endpoint} cannot be reached.",
            "Check AWS_ENDPOINT_URL_S3 and AWS_REGION, and the network of this machine (NAT, proxy, DNS).",
        ),
        (aws.BotoCoreError, f"S3 cannot be used: {type(error).__name__}.", "Check the AWS configuration."),
    ):
        if isinstance(error, kinds):
            away = isinstance(error, (aws.ConnectionError, aws.HTTPClientError, aiohttp.ClientError, OSError))
            words = reason.format(bucket=bucket, endpoint=where), hint
            return Unreachable(*words, in_doubt=True, kind="s3-unreachable") if away else S3Failed(*words)
    if isinstance(error, ValueError) and str(error).startswith("Invalid endpoint"):  # botocore has no class for it
        return S3Failed(f"The endpoint {where} is not a URL.", "Check AWS_ENDPOINT_URL_S3 and AWS_ENDPOINT_URL.")
    if isinstance(error, NotS3 | ResponseParserError | LookupError | RecursionError):
        return S3Failed(f"{where} does not answer like S3.", _NOT_S3_HINT, in_doubt=True)
    return S3Failed(f"The connection to {where} failed ({type(error).__name__}).", _NOT_S3_HINT, in_doubt=True)
