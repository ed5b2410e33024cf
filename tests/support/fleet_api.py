"""A stand-in for the APIs of ECS and Batch in a thread: it answers what a test says, and keeps what it was asked.

What has to be a real implementation is tested with moto; see `support.aws_server`.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

NOTHING: Mapping[str, Any] = {"taskArns": [], "tasks": [], "jobSummaryList": [], "jobs": []}  # of every action


class FleetApi:
    """The address, the answers and the requests."""

    def __init__(self, endpoint: str) -> None:
        self.endpoint = endpoint
        self._lock = threading.Lock()
        self._answers: dict[str, list[Mapping[str, Any]]] = {}
        self._asked: list[tuple[str, dict[str, Any]]] = []

    def environment(self) -> dict[str, str]:
        """Return the variables that lead a gateway here; those of S3 stay what they are."""
        return {
            "AWS_ENDPOINT_URL_ECS": self.endpoint,
            "AWS_ENDPOINT_URL_BATCH": self.endpoint,
            "AWS_REGION": "eu-central-1",
        }

    def answer(self, action: str, *answers: Mapping[str, Any]) -> None:
        """Answer the next calls of an action with these documents, in order; the last one stays. Without any, AWS knows nothing."""
        with self._lock:
            self._answers[action] = list(answers)

    def asked(self, action: str) -> list[dict[str, Any]]:
        """Return the requests of one action, in their order."""
        with self._lock:
            return [request for name, request in self._asked if name == action]

    def clear(self) -> None:
        with self._lock:
            self._answers.clear()
            self._asked.clear()

    def take(self, action: str, request: dict[str, Any]) -> Mapping[str, Any]:
        with self._lock:
            self._asked.append((action, request))
            answers = self._answers.get(action) or [NOTHING]
            return answers.pop(0) if answers[1:] else answers[0]


@contextmanager
def fleet_api() -> Iterator[FleetApi]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            request = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            target = self.headers.get("X-Amz-Target", "").partition(".")[2]  # of ECS; Batch has a path for each action
            action = target or {"/v1/listjobs": "ListJobs", "/v1/describejobs": "DescribeJobs"}[self.path]
            body = json.dumps(api.take(action, request)).encode()
            self.send_response(200)
            self.send_header("Content-Type", "application/x-amz-json-1.1")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: Any) -> None: ...

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    api = FleetApi(f"http://127.0.0.1:{server.server_address[1]}")
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield api
    finally:
        server.shutdown()
        server.server_close()
