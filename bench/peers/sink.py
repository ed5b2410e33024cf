"""Run an S3 server that accepts all requests and stores only names and manifests, so that only clients are measured.

    python sink.py PORT DELAY [CHAIN KEY]

It answers each request DELAY seconds after it has received it. With two PEM files, it uses TLS.
"""

from __future__ import annotations

import asyncio
import re
import ssl
import sys
from urllib.parse import unquote_to_bytes

LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)
CONDITION = re.compile(rb"\r\nif-(none-)?match: *(\S+)", re.IGNORECASE)
NAMESPACE = b'<?xml version="1.0" encoding="UTF-8"?>\n<%s xmlns="http://s3.amazonaws.com/doc/2006-03-01/">%s</%s>'
DATE = b"Date: Tue, 24 Nov 2026 12:00:00 GMT\r\nLast-Modified: Tue, 24 Nov 2026 12:00:00 GMT\r\n"
KEPT = b"/__manifests/"  # only these bodies are stored
PAGE = 1000
CHUNKS = -2  # `Sink.missing` for a body of unknown size

etags: dict[bytes, bytes] = {}
bodies: dict[bytes, bytes] = {}


def answer(head: bytes, body: bytes) -> bytes:
    """Return the response to a request."""
    method, target = head.split(b" ", 2)[:2]
    key = target.partition(b"?")[0]
    if method == b"GET" and KEPT in key:
        return said(200, bodies[key], etags[key]) if key in bodies else said(404, error(b"NoSuchKey"))
    if method == b"GET":
        return said(200, listing(target))
    if method == b"PUT":
        condition = CONDITION.search(head)
        if condition and (key in etags if condition[1] else etags.get(key) != condition[2]):
            return said(412, error(b"PreconditionFailed"))
        etags[key] = b'"%032x"' % (len(etags) if key not in etags else int(etags[key][1:-1], 16) + 10**9)
        if KEPT in key:
            bodies[key] = body
        return said(200, b"", etags[key])
    if method == b"POST" and b"uploads" in target:
        return said(
            200, element(b"InitiateMultipartUploadResult", b"<Bucket>b</Bucket><Key>k</Key><UploadId>1</UploadId>")
        )
    if method == b"POST":
        return said(200, element(b"CompleteMultipartUploadResult", b"<Bucket>b</Bucket><Key>k</Key><ETag>e-1</ETag>"))
    if method == b"HEAD" and target.count(b"/") > 1 and not target.endswith(b"/sites/"):
        return b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n"
    return said(200, b"")


def listing(target: bytes) -> bytes:
    """Return a page of the listing; a continuation token is the index of the page's first key."""
    token = re.search(rb"continuation-token=(\d+)", target)
    start = int(token[1]) if token else 0
    prefix = re.search(rb"[?&]prefix=([^&]*)", target)
    begin = b"/sites/" + (unquote_to_bytes(prefix[1]) if prefix else b"")
    keys = [key for key in etags if key.startswith(begin)]
    inside = b"".join(
        b"<Contents><Key>%s</Key><ETag>%s</ETag><Size>1</Size><LastModified>2026-11-24T12:00:00.000Z</LastModified></Contents>"
        % (key.split(b"/", 2)[2], etags[key])
        for key in keys[start : start + PAGE]
    )
    more = start + PAGE < len(keys)
    end = b"<NextContinuationToken>%d</NextContinuationToken>" % (start + PAGE) if more else b""
    return element(
        b"ListBucketResult", b"%s<IsTruncated>%s</IsTruncated>%s" % (inside, b"true" if more else b"false", end)
    )


def unchunked(data: bytes) -> bytes:
    """Return a body without its chunked encoding."""
    body = b""
    while size := int(data.partition(b"\r\n")[0], 16):
        data = data.partition(b"\r\n")[2]
        body, data = body + data[:size], data[size + 2 :]
    return body


def element(name: bytes, inside: bytes) -> bytes:
    return NAMESPACE % (name, inside, name)


def error(code: bytes) -> bytes:
    return b"<Error><Code>%s</Code><Message>m</Message></Error>" % code


def said(status: int, body: bytes, etag: bytes = b'"d41d8cd98f00b204e9800998ecf8427e"') -> bytes:
    return b"HTTP/1.1 %d OK\r\nETag: %s\r\n%sContent-Length: %d\r\n\r\n%s" % (status, etag, DATE, len(body), body)


class Sink(asyncio.Protocol):
    def __init__(self, delay: float) -> None:
        self.delay = delay
        self.head = b""
        self.body = b""  # only for bodies that are stored
        self.missing = -1  # remaining bytes of the body; -1 while the head is read, or CHUNKS

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        if self.missing == CHUNKS:  # over TLS, botocore sends conditional writes with two layers of chunks
            self.body += data
            if not self.body.endswith(b"\r\n0\r\n\r\n"):
                return
            self.body, self.missing, data = unchunked(unchunked(self.body)), 0, b""
        while data or self.missing == 0:
            if self.missing == -1:
                self.head += data
                end = self.head.find(b"\r\n\r\n")
                if end < 0:
                    return
                data, self.head = self.head[end + 4 :], self.head[: end + 2]
                length = LENGTH.search(self.head)
                self.missing = int(length[1]) if length else 0
                if b"\r\nTransfer-Encoding: chunked" in self.head:
                    self.missing = CHUNKS
                if b"100-continue" in self.head:
                    self.write(b"HTTP/1.1 100 Continue\r\n\r\n")
            if self.missing == CHUNKS:
                return
            taken = min(self.missing, len(data))
            self.missing -= taken
            if KEPT in self.head:
                self.body += data[:taken]
            data = data[taken:]
            if self.missing == 0:
                answered = answer(self.head, self.body)
                self.head, self.body, self.missing = b"", b"", -1
                if self.delay:
                    asyncio.get_running_loop().call_later(self.delay, self.write, answered)
                else:
                    self.write(answered)

    def write(self, data: bytes) -> None:
        assert isinstance(self.transport, asyncio.WriteTransport)
        self.transport.write(data)


async def main() -> None:
    port, delay = int(sys.argv[1]), float(sys.argv[2])
    tls = None
    if sys.argv[3:]:
        tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        tls.load_cert_chain(*sys.argv[3:])
    server = await asyncio.get_running_loop().create_server(lambda: Sink(delay), "127.0.0.1", port, ssl=tls)
    await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(main())
