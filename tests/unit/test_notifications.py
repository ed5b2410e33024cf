"""Test webhooks and commit statuses of a minimal build with a real HTTP server."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import socket
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import anyio
import pytest
from hypothesis import given
from hypothesis import strategies as st

from buildrunner.build.run import Run
from buildrunner.build.signals import SignalWatcher
from buildrunner.build.storage import Storage
from buildrunner.config.environment import list_secrets
from buildrunner.config.settings import read_settings
from buildrunner.errors import (
    BuildCancelled,
    BuildEnded,
    BuildFailed,
    BuildSuperseded,
    BuildTimedOut,
    ConfigurationError,
)
from buildrunner.events.journal import Journal
from buildrunner.notify import notifier
from buildrunner.notify.commit_status import describe_result, shorten
from buildrunner.notify.hosts import HOSTS, Target, find_target
from buildrunner.notify.http import NotDelivered, is_public, post
from buildrunner.notify.webhook import sign
from buildrunner.redaction import Redactor
from support.harness import free_port
from support.receiver import Received, Receiver, receiver

COMMIT = "0123456789abcdef0123456789abcdef01234567"
KEY = bytes(range(24))
SECRET = f"whsec_{base64.b64encode(KEY).decode()}"
TOKEN = "glpat-token-of-the-host"
ENVIRONMENT = {
    "REPO_URL": "https://git.example.com/acme/site.git",
    "SLUG": "a",
    "BUILD_ID": "b-1",
    "AWS_BUCKET_NAME": "sites",
    "AWS_REGION": "eu-central-1",
    "REDIS_URI": "redis://127.0.0.1:1",
    "CONSOLE_FORMAT": "json",
    "BUILD_URL": "https://builds.example.com/{slug}/{build}",
}
Story = Callable[[Run], Awaitable[None]]


@pytest.fixture
def less_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """Limit deliveries to one second after the end instead of ten."""
    assert notifier.AFTER_END_SECONDS == 10
    monkeypatch.setattr(notifier, "AFTER_END_SECONDS", 1.0)
    monkeypatch.setattr(notifier, "_FIRST_AFTER_END_SECONDS", 0.5)


@pytest.fixture(autouse=True)
def no_surroundings(monkeypatch: pytest.MonkeyPatch) -> None:
    """Disable the effects of a build on the process, Redis and S3."""

    async def wait(*_: Any, **__: Any) -> None:
        await anyio.sleep_forever()

    async def client(_: Storage) -> None:
        raise BuildFailed("upload", "There is no S3 here.", "Use none.")

    monkeypatch.setattr(SignalWatcher, "run", wait)
    monkeypatch.setattr(Storage, "run", wait)
    monkeypatch.setattr(Storage, "client", client)
    monkeypatch.setattr(Run, "_publisher", None)


async def with_commit(run: Run) -> None:
    run.release_followers()
    run.set_commit(COMMIT)


def ends(cause: BuildEnded | None = None, server: Receiver | None = None, requests: int = 1) -> Story:
    """Return a pipeline with a known commit, which ends after this number of requests was answered."""

    async def story(run: Run) -> None:
        await with_commit(run)
        while server and (len(server.requests) < requests or not all(map(is_answered, run._notifiers))):
            await anyio.sleep(0.02)
        if cause:
            raise cause

    return story


def is_answered(sender: notifier.Notifier) -> bool:
    return sender._first is not None and (sender._first.is_delivered or sender._first.failure is not None)


def run_build(folder: Path, story: Story, variables: dict[str, str], *, in_image: bool = False) -> int:
    environment = {**ENVIRONMENT, **variables}

    async def main() -> int:
        redactor = Redactor(list_secrets(environment))
        with Journal(folder, build="b-1", redactor=redactor, max_bytes=10_000) as journal:
            async with anyio.create_task_group() as tasks:
                run = Run(read_settings(environment), journal, redactor, tasks, in_image=in_image)
                return await run.execute(lambda: story(run), [])
            raise AssertionError

    return anyio.run(main)


def with_webhook(server: Receiver) -> dict[str, str]:
    return {"WEBHOOK_URL": f"{server.origin}/hooks/some-long-secret?key=value", "WEBHOOK_SECRET": SECRET}


def with_status(server: Receiver, kind: str = "github") -> dict[str, str]:
    return {"COMMIT_STATUS_TOKEN": TOKEN, "COMMIT_STATUS": kind, "COMMIT_STATUS_URL": f"{server.origin}/api"}


def warnings(printed: str) -> list[str]:
    events = [json.loads(line) for line in printed.splitlines()]
    return [event["log"] for event in events if event.get("level") == "warning" and "log" in event]


def types(requests: list[Received]) -> list[str]:
    return [request.json["type"] for request in requests]


# --- webhooks --------------------------------------------------------------------------------------------------------


def test_signature_is_that_of_the_reference_vector() -> None:
    """The example is from the tests of https://github.com/standard-webhooks/standard-webhooks."""
    key = base64.b64decode("MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw")

    signature = sign(key, "msg_p5jXN8AQM9LWM0D4loKWxJek", 1614265330, b'{"test": 2432232314}')

    assert signature == "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="


def test_webhooks_say_what_the_result_says(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    failure = BuildFailed("build", "The script failed.", "Fix it.", kind="module-not-found")
    with receiver() as server:
        assert run_build(tmp_path, ends(failure, server), with_webhook(server)) == 40

    started, finished = (request.json for request in server.requests)
    common = {"slug": "a", "build": "b-1", "commit": COMMIT, "build_url": "https://builds.example.com/a/b-1"}
    assert started["type"] == "build.started"
    assert started["data"] == common
    result = json.loads(capfd.readouterr().out.splitlines()[-1])
    assert finished["type"] == "build.finished"
    assert finished["timestamp"] == result["ts"]
    assert finished["data"] == common | {
        name: value for name, value in result.items() if name not in {"v", "build", "seq", "ts", "type", "log"}
    }
    assert finished["data"]["failure"] == {"kind": "module-not-found"}


def test_each_attempt_is_signed_anew_under_one_id(tmp_path: Path) -> None:
    with receiver([500, "close"]) as server:
        assert run_build(tmp_path, ends(None, server, 3), with_webhook(server)) == 0

    assert types(server.requests) == ["build.started"] * 3 + ["build.finished"]
    identities = [request.headers["webhook-id"] for request in server.requests]
    assert len(set(identities[:3])) == 1
    assert identities[3] != identities[0]
    assert server.requests[1].at - server.requests[0].at < 2
    stamps = {request.headers["webhook-timestamp"] for request in server.requests}
    assert len(stamps) > 1
    for request in server.requests:
        signed = f"{request.headers['webhook-id']}.{request.headers['webhook-timestamp']}.".encode() + request.body
        signature = base64.b64encode(hmac.new(KEY, signed, hashlib.sha256).digest()).decode()
        assert request.headers["webhook-signature"] == f"v1,{signature}"


def test_build_without_commit_is_still_announced(tmp_path: Path) -> None:
    async def story(_: Run) -> None:
        raise BuildFailed("clone", "There is no such repository.")

    with receiver() as server:
        assert run_build(tmp_path, story, with_webhook(server)) == 20

    assert types(server.requests) == ["build.started", "build.finished"]
    assert all("commit" not in request.json["data"] for request in server.requests)


def test_receiver_that_never_answers_costs_a_bounded_time(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], less_time: None
) -> None:
    """The first message gets half of the time, so that the last one is also tried."""

    async def story(run: Run) -> None:
        await with_commit(run)
        while not server.requests:
            await anyio.sleep(0.02)
        began.append(anyio.current_time())

    began: list[float] = []
    with receiver(["hang"] * 9) as server:
        assert run_build(tmp_path, story, with_webhook(server)) == 0
        took = anyio.run(_now) - began[0]

    assert types(server.requests) == ["build.started", "build.finished"]
    assert 1 <= took < 20
    printed = capfd.readouterr().out
    assert warnings(printed)[-1] == (
        "The webhooks build.started and build.finished were not delivered to 127.0.0.1: it did not answer in time."
    )
    assert json.loads(printed.splitlines()[-1]) == {"level": "warning", "log": warnings(printed)[-1]}


async def _now() -> float:
    return anyio.current_time()


def test_refused_connection_is_a_warning(tmp_path: Path, capfd: pytest.CaptureFixture[str], less_time: None) -> None:
    url = f"http://127.0.0.1:{free_port()}/hooks/some-long-secret"

    assert run_build(tmp_path, _long_enough_to_fail, {"WEBHOOK_URL": url, "WEBHOOK_SECRET": SECRET}) == 0

    printed = capfd.readouterr().out
    refused = "not delivered to 127.0.0.1: no connection (Connection refused)."
    in_log, *_, on_console = warnings(printed)
    assert in_log == f"The webhook build.started was {refused}"
    assert on_console == f"The webhooks build.started and build.finished were {refused}"
    assert "some-long-secret" not in printed


async def _long_enough_to_fail(run: Run) -> None:
    await with_commit(run)
    (webhook,) = run._notifiers
    while not webhook.pending_warning:
        await anyio.sleep(0.02)


@pytest.mark.parametrize(
    ("scheme", "host", "reason"),
    [
        ("https", "127.0.0.1", "it does not speak TLS, or not this version"),
        ("http", "no-such-host.invalid", "its host name cannot be resolved"),
        ("http", "a" * 64, "the request failed|its host name cannot be resolved"),
    ],
)
def test_attempt_that_reaches_nobody_says_why(scheme: str, host: str, reason: str) -> None:
    with receiver() as server, pytest.raises(NotDelivered, match=reason):
        anyio.run(lambda: post(f"{scheme}://{host}:{server.port}/", {}, b"", allow_private=True))


def test_redirect_is_not_followed(tmp_path: Path, capfd: pytest.CaptureFixture[str], less_time: None) -> None:
    with receiver() as other, receiver([307] * 99, headers={"Location": f"{other.origin}/"}) as server:
        assert run_build(tmp_path, ends(None, server), with_webhook(server)) == 0

    assert other.requests == []
    assert "redirect (status 307), which is not followed" in warnings(capfd.readouterr().out)[-1]


def test_receiver_that_is_gone_is_not_asked_again(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    with receiver([410, 410]) as server:
        assert run_build(tmp_path, ends(None, server), with_webhook(server)) == 0

    assert types(server.requests) == ["build.started", "build.finished"]
    assert any("build.started was not delivered" in warning for warning in warnings(capfd.readouterr().out))


def test_image_refuses_private_receivers(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    with receiver() as server:
        hook = {"WEBHOOK_URL": f"http://localhost:{server.port}/", "WEBHOOK_SECRET": SECRET}
        assert run_build(tmp_path, with_commit, hook, in_image=True) == 0
        assert server.requests == []
        assert "its host is at a private address" in warnings(capfd.readouterr().out)[-1]

        (tmp_path / "2").mkdir()
        assert run_build(tmp_path / "2", with_commit, {**hook, "WEBHOOK_ALLOW_PRIVATE": "1"}, in_image=True) == 0
        assert types(server.requests) == ["build.started", "build.finished"]


@pytest.mark.parametrize(
    "host",
    ["127.0.0.1", "127.1", "2130706433", "0x7f000001", "[::1]", "[::ffff:127.0.0.1]", "0.0.0.0", "169.254.169.254"],
)
def test_address_is_checked_in_every_notation(host: str) -> None:
    with pytest.raises(NotDelivered, match=r"private address|cannot be resolved"):
        anyio.run(lambda: post(f"http://{host}:1/", {}, b"", allow_private=False))


def test_connection_goes_to_the_address_that_was_checked(monkeypatch: pytest.MonkeyPatch) -> None:
    """A host name that resolves to a public address at the check and to a private one later reaches nothing."""
    asked: list[str] = []
    connected: list[str] = []

    async def main() -> None:
        loop = __import__("asyncio").get_running_loop()

        async def resolve(host: str, *_: Any, **__: Any) -> list[Any]:
            asked.append(host)
            address = "192.0.2.1" if host == "192.0.2.1" else ["93.184.215.14", "127.0.0.1"][len(asked) > 1]
            return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, 80))]

        async def connect(_: socket.socket, address: tuple[str, int]) -> None:
            connected.append(address[0])
            raise ConnectionRefusedError(111, "Connection refused")

        monkeypatch.setattr(loop, "getaddrinfo", resolve)
        monkeypatch.setattr(loop, "sock_connect", connect)
        await post("http://rebinding.example.com/", {}, b"", allow_private=False)

    with pytest.raises(NotDelivered, match="no connection"):
        anyio.run(main)
    assert asked == ["rebinding.example.com"]
    assert connected == ["93.184.215.14"]


@pytest.mark.parametrize(
    "address",
    [
        "10.1.2.3",
        "100.64.0.1",
        "172.16.0.1",
        "192.168.1.1",
        "169.254.170.2",
        "0.0.0.0",
        "224.0.0.1",
        "255.255.255.255",
        "::",
        "::1",
        "fe80::1%eth0",
        "fd00:ec2::254",
        "fec0::1",
        "::ffff:10.0.0.1",
        "64:ff9b::a00:1",
        "2002:a00:1::",
    ],
)
def test_address_that_not_everyone_can_reach(address: str) -> None:
    assert not is_public(address)


@pytest.mark.parametrize("address", ["93.184.215.14", "2606:2800:21f:cb07:6820:80da:af6b:8b2c", "::ffff:8.8.8.8"])
def test_address_that_everyone_can_reach(address: str) -> None:
    assert is_public(address)


# --- their configuration ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("variables", "problem"),
    [
        ({"WEBHOOK_URL": "https://example.com/"}, "WEBHOOK_SECRET is missing, but WEBHOOK_URL is set"),
        ({"WEBHOOK_SECRET": SECRET}, "WEBHOOK_URL is missing, but WEBHOOK_SECRET is set"),
        ({"WEBHOOK_URL": "ftp://example.com/", "WEBHOOK_SECRET": SECRET}, "WEBHOOK_URL is a value that is not shown"),
        ({"WEBHOOK_URL": "https://example.com/", "WEBHOOK_SECRET": "whsec_c2hvcnQ="}, "24 to 64 bytes"),
        ({"WEBHOOK_URL": "https://example.com/", "WEBHOOK_SECRET": SECRET[6:]}, "WEBHOOK_SECRET is a value that"),
        ({"COMMIT_STATUS": "github"}, "COMMIT_STATUS_TOKEN is missing, but COMMIT_STATUS is set"),
        ({"COMMIT_STATUS_TOKEN": TOKEN, "COMMIT_STATUS": "bitbucket"}, "must be github, gitlab or gitea"),
        ({"COMMIT_STATUS_TOKEN": TOKEN, "COMMIT_STATUS_URL": "https://u:p@example.com"}, "COMMIT_STATUS_URL is"),
    ],
)
def test_half_a_configuration_is_refused(variables: dict[str, str], problem: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        read_settings({**ENVIRONMENT, **variables})

    assert problem in str(caught.value)
    assert SECRET[6:] not in str(caught.value)


def test_what_identifies_the_sender_is_redacted() -> None:
    secrets = list_secrets(
        {
            "WEBHOOK_URL": "https://hooks.example.com/services/T024BE7LD0123456/x?key=abcd1234&n=production",
            "WEBHOOK_SECRET": SECRET,
            "COMMIT_STATUS_TOKEN": TOKEN,
        }
    )
    redact = Redactor(secrets).redact

    for text in (
        "/services/T024BE7LD0123456/x",
        "T024BE7LD0123456",
        "key=abcd1234&n=production",
        "abcd1234",
        SECRET,
        SECRET[6:],
        TOKEN,
    ):
        assert text not in redact(f"it is {text}.")
    for text in ("https://hooks.example.com/ services", "building for production", "The webhook was not delivered"):
        assert redact(text) == text


# --- commit statuses -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "path", "header", "states"),
    [
        ("github", "/api/repos/acme/site/statuses/", ("authorization", f"Bearer {TOKEN}"), ("pending", "failure")),
        ("gitlab", "/api/projects/acme%2Fsite/statuses/", ("private-token", TOKEN), ("pending", "failed")),
        ("gitea", "/api/repos/acme/site/statuses/", ("authorization", f"token {TOKEN}"), ("pending", "failure")),
    ],
)
def test_commit_shows_how_its_build_ended(
    tmp_path: Path, kind: str, path: str, header: tuple[str, str], states: tuple[str, str]
) -> None:
    reason = "The script failed. " + "x" * 200
    with receiver() as server:
        assert run_build(tmp_path, ends(BuildFailed("build", reason), server), with_status(server, kind)) == 40

    pending, ended = server.requests
    assert {pending.path, ended.path} == {path + COMMIT}
    assert pending.headers[header[0]] == header[1]
    assert (pending.json["state"], ended.json["state"]) == states
    assert ended.json["context"] == pending.json["context"] == "buildrunner/a"
    assert ended.json["target_url"] == "https://builds.example.com/a/b-1"
    assert len(ended.json["description"]) == 140
    assert ended.json["description"].startswith("The script failed. xxx")


def test_superseded_build_sends_no_further_status(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    with receiver() as server:
        assert run_build(tmp_path, ends(BuildSuperseded(), server), with_status(server)) == 60

    assert [request.json["state"] for request in server.requests] == ["pending"]
    assert "commit status" not in capfd.readouterr().out


def test_result_replaces_a_status_that_is_not_sent_yet(tmp_path: Path) -> None:
    with receiver([500]) as server:
        assert run_build(tmp_path, ends(None, server), with_status(server)) == 0

    assert [request.json["state"] for request in server.requests] == ["pending", "success"]


def test_clone_that_fails_shows_on_the_commit_that_was_named(tmp_path: Path) -> None:
    async def story(_: Run) -> None:
        raise BuildFailed("clone", "The token is not valid.")

    with receiver() as server:
        assert run_build(tmp_path, story, {"REPO_REF": COMMIT, **with_status(server)}) == 20

    assert [request.json["state"] for request in server.requests] == ["failure"]
    (tmp_path / "2").mkdir()
    with receiver() as server:
        assert run_build(tmp_path / "2", story, {"REPO_REF": "main", **with_status(server)}) == 20

    assert server.requests == []


def test_token_that_is_not_valid_is_a_warning_at_once(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    with receiver([401, 401]) as server:
        assert run_build(tmp_path, ends(None, server), with_status(server)) == 0

    assert len(server.requests) == 2
    (first, last) = [warning for warning in warnings(capfd.readouterr().out) if "commit status" in warning]
    assert first == (
        'The commit status "pending" was not delivered to GitHub: it answered with status 401;'
        " COMMIT_STATUS_TOKEN is not valid."
    )
    assert '"success" was not delivered' in last


def test_limit_of_requests_is_waited_for(tmp_path: Path) -> None:
    with receiver([403], text="You have exceeded a secondary rate limit.") as server:
        assert run_build(tmp_path, ends(None, server, 2), with_status(server)) == 0

    assert [request.json["state"] for request in server.requests] == ["pending", "pending", "success"]


def test_status_that_gitlab_has_already_counts_as_sent(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    text = '{"message":"Cannot transition status via :enqueue from :pending"}'
    with receiver([400], text=text) as server:
        assert run_build(tmp_path, ends(None, server), with_status(server, "gitlab")) == 0

    assert [request.json["state"] for request in server.requests] == ["pending", "success"]
    assert "commit status" not in capfd.readouterr().out


@pytest.mark.parametrize(
    ("cause", "state"),
    [
        (BuildFailed("clone", "x"), "failure"),
        (BuildFailed("install", "x"), "failure"),
        (BuildTimedOut("x"), "failure"),
        (BuildFailed("upload", "x"), "error"),
        (BuildCancelled(15, "x"), "error"),
        (BuildEnded("x"), "error"),
    ],
)
def test_states_of_ends(cause: BuildEnded, state: str) -> None:
    assert describe_result({"exit_code": cause.exit_code, "reason": "x"}) == (state, "x")


def test_description_of_a_published_site() -> None:
    assert describe_result({"exit_code": 0, "files": 1234, "seconds": 9.6}) == (
        "success",
        "Published 1,234 files in 10 s.",
    )


@given(st.text())
def test_description_has_at_most_140_characters(text: str) -> None:
    short = shorten(text)

    assert len(short) <= 140
    assert text.startswith(short.removesuffix("…").rstrip()) or short == text


@pytest.mark.parametrize(
    ("url", "kind", "root", "expected"),
    [
        ("https://github.com/o/n.git", None, None, "https://api.github.com/repos/o/n/statuses/S"),
        ("https://www.github.com/o/n", "github", None, "https://api.github.com/repos/o/n/statuses/S"),
        ("https://gitlab.com/g/s/n.git", None, None, "https://gitlab.com/api/v4/projects/g%2Fs%2Fn/statuses/S"),
        ("https://codeberg.org/o/n/", None, None, "https://codeberg.org/api/v1/repos/o/n/statuses/S"),
        ("ssh://git@gitea.com/o/n.git", None, None, "https://gitea.com/api/v1/repos/o/n/statuses/S"),
        ("https://example.com/o/n%20m", "gitea", "http://x/api", "http://x/api/repos/o/n%20m/statuses/S"),
        ("https://example.com/sub/o/n", "gitea", "http://x/api", "http://x/api/repos/o/n/statuses/S"),
    ],
)
def test_where_the_statuses_of_a_repository_go(url: str, kind: str | None, root: str | None, expected: str) -> None:
    target = find_target(url, kind, root)

    assert isinstance(target, Target)
    assert target.url("S") == expected


@pytest.mark.parametrize(
    ("url", "kind", "root", "why"),
    [
        ("https://example.com/o/n", None, None, "set COMMIT_STATUS,"),
        ("https://example.com/o/n", None, "https://x", "set COMMIT_STATUS,"),
        ("https://example.com/o/n", "github", None, "set COMMIT_STATUS_URL,"),
        ("https://gitlab.com/o/n", "github", None, "set COMMIT_STATUS_URL,"),
        ("https://github.com.example.com/o/n", None, None, "set COMMIT_STATUS,"),
        ("https://github.com/n", None, None, "the path of REPO_URL is not owner/name"),
        ("https://github.com/../n", None, None, "the path of REPO_URL is not owner/name"),
        ("file:///srv/o/n", "github", "https://x", "the path of REPO_URL is not owner/name"),
    ],
)
def test_token_goes_to_no_host_that_it_is_not_for(url: str, kind: str | None, root: str | None, why: str) -> None:
    target = find_target(url, kind, root)

    assert isinstance(target, str)
    assert why in target


def test_every_host_knows_every_state() -> None:
    for host in HOSTS.values():
        assert set(host.states) == {"pending", "success", "failure", "error"}
