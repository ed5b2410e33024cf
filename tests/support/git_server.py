"""Run a real git server on loopback, `git http-backend` behind Python's http.server, with optional faults."""

from __future__ import annotations

import base64
import json
import os
import socket
import struct
import subprocess
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Literal
from urllib.parse import unquote, urlsplit

SIGNATURE = "signed"
HELD_SECONDS = 30  # longest time that a request is held


@dataclass
class GitServer:
    """The behavior of a server, and the requests that it received."""

    folder: Path  # contains the repositories
    host: str
    port: int
    password: str | None = None  # required by basic authentication; any user name is accepted
    refusal: int = 401  # status without the password
    redirect_to: str | None = None  # origin that every request is redirected to
    troubles: list[int | Literal["reset"]] = field(
        default_factory=list
    )  # faults of the first requests: a status or a reset
    hold: threading.Event | None = None  # if set, each request waits for it
    dumb: bool = False  # whether to serve only files, as after `git update-server-info`
    old: bool = False  # whether to support only version 0 of the protocol, which serves the tips of branches and tags
    refuses_tokens_for: str | None = None  # a public repository that refuses requests with a token
    lfs: Mapping[str, bytes] = field(default_factory=dict)  # Git LFS objects by SHA-256
    lfs_storage: str | None = None  # origin of the LFS objects; None for this server
    troubles_of_lfs: list[int] = field(default_factory=list)  # statuses of the first LFS batch requests
    lfs_refusal: tuple[int, str] | None = None  # status and message of all LFS batch requests
    requests: list[tuple[str, str, Mapping[str, str]]] = field(default_factory=list)  # method, path, headers

    @property
    def origin(self) -> str:
        return f"http://{self.host}:{self.port}"

    def url(self, repository: Path) -> str:
        return f"{self.origin}/{repository.name}"

    def authorizations(self) -> set[str]:
        """Return the credentials that clients have sent."""
        return {headers["authorization"] for _, _, headers in self.requests if "authorization" in headers}


@contextmanager
def git_server(
    folder: Path,
    *,
    host: str = "127.0.0.1",
    password: str | None = None,
    refusal: int = 401,
    redirect_to: str | None = None,
    troubles: Sequence[int | Literal["reset"]] = (),
    hold: threading.Event | None = None,
    dumb: bool = False,
    old: bool = False,
) -> Iterator[GitServer]:
    """Serve the repositories in `folder`; the options are the fields of `GitServer`."""
    with _Listener((host, 0), _Handler) as listener:
        port = listener.server_address[1]
        server = GitServer(folder, host, port, password, refusal, redirect_to, list(troubles), hold, dumb, old)
        listener.git = server
        thread = threading.Thread(target=listener.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        try:
            yield server
        finally:
            if hold:
                hold.set()  # otherwise, closing would wait for the held requests
            listener.shutdown()
            thread.join()


class _Listener(ThreadingHTTPServer):
    git: GitServer

    def handle_error(self, request: object, client_address: object) -> None:
        """Print nothing: some tests kill clients or reset connections."""


class _Handler(BaseHTTPRequestHandler):
    server: _Listener
    timeout = HELD_SECONDS

    def do_GET(self) -> None:
        self._answer(b"")

    def do_POST(self) -> None:
        body = b""
        if "chunked" in self.headers.get("Transfer-Encoding", ""):
            while size := int(self.rfile.readline(), 16):
                body += self.rfile.read(size)
                self.rfile.readline()
        else:
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        self._answer(body)

    def _answer(self, body: bytes) -> None:
        server = self.server.git
        server.requests.append((self.command, self.path, {name.lower(): value for name, value in self.headers.items()}))
        if server.hold:
            server.hold.wait(HELD_SECONDS)
        if server.troubles:
            trouble = server.troubles.pop(0)
            if trouble == "reset":
                # tcp(7), socket(7): closing with a linger time of 0 sends RST.
                self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                self.close_connection = True
                self.connection.close()
            else:
                self._send(trouble)
        elif server.redirect_to:
            self._send(302, {"Location": f"{server.redirect_to}{self.path}"})
        elif self.path.startswith("/lfs-objects/"):
            found = server.lfs.get(self.path.rpartition("/")[2])
            signed = self.headers.get("X-Signature") == SIGNATURE
            self._send(200 if found and signed else 404, body=found or b"")
        elif server.refuses_tokens_for and self.path.startswith(f"/{server.refuses_tokens_for}/"):
            if "Authorization" in self.headers:
                self._send(401, {"WWW-Authenticate": 'Basic realm="git"'})
            else:
                self._backend(server, body)
        elif server.password is not None and not self._knows(server.password):
            self._send(server.refusal, {"WWW-Authenticate": 'Basic realm="git"'} if server.refusal == 401 else {})
        elif self.path.endswith("/objects/batch"):
            self._list_lfs(server, json.loads(body))
        elif server.dumb:
            self._file(server.folder)
        else:
            self._backend(server, body)

    def _knows(self, password: str) -> bool:
        scheme, _, pair = self.headers.get("Authorization", "").partition(" ")
        return scheme == "Basic" and base64.b64decode(pair).decode().partition(":")[2] == password

    def _file(self, folder: Path) -> None:
        _, repository, *parts = unquote(urlsplit(self.path).path).split("/")
        file = folder.joinpath(repository, ".git", *parts)
        if self.command == "GET" and ".." not in parts and file.is_file():
            self._send(200, body=file.read_bytes())
        else:
            self._send(404)

    def _list_lfs(self, server: GitServer, asked: Mapping[str, Any]) -> None:
        """Respond as specified in docs/api/batch.md of Git LFS, with downloads that require a special header."""
        answer: dict[str, Any] = {"transfer": "basic", "objects": []}
        status = 200
        if server.troubles_of_lfs:
            status = server.troubles_of_lfs.pop(0)
        elif server.lfs_refusal:
            status, message = server.lfs_refusal
            answer = {"message": message}
        for wanted in asked["objects"] if status == 200 else ():
            entry = {"oid": wanted["oid"], "size": wanted["size"]}
            if wanted["oid"] in server.lfs:
                href = f"{server.lfs_storage or server.origin}/lfs-objects/{wanted['oid']}"
                entry["actions"] = {"download": {"href": href, "header": {"X-Signature": SIGNATURE}}}
            else:
                entry["error"] = {"code": 404, "message": "Object does not exist"}
            answer["objects"].append(entry)
        self._send(status, {"Content-Type": "application/vnd.git-lfs+json"}, json.dumps(answer).encode())

    def _backend(self, server: GitServer, body: bytes) -> None:
        """Run the backend as CGI (RFC 3875), as described in git-http-backend(1)."""
        parts = urlsplit(self.path)
        environment = {
            "PATH": os.environ["PATH"],
            "GIT_PROJECT_ROOT": str(server.folder),
            "GIT_HTTP_EXPORT_ALL": "1",
            "REQUEST_METHOD": self.command,
            "PATH_INFO": unquote(parts.path),
            "QUERY_STRING": parts.query,
            "CONTENT_TYPE": self.headers.get("Content-Type", ""),
            "HTTP_CONTENT_ENCODING": self.headers.get("Content-Encoding", ""),
            "GIT_PROTOCOL": "" if server.old else self.headers.get("Git-Protocol", ""),
        }
        command = ["git", "http-backend"]
        answer = subprocess.run(command, env=environment, input=body, capture_output=True, check=False).stdout
        head, _, content = answer.partition(b"\r\n\r\n")
        headers = dict(line.split(": ", 1) for line in head.decode().splitlines())
        self._send(int(headers.pop("Status", "200").split()[0]), headers, content)

    def _send(self, status: int, headers: Mapping[str, str] | None = None, body: bytes = b"") -> None:
        self.send_response(status)
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_request(self, code: object = "-", size: object = "-") -> None:
        """Print nothing; `requests` has all requests."""
