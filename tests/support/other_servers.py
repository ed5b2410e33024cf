"""Simulate single differences of S3-compatible servers from AWS, as faults for a `Relay` to the real server.

The error messages are those of Backblaze B2, Cloudflare R2, Google Cloud Storage, OCI, OVH and MinIO.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

from buildrunner.s3.signing import authorization_of, make_key
from support.relay import Exchange, Fault, Request, answer, changed_answer

Server = Callable[[Request], Fault | None]

_HTML = "<!DOCTYPE html><html><head><title>Storage Console</title></head><body><br>Sign in</body></html>"
_UNSUPPORTED = answer(501, "NotImplemented", text="A header you provided implies functionality that is not implemented")


def _is_deletion_of_many(request: Request) -> bool:
    return request.method == "POST" and "delete" in request.query.split("=")[0]


def _asks_with_checksums(request: Request) -> bool:
    return b"\r\nx-amz-checksum-" in request.head.lower() or b"x-amz-sdk-checksum" in request.head.lower()


def _refusing_checksums(refusal: Fault) -> Server:
    return lambda request: refusal if _asks_with_checksums(request) else None


def _refusing_many(refusal: Fault) -> Server:
    return lambda request: refusal if _is_deletion_of_many(request) else None


def _rewriting(pattern: bytes, by: bytes) -> Fault:
    """Change the head of a response, and the body of a listing."""

    def change(head: bytes, body: bytes) -> tuple[bytes, bytes]:
        is_listing = b"<ListBucketResult" in body
        return re.sub(pattern, by, head), re.sub(pattern, by, body) if is_listing else body

    return changed_answer(change)


def ignoring_conditions(access_key: str, secret_key: str) -> Fault:
    """Remove If-Match and If-None-Match from the request, and sign it again, since these headers are signed."""

    async def send_without(exchange: Exchange) -> None:
        request = exchange.request
        first, *lines = request.head.decode("latin-1").removesuffix("\r\n\r\n").split("\r\n")
        headers = dict(line.split(": ", 1) for line in lines)
        kept = {name: value for name, value in headers.items() if name.lower() not in {"if-match", "if-none-match"}}
        scope = request.header("authorization").partition("Credential=")[2].split("/")
        names = request.header("authorization").partition("SignedHeaders=")[2].partition(",")[0].split(";")
        signed = {name.lower(): value for name, value in kept.items() if name.lower() in names}
        kept["Authorization"] = authorization_of(
            *(request.method, request.path, request.query, signed),
            access_key=access_key,
            key=make_key(secret_key, scope[1], scope[2]),
            region=scope[2],
        )
        lines = [f"{name}: {value}" for name, value in kept.items()]
        await exchange.send_head("\r\n".join([first, *lines, "\r\n"]).encode("latin-1"))
        await exchange.send_body()

    return send_without


def web_page(status: int, *headers: str, page: str = _HTML) -> Fault:
    """Respond to all requests with a page, like a website or a console."""

    async def show(exchange: Exchange) -> None:
        await exchange.skip_body()
        await exchange.answer("\r\n".join([f"{status} Test", "Content-Type: text/html", *headers]), page)

    return show


def xml(text: str) -> Fault:
    return web_page(200, page=text)


REFUSE_CHECKSUMS: dict[str, Server] = {
    "B2: 400": _refusing_checksums(
        answer(400, "InvalidArgument", text="Unsupported header 'x-amz-checksum-sha256' received for this API call.")
    ),
    "R2: 501": _refusing_checksums(
        answer(501, "NotImplemented", text="Header 'x-amz-checksum-sha256' with value 'abc' not implemented")
    ),
    "GCS: 403": _refusing_checksums(answer(403, "SignatureDoesNotMatch", text="Invalid argument.")),
}

REFUSE_MANY: dict[str, Server] = {
    "OVH: 400": _refusing_many(
        answer(400, "InvalidRequest", text="Missing required header for this request: Content-MD5")
    ),
    "MinIO: 400": _refusing_many(answer(400, "MissingContentMD5")),
    "none: 501": _refusing_many(_UNSUPPORTED),
    "none: 405": _refusing_many(answer(405, "MethodNotAllowed")),
    "none: 404": _refusing_many(web_page(404)),
    "names nothing": _refusing_many(
        xml('<?xml version="1.0"?><DeleteResult xmlns="http://s3.amazonaws.com/doc/2006-03-01/"></DeleteResult>')
    ),
    "a page": _refusing_many(web_page(200)),
}

ETAGS: dict[str, Server] = {
    "no quotes": lambda _: _rewriting(rb'(?i)(?<=etag: )"([^"]*)"|&#34;|&quot;', rb"\1"),
    "weak": lambda request: _rewriting(rb'(?i)(?<=etag: )"', b'W/"') if request.method in {"GET", "HEAD"} else None,
    "quotes in listings only": lambda _: _rewriting(rb'(?i)(?<=etag: )"([^"]*)"', rb"\1"),
    "none in answers to PUT": lambda request: (
        _rewriting(rb"(?i)\r\netag:[^\r]*", b"") if request.method == "PUT" else None
    ),
    "none at all": lambda _: _rewriting(rb"(?i)\r\netag:[^\r]*|<ETag>[^<]*</ETag>", b""),
}

NOT_S3: dict[str, Server] = {
    "a page for everything": lambda _: web_page(200),
    "well-formed XML": lambda _: xml("<html><body>Welcome</body></html>"),
    "405": lambda _: web_page(405),
    "404": lambda _: web_page(404),
    "redirect to https": lambda _: web_page(301, "Location: https://storage.example.com/"),
    "301 without region": lambda _: answer(301, "PermanentRedirect"),
    "empty": lambda _: web_page(200, page=""),
    "deep XML": lambda _: xml("<a>" * 20_000 + "</a>" * 20_000),
    "entities": lambda _: xml(
        '<?xml version="1.0"?><!DOCTYPE a [<!ENTITY a "aaaaaaaaaa">'
        + "".join(f'<!ENTITY {b} "{f"&{a};" * 10}">' for a, b in zip("abcdefg", "bcdefgh", strict=True))
        + "]><ListBucketResult><Name>&h;</Name></ListBucketResult>"
    ),
    "a listing without end": lambda _: xml(
        "<ListBucketResult><Name>b</Name><IsTruncated>true</IsTruncated><NextContinuationToken>a</NextContinuationToken>"
        "<Contents><Key>a</Key></Contents></ListBucketResult>"
    ),
    "an error in another form": lambda _: web_page(400, page="<Error><Oops/></Error>"),
    "wrong types": lambda _: xml(
        "<ListBucketResult><Name>b</Name><Contents><Key>a</Key><Size>many</Size><LastModified>x</LastModified></Contents>"
        "</ListBucketResult>"
    ),
}


def with_folders(client: Any) -> Server:
    """Refuse keys that a file system cannot store, as MinIO does: a file below a file, or a file in place of a folder."""

    def is_there(bucket: str, prefix: str) -> bool:
        return bool(client.list_objects_v2(Bucket=bucket, Prefix=prefix, MaxKeys=1).get("Contents"))

    def refuse(request: Request) -> Fault | None:
        bucket, _, key = request.path[1:].partition("/")
        if request.method != "PUT" or not key or "uploadId" in request.query:
            return None
        parts = key.split("/")
        for count in range(1, len(parts)):
            parent = "/".join(parts[:count])
            listed = client.list_objects_v2(Bucket=bucket, Prefix=parent, MaxKeys=1).get("Contents", [])
            if any(each["Key"] == parent for each in listed):
                return answer(400, "XMinioParentIsObject", text="Object-prefix is already an object")
        return answer(409, "ExistingObjectIsDirectory") if is_there(bucket, f"{key}/") else None

    return refuse
