"""Serve the credentials of a task's role at 169.254.170.2, as Fargate does; run in the task's network namespace.

    CREDENTIALS='{"AccessKeyId": …}' python ecs_endpoint.py

It first adds the address to `lo`, which requires CAP_NET_ADMIN. It prints the requests.
https://docs.aws.amazon.com/AmazonECS/latest/developerguide/task-iam-roles.html
"""

from __future__ import annotations

import fcntl
import os
import socket
import struct
from http.server import BaseHTTPRequestHandler, HTTPServer

ADDRESS = "169.254.170.2"
PATH = "/v2/credentials/6a3e2c1b-0d5f-4a79-9b1e-7c8d9e0f1a2b"  # on AWS, the UUID is the only protection
_SIOCSIFADDR = 0x8916  # <linux/sockios.h>


class _Handler(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        known = self.path == PATH
        body = os.environ["CREDENTIALS"].encode() if known else b'{"code": "InvalidIdInRequest"}'
        self.send_response(200 if known else 400)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base class names it
        print(self.path, flush=True)


if __name__ == "__main__":
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as control:
        # struct ifreq: a name of 16 bytes, then struct sockaddr_in.
        request = struct.pack("16sHH4s8x", b"lo:1", socket.AF_INET, 0, socket.inet_aton(ADDRESS))
        fcntl.ioctl(control, _SIOCSIFADDR, request)
    HTTPServer((ADDRESS, 80), _Handler).serve_forever()
