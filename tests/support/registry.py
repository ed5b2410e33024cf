"""Run an npm registry with generated packages."""

from __future__ import annotations

import base64
import hashlib
import io
import json
import shutil
import tarfile
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import unquote


def archive(files: Mapping[str, str | bytes], more: tuple[tarfile.TarInfo, ...] = ()) -> bytes:
    """Return the tarball of a package, as npm packs it."""
    data = io.BytesIO()
    with tarfile.open(fileobj=data, mode="w:gz") as tar:
        for name, content in files.items():
            member = tarfile.TarInfo(f"package/{name}")
            body = content if isinstance(content, bytes) else content.encode()
            member.size = len(body)
            tar.addfile(member, io.BytesIO(body))
        for member in more:
            tar.addfile(member)
    return data.getvalue()


class Registry:
    """Responds like the npm registry; tests can remove and break its packages."""

    def __init__(self) -> None:
        self.documents: dict[str, dict[str, Any]] = {}
        self.archives: dict[str, bytes] = {}
        self.failures: list[int] = []  # statuses of the next responses
        self.requests: list[str] = []
        self.knows_versions = True  # whether it serves single versions, which not every registry does
        self.url = ""

    def add(self, package: str, version: str, data: bytes, *, node: str | None = None, **dist: Any) -> None:
        path = f"/{package}/-/{package.rpartition('/')[2]}-{version}.tgz"
        integrity = f"sha512-{base64.b64encode(hashlib.sha512(data).digest()).decode()}"
        entry: dict[str, Any] = {"dist": {"tarball": self.url + path, "integrity": integrity, **dist}}
        if node:
            entry["engines"] = {"node": node}
        self.documents.setdefault(package, {"versions": {}})["versions"][version] = entry
        self.archives[path] = data

    def add_node(self, version: str, machine: str, more: Mapping[str, bytes] | None = None) -> None:
        """Add a Node.js release that differs from the installed one only in its version."""
        script = (
            f'#!/bin/sh\n[ "$1" = --version ] && exec echo v{version}\n'
            f'FAKE_NODE={version} exec {shutil.which("node")} "$@"\n'
        )
        self.add(f"node-linux-{machine}", version, archive({"bin/node": script, "README.md": "x", **(more or {})}))

    def answer(self, path: str) -> tuple[int, bytes]:
        self.requests.append(path)
        if self.failures:
            return self.failures.pop(0), b"{}"
        if path in self.archives:
            return 200, self.archives[path]
        name = unquote(path[1:])
        document = self.documents.get(name)
        package, _, version = name.rpartition("/")
        if self.knows_versions and package in self.documents and version in self.documents[package]["versions"]:
            document = {**self.documents[package]["versions"][version], "name": package, "version": version}
        return (200, json.dumps(document).encode()) if document else (404, b"{}")


@contextmanager
def serving() -> Iterator[Registry]:
    """Start a registry on loopback."""
    registry = Registry()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            status, body = registry.answer(self.path)
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    registry.url = f"http://127.0.0.1:{server.server_port}"
    try:
        yield registry
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
