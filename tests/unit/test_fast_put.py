"""Test the signature of requests with the examples that AWS publishes.

https://docs.aws.amazon.com/AmazonS3/latest/API/sig-v4-header-based-auth.html
"""

from __future__ import annotations

import math
from hashlib import sha256
from types import SimpleNamespace
from typing import Any

import anyio
import pytest
from botocore.auth import S3SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials, ReadOnlyCredentials
from hypothesis import given
from hypothesis import strategies as st

from buildrunner.s3.fast_put import BucketAddress, FastPut
from buildrunner.s3.http1 import Connections
from buildrunner.s3.limiter import AdaptiveLimiter
from buildrunner.s3.signing import Signer, authorization_of, make_key

ACCESS_KEY, SECRET_KEY = "AKIAIOSFODNN7EXAMPLE", "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY"
HOST = {"host": "examplebucket.s3.amazonaws.com", "x-amz-date": "20130524T000000Z"}
EMPTY = sha256(b"").hexdigest()


@pytest.mark.parametrize(
    ("method", "path", "query", "headers", "body", "signature"),
    [
        (
            *("GET", "/test.txt", "", {"range": "bytes=0-9"}, b""),
            "f0e8bdb87c964420e857bd35b5d6ed310bd44f0170aba48dd91039c6036bdb41",
        ),
        (
            *("PUT", "/test%24file.text", ""),
            {"date": "Fri, 24 May 2013 00:00:00 GMT", "x-amz-storage-class": "REDUCED_REDUNDANCY"},
            b"Welcome to Amazon S3.",
            "98ad721746da40c64f1a55b78f14c238d841ea1380cd77a1b5971af0ece108bd",
        ),
        (
            *("GET", "/", "lifecycle=", {}, b""),
            "fea454ca298b7da1c68078a5d1bdbfbbe0d65c699e0f91ac7a200a0136783543",
        ),
        (
            *("GET", "/", "max-keys=2&prefix=J", {}, b""),
            "34b48302e7b5fa45bde8084f4b7868a86f0a534bc59db6670ed5711ef69dc6f7",
        ),
    ],
)
def test_the_examples_of_aws_are_signed_as_aws_signs_them(
    method: str, path: str, query: str, headers: dict[str, str], body: bytes, signature: str
) -> None:
    signed = {**headers, **HOST, "x-amz-content-sha256": sha256(body).hexdigest()}
    key = make_key(SECRET_KEY, "20130524", "us-east-1")

    header = authorization_of(method, path, query, signed, access_key=ACCESS_KEY, key=key, region="us-east-1")

    names = ";".join(sorted(signed))
    assert header == (
        f"AWS4-HMAC-SHA256 Credential={ACCESS_KEY}/20130524/us-east-1/s3/aws4_request,"
        f" SignedHeaders={names}, Signature={signature}"
    )


@pytest.mark.parametrize("value", ["a\r\nx-amz-acl: public-read", "a\n", "a\r", "ü"])
def test_a_header_that_would_be_two_or_is_not_ascii_is_not_sent(value: str) -> None:
    class Keys:
        async def get_frozen_credentials(self) -> Credentials:
            return Credentials(ACCESS_KEY, SECRET_KEY)

    client: Any = SimpleNamespace(_request_signer=SimpleNamespace(_credentials=Keys()))
    path = FastPut(client, 1)
    place = BucketAddress("h", "/b/", "us-east-1", Connections("127.0.0.1", 9, None))

    assert anyio.run(path._head_of, place, "k", 0, b"", {"content-type": "a"}, "").startswith(b"PUT /b/k HTTP/1.1\r\n")
    with pytest.raises(ValueError, match=r"break|ascii"):
        anyio.run(path._head_of, place, "k", 0, b"", {"content-type": value}, "")


HEADER_VALUES = st.text(st.characters(min_codepoint=33, max_codepoint=126), min_size=1, max_size=20)


@given(
    st.dictionaries(st.from_regex(r"x-amz-[a-z]{1,8}", fullmatch=True), HEADER_VALUES, max_size=4),
    st.text(st.characters(codec="utf-8", exclude_characters="\0"), min_size=1, max_size=30),
    st.sampled_from(["", "partNumber=1&uploadId=a-b_c.d~e", "partNumber=12&uploadId=%2Bx%2F%3D"]),
)
def test_any_request_is_signed_as_botocore_signs_it(headers: dict[str, str], key: str, query: str) -> None:
    from urllib.parse import quote

    path = f"/bucket/{quote(key, safe='/-_.~')}"
    signed = {**headers, **HOST, "x-amz-content-sha256": EMPTY}
    url = f"https://{HOST['host']}{path}" + (f"?{query}" if query else "")
    request = AWSRequest("PUT", url, headers=signed)
    request.context["timestamp"] = HOST["x-amz-date"]
    auth = S3SigV4Auth(Credentials(ACCESS_KEY, SECRET_KEY), "s3", "eu-central-1")
    expected = auth.signature(auth.string_to_sign(request, auth.canonical_request(request)), request)

    header = authorization_of(
        *("PUT", path, query, signed),
        access_key=ACCESS_KEY,
        key=make_key(SECRET_KEY, "20130524", "eu-central-1"),
        region="eu-central-1",
    )

    assert header.endswith(f"Signature={expected}")


@pytest.mark.parametrize("token", [None, "a-token"])
def test_a_plain_get_is_signed_like_any_request(token: str | None) -> None:
    class Keys:
        async def get_frozen_credentials(self) -> ReadOnlyCredentials:
            return ReadOnlyCredentials(ACCESS_KEY, SECRET_KEY, token)

    client: Any = SimpleNamespace(_request_signer=SimpleNamespace(_credentials=Keys()))
    signer = Signer(client)

    async def sign(path: str) -> tuple[dict[str, str], str]:
        place = {"host": "s3.example.com", "region": "eu-central-1"}
        return await signer.sign("GET", path, "", {}, **place, sha256=EMPTY), await signer.sign_plain(path, **place)

    for path in ("/bucket/a.html", "/bucket/%C3%A4%20b"):
        headers, lines = anyio.run(sign, path)
        while f"x-amz-date: {headers['x-amz-date']}\r\n" not in lines:  # another second began in between
            headers, lines = anyio.run(sign, path)
        assert lines == "".join([f"{name}: {value}\r\n" for name, value in headers.items()])


def test_fewer_requests_run_when_s3_asks_to_slow_down() -> None:
    async def main() -> list[int]:
        pace, most, counts = AdaptiveLimiter(16), 0, list[int]()

        async def work(running: list[int]) -> None:
            nonlocal most
            await pace.begin()
            running.append(1)
            most = max(most, len(running))
            await anyio.sleep(0)
            running.pop()
            pace.end()

        async def count() -> None:
            nonlocal most
            most, running = 0, list[int]()
            async with anyio.create_task_group() as tasks:
                for _ in range(64):
                    tasks.start_soon(work, running)
            counts.append(most)

        await count()
        pace.slower(math.inf)
        await count()
        for _ in range(10):
            pace.slower(math.inf)
        await count()
        for _ in range(1000):
            pace.faster()
        await count()
        return counts

    assert anyio.run(main) == [16, 8, 2, 16]


def test_a_concurrency_of_one_never_sends_two_requests() -> None:
    pace = AdaptiveLimiter(1)

    pace.slower(math.inf)
    pace.faster()

    assert pace._now == 1
