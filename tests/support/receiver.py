"""Run an HTTP server on loopback that records its requests, and responds as a test configures it."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Literal

from support.harness import wait_for

Behavior = int | Literal["hang", "close"]  # a status, or no answer


@dataclass(frozen=True)
class Received:
    """A received request."""

    path: str  # undecoded
    headers: Mapping[str, str]  # names in lowercase
    body: bytes
    at: float  # time.monotonic()

    @property
    def json(self) -> Any:
        return json.loads(self.body)


@dataclass
class Receiver:
    """A server with the requests that it received."""

    host: str
    port: int
    answers: list[Behavior]  # for the first requests; later ones get 204
    text: str = ""  # body of error responses
    headers: Mapping[str, str] = field(default_factory=dict)  # of error responses
    requests: list[Received] = field(default_factory=list)
    closing: threading.Event = field(default_factory=threading.Event)

    @property
    def origin(self) -> str:
        return f"http://{self.host}:{self.port}"

    def wait_for(self, count: int) -> None:
        wait_for(lambda: len(self.requests) >= count, f"{count} requests")


@contextmanager
def receiver(
    answers: Sequence[Behavior] = (),
    *,
    text: str = "",
    headers: Mapping[str, str] | None = None,
    host: str = "127.0.0.1",
) -> Iterator[Receiver]:
    """Serve on a free port; the options are the fields of `Receiver`."""
    with _Listener((host, 0), _Handler) as listener:
        listener.receiver = Receiver(host, listener.server_address[1], list(answers), text, headers or {})
        thread = threading.Thread(target=listener.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        try:
            yield listener.receiver
        finally:
            listener.receiver.closing.set()
            listener.shutdown()
            thread.join()


class _Listener(ThreadingHTTPServer):
    receiver: Receiver

    def handle_error(self, request: object, client_address: object) -> None:
        """Print nothing: in some tests, clients disconnect."""


class _Handler(BaseHTTPRequestHandler):
    server: _Listener

    def do_GET(self) -> None:
        self._take(b"")

    def do_POST(self) -> None:
        self._take(self.rfile.read(int(self.headers.get("Content-Length", 0))))

    def _take(self, body: bytes) -> None:
        own = self.server.receiver
        names = {name.lower(): value for name, value in self.headers.items()}
        answer: Behavior = own.answers.pop(0) if own.answers else 204
        own.requests.append(Received(self.path, names, body, time.monotonic()))
        if answer == "hang":
            own.closing.wait()
        if isinstance(answer, str):
            self.close_connection = True
            return
        content = own.text.encode() if answer >= 300 else b""
        self.send_response(answer)
        for name, value in own.headers.items() if answer >= 300 else ():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_request(self, code: object = "-", size: object = "-") -> None:
        """Print nothing."""
