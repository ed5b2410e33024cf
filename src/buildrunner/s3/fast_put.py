"""PutObject and UploadPart without the client's overhead: signed here, sent over connections of their own.

aiobotocore spends a millisecond of CPU on each small object, most of it on building, validating and signing a request that differs
from the one before in four headers. Here it is an eighth of that. What can pass (a busy S3, a connection
that breaks) is tried again here for some seconds; whatever S3 or the network answers else, the caller gives the same object to
aiobotocore, which knows about proxies, redirects and errors.
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
        self._client = client
        self._signer = Signer(client)
        self._place: BucketAddress | None = None
        self._limiter = AdaptiveLimiter(concurrency)
        self._failures = 0  # since the last success
        self._passed_by = 0

    async def learn(self, bucket: str) -> None:
        """Make one request, HeadBucket, and see where it went; what S3 answers is of no interest. Once is enough."""
        if self._place:
            return
        if found := await locate(self._client, bucket):
            connections = Connections(found.hostname, found.port, found.tls)
            self._place = BucketAddress(found.host, found.path, found.region, connections)

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
