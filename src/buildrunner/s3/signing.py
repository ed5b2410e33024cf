"""Resolve the address of a bucket through aiobotocore, and sign requests to it (SigV4)."""

from __future__ import annotations

import hmac
import logging
import ssl
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from hashlib import sha256
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

if TYPE_CHECKING:
    from types_aiobotocore_s3 import S3Client

_ALGORITHM = "AWS4-HMAC-SHA256"
EMPTY_SHA256 = sha256(b"").hexdigest()
_debug = logging.getLogger(__name__).debug


@dataclass(frozen=True, slots=True)
class Location:
    """The address of a bucket, as resolved by region, endpoint, addressing style and redirects."""

    scheme: str
    hostname: str  # without brackets
    port: int
    host: str  # value of the Host header
    path: str  # of the bucket: / in the virtual-hosted style, /bucket/ in the path style
    region: str
    tls: ssl.SSLContext | None = field(repr=False)  # None without TLS


async def locate(client: S3Client, bucket: str) -> Location | None:
    """Make one HeadBucket request and return the address it went to; None if only aiobotocore can make requests.

    The response to the request doesn't matter. Proxies and other kinds of signatures require aiobotocore.
    """
    seen: list[tuple[str, str]] = []

    def see(request: Any, **_: Any) -> None:
        header = request.headers.get("Authorization", b"")
        seen.append((request.url, header.decode() if isinstance(header, bytes) else header))

    events = client.meta.events
    events.register("before-send.s3.HeadBucket", see)
    try:
        await client.head_bucket(Bucket=bucket)
    except Exception as error:  # reported when an object is stored
        _debug("HeadBucket: %s", error)
    finally:
        events.unregister("before-send.s3.HeadBucket", see)
    if not seen:
        return None
    try:
        return await _location_of(client, *seen[-1])  # after a redirect to the bucket's own region
    except Exception as error:  # it uses private attributes of aiobotocore, which another version may lack
        _debug("address not resolved (%s): passed to aiobotocore", type(error).__name__)
        return None


async def _location_of(client: Any, url: str, authorization: str) -> Location | None:
    scope = authorization.partition("Credential=")[2].partition(",")[0].split("/")
    if not authorization.startswith(f"{_ALGORITHM} ") or scope[-2:-1] != ["s3"]:
        _debug("signature is not %s for s3: passed to aiobotocore", _ALGORITHM)
        return None
    http = client._endpoint.http_session
    if http._proxy_config.proxy_url_for(url):
        _debug("proxy configured: passed to aiobotocore")
        return None
    parts = urlsplit(url)
    default_port = {"http": 80, "https": 443}[parts.scheme]
    tls = (await http._get_session(None)).connector._ssl if parts.scheme == "https" else None
    if not parts.hostname or not parts.netloc.isascii() or isinstance(tls, ssl.SSLContext) != (default_port == 443):
        raise ValueError
    return Location(
        parts.scheme,
        parts.hostname,
        parts.port or default_port,
        parts.netloc.removesuffix(f":{default_port}"),
        f"{parts.path.rstrip('/')}/",
        scope[-3],
        tls,
    )


class Signer:
    """Sign requests with the current credentials of a client."""

    def __init__(self, client: S3Client) -> None:
        self._client: Any = client
        self._keys: dict[tuple[str, str, str], bytes] = {}  # by secret, day and region
        self._plain: _PlainSigner | None = None

    async def sign(
        self, method: str, path: str, query: str, headers: Mapping[str, str], *, host: str, region: str, sha256: str
    ) -> dict[str, str]:
        """Return the headers of a request, all of them signed.

        Args:
            path: path, URI-encoded once.
            query: canonical query string: sorted by name, encoded, with a `=` for each name.
            headers: headers, with names in lower case.
            host: value of the Host header.
            region: region of the bucket.
            sha256: SHA-256 of the body, hexadecimal.

        """
        credentials = await self._client._request_signer._credentials.get_frozen_credentials()
        signed = {**headers, "host": host, "x-amz-content-sha256": sha256, "x-amz-date": _date(int(time.time()))}
        if credentials.token:
            signed["x-amz-security-token"] = credentials.token
        key = self._key(credentials.secret_key, signed["x-amz-date"][:8], region)
        signed["authorization"] = authorization_of(
            method, path, query, signed, access_key=credentials.access_key, key=key, region=region
        )
        return signed

    async def sign_plain(self, path: str, *, host: str, region: str) -> str:
        """Return the header lines of a GET without a body, a query and other headers: those of `sign`, in half the time."""
        credentials = await self._client._request_signer._credentials.get_frozen_credentials()
        made_of = (credentials, _date(int(time.time())), host, region)
        if self._plain is None or self._plain.made_of != made_of:
            key = self._key(credentials.secret_key, made_of[1][:8], region)
            self._plain = _PlainSigner(made_of, key)
        return self._plain.sign(path)

    def _key(self, secret_key: str, day: str, region: str) -> bytes:
        identity = (secret_key, day, region)
        key = self._keys.get(identity)
        if key is None:
            key = make_key(*identity)
            self._keys = {identity: key}
        return key


class _PlainSigner:
    """Signs GETs of one second, which differ in their paths alone."""

    def __init__(self, made_of: tuple[Any, str, str, str], key: bytes) -> None:
        credentials, date, host, region = self.made_of = made_of
        headers = {"host": host, "x-amz-content-sha256": EMPTY_SHA256, "x-amz-date": date}
        if credentials.token:
            headers["x-amz-security-token"] = credentials.token
        names = ";".join(sorted(headers))
        lines = "".join([f"{name}:{headers[name].strip()}\n" for name in sorted(headers)])
        scope = f"{date[:8]}/{region}/s3/aws4_request"
        self._key = key
        self._after_path = f"\n\n{lines}\n{names}\n{EMPTY_SHA256}"
        self._text = f"{_ALGORITHM}\n{date}\n{scope}\n"
        self._head = "".join([f"{name}: {value}\r\n" for name, value in headers.items()]) + (
            f"authorization: {_ALGORITHM} Credential={credentials.access_key}/{scope}, SignedHeaders={names}, Signature="
        )

    def sign(self, path: str) -> str:
        request = f"GET\n{path}{self._after_path}"
        text = f"{self._text}{sha256(request.encode()).hexdigest()}"
        return f"{self._head}{hmac.digest(self._key, text.encode(), 'sha256').hex()}\r\n"


@lru_cache(1)
def _date(now: int) -> str:
    return time.strftime("%Y%m%dT%H%M%SZ", time.gmtime(now))


def make_key(secret_key: str, day: str, region: str) -> bytes:
    """Derive the signing key for a day (YYYYMMDD), a region and S3.

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
        path: path, URI-encoded once.
        query: canonical query string: sorted by name, encoded, with a `=` for each name.
        headers: headers, with names in lower case, including `x-amz-date` and `x-amz-content-sha256`.
        key: key from `make_key`.

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
