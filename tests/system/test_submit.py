"""`buildrunner submit` against a stand-in for ECS and Batch; the task is the program itself, started as the task would be."""

from __future__ import annotations

import json
import os
import pty
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import anyio
import pytest

from buildrunner.commands.submit import follow
from buildrunner.commands.submit.command import submit
from buildrunner.errors import ConfigurationError
from support.aws_server import ACCOUNT, REGION, AwsServer, aws_server
from support.harness import PLAIN, Program, Redis, Repositories, add_first_event
from support.harness import wait_for as wait_for_at_most

TASK = f"arn:aws:ecs:{REGION}:{ACCOUNT}:task/builds/0123456789abcdef"
URL = "https://github.com/owner/name"
FULL = {"failures": [{"reason": "Capacity is unavailable at this time. Please try again later"}]}
STARTED = {"tasks": [{"taskArn": TASK}], "failures": []}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[AwsServer]:
    with aws_server(tmp_path_factory.mktemp("aws")) as aws:
        ecs = aws.client("ecs")
        ecs.create_cluster(clusterName="builds", capacityProviders=["FARGATE", "FARGATE_SPOT"])
        ecs.register_task_definition(
            family="buildrunner",
            requiresCompatibilities=["FARGATE"],
            networkMode="awsvpc",
            cpu="1024",
            memory="2048",
            containerDefinitions=[{"name": "runner", "image": "buildrunner"}],
        )
        yield aws


@pytest.fixture(scope="module")
def subnet(server: AwsServer) -> str:
    (subnet, *_) = server.client("ec2").describe_subnets()["Subnets"]
    return str(subnet["SubnetId"])


@pytest.fixture
def aws(server: AwsServer) -> AwsServer:
    """The server, without the answers and requests of other tests."""
    for action in ("RunTask", "DescribeTasks", "StopTask", "SubmitJob", "DescribeJobs", "TerminateJob"):
        server.answer(action)
    server.requests.write_text("")
    return server


@pytest.fixture
def environment(aws: AwsServer, subnet: str, program: Program) -> dict[str, str]:
    return {
        **aws.environment(),
        "PATH": os.environ["PATH"],
        "HOME": str(program.folder),
        "REDIS_URI": program.redis.uri,
        "ECS_CLUSTER": "builds",
        "ECS_TASK_DEFINITION": "buildrunner",
        "ECS_SUBNETS": subnet,
    }


def wait_for(condition: Callable[[], bool], what: str) -> None:
    wait_for_at_most(condition, what, 90)  # a process starts in 1 s, and builds in two


def task(status: str, **fields: Any) -> dict[str, Any]:
    return {"tasks": [{"taskArn": TASK, "lastStatus": status, **fields}], "failures": []}


def stopped(why: str, code: str = "TaskFailedToStart", **container: Any) -> dict[str, Any]:
    return task("STOPPED", stopCode=code, stoppedReason=why, containers=[{"name": "runner", **container}])


@contextmanager
def submitting(environment: dict[str, str], *arguments: str, **options: Any) -> Iterator[subprocess.Popen[str]]:
    process = subprocess.Popen(
        [sys.executable, "-P", "-m", "buildrunner", "submit", *arguments],
        env=environment,
        cwd="/",
        **{"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True} | options,
    )
    try:
        yield process
    finally:
        process.kill()
        process.wait()
        for pipe in (process.stdout, process.stderr):
            if pipe:
                pipe.close()


def overrides(aws: AwsServer) -> dict[str, str]:
    """Return the variables of the task that was asked for last."""
    wait_for(lambda: bool(aws.asked("RunTask")), "RunTask")
    (container,) = aws.asked("RunTask")[-1]["overrides"]["containerOverrides"]
    assert container["name"] == "runner"
    return {each["name"]: each["value"] for each in container["environment"]}


def run_here(environment: dict[str, str], monkeypatch: pytest.MonkeyPatch, **arguments: Any) -> int:
    """Run the command in this process, with less patience."""
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(follow, "NO_EVENTS_SECONDS", 0.5)
    given: dict[str, Any] = {"ref": None, "variables": [], "share": None, "detach": False} | arguments
    return anyio.run(lambda: submit(environment, URL, given.pop("slug", "my-site"), **given))


# --- a build ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("script", "code"), [("mkdir dist && echo hello >dist/index.html", 0), ("echo not today; exit 3", 40)]
)
def test_submit_follows_the_build_and_exits_as_it_does(
    aws: AwsServer,
    environment: dict[str, str],
    program: Program,
    repositories: Repositories,
    script: str,
    code: int,
) -> None:
    aws.answer("DescribeTasks", task("PROVISIONING"), task("PENDING"), task("RUNNING"))
    slug = f"submit-{code}"
    url = f"file://{repositories.app(script)}"
    with submitting(environment, url, slug, "--ref", "main", "--env", "BUILD_COMMAND=sh build.sh") as process:
        given = overrides(aws)
        wait_for(lambda: len(aws.asked("DescribeTasks")) >= 3, "the state of the task to be asked for")
        assert set(given) == {"REPO_URL", "SLUG", "BUILD_ID", "REPO_REF", "BUILD_COMMAND"}
        assert aws.asked("RunTask")[0]["networkConfiguration"]["awsvpcConfiguration"]["assignPublicIp"] == "DISABLED"
        run = program.run(None, **{**PLAIN, **given})  # type: ignore[arg-type]
        out, err = process.communicate(timeout=90)

    assert (run.code, process.returncode) == (code, code)
    assert run.result["build"] == given["BUILD_ID"]
    assert "Cloning" in out
    assert out.splitlines()[-1].startswith("Done" if code == 0 else "Failed: ")
    assert f"Submitted build {given['BUILD_ID']} to Amazon ECS." in err
    assert err.index("The build is queued.") < err.index("The build is starting")


def test_detached_build_is_its_id(aws: AwsServer, environment: dict[str, str]) -> None:
    """Redis is not needed."""
    del environment["REDIS_URI"]
    with submitting(environment, URL, "my-site", "--detach") as process:
        out, err = process.communicate(timeout=90)

    assert (process.returncode, err) == (0, "")
    assert out == f"{overrides(aws)['BUILD_ID']}\n"
    assert aws.asked("RunTask")[0]["startedBy"] == out.strip()


def test_throttling_and_lack_of_capacity_are_retried(aws: AwsServer, environment: dict[str, str]) -> None:
    """Spot is given up when it has no capacity. A request that may have been heard keeps its token."""
    throttled = {"__type": "ThrottlingException", "message": "Rate exceeded"}
    hidden = "Error retrieving subnet information for [subnet-1]: Rate exceeded (ErrorCode: Throttling)"
    aws.answer("RunTask", throttled, {"__type": "InvalidParameterException", "message": hidden}, status=400)
    environment |= {"ECS_CAPACITY": "spot"}
    with submitting(environment, URL, "my-site", "--detach") as process:
        wait_for(lambda: len(aws.asked("RunTask")) >= 2, "both")
        aws.answer("RunTask", FULL, STARTED)
        out, err = process.communicate(timeout=90)

    assert process.returncode == 0
    asked = aws.asked("RunTask")
    *on_spot, on_demand = asked
    assert all(each["capacityProviderStrategy"][0]["capacityProvider"] == "FARGATE_SPOT" for each in on_spot)
    assert on_demand["launchType"] == "FARGATE"
    assert "capacityProviderStrategy" not in on_demand
    assert {each["clientToken"] for each in on_spot} == {f"{out.strip()}-0"}
    assert on_demand["clientToken"] == f"{out.strip()}-1"
    assert err.count("The build is queued: AWS limits the rate of requests") == 1
    assert "AWS has no capacity at the moment (Capacity is unavailable at this time" in err


def test_task_that_found_no_capacity_is_started_again(
    aws: AwsServer, environment: dict[str, str], monkeypatch: pytest.MonkeyPatch, shared_redis: Redis
) -> None:
    """RunTask takes it, and it stops before its container began: that is how Fargate Spot says so at times."""
    aws.answer("RunTask", STARTED)
    aws.answer(
        "DescribeTasks", stopped("Capacity is unavailable at this time."), stopped("Image not found", exitCode=1)
    )
    environment |= {"ECS_CAPACITY": "spot"}

    assert run_here(environment, monkeypatch) == 1

    first, second = aws.asked("RunTask")
    assert "capacityProviderStrategy" in first
    assert second["launchType"] == "FARGATE"


@pytest.mark.parametrize(
    ("answer", "sentence", "hint"),
    [
        (
            stopped("Task failed to start", reason="CannotPullContainerError: not found"),
            "wrote a result: Task failed to start CannotPullContainerError: not found.",
            "Check that the image exists",
        ),
        (
            stopped(
                "Essential container in task exited",
                "EssentialContainerExited",
                exitCode=137,
                reason="OutOfMemoryError",
            ),
            "Essential container in task exited OutOfMemoryError; exit code 137.",
            "more memory",
        ),
        (
            stopped("Your Spot Task was interrupted.", "SpotInterruption"),
            "Spot Task was interrupted.",
            "Submit it again",
        ),
        (stopped("Essential container in task exited", exitCode=2), "exit code 2.", "configuration is refused"),
    ],
)
def test_task_that_dies_before_its_first_line_says_why(
    aws: AwsServer,
    environment: dict[str, str],
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
    answer: dict[str, Any],
    sentence: str,
    hint: str,
) -> None:
    aws.answer("RunTask", STARTED)
    aws.answer("DescribeTasks", answer)

    assert run_here(environment, monkeypatch) == 1

    err = capfd.readouterr().err
    assert sentence in err
    assert hint in err


def test_result_counts_although_the_task_has_stopped(
    aws: AwsServer, environment: dict[str, str], monkeypatch: pytest.MonkeyPatch, shared_redis: Redis
) -> None:
    aws.answer("RunTask", STARTED)
    aws.answer("DescribeTasks", stopped("Essential container in task exited", exitCode=60))
    monkeypatch.setattr("buildrunner.commands.submit.request.make_build_id", lambda: "b-1")
    result = {"v": 1, "build": "b-1", "seq": 2, "ts": "2026-01-01T00:00:00.000Z", "type": "result", "stage": "upload"}
    result |= {"status": "superseded", "exit_code": 60, "seconds": 1.5, "log": "Superseded"}
    add_first_event(shared_redis, "ended", "b-1", seconds_ago=0)
    with shared_redis.client() as client:
        client.xadd("events:ended", {"event": json.dumps(result)}, id="5-2")

    assert run_here(environment, monkeypatch, slug="ended") == 60


# --- refusals --------------------------------------------------------------------------------------------------------


def test_what_aws_refuses_is_not_retried(
    aws: AwsServer, environment: dict[str, str], monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    assert run_here(environment | {"ECS_CLUSTER": "nowhere"}, monkeypatch) == 2
    assert "Amazon ECS did not start the build: RunTask: Cluster not found." in capfd.readouterr().err
    assert len(aws.asked("RunTask")) == 1


def test_several_containers_need_a_name(
    aws: AwsServer, environment: dict[str, str], monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    containers = [{"name": "runner", "image": "a", "memory": 512}, {"name": "proxy", "image": "b", "memory": 512}]
    aws.client("ecs").register_task_definition(family="two", containerDefinitions=containers)

    assert run_here(environment | {"ECS_TASK_DEFINITION": "two"}, monkeypatch) == 2
    assert "two has several containers: set ECS_CONTAINER to one of runner, proxy" in capfd.readouterr().err
    aws.answer("RunTask", STARTED)
    assert (
        run_here(environment | {"ECS_TASK_DEFINITION": "two", "ECS_CONTAINER": "runner"}, monkeypatch, detach=True) == 0
    )


def test_nothing_is_asked_of_aws_for_a_wrong_request(aws: AwsServer, environment: dict[str, str]) -> None:
    with pytest.raises(ConfigurationError):
        anyio.run(lambda: submit(environment, URL, "no slug", ref=None, variables=[], share=None, detach=False))
    assert aws.requests.read_text() == ""


# --- signals ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_signal_without_a_terminal_stops_the_build(
    aws: AwsServer,
    environment: dict[str, str],
    program: Program,
    repositories: Repositories,
    number: signal.Signals,
) -> None:
    aws.answer("RunTask", STARTED)
    aws.answer("DescribeTasks", task("RUNNING"))
    aws.answer("StopTask", {"task": {}})
    url = f"file://{repositories.app('echo begun; sleep 60')}"
    with submitting(environment, url, f"signal-{number}", "--env", "BUILD_COMMAND=sh build.sh") as process:
        with program.running(None, **{**PLAIN, **overrides(aws)}) as running:  # type: ignore[arg-type]
            running.wait_for_line("begun")
            process.send_signal(number)
            wait_for(lambda: bool(aws.asked("StopTask")), "StopTask")
            running.process.send_signal(signal.SIGTERM)  # as ECS does
            assert running.end().code == 143
        out, err = process.communicate(timeout=90)

    assert process.returncode == 143
    assert out.splitlines()[-1] == "Cancelled"
    assert "Stopping the build; waiting up to 60 s for its result." in err


def test_ctrl_c_asks_once_and_then_leaves(aws: AwsServer, environment: dict[str, str]) -> None:
    aws.answer("RunTask", STARTED)
    aws.answer("DescribeTasks", task("RUNNING"))
    with terminal(environment, URL, "my-site") as (process, screen, keyboard):
        wait_for(lambda: "Submitted build" in screen(), "the build")
        keyboard("\x03")
        wait_for(lambda: "Stop the build? [y/N]" in screen(), "the question")
        keyboard("\n")
        wait_for(lambda: "The build continues." in screen(), "the answer")
        keyboard("\x03")
        assert process.wait(90) == 130

    assert "To see the log: buildrunner logs my-site --build" in screen()
    assert aws.asked("StopTask") == []


def test_ctrl_c_and_yes_stop_the_build(aws: AwsServer, environment: dict[str, str]) -> None:
    aws.answer("RunTask", STARTED)
    aws.answer("DescribeTasks", task("RUNNING"))
    aws.answer("StopTask", {"task": {}})
    with terminal(environment, URL, "my-site") as (process, screen, keyboard):
        wait_for(lambda: "Submitted build" in screen(), "the build")
        keyboard("\x03")
        wait_for(lambda: "Stop the build? [y/N]" in screen(), "the question")
        keyboard("y\n")
        wait_for(lambda: bool(aws.asked("StopTask")), "StopTask")
        keyboard("\x03")
        assert process.wait(90) == 130

    assert aws.asked("StopTask")[0]["task"] == TASK


def test_signal_while_aws_has_no_room_gives_up(aws: AwsServer, environment: dict[str, str]) -> None:
    aws.answer("RunTask", FULL)
    with submitting(environment, URL, "my-site") as process:
        wait_for(lambda: bool(aws.asked("RunTask")), "RunTask")
        process.send_signal(signal.SIGTERM)
        _, err = process.communicate(timeout=90)

    assert process.returncode == 143
    assert "the build was not started" in err


@contextmanager
def terminal(environment: dict[str, str], *arguments: str) -> Iterator[tuple[Any, Any, Any]]:
    """Start it at a terminal; yield the process, what is on the screen, and the keyboard."""
    ours, theirs = pty.openpty()
    printed = bytearray()

    def read() -> None:
        try:
            while data := os.read(ours, 65536):
                printed.extend(data)
        except OSError:  # the last process has left the terminal
            return

    reader = threading.Thread(target=read, daemon=True)
    reader.start()
    options = {"stdin": theirs, "stdout": theirs, "stderr": theirs, "text": False}
    with submitting(
        {**environment, "TERM": "xterm"}, *arguments, **options, preexec_fn=lambda: _own_terminal(theirs)
    ) as process:
        os.close(theirs)
        yield process, printed.decode, lambda text: os.write(ours, text.encode())
        reader.join(10)
    os.close(ours)


def _own_terminal(descriptor: int) -> None:
    import fcntl
    import termios

    os.setsid()
    fcntl.ioctl(descriptor, termios.TIOCSCTTY, 0)


# --- Batch -----------------------------------------------------------------------------------------------------------


@pytest.fixture
def batch(environment: dict[str, str]) -> dict[str, str]:
    return {**environment, "BATCH_JOB_QUEUE": "builds", "BATCH_JOB_DEFINITION": "buildrunner"}


@pytest.mark.parametrize(
    ("queue", "share", "expected"),
    [
        ({}, None, None),
        ({"schedulingPolicyArn": "arn:aws:batch:::fair"}, None, "default"),
        ({}, "customer7", "customer7"),
    ],
)
def test_job_has_its_variables_and_its_share(
    aws: AwsServer,
    batch: dict[str, str],
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
    queue: dict[str, str],
    share: str | None,
    expected: str | None,
) -> None:
    full = {"jobQueueName": "builds", "jobQueueArn": "arn", "state": "ENABLED", "priority": 1}
    aws.answer("DescribeJobQueues", {"jobQueues": [{**full, "computeEnvironmentOrder": [], **queue}]})
    aws.answer("SubmitJob", {"jobName": "a", "jobId": "1234"})

    assert run_here(batch, monkeypatch, share=share, detach=True, variables=["NODE_VERSION=22"]) == 0

    (asked,) = aws.asked("SubmitJob")
    given = {each["name"]: each["value"] for each in asked["containerOverrides"]["environment"]}
    assert given == {
        "REPO_URL": URL,
        "SLUG": "my-site",
        "BUILD_ID": capfd.readouterr().out.strip(),
        "NODE_VERSION": "22",
    }
    assert asked.get("shareIdentifier") == expected
    assert asked["retryStrategy"]["evaluateOnExit"][0] == {"onExitCode": "*", "action": "EXIT"}
    assert asked["retryStrategy"]["evaluateOnExit"][-1] == {"onReason": "*", "action": "EXIT"}


def test_job_waits_is_throttled_and_dies(
    aws: AwsServer, batch: dict[str, str], monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    def job(status: str, **fields: Any) -> dict[str, Any]:
        needed = {"jobName": "a", "jobId": "1234", "jobQueue": "q", "jobDefinition": "d", "startedAt": 1}
        return {"jobs": [{**needed, "status": status, **fields}]}

    aws.answer("SubmitJob", {"__type": "TooManyRequestsException", "message": "Too Many Requests"}, status=429)
    aws.answer(
        "DescribeJobs",
        job("RUNNABLE"),
        job("STARTING"),
        job(
            "FAILED",
            statusReason="Essential container in task exited",
            container={"exitCode": 1, "reason": "OutOfMemory"},
        ),
    )
    once = threading.Thread(target=_let_through, args=(aws,))
    once.start()

    assert run_here(batch, monkeypatch, share="a") == 1

    once.join()
    err = capfd.readouterr().err
    for sentence in (
        "AWS limits the rate",
        "The build is queued.",
        "The build is starting",
        "OutOfMemory; exit code 1.",
    ):
        assert sentence in err


def _let_through(aws: AwsServer) -> None:
    wait_for(lambda: bool(aws.asked("SubmitJob")), "SubmitJob")
    aws.answer("SubmitJob", {"jobName": "a", "jobId": "1234"})
