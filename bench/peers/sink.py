"""An S3 server that takes everything, checks nothing and keeps nothing: what is measured beside it is the client.

python sink.py PORT DELAY   answers each request DELAY seconds after it has come in whole
"""

from __future__ import annotations

import asyncio
import re
import sys

LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)
NAMESPACE = b'<?xml version="1.0" encoding="UTF-8"?>\n<%s xmlns="http://s3.amazonaws.com/doc/2006-03-01/">%s</%s>'
ETAG = b'ETag: "d41d8cd98f00b204e9800998ecf8427e"\r\n'


def answer(head: bytes) -> bytes:
    """Give what is answered to a request, of which only its first line counts."""
    method, target = head.split(b" ", 2)[:2]
    if method == b"GET":
        body = element(b"ListBucketResult", b"<Name>sites</Name><KeyCount>0</KeyCount><IsTruncated>false</IsTruncated>")
    elif method == b"POST" and b"uploads" in target:
        body = element(b"InitiateMultipartUploadResult", b"<Bucket>sites</Bucket><Key>k</Key><UploadId>1</UploadId>")
    elif method == b"POST":
        body = element(b"CompleteMultipartUploadResult", b"<Bucket>sites</Bucket><Key>k</Key><ETag>e-1</ETag>")
    elif method == b"HEAD" and target.count(b"/") > 1 and not target.endswith(b"/sites/"):
        return b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n"
    else:
        body = b""
    return b"HTTP/1.1 200 OK\r\n%sContent-Length: %d\r\n\r\n%s" % (ETAG, len(body), body if method != b"HEAD" else b"")


def element(name: bytes, inside: bytes) -> bytes:
    return NAMESPACE % (name, inside, name)


class Sink(asyncio.Protocol):
    def __init__(self, delay: float) -> None:
        self.delay = delay
        self.head = b""
        self.missing = -1  # bytes of the body; -1 while the head is read

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        while data or self.missing == 0:
            if self.missing < 0:
                self.head += data
                end = self.head.find(b"\r\n\r\n")
                if end < 0:
                    return
                data, self.head = self.head[end + 4 :], self.head[: end + 2]
                length = LENGTH.search(self.head)
                self.missing = int(length[1]) if length else 0
                if b"100-continue" in self.head:
                    self.write(b"HTTP/1.1 100 Continue\r\n\r\n")
            taken = min(self.missing, len(data))
            self.missing -= taken
            data = data[taken:]
            if self.missing == 0:
                said, self.head, self.missing = answer(self.head), b"", -1
                if self.delay:
                    asyncio.get_running_loop().call_later(self.delay, self.write, said)
                else:
                    self.write(said)

    def write(self, data: bytes) -> None:
        assert isinstance(self.transport, asyncio.WriteTransport)
        self.transport.write(data)


async def main() -> None:
    port, delay = int(sys.argv[1]), float(sys.argv[2])
    server = await asyncio.get_running_loop().create_server(lambda: Sink(delay), "127.0.0.1", port)
    await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(main())
