"""The gateway while Redis or S3 are away: streams stay open, and what is known is still shown."""

from __future__ import annotations

import socket
import time
import uuid
from pathlib import Path

import pytest

from support.gateway import Gateway, StreamWriter, put_archive
from support.harness import Program, Redis, free_port, wait_for
from support.redis_relay import RedisRelay
from support.s3_server import S3Server
from support.warm import WarmProgram


@pytest.fixture
def slug() -> str:
    return f"f-{uuid.uuid4().hex[:12]}"


def test_a_gateway_without_redis_serves_the_archive_and_waits(program: Program, shared_redis: Redis, slug: str) -> None:
    old = StreamWriter(shared_redis, slug, "old")
    old.write("one")
    old.end()
    put_archive(program, slug, "old", old.archive)
    with shared_redis.client() as client:
        client.delete(f"events:{slug}")
    with RedisRelay(shared_redis.port, away=True) as relay:
        gateway = Gateway(program, REDIS_URI=relay.uri)
        try:
            assert gateway.request("/healthz").status == 503
            assert gateway.request(f"/sites/{slug}").status == 200
            builds = f"/api/sites/{slug}/builds"
            assert [each["build"] for each in gateway.request(builds).json["builds"]] == ["old"]
            assert gateway.request(f"{builds}/old").json["status"] == "succeeded"
            assert gateway.request(f"{builds}/old/events.ndjson").body == old.archive
            assert gateway.request(f"{builds}/new").status == 503
            assert gateway.events(slug, "old").end() == "result"
            waiting = [gateway.events(slug, "new"), gateway.events(slug, "latest", Last_Event_ID="new:1")]
            assert [viewer.status for viewer in waiting] == [200, 200]

            new = StreamWriter(shared_redis, slug, "new", run=1_700_000_001_000)
            new.write("one", "two")
            relay.come()
            new.end()

            for viewer, after in zip(waiting, (0, 1), strict=True):
                assert viewer.end() == "result"
                assert viewer.events == new.events[after:]
            wait_for(lambda: gateway.request("/healthz").status == 200, "Redis to be back")
            assert gateway.stop() == 0
            assert gateway.stderr == ""
        finally:
            gateway.close()


def test_an_s3_that_does_not_answer_holds_up_no_live_log(program: Program, shared_redis: Redis, slug: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        gateway = Gateway(program, AWS_ENDPOINT_URL_S3=f"http://127.0.0.1:{silent.getsockname()[1]}")
        try:
            writer = StreamWriter(shared_redis, slug, "b")
            early = gateway.events(slug, "b")
            writer.write("one")
            late = gateway.events(slug, "b")
            late.wait_for("one", 15)
            assert gateway.request(f"/api/sites/{slug}/builds/b").json["status"] == "running"
            assert [each["build"] for each in gateway.request(f"/api/sites/{slug}/builds").json["builds"]] == ["b"]
            assert gateway.request(f"/api/sites/{slug}/builds/unknown").status == 503
            assert gateway.request(f"/api/sites/{slug}/builds/b/events.ndjson").body == writer.archive
            writer.end()
            for viewer in (early, late):
                assert viewer.end(30) == "result"
                assert viewer.events == writer.events
            assert early.comments >= 1
            began = time.monotonic()
            assert gateway.stop() == 0
            assert time.monotonic() - began < 5
        finally:
            gateway.close()


def test_a_download_that_is_cut_short_is_no_whole_one(
    s3: S3Server, open_folder: Path, own_redis: Redis, slug: str
) -> None:
    writer = StreamWriter(own_redis, slug, "b")
    for _ in range(20):
        writer.write(*("x" * 4000 for _ in range(500)))
    with RedisRelay(own_redis.port) as relay, socket.socket() as connection:
        gateway = Gateway(WarmProgram(own_redis, s3, open_folder), REDIS_URI=relay.uri)
        try:
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 16384)
            connection.connect(("127.0.0.1", gateway.port))
            request = f"GET /api/sites/{slug}/builds/b/events.ndjson HTTP/1.1\r\nHost: localhost\r\n\r\n"
            connection.sendall(request.encode())
            received = connection.recv(1000)
            relay.leave()
            connection.settimeout(30)
            try:
                while data := connection.recv(65536):
                    received = (received + data)[-100:]
            except ConnectionResetError:
                pass
            assert not received.endswith(b"\r\n0\r\n\r\n")
        finally:
            gateway.close()


def test_the_connection_is_closed_after_the_end(program: Program, shared_redis: Redis, slug: str) -> None:
    writer = StreamWriter(shared_redis, slug, "b")
    writer.write("one")
    writer.end()
    gateway = Gateway(program, REDIS_URI=f"{shared_redis.uri}?protocol=3")
    try:
        with socket.create_connection(("127.0.0.1", gateway.port), timeout=20) as connection:
            connection.sendall(f"GET /api/sites/{slug}/builds/b/events HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
            received = b""
            while data := connection.recv(65536):
                received += data
        assert b'event: end\ndata: {"reason":"result"}\n\n' in received
        assert all(event.encode() in received for event in writer.archive.decode().splitlines())
        # As nginx asks by default.
        with socket.create_connection(("127.0.0.1", gateway.port), timeout=20) as connection:
            connection.sendall(f"GET /api/sites/{slug}/builds/b/events HTTP/1.0\r\nHost: localhost\r\n\r\n".encode())
            received = b""
            while data := connection.recv(65536):
                received += data
        assert received.endswith(b'event: end\ndata: {"reason":"result"}\n\n')
    finally:
        gateway.close()


def test_a_port_that_is_given_is_used(program: Program) -> None:
    port = free_port()
    gateway = Gateway(program, "--host", "localhost", "--port", str(port))
    try:
        assert gateway.first_line == f"Listening on http://localhost:{port}\n"
        assert gateway.request("/healthz").status == 200
    finally:
        gateway.close()
