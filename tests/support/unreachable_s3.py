"""Builds that cannot publish and take long to be sure of it. They start before other tests, and are checked after them."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

from support.harness import PLAIN, Program, Repositories, Run, Running
from support.relay import Fault, Relay, Request, answer, never_answer, stop_in_the_body


@dataclass
class UnreachableS3:
    """A run under way, and the relay that befalls it."""

    running: Running
    relay: Relay
    started: float = field(default_factory=time.monotonic)
    _ended: float = 0.0

    def __post_init__(self) -> None:
        self._watch = threading.Thread(target=self._wait, daemon=True)
        self._watch.start()

    def _wait(self) -> None:
        self.running.process.wait()
        self._ended = time.monotonic()

    def end(self) -> tuple[Run, float]:
        """Wait for the end; return it, and the seconds since the first fault, or since the start if there was no request."""
        run = self.running.end(240)
        self._watch.join()
        return run, self._ended - (self.relay.first_fault or self.started)


@contextmanager
def unreachable_s3_runs(program: Program, repositories: Repositories) -> Iterator[dict[str, UnreachableS3]]:
    """Start them all; what is still under way at the end is killed."""
    app = repositories.app(
        "mkdir dist; for number in $(seq 40); do echo $number >dist/$number.js; done; echo 1 >dist/index.html"
        "; seq 4000000 >dist/large.js"
    )
    busy = answer(503, "SlowDown")
    with ExitStack() as stack:

        def start(fault: Callable[[Request], Fault | None], **variables: str) -> UnreachableS3:
            relay = stack.enter_context(Relay(urlsplit(program.s3.endpoint).port or 0))
            relay.fault = fault
            environment: dict[str, Any] = {
                "AWS_ENDPOINT_URL_S3": f"http://127.0.0.1:{relay.port}",
                **PLAIN,
                **variables,
            }
            return UnreachableS3(stack.enter_context(program.running(app, **environment)), relay)

        yield {
            "frozen": start(_once(lambda request: "partNumber" in request.query, stop_in_the_body, never_answer)),
            "silent": start(lambda _: never_answer),
            "busy": start(_once(lambda request: request.method == "PUT" and "/sites/t-" in request.path, busy, busy)),
            "no address": start(lambda _: None, AWS_ENDPOINT_URL_S3="http://s3.buildrunner.invalid"),
        }


def _once(begins: Callable[[Request], bool], first: Fault, then: Fault) -> Callable[[Request], Fault | None]:
    """Apply one fault to the request with which it starts, and another to all later ones, including the archive."""
    begun = threading.Event()

    def befalls(request: Request) -> Fault | None:
        if begun.is_set():
            return then
        if begins(request):
            begun.set()
            return first
        return None

    return befalls
