"""PutObject and UploadPart without the client's overhead: signed here, sent over connections of their own.

aiobotocore spends a millisecond of CPU on each small object, most of it on building, validating and signing a request that differs
from the one before in four headers. Here it is an eighth of that. What can pass (a busy S3, a connection
that breaks) is tried again here for some seconds; whatever S3 or the network answers else, the caller gives the same object to
aiobotocore, which knows about proxies, redirects and errors.
"""

from __future__ import annotations

import hmac
import itertools
import logging
import re
import ssl
import time
from collections.abc import Callable, Iterable, Mapping
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from functools import lru_cache
from hashlib import sha256
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, urlsplit

from buildrunner import __version__
from buildrunner.concurrency.retry import RetryPolicy
from buildrunner.s3.http1 import Connections
from buildrunner.s3.limiter import AdaptiveLimiter

if TYPE_CHECKING:
    from types_aiobotocore_s3 import S3Client

_ALGORITHM = "AWS4-HMAC-SHA256"
_GIVEN_UP_AFTER = 20  # failures in a row: something is between here and S3 that only aiobotocore can cope with
_TRIED_AGAIN_EACH = 50  # of the requests after that
# For so long, seconds, an object is tried again here. aiobotocore's own four attempts are over within a second or two when they
# fail at once, and its retries draw on a quota (500 tokens of which one takes 5) that a third of a large site uses up.
_BUSY_FOR, _AWAY_FOR = 20, 8
_RETRY = RetryPolicy(first=0.1, longest=4.0, jitter=(0.0, 1.0))
_PASSES = {429, 500, 502, 503, 504}
_debug = logging.getLogger(__name__).debug


@dataclass(frozen=True, slots=True)
class BucketAddress:
    """Where the objects of a bucket are, as aiobotocore found it out: by region, endpoint, style and redirects."""

    host: str  # as the header has it
    path: str  # of the bucket: / in the virtual-hosted style, /bucket/ in the path style
    region: str
    connections: Connections


class FastPut:
    """Puts objects into one bucket once `learn` has seen a request of aiobotocore's to it."""

    def __init__(self, client: S3Client, concurrency: int) -> None:
        self._client: Any = client
        self._place: BucketAddress | None = None
        self._keys: dict[tuple[str, str], bytes] = {}  # of signing, by secret and day
        self._limiter = AdaptiveLimiter(concurrency)
        self._failures = 0  # since the last success
        self._passed_by = 0

    async def learn(self, bucket: str) -> None:
        """Make one request, HeadBucket, and see where it went; what S3 answers is of no interest. Once is enough."""
        if self._place:
            return
        seen: list[tuple[str, str]] = []

        def see(request: Any, **_: Any) -> None:
            header = request.headers.get("Authorization", b"")
            seen.append((request.url, header.decode() if isinstance(header, bytes) else header))

        events = self._client.meta.events
        events.register("before-send.s3.HeadBucket", see)
        try:
            await self._client.head_bucket(Bucket=bucket)
        except Exception as error:  # told when it is in the way
            _debug("HeadBucket: %s", error)
        finally:
            events.unregister("before-send.s3.HeadBucket", see)
        if not seen:
            return
        try:
            await self._learn_from(*seen[-1])  # after a redirect to the bucket's own region
        except Exception as error:  # it leans on what aiobotocore keeps to itself, which another version may not have
            _debug("not learnt (%s): aiobotocore does it", type(error).__name__)

    async def _learn_from(self, url: str, authorization: str) -> None:
        scope = authorization.partition("Credential=")[2].partition(",")[0].split("/")
        if not authorization.startswith(f"{_ALGORITHM} ") or scope[-2:-1] != ["s3"]:
            _debug("signed in another way than %s for s3: aiobotocore does it", _ALGORITHM)
            return
        http = self._client._endpoint.http_session
        if http._proxy_config.proxy_url_for(url):
            _debug("there is a proxy: aiobotocore does it")
            return
        parts = urlsplit(url)
        port = {"http": 80, "https": 443}[parts.scheme]
        tls = (await http._get_session(None)).connector._ssl if parts.scheme == "https" else None
        if not parts.hostname or not parts.netloc.isascii() or isinstance(tls, ssl.SSLContext) != (port == 443):
            raise ValueError
        self._place = BucketAddress(
            parts.netloc.removesuffix(f":{port}"),
            f"{parts.path.rstrip('/')}/",
            scope[-3],
            Connections(parts.hostname, parts.port or port, tls),
        )

    def close(self) -> None:
        """Close its connections; what is put after that goes through aiobotocore."""
        if self._place:
            self._place.connections.close()
        self._place = None

    def turn(self) -> AbstractAsyncContextManager[None]:
        """Wait until one more request may be made, whichever way it goes: fewer may, when S3 asks to slow down."""
        return self._limiter

    async def put(
        self,
        key: str,
        body: bytes | Callable[[], Iterable[bytes]],
        size: int,
        digest: bytes,
        headers: Mapping[str, str],
        query: str = "",
    ) -> str | None:
        """Store a body, whose SHA-256 the server verifies, and return the ETag; None when it is not stored for any reason.

        The caller has a `turn`, which others get while this one pauses.

        Args:
            body: all of it, or what gives its pieces.
            size: of the body, bytes.
            digest: SHA-256 of the body, which is signed.
            headers: of the object, and what the server verifies the body with; names in lower case.
            query: of the address, sorted and encoded.

        """
        if self._place is None:
            return None
        if self._failures >= _GIVEN_UP_AFTER:
            self._passed_by += 1
            if self._passed_by % _TRIED_AGAIN_EACH:
                return None
        began = time.monotonic()
        for attempt in itertools.count():
            etag, try_for = await self._attempt(self._place, key, body, size, digest, headers, query)
            if etag:
                self._failures = 0
                self._limiter.faster()
                return etag
            pause = _RETRY.pause(attempt)
            if time.monotonic() + pause >= began + try_for:
                break
            await self._limiter.pause(pause)
        self._failures += 1
        _debug("PUT %s: aiobotocore does it", key)
        return None

    async def _attempt(
        self,
        place: BucketAddress,
        key: str,
        body: bytes | Callable[[], Iterable[bytes]],
        size: int,
        digest: bytes,
        headers: Mapping[str, str],
        query: str,
    ) -> tuple[str | None, float]:
        """Make one request; give the ETag, or for how many seconds in all the object is worth trying again here."""
        began = time.monotonic()
        try:
            head = await self._head_of(place, key, size, digest, headers, query)
            answer = await place.connections.request(head, body)
        except Exception as error:
            _debug("PUT %s: %s", key, type(error).__name__)
            away = isinstance(error, OSError) and not isinstance(error, (TimeoutError, ssl.SSLCertVerificationError))
            return None, _AWAY_FOR if away else 0
        etag = answer.headers.get(b"etag")
        if answer.status == 200 and etag:
            return etag.decode("latin-1"), 0
        if answer.status in {429, 503}:
            self._limiter.slower(began)
        code = re.search(rb"<Code>(\w+)</Code>", answer.body)  # the rest may hold a part of a token
        _debug("PUT %s: HTTP %d %s", key, answer.status, code and code[1].decode())
        return None, _BUSY_FOR if answer.status in _PASSES else 0

    async def _head_of(
        self, place: BucketAddress, key: str, size: int, digest: bytes, headers: Mapping[str, str], query: str
    ) -> bytes:
        credentials = await self._client._request_signer._credentials.get_frozen_credentials()
        path = place.path + quote(key, safe="/-_.~")
        signed = {
            **headers,
            "host": place.host,
            "x-amz-content-sha256": digest.hex(),
            "x-amz-date": _date(int(time.time())),
        }
        if credentials.token:
            signed["x-amz-security-token"] = credentials.token
        day = signed["x-amz-date"][:8]
        signing_key = self._keys.get((credentials.secret_key, day))
        if signing_key is None:
            signing_key = make_key(credentials.secret_key, day, place.region)
            self._keys = {(credentials.secret_key, day): signing_key}
        authorization = authorization_of(
            "PUT", path, query, signed, access_key=credentials.access_key, key=signing_key, region=place.region
        )
        target = f"{path}?{query}" if query else path
        lines = [f"{name}: {value}" for name, value in signed.items()]
        head = "\r\n".join(
            [
                f"PUT {target} HTTP/1.1",
                *lines,
                f"authorization: {authorization}",
                f"content-length: {size}",
                f"user-agent: buildrunner/{__version__}",
                "\r\n",
            ]
        )
        if not head.count("\r") == head.count("\n") == len(lines) + 5:
            raise ValueError("a line break in a header")
        return head.encode("ascii")


@lru_cache(1)
def _date(now: int) -> str:
    return time.strftime("%Y%m%dT%H%M%SZ", time.gmtime(now))


def make_key(secret_key: str, day: str, region: str) -> bytes:
    """Derive the key of a day (YYYYMMDD), region and S3.

    https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_sigv-create-signed-request.html
    """
    key = f"AWS4{secret_key}".encode()
    for part in (day, region, "s3", "aws4_request"):
        key = hmac.digest(key, part.encode(), "sha256")
    return key


def authorization_of(
    method: str, path: str, query: str, headers: Mapping[str, str], *, access_key: str, key: bytes, region: str
) -> str:
    """Return the Authorization header of a request (SigV4), which signs all of `headers`.

    Args:
        path: URI-encoded, each part once, as S3 has it.
        query: canonical: sorted by name, encoded, with a `=` for each.
        headers: names in lower case; `x-amz-date` and `x-amz-content-sha256` among them.
        key: of `make_key`.

    """
    names = sorted(headers)
    lines = "".join([f"{name}:{headers[name].strip()}\n" for name in names])
    signed_headers = ";".join(names)
    request = f"{method}\n{path}\n{query}\n{lines}\n{signed_headers}\n{headers['x-amz-content-sha256']}"
    date = headers["x-amz-date"]
    scope = f"{date[:8]}/{region}/s3/aws4_request"
    text = f"{_ALGORITHM}\n{date}\n{scope}\n{sha256(request.encode()).hexdigest()}"
    signature = hmac.digest(key, text.encode(), "sha256").hex()
    return f"{_ALGORITHM} Credential={access_key}/{scope}, SignedHeaders={signed_headers}, Signature={signature}"
