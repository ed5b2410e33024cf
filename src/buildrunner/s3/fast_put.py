"""Store small objects and parts without aiobotocore's overhead: sign requests here, and send them over own connections.

aiobotocore needs a millisecond of CPU for each small object, mostly to build, validate and sign a request that differs from the
previous one in four headers. This module needs an eighth of that. It retries temporary failures (S3 is busy, a connection
breaks) for a few seconds. After any other response, the caller passes the object to aiobotocore, which handles proxies,
redirects and errors.
"""

from __future__ import annotations

import itertools
import logging
import re
import ssl
import time
from collections.abc import Callable, Iterable, Mapping
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import TYPE_CHECKING
from urllib.parse import quote

from buildrunner import __version__
from buildrunner.concurrency.retry import RetryPolicy
from buildrunner.s3.http1 import Connections
from buildrunner.s3.limiter import AdaptiveLimiter
from buildrunner.s3.signing import Signer, locate

if TYPE_CHECKING:
    from types_aiobotocore_s3 import S3Client

_GIVEN_UP_AFTER = 20  # consecutive failures; after them, only aiobotocore is likely to reach S3
_TRIED_AGAIN_EACH = 50  # after that, one of so many requests is still tried here
# An object is retried here for this many seconds. aiobotocore's four attempts end within two seconds if they fail immediately,
# and its retries share a quota (500 tokens, 5 per retry) that a third of a large site uses up.
_BUSY_FOR, _AWAY_FOR = 20, 8
_RETRY = RetryPolicy(first=0.1, longest=4.0, jitter=(0.0, 1.0))
_PASSES = {429, 500, 502, 503, 504}
_debug = logging.getLogger(__name__).debug


@dataclass(frozen=True, slots=True)
class BucketAddress:
    """The address of a bucket, as aiobotocore resolved its region, endpoint, style and redirects."""

    host: str  # value of the Host header
    path: str  # of the bucket: / in the virtual-hosted style, /bucket/ in the path style
    region: str
    connections: Connections


class FastPut:
    """Store objects in one bucket, after `learn` has observed a request of aiobotocore to it."""

    def __init__(self, client: S3Client, concurrency: int) -> None:
        self._client = client
        self._signer = Signer(client)
        self._place: BucketAddress | None = None
        self._limiter = AdaptiveLimiter(concurrency)
        self._failures = 0  # since the last success
        self._passed_by = 0

    async def learn(self, bucket: str) -> None:
        """Make one HeadBucket request to resolve the address of the bucket. A second call does nothing."""
        if self._place:
            return
        if found := await locate(self._client, bucket):
            connections = Connections(found.hostname, found.port, found.tls)
            self._place = BucketAddress(found.host, found.path, found.region, connections)

    def close(self) -> None:
        """Close the connections; later objects go through aiobotocore."""
        if self._place:
            self._place.connections.close()
        self._place = None

    def turn(self) -> AbstractAsyncContextManager[None]:
        """Wait until another request may be made, here or by aiobotocore; fewer may if S3 asks to slow down."""
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
        """Store a body, whose SHA-256 the server verifies; return the ETag, or None if it was not stored.

        The caller holds a `turn`, which is released during pauses between attempts.

        Args:
            key: key of the object.
            body: the body, or a function that returns its pieces.
            size: size of the body, bytes.
            digest: SHA-256 of the body, which is signed.
            headers: headers of the object and its integrity, with names in lower case.
            query: canonical query string.

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
        _debug("PUT %s: passed to aiobotocore", key)
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
        """Make one request; return the ETag, or for how many seconds in total the object is worth retrying here."""
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
        code = re.search(rb"<Code>(\w+)</Code>", answer.body)  # the rest may contain part of a token
        _debug("PUT %s: HTTP %d %s", key, answer.status, code and code[1].decode())
        return None, _BUSY_FOR if answer.status in _PASSES else 0

    async def _head_of(
        self, place: BucketAddress, key: str, size: int, digest: bytes, headers: Mapping[str, str], query: str
    ) -> bytes:
        path = place.path + quote(key, safe="/-_.~")
        signed = await self._signer.sign(
            "PUT", path, query, headers, host=place.host, region=place.region, sha256=digest.hex()
        )
        lines = [f"{name}: {value}" for name, value in signed.items()]
        target = f"{path}?{query}" if query else path
        head = "\r\n".join(
            [
                f"PUT {target} HTTP/1.1",
                *lines,
                f"content-length: {size}",
                f"user-agent: buildrunner/{__version__}",
                "\r\n",
            ]
        )
        if not head.count("\r") == head.count("\n") == len(lines) + 4:
            raise ValueError("a line break in a header")
        return head.encode("ascii")
