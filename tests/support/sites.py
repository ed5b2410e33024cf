"""Run `buildrunner sites` as a process, and send requests as its visitors do."""

from __future__ import annotations

import http.client
import signal
import socket
from collections.abc import Mapping
from contextlib import suppress
from typing import Any

from buildrunner.routing.collect import RuleFile, collect_rules
from support.gateway import Answer
from support.harness import Program

REVALIDATE = "public, max-age=0, must-revalidate"


class Sites:
    """The process of a server for sites, which `close` ends."""

    def __init__(self, program: Program, *arguments: str, **variables: str) -> None:
        names = ("PATH", "HOME", "AWS_BUCKET_NAME", *program.s3.environment())
        environment = {name: value for name, value in program.environment(None).items() if name in names}
        self.process = program.launch({**environment, **variables}, "sites", "--port", "0", *arguments)
        assert self.process.stdout
        self.first_line = self.process.stdout.readline()
        assert self.first_line, self.process.communicate()
        self.port = int(self.first_line.rstrip().rpartition(":")[2])

    def connect(self, timeout: float = 30) -> http.client.HTTPConnection:
        return http.client.HTTPConnection("127.0.0.1", self.port, timeout=timeout)

    def get(
        self,
        slug: str,
        path: str = "/",
        *,
        method: str = "GET",
        host: str | None = None,
        connection: http.client.HTTPConnection | None = None,
        **headers: str,
    ) -> Answer:
        """Send a request; names of headers are written with `_`. Accept-Encoding is only sent if it is set."""
        mine = connection or self.connect()
        try:
            mine.putrequest(method, path, skip_host=True, skip_accept_encoding=True)
            mine.putheader("Host", host or f"{slug}.localhost")
            for name, value in headers.items():
                mine.putheader(name.replace("_", "-"), value)
            mine.endheaders()
            answer = mine.getresponse()
            return Answer(answer.status, {name.lower(): value for name, value in answer.getheaders()}, answer.read())
        finally:
            if connection is None:
                mine.close()

    def send(self, data: bytes) -> bytes:
        """Send raw bytes, and return the response until the server closes the connection or is silent for a second."""
        received = b""
        with socket.create_connection(("127.0.0.1", self.port), timeout=1) as raw, suppress(TimeoutError, OSError):
            raw.sendall(data)
            while part := raw.recv(65536):
                received += part
        return received

    def stop(self, number: int = signal.SIGTERM, seconds: float = 40) -> int:
        self.process.send_signal(number)
        self.process.communicate(timeout=seconds)
        return self.process.wait()

    def close(self) -> None:
        self.process.kill()
        with suppress(ValueError):
            self.process.communicate()


def put_site(
    program: Program, slug: str, files: Mapping[str, str | bytes], rules: Mapping[str, str] | None = None
) -> None:
    """Write a site to the bucket, with its compiled rules if there are any."""
    from buildrunner.publish.headers import cache_control, content_type

    client = program.client()
    for path, body in files.items():
        client.put_object(
            Bucket="sites",
            Key=f"{slug}/{path}",
            Body=body.encode() if isinstance(body, str) else body,
            ContentType=content_type(path),
            CacheControl=cache_control(path),
        )
    if rules is not None:
        put_rules(program, slug, rules, [path for path in files if path.endswith(".html")])


def put_rules(program: Program, slug: str, rules: Mapping[str, str], pages: list[str], **options: Any) -> None:
    """Compile the rules in `_redirects`, `_headers`, `netlify.toml` and `vercel.json`, and store them."""

    def read(text: str) -> bytes:
        return text.encode()

    files = [RuleFile(name, name, lambda text=text: read(text)) for name, text in rules.items()]  # type: ignore[misc]
    document = collect_rules(files, pages, **{"noindex": False, **options}).document.to_json()
    program.client().put_object(Bucket="sites", Key=f"__routing/{slug}.json", Body=document)
