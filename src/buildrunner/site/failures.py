"""Every way in which S3 fails, in words for people."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Literal

from buildrunner.errors import BuildFailed

# botocore's standard mode tries again what can pass (5xx, SlowDown, timeouts, resets), with jitter, and not what a 4xx
# says. 4 × (5 s + 20 s) and the pauses stay below two minutes, in which a run has to see that it cannot succeed.
ATTEMPTS = 4
CONNECT_TIMEOUT = 5  # seconds
READ_TIMEOUT = 20  # seconds for the answer, counted from the end of the body

Operation = Literal["put", "get", "list", "delete"]
_PERMISSIONS: dict[Operation, str] = {
    "put": "s3:PutObject",
    "get": "s3:GetObject",
    "list": "s3:ListBucket",
    "delete": "s3:DeleteObject",
}


class AccessRefused(BuildFailed):
    """Say which permission is missing, for which bucket and key."""

    def __init__(self, operation: Operation, bucket: str, key: str) -> None:
        permission = _PERMISSIONS[operation]
        resource = f"arn:aws:s3:::{bucket}" if operation == "list" else f"arn:aws:s3:::{bucket}/{key}"
        super().__init__(
            "upload",
            f"S3 refused access to the bucket {bucket}"
            + (f" (key {key})" if key else "")
            + f": the permission {permission} is missing.",
            f"Allow {permission} on {resource} to the credentials or task role of this run, "
            "and look for a bucket policy that denies it.",
        )


# By the codes of https://docs.aws.amazon.com/AmazonS3/latest/API/ErrorResponses.html. `{bucket}` and `{key}`
# are filled in.
_CREDENTIALS_HINT = (
    "Check AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, and AWS_SESSION_TOKEN where the credentials are temporary; "
    "a space or line break at the end of one is a usual cause."
)
_OF_CODES: dict[str, tuple[str, str]] = {
    "NoSuchBucket": (
        "The bucket {bucket} does not exist.",
        "Check AWS_BUCKET_NAME (and STATE_BUCKET_NAME), or create the bucket.",
    ),
    "InvalidBucketName": ("{bucket} is not a name that a bucket can have.", "Check AWS_BUCKET_NAME."),
    "InvalidAccessKeyId": ("S3 does not know the access key of this run.", _CREDENTIALS_HINT),
    "SignatureDoesNotMatch": (
        "S3 refused the credentials: the secret key does not belong to the access key.",
        _CREDENTIALS_HINT,
    ),
    "ExpiredToken": (
        "The AWS credentials of this run have expired.",
        "Give it fresh ones, or a task role, which renews its own.",
    ),
    "InvalidToken": ("S3 refused the session token of this run.", _CREDENTIALS_HINT),
    "PermanentRedirect": (
        "The bucket {bucket} is in another AWS region.",
        "Set AWS_REGION to the region of the bucket.",
    ),
    "RequestTimeTooSkewed": (
        "S3 refused the request because the clock of this machine is wrong.",
        "Set the clock of the machine that runs the build (NTP).",
    ),
    "SlowDown": (
        "S3 asked to slow down, and went on doing so.",
        "Lower UPLOAD_CONCURRENCY, or try again later.",
    ),
    "QuotaExceeded": (
        "The S3 server has no room left for {key}.",
        "Free space on the server, or raise the quota of the bucket.",
    ),
    "InternalError": (
        "S3 failed, also when it was asked again.",
        "Run the build again; where it goes on, look at the server's log or at AWS's status page.",
    ),
    "BadDigest": (
        "What arrived in S3 as {key} was not what was sent.",
        "Run the build again; where it goes on, something between here and S3 changes the data.",
    ),
    "EntityTooLarge": ("{key} is larger than S3 allows for one object.", "Leave it out of the output directory."),
    "NoSuchUpload": ("S3 lost the parts of {key} before they could be put together.", "Run the build again."),
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
    """Turn whatever botocore raises into BuildFailed.

    The cause is cut off: an error of S3 can hold the request as it was signed, with the session token.
    """
    try:
        yield
    except BuildFailed:
        raise
    except Exception as error:
        failure = _explain(error, operation, bucket, key, endpoint_url or "S3")
        if failure is None:
            raise
        raise failure from None


def _explain(error: Exception, operation: Operation, bucket: str, key: str, endpoint: str) -> BuildFailed | None:
    """Find the words for an error; None when it is none of S3, the network or the credentials."""
    import aiohttp
    from botocore import exceptions as aws  # both are loaded already, by whatever raised it

    if isinstance(error, aws.ClientError):
        answer = error.response.get("Error", {})
        code = answer.get("Code", "unknown")
        code = _SAME_AS.get(code, code)
        if code == "AccessDenied":
            return AccessRefused(operation, bucket, key)
        if code in _OF_CODES:
            reason, hint = (text.format(bucket=bucket, key=key) for text in _OF_CODES[code])
            return BuildFailed("upload", reason, hint)
        status = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", "none")
        said = " ".join(answer.get("Message", "").split())[:200]
        return BuildFailed(
            "upload",
            f"S3 answered {code} (HTTP status {status}) for {f'the key {key} in ' if key else ''}the bucket {bucket}"
            + (f": {said}" if said else "."),
        )
    where = endpoint.rpartition("//")[2].rpartition("@")[2]  # without user and password
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
            "The AWS credentials of this run could not be fetched.",
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
            f"{{endpoint}} took the request and did not answer within {READ_TIMEOUT} s, {ATTEMPTS} times.",
            "Run the build again; where it goes on, look at the server and at what is between it and here.",
        ),
        (
            (aws.ConnectionError, aws.HTTPClientError, aws.ResponseStreamingError, aiohttp.ClientError, OSError),
            "The S3 server {endpoint} cannot be reached.",
            "Check AWS_ENDPOINT_URL_S3 and AWS_REGION, and whether this machine has a way there (NAT, proxy, DNS).",
        ),
        (aws.BotoCoreError, f"S3 cannot be used: {type(error).__name__}.", "Check the AWS configuration."),
    ):
        if isinstance(error, kinds):
            return BuildFailed("upload", reason.format(bucket=bucket, endpoint=where), hint)
    if isinstance(error, ValueError) and str(error).startswith("Invalid endpoint"):  # botocore has no class for it
        return BuildFailed(
            "upload", f"The endpoint {where} is no URL.", "Check AWS_ENDPOINT_URL_S3 and AWS_ENDPOINT_URL."
        )
    return None
