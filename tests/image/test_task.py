"""Whole runs of the image as tasks of the template: root file system, capabilities, limits and role are its own.

The role is real: its credentials are given by the endpoint that a task has, and the S3 server lets them do what
`BuildRole` in `deploy/cloudformation.yaml` says, and nothing else.
"""

from __future__ import annotations

import json
import re
import shlex
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from buildrunner.events.lines import without_color
from support.ecs_endpoint import PATH
from support.fargate import PLATFORM, Fargate, Task, docker
from support.git_server import GitServer, git_server
from support.harness import ROOT, Event, Process, Redis, Repositories
from support.receiver import receiver
from support.relay import Relay
from support.s3_server import S3Server

BUILD_USER = "10001"
SITE = "mkdir -p dist/assets; echo page >dist/index.html; echo 1 >dist/assets/index-DiwrgTda.js"
STUBBORN = "trap '' TERM; (setsid sh -c 'trap \"\" TERM; sleep 600' &); echo building; sleep 600"


def building(event: Event) -> bool:
    return event.get("log") == "building"


@pytest.fixture
def app(git: GitServer, repositories: Repositories) -> Callable[..., str]:
    """Make an app whose build script is given, and give its URL."""
    return lambda build=SITE, **files: git.url(repositories.app(build, **files))


@pytest.fixture
def relay(host: str, s3: S3Server) -> Iterator[Relay]:
    with Relay(urlsplit(s3.endpoint).port or 0, host) as relay:
        yield relay


def through(relay: Relay, host: str) -> str:
    return f"http://{host}:{relay.port}"


# --- the main job ------------------------------------------------------------------------------------------------------


def test_the_example_is_published_with_the_role_of_the_task(
    program: Fargate, task: Task, git: GitServer, repositories: Repositories
) -> None:
    run = program.run(git.url(repositories.example()), timeout=240)

    assert run.code == 0, run.stdout + run.stderr
    assert run.result["status"] == "succeeded"
    site = program.objects(run.slug)
    assert len(site) == run.result["files"] >= 5
    assert f"{run.result['commit'][:7]}".encode() in b"".join(file["body"] for file in site.values())
    assert "<div id=" in site["index.html"]["body"].decode()
    assert site["index.html"]["CacheControl"] == "public, max-age=0, must-revalidate"
    assert program.archive(run, "state") == run.events
    assert run.messages == [without_color(event["log"]) for event in run.events if "log" in event]
    assert PATH in task.endpoint_requests(), "the credentials are those of the task's role"
    # The console is what CloudWatch gets: an event a line.
    assert [json.loads(line)["seq"] for line in run.stdout.splitlines()] == [event["seq"] for event in run.events]
    inspected = json.loads(docker("inspect", run.slug))[0]
    assert not [v for v in inspected["Config"]["Env"] if v.startswith(("AWS_ACCESS_KEY", "AWS_SECRET", "AWS_SESSION"))]
    assert inspected["HostConfig"]["ReadonlyRootfs"] is True
    assert (inspected["HostConfig"]["Memory"], inspected["HostConfig"]["NanoCpus"]) == (2 << 30, 10**9)


def test_webhook_to_a_private_address_is_refused_unless_allowed(
    program: Fargate, app: Callable[..., str], host: str
) -> None:
    secret = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
    with receiver(host=host) as hooks:
        refused = program.run(app(), WEBHOOK_URL=hooks.origin, WEBHOOK_SECRET=secret)
        assert hooks.requests == []
        allowed = program.run(app(), WEBHOOK_URL=hooks.origin, WEBHOOK_SECRET=secret, WEBHOOK_ALLOW_PRIVATE="1")

    assert (refused.code, allowed.code) == (0, 0)
    assert refused.said(f"The webhook build.started was not delivered to {host}: its host is at a private address")
    assert [request.json["type"] for request in hooks.requests] == ["build.started", "build.finished"]


def test_the_commands_of_the_readme_build_an_image_and_run_it(
    image: str, program: Fargate, app: Callable[..., str], tmp_path: Path
) -> None:
    (block,) = re.findall(r"```sh\n(docker .*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
    build, run = block.splitlines()
    environment = program.environment(app(), **program.s3.environment())
    (tmp_path / "build.env").write_text("".join(f"{name}={value}\n" for name, value in environment.items()))

    ended = subprocess.run(
        shlex.split(run.replace(" buildrunner", f" {image}")), cwd=tmp_path, capture_output=True, text=True, check=False
    )

    assert shlex.split(build) == ["docker", "build", "--tag", "buildrunner", "."]  # with stand-ins: what `image` does
    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert program.objects(environment["SLUG"])["index.html"]["body"] == b"page\n"


def test_commands_of_the_repository_have_no_privileges(program: Fargate, app: Callable[..., str]) -> None:
    script = """
grep -E '^(Uid|Gid|Groups|Cap|NoNewPrivs|Seccomp)' /proc/self/status | sed 's/^/status /'
env | sed 's/^/env /'
for file in /etc/passwd /usr/local/bin/node /opt/buildrunner/app/buildrunner/cli.py /tmp; do
  test -w $file && echo "writable $file"
done
for pid in 1 $(ps -o ppid= 2>/dev/null) $(ls /proc | grep -E '^[0-9]+$'); do
  for secret in environ mem maps fd/0 cwd; do
    if [ "$(stat -c %u /proc/$pid 2>/dev/null)" = 0 ]; then
      (head -c 1 /proc/$pid/$secret || ls /proc/$pid/$secret/) >/dev/null 2>&1 && echo "readable $pid/$secret"
      echo "tried $pid/$secret"
    fi
  done
done
head -c 1 /tmp/buildrunner-*/journal /tmp/buildrunner-*/tail >/dev/null 2>&1 && echo "readable workspace"
"""
    run = program.run(app(script + SITE), BUILD_ENV_COLOUR="blue")

    assert run.code == 0, run.stdout
    status = dict(line.removeprefix("status ").split(":\t") for line in run.lines if line.startswith("status "))
    assert status["Uid"].split() == [BUILD_USER] * 4
    assert status["Gid"].split() == [BUILD_USER] * 4
    assert status["Groups"].split() == []
    assert {status[name] for name in ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb")} == {"0" * 16}
    assert (status["NoNewPrivs"], status["Seccomp"]) == ("1", "2")
    environment = dict(line.removeprefix("env ").partition("=")[::2] for line in run.lines if line.startswith("env "))
    assert environment["COLOUR"] == "blue"
    assert not environment.keys() & (PLATFORM.keys() | {"REDIS_URI", "BUILDRUNNER_IMAGE", "AWS_BUCKET_NAME"})
    assert not [name for name in environment if name.startswith(("AWS_", "ECS_", "REDIS", "BUILD_ENV_"))]
    assert any(line.startswith("tried 1/environ") for line in run.lines)
    assert len({line for line in run.lines if line.startswith("tried ") and line.endswith("/mem")}) >= 2  # tini, runner
    writable = [line for line in run.lines if line.startswith(("writable", "readable"))]
    assert writable == ["writable /tmp"]


def test_only_the_workspace_and_tmp_can_be_written(program: Fargate, app: Callable[..., str]) -> None:
    script = (
        "touch /x /usr/local/x /var/tmp/x /root/x /dev/shm/x 2>&1; touch /tmp/mine mine && echo both; rm /tmp/mine;"
    )

    run = program.run(app(script + SITE))

    assert run.code == 0
    assert "both" in run.lines
    refused = [line for line in run.lines if line.startswith("touch: ")]
    assert sum("Read-only file system" in line for line in refused) >= 3


def test_a_volume_with_a_closed_mode_is_opened_to_builds(program: Fargate, app: Callable[..., str]) -> None:
    program.tmp = "mode=0755"

    run = program.run(app("touch /tmp/mine && stat -c %a /tmp; " + SITE))

    assert run.code == 0
    assert "1777" in run.lines


def test_the_runner_is_the_child_of_tini_and_leaves_no_process(program: Fargate, app: Callable[..., str]) -> None:
    leave = "(setsid sleep 600 &); (trap '' TERM HUP; sleep 600) & exit 0"
    count = "for p in /proc/[0-9]*; do tr '\\0' ' ' <$p/cmdline | sed 's/^/process /'; echo; done; "
    seen: list[str] = []

    def look(_process: Process, slug: str) -> None:
        program.wait_for_event(slug, building)
        seen.append(docker("top", slug, "-eo", "pid,ppid,user,args"))

    run = program.run(app(count + "echo building; sleep 1; " + SITE), INSTALL_COMMAND=leave, meanwhile=look)

    assert run.code == 0
    processes = [line for line in run.lines if line.startswith("process ")]
    assert processes[0].startswith("process /usr/bin/tini -- /opt/buildrunner/bin/python -I -m buildrunner")
    assert not [line for line in processes if "sleep 600" in line]
    assert "tini" in seen[0]


# --- each end ----------------------------------------------------------------------------------------------------------


def test_code_1_when_there_is_no_room_for_the_log(program: Fargate, app: Callable[..., str]) -> None:
    program.tmp = "size=20m,mode=1777"

    run = program.run(app())

    assert run.code == 1
    assert "could not create a workspace with 105 MB for the log: No space left on device" in run.stderr
    assert "Traceback" not in run.stderr


def test_code_2_when_the_configuration_is_wrong(program: Fargate) -> None:
    run = program.run(None, SLUG="not_a_slug", REDIS_URI=None)

    assert run.code == 2
    assert all(name in run.stderr for name in ("REPO_URL", "SLUG", "REDIS_URI"))
    assert run.events == []


@pytest.mark.parametrize(
    ("code", "status", "stage", "variables"),
    [
        (20, "failed", "clone", {"REPO_REF": "no-such-branch"}),
        (30, "failed", "install", {"INSTALL_COMMAND": "echo oops; exit 3"}),
        (40, "failed", "build", {"BUILD_COMMAND": "echo oops; exit 3"}),
        (50, "failed", "upload", {"AWS_BUCKET_NAME": "no-such-bucket"}),
        (50, "failed", "upload", {"AWS_BUCKET_NAME": "state", "S3_KEY_PREFIX": "elsewhere/{slug}/"}),
        (124, "timed_out", "build", {"BUILD_COMMAND": "sleep 60", "BUILD_TIMEOUT": "1"}),
    ],
    ids=["20-clone", "30-install", "40-build", "50-no-bucket", "50-not-allowed", "124-build"],
)
def test_each_way_to_fail_ends_with_its_code_and_a_result(
    program: Fargate, app: Callable[..., str], code: int, status: str, stage: str, variables: Mapping[str, Any]
) -> None:
    run = program.run(app(), **variables)

    assert run.code == code, run.stdout
    assert (run.result["status"], run.result["stage"], run.result["exit_code"]) == (status, stage, code)
    assert run.result["reason"]
    assert run.messages[-1].startswith(("Failed: ", "Timed out: "))
    assert program.archive(run, "state")[-1] == run.result
    assert program.objects(run.slug) == {}


def test_code_60_when_a_later_task_of_the_slug_took_over(program: Fargate, app: Callable[..., str]) -> None:
    later = []

    def second(_process: Process, slug: str) -> None:
        program.wait_for_event(slug, building)
        later.append(program.run(app("mkdir dist; echo new >dist/index.html"), SLUG=slug))

    run = program.run(
        app("echo building; for i in 1 2 3 4 5 6 7 8 9; do echo $i; sleep 1; done; " + SITE), meanwhile=second
    )

    assert (run.code, later[0].code) == (60, 0)
    assert program.objects(run.slug)["index.html"]["body"] == b"new\n"


# --- ECS stops a task: SIGTERM, and SIGKILL after stopTimeout ------------------------------------------------------------


def stopped(program: Fargate, slug: str, seconds: list[float]) -> None:
    """Stop as ECS does: SIGTERM, then SIGKILL when the task definition's stopTimeout is over."""
    started = time.monotonic()
    docker("stop", slug)
    seconds.append(time.monotonic() - started)


@pytest.mark.parametrize("stage", ["clone", "install", "build", "upload"])
def test_a_stopped_task_says_so_and_ends_with_143_in_each_stage(
    stage: str,
    program: Fargate,
    app: Callable[..., str],
    relay: Relay,
    host: str,
    repositories: Repositories,
) -> None:
    hold = threading.Event()
    took: list[float] = []
    variables: Mapping[str, Any] = {
        "clone": {},
        "install": {"INSTALL_COMMAND": STUBBORN},
        "build": {"BUILD_COMMAND": STUBBORN},
        "upload": {"AWS_ENDPOINT_URL_S3": through(relay, host)},
    }[stage]
    relay.hold = lambda request: "/assets/" in request

    def stop(_process: Process, slug: str) -> None:
        if stage == "upload":
            assert relay.held.wait(60)
        else:
            program.wait_for_event(
                slug,
                (lambda event: event["stage"] == "clone" and event["type"] == "stage")
                if stage == "clone"
                else building,
            )
        stopped(program, slug, took)
        hold.set()

    with git_server(repositories.folder, host=host, hold=hold if stage == "clone" else None) as slow:
        url = slow.url(repositories.app(SITE))
        run = program.run(url, meanwhile=stop, **variables)

    assert run.code == 143
    assert took[0] < 15
    assert (run.result["status"], run.result["stage"]) == ("cancelled", stage)
    assert run.messages[-1] == "Cancelled"
    assert program.archive(run, "state")[-1] == run.result
    assert "index.html" not in program.objects(run.slug)


def test_a_task_that_is_stopped_while_it_starts_ends_with_143(program: Fargate, app: Callable[..., str]) -> None:
    took: list[float] = []

    def stop(_process: Process, slug: str) -> None:
        program.wait_for_line(slug, "Preparing")
        stopped(program, slug, took)

    run = program.run(app(STUBBORN), meanwhile=stop)

    assert run.code == 143
    assert took[0] < 15
    assert run.result["status"] == "cancelled"


def test_a_task_stopped_after_its_pages_are_live_succeeds(
    program: Fargate, app: Callable[..., str], relay: Relay, host: str
) -> None:
    took: list[float] = []
    relay.hold = lambda request: request.endswith(".ndjson")

    def stop(_process: Process, slug: str) -> None:
        assert relay.held.wait(60)
        stopped(program, slug, took)

    run = program.run(app(), meanwhile=stop, AWS_ENDPOINT_URL_S3=through(relay, host))

    assert run.code == 0
    assert took[0] < 16
    assert (run.result["status"], run.result["stage"]) == ("succeeded", "finish")
    assert program.objects(run.slug)["index.html"]["body"] == b"page\n"


def test_in_the_worst_case_a_stopped_task_still_ends_by_itself(
    program: Fargate, app: Callable[..., str], own_redis: Redis, relay: Relay, host: str
) -> None:
    """Redis frozen, S3 without an answer, and a build that refuses SIGTERM."""
    program.redis = own_redis
    took: list[float] = []
    relay.hold = lambda request: True

    def stop(_process: Process, slug: str) -> None:
        program.wait_for_event(slug, building)
        own_redis.process.send_signal(signal.SIGSTOP)
        stopped(program, slug, took)
        own_redis.process.send_signal(signal.SIGCONT)

    run = program.run(app(STUBBORN), meanwhile=stop, AWS_ENDPOINT_URL_S3=through(relay, host))

    assert run.code == 143
    assert took[0] < 17  # 15 s after the signal, and the engine's own
    assert "were not delivered" in run.stdout


def test_a_killed_task_keeps_the_site_and_the_next_one_publishes(program: Fargate, app: Callable[..., str]) -> None:
    first = program.run(app("mkdir dist; echo old >dist/index.html"))

    def kill(_process: Process, slug: str) -> None:
        program.wait_for_event(slug, building)
        docker("kill", "--signal=KILL", f"{slug}-1")

    killed = program.run(app(STUBBORN), SLUG=first.slug, meanwhile=kill)
    after = program.objects(first.slug)["index.html"]["body"]
    last = program.run(app("mkdir dist; echo new >dist/index.html"), SLUG=first.slug)

    assert (first.code, killed.code, last.code) == (0, 137, 0)
    assert after == b"old\n"
    assert program.objects(first.slug)["index.html"]["body"] == b"new\n"
    assert [event["seq"] for event in last.events] == list(range(1, len(last.events) + 1))


def test_ctrl_c_at_an_attached_terminal_ends_with_130(program: Fargate, app: Callable[..., str]) -> None:
    def interrupt(process: Process, slug: str) -> None:
        program.wait_for_event(slug, building)
        process.send_signal(signal.SIGINT)

    run = program.run(app(STUBBORN), meanwhile=interrupt)

    assert run.code == 130
    assert run.result["status"] == "cancelled"


# --- what a task of 2 GB and one disk runs out of -------------------------------------------------------------------------

EAT = "node -e 'const all = []; for (;;) all.push(Buffer.alloc(32 << 20, 1))'"


def test_a_build_that_eats_all_memory_is_named_as_that(program: Fargate, app: Callable[..., str]) -> None:
    run = program.run(app(f"echo building; {EAT}"))

    assert run.code == 40
    assert run.result["stage"] == "build"
    assert "was killed because it used more memory than the build has" in run.result["reason"]
    assert "more memory" in run.result["hint"]
    assert program.archive(run, "state")[-1] == run.result


def test_a_process_killed_for_memory_is_named(program: Fargate, app: Callable[..., str]) -> None:
    run = program.run(app(f"{EAT}; echo went on; exit 1"))

    assert run.code == 40
    assert "went on" in run.lines
    assert "memory" in run.result["reason"]


def test_a_heap_that_node_may_not_enlarge_has_its_own_hint(program: Fargate, app: Callable[..., str]) -> None:
    run = program.run(app("node --max-old-space-size=64 -e 'const a = []; for (;;) a.push({a: [a.length]})'"))

    assert run.code == 40
    assert "BUILD_ENV_NODE_OPTIONS" in run.result["hint"]


def test_a_build_that_fills_the_disk_fails_with_its_whole_log(program: Fargate, app: Callable[..., str]) -> None:
    program.tmp = "size=240m,mode=1777"
    fill = "cat /dev/zero >big; seq 1 20000; echo the end; exit 1"

    run = program.run(app(fill))

    assert run.code == 40
    assert "No space left on device" in "\n".join(run.lines)
    assert "The disk is full" in run.result["hint"]
    assert run.lines[-1] == "the end"
    assert len(run.lines) >= 20002
    assert program.archive(run, "state") == run.events


# --- the role ------------------------------------------------------------------------------------------------------------


def test_the_role_can_write_only_the_site_and_the_log(program: Fargate, app: Callable[..., str]) -> None:
    before = set(program.objects_anywhere())

    run = program.run(app())

    assert run.code == 0
    build = run.result["build"]
    assert set(program.objects_anywhere()) - before == {
        f"sites/{run.slug}/index.html",
        f"sites/{run.slug}/assets/index-DiwrgTda.js",
        f"state/__logs/{run.slug}/{build}.ndjson",
        f"state/__manifests/{run.slug}/{build}.json",
        f"state/__manifests/{run.slug}/current.json",
        f"state/__routing/{run.slug}.json",
    }
    assert not [event for event in run.events if event.get("level") == "warning"]


def test_a_task_without_a_role_says_so(program: Fargate, app: Callable[..., str]) -> None:
    run = program.run(app(), AWS_CONTAINER_CREDENTIALS_RELATIVE_URI=None)

    assert run.code == 50
    assert "credentials" in run.result["reason"]
    assert "role" in run.result["hint"]


def test_doctor_checks_the_role_of_the_task_and_its_sandbox(program: Fargate, app: Callable[..., str]) -> None:
    before = program.objects_anywhere()

    output, errors = (process := program.start(program.environment(app()), "doctor", "--json")).communicate(timeout=120)

    found = {check["name"]: check for check in json.loads(output)["checks"]}
    of_this_machine = {"npm registry", "disk", "s3 conditions"}
    assert {name: check for name, check in found.items() if check["status"] != "ok"}.keys() <= of_this_machine, output
    assert {
        "git",
        "git-lfs",
        "node",
        "npm",
        "zstd",
        "redis stream",
        "repository",
        "s3 site put",
        "s3 public",
    } <= found.keys()
    assert "as build (uid 10001), without capabilities" in found["sandbox"]["message"]
    assert errors == ""
    assert process.returncode == (1 if "failed" in {check["status"] for check in found.values()} else 0)
    assert program.objects_anywhere() == before
