"""`buildrunner serve`: what its API answers, to whom, and how the log of a build comes to those who watch it."""

from __future__ import annotations

import re
import socket
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jwt
import pytest

from support.gateway import Gateway, StreamWriter, Viewer, put_archive
from support.harness import PLAIN, Program, Redis, Repositories, wait_for
from support.s3_server import S3Server
from support.warm import WarmProgram, run_command

SECRET = "a secret of the tests that has more than 32 bytes"
SITE = "mkdir dist; echo 1 >dist/index.html"


@pytest.fixture(scope="module")
def gateway(shared_redis: Redis, s3: S3Server, open_folder: Path) -> Iterator[Gateway]:
    """On loopback, without tokens."""
    gateway = Gateway(WarmProgram(shared_redis, s3, open_folder), SITE_URL="https://{slug}.example.com")
    yield gateway
    gateway.close()


@pytest.fixture(scope="module")
def guarded(shared_redis: Redis, s3: S3Server, open_folder: Path) -> Iterator[Gateway]:
    """With tokens, and an origin that may embed it."""
    program = WarmProgram(shared_redis, s3, open_folder)
    gateway = Gateway(
        program,
        "--host",
        "0.0.0.0",
        GATEWAY_SECRET=SECRET,
        GATEWAY_ORIGINS="https://app.example.com, http://localhost:3000",
    )
    yield gateway
    gateway.close()


@pytest.fixture
def slug() -> str:
    return f"g-{uuid.uuid4().hex[:12]}"


def token(**claims: Any) -> str:
    return jwt.encode({"sub": "*", "exp": int(time.time()) + 600, **claims}, SECRET, "HS256")


# --- the log of a build ----------------------------------------------------------------------------------------------


def test_every_viewer_gets_each_event_once_whenever_they_join(
    gateway: Gateway, program: Program, repositories: Repositories, slug: str
) -> None:
    early = gateway.events(slug, "the-build")
    viewers = [early]

    def join(_process: object, slug: str) -> None:
        for number in (1, 20, 40):
            program.wait_for_event(slug, lambda event, number=number: event.get("log") == f"line {number}")  # type: ignore[misc]
            viewers.extend([gateway.events(slug, "the-build"), gateway.events(slug, "latest")])

    build = "i=1; while [ $i -le 60 ]; do echo line $i; sleep 0.05; i=$((i+1)); done; printf 'caf\\303\\251\\n\\n'; "
    run = program.run(repositories.app(build + SITE), SLUG=slug, BUILD_ID="the-build", meanwhile=join, **PLAIN)
    viewers.append(gateway.events(slug, "the-build"))

    assert run.code == 0
    for viewer in viewers:
        assert viewer.end() == "result"
        assert viewer.events == run.events
        assert viewer.ids == [f"the-build:{event['seq']}" for event in run.events]
    assert early.status == 200
    assert early.headers["content-type"].startswith("text/event-stream")
    assert early.headers["x-accel-buffering"] == "no"


def test_data_is_the_json_of_the_event_unchanged(gateway: Gateway, shared_redis: Redis, slug: str) -> None:
    writer = StreamWriter(shared_redis, slug, "b")
    writer.write("\x1b[32mgrün\x1b[0m \u2028 </script>")
    writer.end()
    viewer = gateway.events(slug, "b")
    viewer.end()

    assert [message["data"].encode() for message in viewer.messages[:-1]] == writer.archive.splitlines()


def test_a_viewer_resumes_after_what_it_has(gateway: Gateway, shared_redis: Redis, slug: str) -> None:
    writer = StreamWriter(shared_redis, slug, "b")
    writer.write(*(f"line {number}" for number in range(1, 10)))
    writer.end()

    def first(viewer: Viewer) -> int:
        viewer.end()
        return int(viewer.events[0]["seq"])

    assert first(gateway.events(slug, "b", Last_Event_ID="b:4")) == 5
    assert first(gateway.events(slug, "latest", Last_Event_ID="b:4")) == 5
    assert first(gateway.events(slug, "b", "?after=6")) == 7
    assert first(gateway.events(slug, "b", "?after=6", Last_Event_ID="b:2")) == 3
    assert first(gateway.events(slug, "b", "?after=6", Last_Event_ID="other:9")) == 1
    assert first(gateway.events(slug, "b", "?after=6", Last_Event_ID="garbage")) == 1
    assert first(gateway.events(slug, "b", "?after=x", Last_Event_ID="b:2")) == 3


def test_who_resumes_behind_the_result_gets_204(
    gateway: Gateway, program: Program, shared_redis: Redis, slug: str
) -> None:
    writer = StreamWriter(shared_redis, slug, "b")
    writer.write("line")
    writer.end()

    def answers() -> list[int]:
        path = f"/api/sites/{slug}/builds/b/events"
        found = [gateway.request(path, Last_Event_ID="b:2"), gateway.request(f"{path}?after=2")]
        found.append(gateway.request(f"/api/sites/{slug}/builds/latest/events", Last_Event_ID="b:2"))
        return [answer.status for answer in found]

    assert answers() == [204, 204, 204]
    put_archive(program, slug, "b", writer.archive)
    with shared_redis.client() as client:
        client.delete(f"events:{slug}")
    assert answers() == [204, 204, 204]


def test_when_the_stream_is_gone_the_archive_is_sent(
    gateway: Gateway, program: Program, shared_redis: Redis, slug: str
) -> None:
    writer = StreamWriter(shared_redis, slug, "b")
    writer.write("x" * 16_384, *(f"line {number} {'x' * 1000}" for number in range(2000)))
    writer.end()
    put_archive(program, slug, "b", writer.archive)
    with shared_redis.client() as client:
        client.delete(f"events:{slug}")

    viewers = [gateway.events(slug, name, query) for name in ("b", "latest") for query in ("", "?after=1500")]

    for viewer, first in zip(viewers, (1, 1501, 1, 1501), strict=True):
        assert viewer.end() == "result"
        assert viewer.events == writer.events[first - 1 :]


def test_a_build_that_was_taken_over_ends_with_its_archive(
    gateway: Gateway, program: Program, shared_redis: Redis, slug: str
) -> None:
    writer = StreamWriter(shared_redis, slug, "old")
    writer.write("one", "two")
    viewer = gateway.events(slug, "old")
    viewer.wait_for("two")

    later = StreamWriter(shared_redis, slug, "new", run=1_700_000_001_000)
    later.write("of the later one")
    writer.events.append({**writer.events[-1], "seq": 3, "log": "three"})
    writer.events.append({**writer.events[-1], "seq": 4, "type": "result", "status": "superseded", "log": "Superseded"})
    put_archive(program, slug, "old", writer.archive)

    assert viewer.end() == "result"
    assert viewer.events == writer.events


def test_a_build_whose_rest_never_comes_ends_as_superseded(shared_redis: Redis, program: Program, slug: str) -> None:
    gateway = Gateway(program, AWS_BUCKET_NAME="")
    try:
        StreamWriter(shared_redis, slug, "old").write("one")
        viewer = gateway.events(slug, "old")
        viewer.wait_for("one")
        StreamWriter(shared_redis, slug, "new", run=1_700_000_001_000).write("of the later one")

        assert viewer.end(15) == "superseded"
        assert [event["log"] for event in viewer.events] == ["one"]
        assert gateway.request(f"/api/sites/{slug}/builds/old").status == 404
    finally:
        gateway.close()


def test_a_build_silent_for_long_is_lost(gateway: Gateway, shared_redis: Redis, slug: str) -> None:
    """One that seems to be is waited for a little: clocks may differ."""
    StreamWriter(shared_redis, slug, "b").write("one", seconds_ago=100)
    viewer = gateway.events(slug, "b")

    assert gateway.request(f"/api/sites/{slug}/builds/b").json["status"] == "lost"
    assert viewer.end(60) == "lost"
    assert viewer.comments >= 3


def test_a_build_that_starts_again_is_sent_from_its_start(gateway: Gateway, shared_redis: Redis, slug: str) -> None:
    first = StreamWriter(shared_redis, slug, "b")
    first.write("one", "two", "three", seconds_ago=5)
    viewer = gateway.events(slug, "b")
    resumed = gateway.events(slug, "b", Last_Event_ID="b:2")
    for each in (viewer, resumed):
        each.wait_for("three")

    second = StreamWriter(shared_redis, slug, "b", run=1_700_000_001_000)
    second.write("again")
    second.end()

    assert (viewer.end(), resumed.end()) == ("result", "result")
    assert viewer.events == first.events + second.events
    assert resumed.events == first.events[2:] + second.events


def test_a_redis_that_loses_its_memory_costs_viewers_nothing(
    own_redis: Redis, s3: S3Server, open_folder: Path, repositories: Repositories, slug: str
) -> None:
    program = WarmProgram(own_redis, s3, open_folder)
    gateway = Gateway(program)
    viewers: list[Viewer] = []

    def kill(_process: object, slug: str) -> None:
        viewers.append(gateway.events(slug, "b"))
        viewers[0].wait_for("line 10")
        own_redis.kill()
        assert gateway.request("/healthz").status == 503
        assert gateway.request(f"/api/sites/{slug}/builds/b").status == 503
        viewers.append(gateway.events(slug, "b"))
        viewers.append(gateway.events(slug, "b", Last_Event_ID="b:12"))
        own_redis.start()

    try:
        build = "i=1; while [ $i -le 60 ]; do echo line $i; sleep 0.1; i=$((i+1)); done; " + SITE
        run = program.run(repositories.app(build), SLUG=slug, BUILD_ID="b", meanwhile=kill, **PLAIN)

        assert run.code == 0
        for viewer, first in zip(viewers, (1, 1, 13), strict=True):
            assert viewer.end() == "result"
            assert viewer.events == run.events[first - 1 :]
        assert gateway.request("/healthz").body == b"ok"
    finally:
        gateway.close()


def test_viewers_of_a_build_share_one_reader(own_redis: Redis, s3: S3Server, open_folder: Path, slug: str) -> None:
    gateway = Gateway(WarmProgram(own_redis, s3, open_folder))
    try:
        writer = StreamWriter(own_redis, slug, "b")
        writer.write("one")
        before = gateway.descriptors
        viewers = [gateway.events(slug, "b") for _ in range(100)]
        for viewer in viewers:
            viewer.wait_for("one")
        with own_redis.client() as client:
            reading = [each for each in client.client_list() if each["cmd"] in {"xread", "xinfo|stream"}]
            assert len(reading) == 1
            for viewer in viewers:
                viewer.leave()
            wait_for(lambda: client.info("clients")["blocked_clients"] == 0, "the reader to end")
        wait_for(lambda: gateway.descriptors <= before + 20, "the connections to close")
    finally:
        gateway.close()


def test_a_viewer_that_takes_nothing_is_disconnected_and_resumes(
    gateway: Gateway, shared_redis: Redis, slug: str
) -> None:
    writer = StreamWriter(shared_redis, slug, "b")
    writer.write(*("x" * 10_000 for _ in range(1000)))
    with socket.socket() as connection:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 32768)
        connection.connect(("127.0.0.1", gateway.port))
        connection.sendall(f"GET /api/sites/{slug}/builds/b/events HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
        peer = connection.getsockname()[1]
        time.sleep(25)  # less than STALLED_SECONDS
        assert is_established(peer, gateway.port)
        wait_for(lambda: not is_established(peer, gateway.port), "the connection to be closed", 60)

    resumed = gateway.events(slug, "b", Last_Event_ID="b:500")
    writer.end()
    assert resumed.end() == "result"
    assert resumed.events == writer.events[500:]


def is_established(port: int, peer: int) -> bool:
    """Return whether the kernel still has the server's end of a connection."""
    for line in Path("/proc/net/tcp").read_text().splitlines()[1:]:
        _, local, remote, state = line.split()[:4]
        if int(local.split(":")[1], 16) == peer and int(remote.split(":")[1], 16) == port:
            return state == "01"
    return False


def test_sigterm_ends_it_within_5_s_and_viewers_resume_elsewhere(
    program: Program, shared_redis: Redis, slug: str
) -> None:
    first, second = Gateway(program), Gateway(program)
    try:
        writer = StreamWriter(shared_redis, slug, "b")
        writer.write("one", "two")
        viewers = [first.events(slug, "b") for _ in range(20)]
        for viewer in viewers:
            viewer.wait_for("two")
        began = time.monotonic()
        assert first.stop() == 0
        assert time.monotonic() - began < 5
        assert first.stderr == ""
        assert {viewer.end() for viewer in viewers} == {None}
        rest = second.events(slug, "b", Last_Event_ID=viewers[0].ids[-1])
        writer.write("three")
        writer.end()
        assert rest.end() == "result"
        assert viewers[0].events + rest.events == writer.events
    finally:
        first.close()
        second.close()


def test_viewers_that_leave_at_once_leave_nothing_behind(
    own_redis: Redis, s3: S3Server, open_folder: Path, slug: str
) -> None:
    gateway = Gateway(WarmProgram(own_redis, s3, open_folder))
    try:
        StreamWriter(own_redis, slug, "b").write("one")
        request = f"GET /api/sites/{slug}/builds/b/events HTTP/1.1\r\nHost: localhost\r\n\r\n"
        for number in range(600):
            with socket.create_connection(("127.0.0.1", gateway.port), timeout=30) as connection:
                connection.sendall(request.encode())
                if number % 2:
                    connection.recv(10)

        def readers() -> list[Any]:
            with own_redis.client() as client:
                return [each for each in client.client_list() if each["cmd"] == "xread"]

        wait_for(lambda: not readers(), "the readers to end")
        began = time.monotonic()
        assert gateway.stop() == 0
        assert time.monotonic() - began < 5
    finally:
        gateway.close()


# --- what is known of builds -----------------------------------------------------------------------------------------


def test_builds_of_stream_and_archive_are_listed_by_their_start(
    gateway: Gateway, program: Program, shared_redis: Redis, slug: str
) -> None:
    assert gateway.request(f"/api/sites/{slug}/builds").json == {"builds": []}
    for build, started in (("first", 300), ("long", 400), ("short", 200)):
        writer = StreamWriter(shared_redis, slug, build, run=1_700_000_000_000 - started)
        writer.write("one", seconds_ago=started)
        writer.end(f"Failed: of {build}", status="failed", exit_code=40, stage="build", reason=build, seconds=9.5)
        put_archive(program, slug, build, writer.archive)
        with shared_redis.client() as client:
            client.delete(f"events:{slug}")
    StreamWriter(shared_redis, slug, "live").write("one")

    def listed(query: str = "") -> list[str]:
        return [each["build"] for each in gateway.request(f"/api/sites/{slug}/builds{query}").json["builds"]]

    assert listed() == ["live", "short", "first", "long"]
    assert listed("?limit=2") == ["live", "short"]
    assert listed("?limit=1000") == ["live", "short", "first", "long"]
    archived = gateway.request(f"/api/sites/{slug}/builds").json["builds"][1]
    assert archived == gateway.request(f"/api/sites/{slug}/builds/short").json
    assert (archived["status"], archived["reason"], archived["seconds"]) == ("failed", "short", 9.5)
    assert archived["url"] == f"https://{slug}.example.com"
    for query in ("?limit=0", "?limit=x", "?limit=-1"):
        assert gateway.request(f"/api/sites/{slug}/builds{query}").status == 400


def test_a_build_is_described_while_it_runs_and_afterwards(gateway: Gateway, shared_redis: Redis, slug: str) -> None:
    writer = StreamWriter(shared_redis, slug, "b")
    path = f"/api/sites/{slug}/builds"
    assert gateway.request(f"{path}/b").status == gateway.request(f"{path}/latest").status == 404
    writer.write("one", seconds_ago=10)

    running = gateway.request(f"{path}/latest").json
    assert running.pop("seconds") >= 10
    url = f"https://{slug}.example.com"
    started = writer.events[0]["ts"]
    assert running == {"build": "b", "status": "running", "stage": "build", "started": started, "url": url}

    failure = {"kind": "typescript-error", "file": "src/App.tsx", "line": 3, "column": 7, "excerpt": "const …"}
    details = {"seconds": 12.5, "commit": "4d12e0e", "reason": "It failed.", "hint": "Fix it.", "failure": failure}
    writer.end("Failed: It failed.", status="failed", exit_code=40, stage="build", **details)

    ended = gateway.request(f"{path}/b").json
    assert ended == {"build": "b", "status": "failed", "stage": "build", "started": started, "url": url, **details}


def test_the_text_has_a_line_for_each_line_and_no_colors(gateway: Gateway, shared_redis: Redis, slug: str) -> None:
    writer = StreamWriter(shared_redis, slug, "b")
    writer.write("\x1b[1;32mgreen\x1b[0m", "", "a long line ")
    writer.write("that goes on", cont=True)
    writer.write("100 lines were left out", type="dropped", lines=100)
    writer.end()
    path = f"/api/sites/{slug}/builds/b"

    text = gateway.request(f"{path}/log.txt")
    assert text.body.decode() == "green\n\na long line that goes on\n100 lines were left out\nDone\n"
    assert text.headers["content-type"] == "text/plain; charset=utf-8"
    events = gateway.request(f"{path}/events.ndjson")
    assert events.body == writer.archive
    assert f'filename="{slug}-b.ndjson"' in events.headers["content-disposition"]
    for name in ("log.txt", "events.ndjson"):
        assert gateway.request(f"/api/sites/{slug}/builds/unknown/{name}").status == 404


def test_an_unknown_build_is_waited_for_by_page_and_stream(gateway: Gateway, shared_redis: Redis, slug: str) -> None:
    for page in (f"/sites/{slug}", f"/sites/{slug}/builds/b"):
        answer = gateway.request(page)
        assert answer.status == 200
        assert answer.headers["content-type"] == "text/html; charset=utf-8"
    viewers = [gateway.events(slug, "b"), gateway.events(slug, "latest")]
    assert {viewer.status for viewer in viewers} == {200}

    writer = StreamWriter(shared_redis, slug, "b")
    writer.write("one")
    writer.end()

    for viewer in viewers:
        assert viewer.end() == "result"
        assert viewer.events == writer.events


# --- who may see it --------------------------------------------------------------------------------------------------


def test_a_valid_token_of_the_site_or_of_all_is_needed(guarded: Gateway, slug: str) -> None:
    path = f"/api/sites/{slug}/builds"
    now = int(time.time())
    for claims in (
        {"sub": slug},
        {"sub": "*"},
        {"sub": slug, "aud": "x", "iat": now + 900, "iss": "me", "nbf": now - 5},
    ):
        assert guarded.request(f"{path}?token={token(**claims)}").status == 200, claims
        assert guarded.request(path, Authorization=f"Bearer {token(**claims)}").status == 200, claims
    refused: list[dict[str, Any]] = [{"exp": now - 1}, {"nbf": now + 60}, {"sub": 7}, {"sub": None}, {"exp": None}]
    for claims in (*refused, {"exp": "soon"}):
        answer = guarded.request(f"{path}?token={token(**claims)}")
        assert answer.status == 401, claims
        assert answer.headers["www-authenticate"].startswith("Bearer")
    assert guarded.request(f"{path}?token={token(sub='other')}").status == 403
    forged = [
        jwt.encode({"sub": "*", "exp": now + 60}, "another secret that has more than 32 bytes", "HS256"),
        jwt.encode({"sub": "*", "exp": now + 60}, SECRET * 2, "HS512"),
        jwt.encode({"sub": "*", "exp": now + 60}, "", "none"),
        jwt.encode({"sub": "*"}, SECRET, "HS256"),
        "garbage",
        "",
    ]
    for each in forged:
        assert guarded.request(f"{path}?token={each}").status == 401
        assert guarded.request(path, Authorization=f"Bearer {each}").status == 401
    for part in ("", "/b", "/b/events", "/b/events.ndjson", "/b/log.txt"):
        answer = guarded.request(f"{path}{part}")
        assert answer.status == 401
        assert set(answer.json) == {"error"}


def test_the_page_without_a_token_is_a_401_that_can_continue(guarded: Gateway, slug: str) -> None:
    answer = guarded.request(f"/sites/{slug}")

    assert answer.status == 401
    assert answer.body == guarded.request(f"/sites/{slug}?token={token()}").body
    assert guarded.request(f"/sites/{slug}?token={token(sub='other')}").status == 403
    for open_to_all in ("/healthz", "/embed.js", "/client.js"):
        assert guarded.request(open_to_all).status == 200


def test_token_prints_what_the_gateway_accepts(guarded: Gateway, slug: str) -> None:
    def run(*arguments: str, secret: str = SECRET) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-P", "-m", "buildrunner", "token", *arguments],
            env={"GATEWAY_SECRET": secret, "PATH": "/usr/bin:/bin"},
            capture_output=True,
            text=True,
            check=False,
        )

    made = run(slug)
    assert (made.returncode, made.stderr) == (0, "")
    assert guarded.request(f"/api/sites/{slug}/builds?token={made.stdout.strip()}").status == 200
    claims = jwt.decode(run("*", "--ttl", "60").stdout.strip(), SECRET, ["HS256"])
    assert claims["sub"] == "*"
    assert abs(claims["exp"] - time.time() - 60) < 20
    for wrong in (run("Not_A_Slug"), run(slug, "--ttl", "0"), run(slug, secret="short"), run(slug, secret="")):
        assert (wrong.returncode, wrong.stdout) == (2, "")


def test_without_a_secret_only_this_machine_is_answered(gateway: Gateway) -> None:
    hosts = {
        "localhost": 200,
        "my.localhost:8080": 200,
        "127.0.0.1": 200,
        "127.9.9.9:1": 200,
        "[::1]:80": 200,
        "example.com": 421,
        "localhost.example.com": 421,
        "10.0.0.1": 421,
        "": 421,
        "[::1": 421,
        "example.com@localhost": 421,
        "localhost/example.com": 421,
        "[::1]example.com": 421,
    }
    for host, status in hosts.items():
        for path in ("/healthz", "/api/sites/x/builds", "/sites/x"):
            assert gateway.request(path, host=host).status == status, host


@pytest.mark.parametrize(
    ("arguments", "variables", "names"),
    [
        (["--host", "0.0.0.0"], {}, ["GATEWAY_SECRET"]),
        (["--host", "10.1.2.3"], {}, ["GATEWAY_SECRET"]),
        ([], {"GATEWAY_SECRET": "x" * 31}, ["GATEWAY_SECRET"]),
        ([], {"REDIS_URI": ""}, ["REDIS_URI"]),
        ([], {"REDIS_URI": "http://x", "EVENT_STREAM": "none"}, ["REDIS_URI", "EVENT_STREAM"]),
        ([], {"GATEWAY_ORIGINS": "https://a.example/x,*"}, ["GATEWAY_ORIGINS is 'https://a.example/x,*'"]),
        (["--port", "99999"], {}, ["--port"]),
    ],
)
def test_a_wrong_configuration_names_every_problem(
    arguments: list[str], variables: dict[str, str], names: list[str]
) -> None:
    environment = {"REDIS_URI": "redis://127.0.0.1:1", "PATH": "/usr/bin:/bin", **variables}

    ended = run_command(environment, "serve", *arguments)

    assert (ended.returncode, ended.stdout) == (2, "")
    assert all(name in ended.stderr for name in names)
    assert "x" * 31 not in ended.stderr


def test_only_named_origins_may_call_the_api(guarded: Gateway, slug: str) -> None:
    path = f"/api/sites/{slug}/builds?token={token()}"
    named = guarded.request(path, Origin="https://app.example.com")
    assert named.headers["access-control-allow-origin"] == "https://app.example.com"
    assert named.headers["vary"] == "Origin"
    refused = guarded.request(f"/api/sites/{slug}/builds", Origin="http://localhost:3000")
    assert (refused.status, refused.headers["access-control-allow-origin"]) == (401, "http://localhost:3000")
    other = guarded.request(path, Origin="https://evil.example.com")
    assert "access-control-allow-origin" not in other.headers
    assert other.headers["vary"] == "Origin"

    asked: Any = {"Access_Control_Request_Method": "GET", "Access_Control_Request_Headers": "authorization"}
    preflight = guarded.request(
        f"/api/sites/{slug}/builds/b/events", method="OPTIONS", Origin="https://app.example.com", **asked
    )
    assert preflight.status == 204
    allowed = {each.strip().lower() for each in preflight.headers["access-control-allow-headers"].split(",")}
    assert allowed == {"authorization", "last-event-id"}
    assert preflight.headers["access-control-allow-origin"] == "https://app.example.com"
    assert guarded.request(path, method="OPTIONS", Origin="https://evil.example.com", **asked).status == 405

    policy = guarded.request(f"/sites/{slug}?token={token()}").headers["content-security-policy"]
    assert "frame-ancestors https://app.example.com http://localhost:3000" in policy


def test_other_methods_are_405_and_head_is_like_get(gateway: Gateway, slug: str) -> None:
    for path in (f"/sites/{slug}", f"/api/sites/{slug}/builds", f"/api/sites/{slug}/builds/b/events", "/nothing"):
        for method in ("POST", "PUT", "DELETE", "PATCH", "OPTIONS", "BREW"):
            answer = gateway.request(path, method=method)
            assert (answer.status, answer.headers["allow"]) == (405, "GET, HEAD")
    for path in (f"/sites/{slug}", f"/api/sites/{slug}/builds", f"/api/sites/{slug}/builds/b/events", "/healthz"):
        head = gateway.request(path, method="HEAD")
        assert (head.status, head.body) == (200, b"")


def test_errors_are_json_on_the_api_and_a_page_elsewhere(gateway: Gateway) -> None:
    for path in (
        "/api/nothing",
        "/api/sites/Not_A_Slug/builds",
        "/api/sites/x/builds/a%2Fb",
        "/api/sites/x/builds/a%00b",
    ):
        answer = gateway.request(path)
        assert (answer.status, answer.headers["content-type"].split(";")[0]) == (404, "application/json")
        assert set(answer.json) == {"error"}
    for path in (
        "/",
        "/nothing",
        "/sites/Not_A_Slug",
        "/sites/x/builds/a.b",
        "/static/none.js",
        "/static/..%2fevents.py",
    ):
        answer = gateway.request(path)
        assert (answer.status, answer.headers["content-type"]) == (404, "text/html; charset=utf-8")


def test_every_answer_carries_the_headers_of_security(gateway: Gateway, slug: str) -> None:
    for path in (f"/sites/{slug}", f"/api/sites/{slug}/builds", f"/api/sites/{slug}/builds/b", "/nothing", "/embed.js"):
        headers = gateway.request(path).headers
        policy = headers["content-security-policy"]
        assert policy.startswith("default-src 'none'")
        assert "unsafe" not in policy
        assert "frame-ancestors 'none'" in policy
        assert headers["referrer-policy"] == "no-referrer"
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["cache-control"] == ("public, max-age=300" if path == "/embed.js" else "no-store")
        assert "aiohttp" not in headers["server"]


def test_what_is_no_request_gets_an_answer_with_headers_too(gateway: Gateway) -> None:
    for sent in (b"GET /\xc3\xa9 HTTP/1.1\r\n\r\n", b"GET / HTTP/1.1\r\nHost: x\r\nA: %s\r\n\r\n" % (b"a" * 9000)):
        with socket.create_connection(("127.0.0.1", gateway.port), timeout=30) as connection:
            connection.sendall(sent)
            head = connection.recv(2**16).decode().lower()
        assert " 400 " in head.splitlines()[0]
        for line in ("content-security-policy: default-src 'none'", "x-content-type-options: nosniff", "no-referrer"):
            assert line in head
        assert "aiohttp" not in head


def test_files_have_a_hash_in_their_name_and_may_be_cached(gateway: Gateway, slug: str) -> None:
    page = gateway.request(f"/sites/{slug}").body.decode()
    found = re.findall(r'"(/static/[^"]+)"', page)
    assert found
    for path in found:
        assert re.search(r"\.[0-9a-f]{12}\.[a-z0-9]+$", path)
        answer = gateway.request(path)
        assert answer.status == 200
        assert answer.headers["cache-control"] == "public, max-age=31536000, immutable"
        assert answer.headers["access-control-allow-origin"] == "*"
        for imported in re.findall(rb'^import .* from "([^"]+)"', answer.body, re.MULTILINE):
            assert gateway.request(imported.decode()).status == 200
    for module in ("/embed.js", "/client.js"):
        answer = gateway.request(module)
        assert (answer.status, answer.headers["access-control-allow-origin"]) == (200, "*")


def test_tokens_are_never_logged(program: Program, slug: str) -> None:
    gateway = Gateway(program, GATEWAY_SECRET=SECRET)
    try:
        secret_token = token()
        for path in (
            f"/api/sites/{slug}/builds",
            f"/sites/{slug}",
            "/nothing",
            f"/api/sites/{slug}/builds/b/events?after=x",
        ):
            gateway.request(f"{path}{'&' if '?' in path else '?'}token={secret_token}")
        with socket.create_connection(("127.0.0.1", gateway.port)) as connection:
            connection.sendall(f"GET /x?token={secret_token} \r\nbroken\r\n\r\n".encode())
            connection.recv(1000)
        assert gateway.stop() == 0
        assert gateway.process.stdout
        assert gateway.stderr == ""
    finally:
        gateway.close()


def test_a_port_in_use_is_said_in_one_sentence(program: Program, gateway: Gateway) -> None:
    ended = run_command(program.environment(None), "serve", "--port", str(gateway.port))

    assert ended.returncode == 1
    assert "Address already in use" in ended.stderr
    assert "Traceback" not in ended.stderr
