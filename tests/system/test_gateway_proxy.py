"""The gateway behind Debian's nginx, configured as `docs/gateway.md` says, and the rights that the document names."""

from __future__ import annotations

import re
import shutil
import subprocess
import time
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from support.gateway import Gateway, StreamWriter, Viewer
from support.harness import ROOT, Redis, can_connect, free_port, wait_for
from support.s3_server import S3Server
from support.warm import WarmProgram

DOCUMENT = (ROOT / "docs" / "gateway.md").read_text()
SECRET = "a secret of the tests that has more than 32 bytes"


def block(language: str) -> str:
    (code,) = re.findall(rf"^```{language}\n(.*?)^```$", DOCUMENT, re.MULTILINE | re.DOTALL)
    return str(code)


@pytest.fixture(scope="module")
def gateway(shared_redis: Redis, s3: S3Server, open_folder: Path) -> Iterator[Gateway]:
    gateway = Gateway(WarmProgram(shared_redis, s3, open_folder), GATEWAY_SECRET=SECRET)
    yield gateway
    gateway.close()


@pytest.fixture(scope="module")
def nginx(gateway: Gateway, tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    """The port of nginx with the document's configuration; without TLS."""
    program = shutil.which("nginx", path="/usr/sbin:/usr/bin:/usr/local/sbin")
    if not program:
        pytest.skip("nginx is not installed")
    port, folder = free_port(), tmp_path_factory.mktemp("nginx")
    server = block("nginx")
    assert "listen 443 ssl" in server
    assert "http://127.0.0.1:8080" in server
    server = server.replace("443 ssl", f"127.0.0.1:{port}").replace("127.0.0.1:8080", f"127.0.0.1:{gateway.port}")
    temporary = "".join(f"{each}_temp_path {folder};" for each in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi"))
    configuration = folder / "nginx.conf"
    configuration.write_text(
        f"daemon off; pid {folder}/pid; error_log stderr warn; worker_processes 1; user root;\n"
        f"events {{ worker_connections 200; }}\nhttp {{ {temporary} access_log off;\n{server}\n}}\n"
    )
    process = subprocess.Popen([program, "-c", configuration], stderr=subprocess.PIPE, stdin=subprocess.DEVNULL)
    wait_for(lambda: can_connect(port), "nginx to listen")
    yield port
    process.terminate()
    process.wait(10)
    assert process.stderr
    process.stderr.close()


@pytest.fixture(scope="module")
def token() -> str:
    from buildrunner.gateway.tokens import make_token

    return make_token(SECRET.encode(), "*", 600)


def test_nginx_passes_each_event_on_at_once(nginx: int, shared_redis: Redis, token: str) -> None:
    slug = f"n-{uuid.uuid4().hex[:12]}"
    viewer = Viewer(nginx, f"/api/sites/{slug}/builds/b/events?token={token}")
    writer = StreamWriter(shared_redis, slug, "b")
    for number in range(10):
        writer.write(f"line {number}")
        began = time.monotonic()
        viewer.wait_for(f"line {number}")
        assert time.monotonic() - began < 5  # what is buffered would wait for the end
    writer.end()

    assert viewer.end() == "result"
    assert viewer.events == writer.events
    assert viewer.headers["content-type"].startswith("text/event-stream")


def test_nginx_does_not_cut_a_silent_or_a_long_stream(nginx: int, shared_redis: Redis, token: str) -> None:
    slug = f"n-{uuid.uuid4().hex[:12]}"
    path = f"/api/sites/{slug}/builds/b/events"
    writer = StreamWriter(shared_redis, slug, "b")
    writer.write(*(f"{number} {'x' * 1000}" for number in range(5000)))
    silent = Viewer(nginx, path, Authorization=f"Bearer {token}")
    wait_for(lambda: silent.comments >= 3, "comments while nothing comes", 60)
    writer.end()
    late = Viewer(nginx, path, Authorization=f"Bearer {token}")

    for viewer in (silent, late):
        assert viewer.end() == "result"
        assert viewer.events == writer.events


def test_the_user_of_the_document_suffices(own_redis: Redis, s3: S3Server, open_folder: Path) -> None:
    with own_redis.client() as client:
        client.execute_command(*block("redis").replace("PASSWORD", "s3cret-of-the-test").split())
    uri = own_redis.uri.replace("//", "//gateway:s3cret-of-the-test@")
    gateway = Gateway(WarmProgram(own_redis, s3, open_folder), REDIS_URI=uri)
    try:
        writer = StreamWriter(own_redis, "acl", "b")
        writer.write("one")
        viewers = [gateway.events("acl", "b"), gateway.events("acl", "latest", "?after=0")]
        viewers[0].wait_for("one")
        writer.end()
        for viewer in viewers:
            assert viewer.end() == "result"
            assert viewer.events == writer.events
        for path in ("/healthz", "/api/sites/acl/builds", "/api/sites/acl/builds/b", "/api/sites/acl/builds/b/log.txt"):
            assert gateway.request(path).status == 200
        assert gateway.events("acl", "b", Last_Event_ID="b:1").end() == "result"
    finally:
        gateway.close()
