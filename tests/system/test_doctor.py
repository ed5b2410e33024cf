"""`buildrunner doctor` against real servers: every permission is tried, what is missing is named, and nothing is left."""

from __future__ import annotations

import json
import re
import shutil
import uuid
from collections.abc import Callable, Iterator, Mapping
from email.utils import formatdate
from pathlib import Path
from typing import Any

import anyio
import pytest

from buildrunner.commands.doctor.buckets import BucketChecks, BucketSettings, describe_clocks
from buildrunner.commands.doctor.check import Check, Checks
from buildrunner.commands.doctor.log import RedisChecks
from support.harness import ROOT, Program, Redis, Repositories, free_port, wait_for
from support.registry import Registry, serving
from support.relay import Relay, answer
from support.s3_server import S3Server, role_arn, s3_server
from support.template import Template
from support.warm import WarmProgram

POLICY = json.dumps(Template().policy("BuildRole"))
ACL = re.search(r"^ACL SETUSER buildrunner on >PASSWORD (.*)$", (ROOT / "docs" / "security.md").read_text(), re.M)
SITE, STATE = "doctor-sites", "doctor-state"
# Check → what the policy of the task role lacks then: the id of a statement, and an action.
PERMISSIONS = {
    "s3 site put": ("PublishSites", "s3:PutObject"),
    "s3 site parts": ("PublishSites", "s3:AbortMultipartUpload"),
    "s3 site list": ("ListOneSite", "s3:ListBucket"),
    "s3 site delete": ("PublishSites", "s3:DeleteObject"),
    "s3 log put": ("KeepLogs", "s3:PutObject"),
    "s3 log parts": ("KeepLogs", "s3:AbortMultipartUpload"),
    "s3 manifest put": ("KeepManifests", "s3:PutObject"),
    "s3 manifest get": ("KeepManifests", "s3:GetObject"),
    "s3 routing put": ("KeepRouting", "s3:PutObject"),
    "s3 cache put": ("KeepDependencies", "s3:PutObject"),
    "s3 cache parts": ("KeepDependencies", "s3:AbortMultipartUpload"),
    "s3 cache get": ("KeepDependencies", "s3:GetObject"),
    "s3 cache list": ("ListDependenciesOfOneScope", "s3:ListBucket"),
    "s3 cache delete": ("KeepDependencies", "s3:DeleteObject"),
}


def policy(lacks: tuple[str, str] | None = None) -> dict[str, Any]:
    """Return the policy of the task role, without one action."""
    text = POLICY.replace(":::sites", f":::{SITE}").replace(":::state", f":::{STATE}")
    document: dict[str, Any] = json.loads(text)
    for statement in document["Statement"]:
        if lacks and statement["Sid"] == lacks[0]:
            actions = statement["Action"] if isinstance(statement["Action"], list) else [statement["Action"]]
            assert lacks[1] in actions
            statement["Action"] = [action for action in actions if action != lacks[1]] or ["s3:GetBucketTagging"]
    return document


@pytest.fixture(scope="module")
def server() -> Iterator[S3Server]:
    roles = {"task": policy()} | {name.replace(" ", "-"): policy(lacks) for name, lacks in PERMISSIONS.items()}
    anonymous: dict[str, object] = {"name": "anonymous", "actions": [f"Read:{SITE}", f"List:{SITE}"]}
    with s3_server(roles=roles, identities=(anonymous,)) as server:
        server.make_bucket(SITE)
        server.make_bucket(STATE)
        yield server


@pytest.fixture
def npm_registry() -> Iterator[Registry]:
    with serving() as registry:
        registry.add("npm", "10.9.2", b"")
        yield registry


def role(server: S3Server, name: str) -> dict[str, str]:
    credentials = server.assume_role(name)
    return {
        "AWS_ENDPOINT_URL_S3": server.endpoint,
        "AWS_REGION": "us-east-1",
        "AWS_ACCESS_KEY_ID": credentials["AccessKeyId"],
        "AWS_SECRET_ACCESS_KEY": credentials["SecretAccessKey"],
        "AWS_SESSION_TOKEN": credentials["SessionToken"],
    }


def keys(program: Program, *buckets: str) -> list[str]:
    client = program.client()
    return [
        f"{bucket}/{entry['Key']}"
        for bucket in buckets
        for entry in client.list_objects_v2(Bucket=bucket).get("Contents", [])
    ]


def bucket_settings(server: S3Server, state: str = STATE, endpoint: str | None = None) -> BucketSettings:
    slug = f"t-{uuid.uuid4().hex[:8]}"
    return BucketSettings(SITE, state, f"{slug}/", slug, slug, "us-east-1", endpoint or server.endpoint)


def collect(checks: Checks) -> dict[str, Check]:
    async def read() -> dict[str, Check]:
        return {check.name: check async for check in checks}

    return anyio.run(read)


def run_bucket_checks(
    monkeypatch: pytest.MonkeyPatch, environment: Mapping[str, str], settings: BucketSettings
) -> dict[str, Check]:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN"):
        monkeypatch.setenv(name, environment.get(name, ""))
    return collect(BucketChecks(settings, f"doctor-{uuid.uuid4().hex[:8]}", lambda _: None).run())


def failed(checks: Mapping[str, Check]) -> list[str]:
    return [name for name, check in checks.items() if check.status == "failed"]


# --- the command -----------------------------------------------------------------------------------------------------


def test_with_the_task_roles_permissions_nothing_fails(
    program: Program, server: S3Server, npm_registry: Registry, repositories: Repositories
) -> None:
    assert ACL
    with program.redis.client() as client:
        client.execute_command("ACL", "SETUSER", "doctored", "on", ">pass", *ACL[1].split())
    environment = program.environment(
        repositories.make({"index.html": ""}),
        **role(server, "task"),
        AWS_BUCKET_NAME=SITE,
        STATE_BUCKET_NAME=STATE,
        REDIS_URI=f"redis://doctored:pass@127.0.0.1:{program.redis.port}",
        npm_config_registry=npm_registry.url,
    )

    output, errors = (process := program.launch(environment, "doctor")).communicate(timeout=120)

    lines = {line[9:32].strip(): line for line in output.splitlines()}
    assert errors == ""
    assert [line for line in lines.values() if line.startswith("failed")] == []
    assert process.returncode == 0
    assert {"git", "node", "npm", "redis", "redis stream", "redis channel", "repository", *PERMISSIONS} <= lines.keys()
    assert "npm registry" in lines
    assert lines["zstd"].startswith("warning") == (shutil.which("zstd") is None)
    assert "s3 conditions" in lines
    assert f"{STATE} (not tried: __logs, __manifests, __routing" in lines["s3 public"]
    assert keys(WarmProgram(program.redis, server, program.folder), SITE, STATE) == []
    with program.redis.client() as client:
        wait_for(lambda: not client.keys("*doctor*"), "the stream of doctor to expire")


def test_without_servers_it_says_what_is_missing(program: Program) -> None:
    environment = program.environment(None, REDIS_URI=None, AWS_BUCKET_NAME=None, BUILD_TIMEOUT="soon", SLUG=None)

    output, _ = (process := program.launch(environment, "doctor", "--json")).communicate(timeout=120)

    report = json.loads(output)
    found = {check["name"]: check for check in report["checks"]}
    assert (process.returncode, report["status"]) == (1, "failed")
    assert found["configuration"]["message"].startswith("BUILD_TIMEOUT is 'soon', but must be ")
    assert found["redis"]["message"] == "REDIS_URI is missing."
    assert found["s3"]["message"] == "AWS_BUCKET_NAME is missing."
    assert all(check["hint"] for check in report["checks"] if check["status"] != "ok")


def test_a_secret_is_in_no_message(program: Program) -> None:
    secret = "do-not-print-me"
    environment = program.environment(
        f"https://user:{secret}@127.0.0.1:{free_port()}/x",
        REDIS_URI=f"redis://user:{secret}@127.0.0.1:{free_port()}",
        AWS_SECRET_ACCESS_KEY=secret,
        npm_config_registry=f"http://user:{secret}@127.0.0.1:{free_port()}/",
    )

    output, errors = program.launch(environment, "doctor").communicate(timeout=120)

    assert "refuses connections" in output
    assert secret not in output + errors


# --- buckets ---------------------------------------------------------------------------------------------------------


# SeaweedFS lets who may write abort an upload in parts.
@pytest.mark.parametrize("name", [name for name in PERMISSIONS if not name.endswith(" parts")])
def test_a_missing_permission_is_named(name: str, server: S3Server, monkeypatch: pytest.MonkeyPatch) -> None:
    environment = role(server, name.replace(" ", "-"))
    action = PERMISSIONS[name][1]

    found = run_bucket_checks(monkeypatch, environment, bucket_settings(server))

    assert name in failed(found)
    assert {each.split()[1] for each in failed(found)} == {name.split()[1]}
    assert action in found[name].message
    assert found[name].hint.startswith(f"Allow {action} on arn:aws:s3:::")


def test_a_bucket_that_the_public_can_read_fails(server: S3Server, monkeypatch: pytest.MonkeyPatch) -> None:
    public = run_bucket_checks(monkeypatch, server.environment(), bucket_settings(server, state=SITE))["s3 public"]
    private = run_bucket_checks(monkeypatch, server.environment(), bucket_settings(server))["s3 public"]

    assert public.status == "failed"
    assert f"s3://{SITE}/__logs/" in public.message
    assert "STATE_BUCKET_NAME" in public.hint
    assert (private.status, private.message) == (
        "ok",
        f"The public cannot read __logs, __manifests, __routing, __cache in {STATE} (not tried: __objects, where these"
        " credentials cannot remove objects).",
    )


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"state": "no-such-bucket"}, "The bucket no-such-bucket does not exist."),
        ({"endpoint": "http://127.0.0.1:1"}, "cannot be reached"),
    ],
)
def test_a_bucket_that_cannot_be_used_is_one_failure(
    change: dict[str, str], said: str, server: S3Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = run_bucket_checks(monkeypatch, server.environment(), bucket_settings(server, **change))

    (name,) = failed(found)
    assert said in found[name].message
    assert found[name].hint


def test_wrong_keys_are_one_failure(server: S3Server, monkeypatch: pytest.MonkeyPatch) -> None:
    environment = {**server.environment(), "AWS_SECRET_ACCESS_KEY": "wrong"}

    found = run_bucket_checks(monkeypatch, environment, bucket_settings(server))

    assert len(failed(found)) == 1
    assert "the secret key does not belong to the access key" in next(iter(found.values())).message


def test_a_role_of_a_profile_is_assumed(server: S3Server, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """https://docs.aws.amazon.com/sdkref/latest/guide/feature-assume-role-credentials.html"""
    (tmp_path / "config").write_text(
        f"[profile builds]\nrole_arn = {role_arn('task')}\nsource_profile = user\nregion = us-east-1\n"
        f"[profile user]\naws_access_key_id = {server.access_key}\naws_secret_access_key = {server.secret_key}\n"
    )
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "config"))
    monkeypatch.setenv("AWS_PROFILE", "builds")
    monkeypatch.setenv("AWS_ENDPOINT_URL_STS", server.endpoint)

    found = run_bucket_checks(monkeypatch, {}, bucket_settings(server))

    assert failed(found) == []
    assert found["s3 site put"].status == "ok"


def test_a_server_that_ignores_digests_gets_nothing_left_behind(
    program: Program, server: S3Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is refused for removal at first, and stored against its digest, is removed when that is possible."""
    environment = server.environment()
    with Relay(int(server.endpoint.rpartition(":")[2])) as relay:
        relay.fault = lambda request: (
            answer(403, "AccessDenied")
            if request.method == "DELETE" and "/__logs/" in request.path and request.times == 1
            else None
        )
        settings = bucket_settings(server, endpoint=f"http://127.0.0.1:{relay.port}")
        found = run_bucket_checks(monkeypatch, environment, settings)

    assert failed(found) == []
    assert keys(WarmProgram(program.redis, server, program.folder), SITE, STATE) == []


# --- Redis -----------------------------------------------------------------------------------------------------------


@pytest.fixture
def limited(own_redis: Redis) -> Callable[[str], dict[str, Check]]:
    def check(rules: str) -> dict[str, Check]:
        assert ACL
        with own_redis.client() as client:
            client.execute_command("ACL", "SETUSER", "limited", "on", ">pass", *ACL[1].split(), *rules.split())
        uri = f"redis://limited:pass@127.0.0.1:{own_redis.port}"
        return collect(RedisChecks(uri, stream="events:x", channel="logs:x", clock=lambda _: None).run())

    return check


@pytest.mark.parametrize(
    ("rules", "name", "status", "said"),
    [
        ("-xadd", "redis stream", "failed", "XADD"),
        ("-xtrim -expire", "redis stream", "failed", "EXPIRE, XTRIM"),
        ("-xinfo|stream", "redis stream", "failed", "XINFO STREAM"),
        ("-exists", "redis stream", "failed", "EXISTS"),
        ("-time", "redis stream", "failed", "TIME"),
        ("resetkeys ~other:*", "redis stream", "failed", "XADD"),
        ("-eval", "redis stream", "warning", "EVAL"),
        ("-publish", "redis channel", "failed", "PUBLISH"),
        ("resetchannels &other:*", "redis channel", "failed", "PUBLISH to logs:x"),
    ],
)
def test_a_command_that_redis_refuses_is_named(
    rules: str, name: str, status: str, said: str, limited: Callable[[str], dict[str, Check]]
) -> None:
    found = limited(rules)

    assert [each for each, check in found.items() if check.status != "ok"] == [name]
    assert found[name].status == status
    assert said in found[name].message
    assert found[name].hint


@pytest.mark.parametrize(
    ("uri", "said"),
    [
        ("redis://127.0.0.1:{free}", "refuses connections"),
        ("redis://nobody:wrong@127.0.0.1:{port}", "refuses the user or password of REDIS_URI"),
        ("redis://no-such-host.invalid", "its host name does not resolve"),
    ],
)
def test_a_redis_that_cannot_be_used_is_one_failure(uri: str, said: str, shared_redis: Redis) -> None:
    uri = uri.format(free=free_port(), port=shared_redis.port)

    found = collect(RedisChecks(uri, stream="events:x", channel="logs:x", clock=lambda _: None).run())

    assert failed(found) == list(found) == ["redis"]
    assert said in found["redis"].message


# --- the clock -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("seconds", "status", "said"),
    [(0, "ok", "agrees with that of S3"), (120, "warning", "120 s ahead of"), (-5000, "failed", "5000 s behind")],
)
def test_the_clock_is_compared_with_that_of_servers(seconds: int, status: str, said: str) -> None:
    now = 1_800_000_000.0

    check = describe_clocks([("S3", now + seconds, formatdate(now, usegmt=True)), ("S3", now, "nonsense")])

    assert check
    assert (check.status, said in check.message) == (status, True)
    assert describe_clocks([("S3", now, "")]) is None
