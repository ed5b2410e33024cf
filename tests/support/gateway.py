"""Run `buildrunner serve` as a process, and send requests and follow event streams as its viewers do."""

from __future__ import annotations

import http.client
import json
import os
import signal
import socket
import threading
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from support.harness import Event, Program, Redis, wait_for


@dataclass(frozen=True)
class Answer:
    """The response to a request."""

    status: int
    headers: Mapping[str, str]  # names in lowercase
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


class Gateway:
    """The process of a gateway, which `close` ends."""

    def __init__(self, program: Program, *arguments: str, **variables: str) -> None:
        names = ("PATH", "HOME", "REDIS_URI", "AWS_BUCKET_NAME", *program.s3.environment())
        environment = {name: value for name, value in program.environment(None).items() if name in names}
        environment = {name: value for name, value in {**environment, **variables}.items() if value}
        self.process = program.launch(environment, "serve", "--port", "0", *arguments)
        assert self.process.stdout
        self.first_line = self.process.stdout.readline()
        self.stderr = ""
        assert self.first_line, self.process.communicate()
        self.port = int(self.first_line.rstrip().rpartition(":")[2])

    def request(
        self, path: str, *, method: str = "GET", timeout: float = 30, host: str | None = None, **headers: str
    ) -> Answer:
        """Send a request; names of headers are written with `_`."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=timeout)
        sent = {name.replace("_", "-"): value for name, value in headers.items()}
        try:
            connection.request(method, path, headers={**sent, **({"Host": host} if host is not None else {})})
            answer = connection.getresponse()
            return Answer(answer.status, {name.lower(): value for name, value in answer.getheaders()}, answer.read())
        finally:
            connection.close()

    def events(self, slug: str, build: str, query: str = "", **headers: str) -> Viewer:
        return Viewer(self.port, f"/api/sites/{slug}/builds/{build}/events{query}", **headers)

    def stop(self, number: int = signal.SIGTERM, seconds: float = 10) -> int:
        self.process.send_signal(number)
        _, self.stderr = self.process.communicate(timeout=seconds)
        return self.process.wait()

    def close(self) -> None:
        self.process.kill()
        with suppress(ValueError):
            self.process.communicate()

    @property
    def descriptors(self) -> int:
        """The number of open file descriptors."""
        return len(os.listdir(f"/proc/{self.process.pid}/fd"))


class Viewer:
    """A viewer of a build, whose messages a thread reads."""

    def __init__(self, port: int, path: str, **headers: str) -> None:
        self._connection = http.client.HTTPConnection("127.0.0.1", port, timeout=120)
        self._connection.request("GET", path, headers={name.replace("_", "-"): each for name, each in headers.items()})
        self._socket = self._connection.sock  # the answer takes it over
        self._answer = self._connection.getresponse()
        self.status = self._answer.status
        self.headers = {name.lower(): value for name, value in self._answer.getheaders()}
        self.messages: list[dict[str, str]] = []
        self.comments = 0
        self.tasks: list[dict[str, str]] = []  # what comments said of the build's task
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()

    def _read(self) -> None:
        message: dict[str, str] = {}
        with suppress(OSError, http.client.HTTPException, ValueError, AttributeError):
            while line := self._answer.readline():
                name, _, value = line.decode().rstrip("\n").partition(": ")
                if line == b"\n" and message:
                    self.messages.append(message)
                    message = {}
                elif line.startswith(b":"):
                    self.comments += 1
                    if line.startswith(b": task "):
                        self.tasks.append(json.loads(line.removeprefix(b": task ")))
                elif name in {"id", "event", "data"}:
                    message[name] = value

    @property
    def events(self) -> list[Event]:
        return [json.loads(message["data"]) for message in self.messages if "event" not in message]

    @property
    def ids(self) -> list[str]:
        return [message["id"] for message in self.messages if "id" in message]

    @property
    def reason(self) -> str | None:
        """The reason for the end of the stream; None if the server gave none."""
        ends = [json.loads(message["data"])["reason"] for message in self.messages if message.get("event") == "end"]
        return str(ends[0]) if ends else None

    def wait_for(self, text: str, seconds: float = 30) -> None:
        wait_for(lambda: any(event.get("log") == text for event in self.events), f"the viewer to see {text!r}", seconds)

    def end(self, seconds: float = 60) -> str | None:
        """Wait until the server has closed the stream, and return the reason."""
        self._thread.join(seconds)
        assert not self._thread.is_alive(), f"the stream continues after {self.messages[-2:]}"
        self._connection.close()
        return self.reason

    def leave(self) -> None:
        if self._socket:
            with suppress(OSError):
                self._socket.shutdown(socket.SHUT_RDWR)
        self._thread.join(10)
        self._connection.close()


class StreamWriter:
    """Writes events to a stream as a build does."""

    def __init__(self, redis: Redis, slug: str, build: str, run: int = 1_700_000_000_000) -> None:
        self.build = build
        self.events: list[Event] = []
        self._redis = redis
        self.slug = slug
        self._run = run

    def write(self, *lines: str, seconds_ago: float = 0, **fields: Any) -> None:
        """Write an event for each line; `fields` replace fields of the events."""
        from datetime import UTC, datetime, timedelta

        with self._redis.client() as client:
            pipeline = client.pipeline(transaction=False)
            for line in lines:
                seq = len(self.events) + 1
                moment = datetime.now(UTC) - timedelta(seconds=seconds_ago)
                ts = moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")
                event = {"v": 1, "build": self.build, "seq": seq, "ts": ts, "type": "log", "stage": "build"}
                event |= {"stream": "stdout", "log": line, **fields}
                if event["type"] == "result":
                    del event["stream"]
                self.events.append(event)
                entry = {"event": json.dumps(event, ensure_ascii=False, separators=(",", ":"))}
                pipeline.xadd(f"events:{self.slug}", entry, id=f"{self._run}-{seq}")
                if seq == 1:
                    pipeline.xtrim(f"events:{self.slug}", minid=f"{self._run}-1", approximate=False)
            pipeline.execute()

    def end(self, line: str = "Done", **fields: Any) -> None:
        """Write the result event."""
        self.write(line, **{"type": "result", "stage": "finish", "status": "succeeded", "exit_code": 0, **fields})

    @property
    def archive(self) -> bytes:
        """Return the log as it is stored in the bucket."""
        lines = (json.dumps(event, ensure_ascii=False, separators=(",", ":")) for event in self.events)
        return "".join(f"{line}\n" for line in lines).encode()


def put_archive(program: Program, slug: str, build: str, body: bytes, bucket: str = "sites") -> None:
    program.client().put_object(Bucket=bucket, Key=f"__logs/{slug}/{build}.ndjson", Body=body)
