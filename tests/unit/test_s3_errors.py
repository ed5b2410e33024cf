"""Test the messages for errors of S3."""

from __future__ import annotations

import pytest
from botocore.exceptions import ClientError

from buildrunner.errors import BuildFailed
from buildrunner.s3.errors import AccessRefused, explained

WHO = "User: arn:aws:sts::111122223333:assumed-role/builds/task is not authorized to perform: "
KEY = " on resource: arn:aws:kms:eu-central-1:111122223333:key/0a1b"
OBJECT = ' on resource: "arn:aws:s3:::sites/my-site/a.js"'


@pytest.mark.parametrize(
    ("said", "reason", "hint"),
    [
        (
            "Access Denied",
            "the permission s3:PutObject is missing.",
            "Allow s3:PutObject on arn:aws:s3:::sites/my-site/a.js",
        ),
        ("", "the permission s3:PutObject is missing.", "Allow s3:PutObject"),
        (
            f"{WHO}kms:GenerateDataKey{KEY} because no resource-based policy allows the kms:GenerateDataKey action",
            "the permission kms:GenerateDataKey is missing.",
            "Allow kms:GenerateDataKey on the KMS key that encrypts the bucket",
        ),
        (
            f"{WHO}kms:Decrypt{KEY} with an explicit deny in a resource-based policy",
            "a resource-based policy explicitly denies kms:Decrypt.",
            "Remove this deny of kms:Decrypt on the KMS key",
        ),
        (
            f"{WHO}s3:PutObject{OBJECT} with an explicit deny in a service control policy",
            "a service control policy explicitly denies s3:PutObject.",
            "Remove this deny of s3:PutObject on arn:aws:s3:::sites/my-site/a.js",
        ),
        (
            f"{WHO}s3:PutObject{OBJECT} because no VPC endpoint policy allows the s3:PutObject action",
            "the permission s3:PutObject is missing.",
            "in a VPC endpoint policy.",
        ),
        (
            f"{WHO}s3:PutObjectTagging{OBJECT} because no identity-based policy allows the s3:PutObjectTagging action",
            "the permission s3:PutObjectTagging is missing.",
            "in an identity-based policy.",
        ),
        ("Cannot upload files, storage cap exceeded.", "Cannot upload files, storage cap exceeded.", "s3:PutObject"),
    ],
)
def test_a_refusal_names_what_the_server_says_is_missing(said: str, reason: str, hint: str) -> None:
    refused = AccessRefused("put", "sites", "my-site/a.js", said)

    assert refused.reason == f"S3 refused access to the bucket sites (key my-site/a.js): {reason}"
    assert refused.hint
    assert hint in refused.hint
    assert "111122223333" not in refused.reason + refused.hint, "logs are shown to strangers"


@pytest.mark.parametrize("error", [KeyError("ETag"), RecursionError(), TypeError(), ValueError("x"), AssertionError()])
def test_whatever_is_raised_at_the_boundary_is_a_reason(error: Exception) -> None:
    with pytest.raises(BuildFailed) as failed, explained("put", bucket="b", key="k", endpoint_url="http://u:p@host:1"):
        raise error

    assert failed.value.exit_code == 50
    assert "host:1" in failed.value.reason
    assert "u:p" not in failed.value.reason
    assert failed.value.hint


@pytest.mark.parametrize(
    ("status", "code"), [(301, "301"), (302, "302"), (308, "308"), (404, "404"), (405, "405"), (200, "unknown")]
)
def test_a_response_without_an_error_of_s3_is_not_s3(status: int, code: str) -> None:
    answered = ClientError(
        {"Error": {"Code": code}, "ResponseMetadata": {"HTTPStatusCode": status}},  # type: ignore[typeddict-item]
        "PutObject",
    )
    with pytest.raises(BuildFailed) as failed, explained("put", bucket="b", key="k", endpoint_url="http://host:1"):
        raise answered

    assert "host:1" in failed.value.reason
    assert "AWS_ENDPOINT_URL_S3" in (failed.value.hint or "")
