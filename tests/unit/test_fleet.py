"""What AWS says of a build's task, how it is read, and how often it is asked."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from buildrunner.concurrency.retry import RetryPolicy
from buildrunner.fleet.find import BatchFinder, EcsFinder, FoundTask, job_name
from buildrunner.fleet.requests import RequestFailed
from buildrunner.fleet.task_state import TaskState, explain_stop, read_job, read_task
from buildrunner.gateway import tasks as awaiting
from buildrunner.gateway.tasks import AwaitedBuild, AwaitedTasks, choose_search, describe_state

TIMES: dict[str, Any] = {
    name: datetime(2026, 1, 1, 10, minute, tzinfo=UTC)
    for minute, name in enumerate(["createdAt", "pullStartedAt", "startedAt", "stoppingAt", "stoppedAt"])
}


def names(slug: str = "my-site", build: str = "b1") -> list[dict[str, str]]:
    return [{"name": "SLUG", "value": slug}, {"name": "BUILD_ID", "value": build}]


def task(status: str = "RUNNING", slug: str = "my-site", build: str = "b1", **fields: Any) -> dict[str, Any]:
    overrides = {"containerOverrides": [{"name": "runner", "environment": names(slug, build)}]}
    return {"taskArn": "arn:1", "lastStatus": status, "overrides": overrides, **fields}


# --- reading ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("status", "phase", "since"),
    [
        ("PROVISIONING", "queued", "createdAt"),
        ("PENDING", "starting", "pullStartedAt"),
        ("RUNNING", "running", "startedAt"),
        ("DEPROVISIONING", "stopping", "stoppingAt"),
        ("STOPPED", "stopped", "stoppedAt"),
    ],
)
def test_phase_of_a_task_has_the_time_it_began(status: str, phase: str, since: str) -> None:
    state = read_task(task(status, **TIMES))

    assert (state.phase, state.since) == (phase, TIMES[since])
    assert read_task(task(status)).since is None


def test_image_is_awaited_since_the_task_was_created_at_first() -> None:
    assert read_task(task("PENDING", createdAt=TIMES["createdAt"])).since == TIMES["createdAt"]


@pytest.mark.parametrize(
    ("status", "phase", "since"),
    [
        ("SUBMITTED", "queued", 1),
        ("RUNNABLE", "queued", 1),
        ("STARTING", "starting", None),
        ("RUNNING", "running", 2),
        ("FAILED", "stopped", 3),
    ],
)
def test_phase_of_a_job_has_the_time_it_began(status: str, phase: str, since: int | None) -> None:
    state = read_job({"status": status, "createdAt": 1000, "startedAt": 2000, "stoppedAt": 3000})

    assert (state.phase, state.since and state.since.timestamp()) == (phase, since)


@pytest.mark.parametrize(
    ("state", "reason", "hint"),
    [
        (TaskState("stopped", reason="CannotPullContainerError: no."), "CannotPullContainerError: no", "image exists"),
        (TaskState("stopped", reason="Exited", exit_code=2), "Exited; exit code 2", "configuration is refused"),
        (TaskState("stopped", reason="Capacity", is_lack_of_capacity=True), "Capacity", "in a few minutes"),
        (TaskState("stopped"), "no reason is known", None),
    ],
)
def test_stop_is_explained_with_what_to_do(state: TaskState, reason: str, hint: str | None) -> None:
    found = explain_stop(state, has_begun=False)

    assert found[0] == reason
    assert (hint or "") in (found[1] or "")


def test_viewers_get_no_names_of_the_account() -> None:
    reason = (
        "ResourceInitializationError: unable to pull secrets: arn:aws:secretsmanager:eu-central-1:123456789012:secret:a-b"
        " not found; 123456789012.dkr.ecr.eu-central-1.amazonaws.com/buildrunner:0.1.0"
    )

    shown = describe_state(TaskState("stopped", TIMES["stoppedAt"], reason))

    assert shown["reason"] == (
        "ResourceInitializationError: unable to pull secrets: [redacted] not found;"
        " [redacted].dkr.ecr.eu-central-1.amazonaws.com/buildrunner:0.1.0."
    )
    assert shown["since"] == "2026-01-01T10:04:00.000Z"
    assert describe_state(TaskState("queued")) == {"state": "queued"}


# --- finding ---------------------------------------------------------------------------------------------------------


class Client:
    """A client of AWS that returns what a test says, by the name of the call."""

    def __init__(self, **answers: Any) -> None:
        self._answers = answers
        self.asked: list[tuple[str, dict[str, Any]]] = []

    def __getattr__(self, name: str) -> Callable[..., Any]:
        async def call(**arguments: Any) -> Any:
            self.asked.append((name, arguments))
            answer = self._answers[name]
            return answer(arguments) if callable(answer) else answer

        return call


def test_task_is_found_whether_it_runs_or_has_stopped() -> None:
    def list_tasks(arguments: dict[str, Any]) -> dict[str, Any]:
        return {"taskArns": ["arn:1"] if arguments.get("desiredStatus") == "STOPPED" else []}

    client = Client(list_tasks=list_tasks, describe_tasks={"tasks": [task("STOPPED", createdAt=TIMES["createdAt"])]})
    finder = EcsFinder(client, "builds")

    assert asyncio.run(finder.find("my-site", "b1")) == ["arn:1"]
    (found,) = asyncio.run(finder.describe(["arn:1"]))
    assert (found.slug, found.build, found.state.phase) == ("my-site", "b1", "stopped")
    assert all(call[1]["startedBy"] == "b1" for call in client.asked if call[0] == "list_tasks")


def test_job_is_found_by_its_name_in_any_status() -> None:
    job = {"jobId": "j1", "status": "RUNNABLE", "createdAt": 5000, "container": {"environment": names()}}
    client = Client(list_jobs={"jobSummaryList": [{"jobId": "j1"}]}, describe_jobs={"jobs": [job]})
    finder = BatchFinder(client, "queue")

    assert asyncio.run(finder.find("my-site", "b1")) == ["j1"]
    assert client.asked[0][1]["filters"] == [{"name": "JOB_NAME", "values": ["my-site-b1"]}]
    assert asyncio.run(finder.describe(["j1"])) == [
        FoundTask("j1", "my-site", "b1", 5.0, TaskState("queued", datetime.fromtimestamp(5, UTC)))
    ]


def test_longest_name_of_a_job_is_one_that_batch_takes() -> None:
    """https://docs.aws.amazon.com/batch/latest/APIReference/API_SubmitJob.html"""
    assert re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_-]{0,127}", job_name("a" * 63, "B" * 64))


# --- asking ----------------------------------------------------------------------------------------------------------


class Finder:
    """A service whose tasks a test sets, and which counts its requests."""

    service = "Test"

    def __init__(self) -> None:
        self.tasks: dict[str, FoundTask] = {}
        self.error: RequestFailed | None = None
        self.searched: list[tuple[str, str]] = []
        self.described = 0

    def set(self, key: str, state: TaskState, slug: str = "my-site", build: str = "b1", created: float = 1) -> None:
        self.tasks[key] = FoundTask(key, slug, build, created, state)

    async def find(self, slug: str, build: str) -> Sequence[str]:
        self.searched.append((slug, build))
        if self.error:
            raise self.error
        return [key for key, task in self.tasks.items() if task.build == build]

    async def describe(self, keys: Sequence[str]) -> list[FoundTask]:
        self.described += 1
        return [self.tasks[key] for key in keys if key in self.tasks]


@pytest.fixture
def finder(monkeypatch: pytest.MonkeyPatch) -> Finder:
    monkeypatch.setattr(awaiting, "_SEARCH_SECONDS", 0.005)
    monkeypatch.setattr(awaiting, "_DESCRIBE_SECONDS", 0.03)
    return Finder()


def while_awaited(
    finder: Finder, builds: Sequence[tuple[str, str]], until: Callable[[list[AwaitedBuild]], bool], seconds: float = 10
) -> list[AwaitedBuild]:
    """Wait for builds until a condition holds, or at most some seconds; return them."""

    async def run() -> list[AwaitedBuild]:
        tasks = AwaitedTasks([finder])
        changed = asyncio.Event()
        asking = asyncio.create_task(tasks.run())
        with ExitStack() as stack:
            awaited = [stack.enter_context(tasks.wait_for(*build, changed.set)) for build in builds]
            try:
                async with asyncio.timeout(seconds):
                    while not until(awaited):
                        await asyncio.sleep(0.005)
            except TimeoutError:
                pass
        asked = len(finder.searched) + finder.described
        await asyncio.sleep(0.1)
        assert len(finder.searched) + finder.described <= asked + 2, "nobody waits, and AWS is still asked"
        asking.cancel()
        return awaited

    return asyncio.run(run())


def test_a_build_is_asked_about_once_for_all_viewers(finder: Finder) -> None:
    finder.set("k", TaskState("queued"))

    awaited = while_awaited(finder, [("my-site", "b1")] * 50, lambda builds: builds[0].state is not None)

    assert len(set(map(id, awaited))) == 1
    assert len(finder.searched) == 1
    assert finder.described <= 2


def test_the_newest_task_of_a_build_counts(finder: Finder) -> None:
    """`submit` starts it again if AWS had no capacity for it."""
    finder.set("old", TaskState("stopped"), created=1)
    finder.set("new", TaskState("starting"), created=2)

    (awaited,) = while_awaited(finder, [("my-site", "b1")], lambda builds: builds[0].state is not None)

    assert awaited.state == TaskState("starting")


def test_a_task_of_another_site_is_not_shown(finder: Finder) -> None:
    finder.set("k", TaskState("queued"), slug="other-site")

    (awaited,) = while_awaited(finder, [("my-site", "b1")], lambda _: finder.described >= 1, 5)

    assert awaited.state is None


def test_builds_that_do_not_exist_are_searched_for_less_and_less(finder: Finder) -> None:
    """Three searches come without backoff, each 3 s apart: within a second there is one."""
    while_awaited(finder, [("my-site", f"b{n}") for n in range(30)], lambda _: False, 1)

    assert sorted(set(finder.searched)) == sorted(finder.searched)
    assert len(finder.searched) == 5, "of one site, five builds at a time"


def test_throttling_pauses_all_questions(finder: Finder, capsys: pytest.CaptureFixture[str]) -> None:
    finder.error = RequestFailed("Rate exceeded", "throttled")

    while_awaited(finder, [(f"site-{n}", "b") for n in range(50)], lambda _: False, 0.5)

    assert len(finder.searched) == 1
    assert capsys.readouterr().err == ""


def test_refusal_is_reported_once(finder: Finder, capsys: pytest.CaptureFixture[str]) -> None:
    finder.error = RequestFailed("ListTasks: not authorized to perform: ecs:ListTasks.")

    while_awaited(finder, [(f"site-{n}", "b") for n in range(50)], lambda _: False, 0.5)

    assert len(finder.searched) == 1
    reported = "buildrunner: Test does not describe builds: ListTasks: not authorized to perform: ecs:ListTasks.\n"
    assert capsys.readouterr().err == reported


def test_service_that_stays_away_is_reported_once(
    finder: Finder, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(awaiting, "_AFTER_A_FAILURE", RetryPolicy(first=0.001, longest=0.001))
    finder.error = RequestFailed("AWS cannot be reached (ConnectTimeoutError)", "unavailable")

    while_awaited(finder, [(f"site-{n}", "b") for n in range(50)], lambda _: len(finder.searched) >= 8)

    assert capsys.readouterr().err.count("Test does not describe builds: AWS cannot be reached") == 1


def test_each_site_has_its_turn() -> None:
    """Somebody waits for a thousand builds of one site, and then somebody for one of another."""
    flood = [AwaitedBuild("flooded", f"b{n}", searches=1, search_at=5) for n in range(1000)]
    other = AwaitedBuild("other", "b")

    assert choose_search([*flood, other], 10) is other
    assert choose_search(flood, 4) is None
    assert {id(choose_search([each], 10)) for each in flood[:5]} == {id(each) for each in flood[:5]}


@given(st.lists(st.tuples(st.sampled_from("abc"), st.integers(0, 20), st.booleans()), max_size=40))
def test_only_due_builds_without_a_running_task_are_searched_for(rows: list[tuple[str, int, bool]]) -> None:
    builds = [
        AwaitedBuild(slug, str(n), TaskState("running") if runs else None, search_at=at)
        for n, (slug, at, runs) in enumerate(rows)
    ]

    chosen = choose_search(builds, 10)

    assert chosen is None or (chosen.search_at <= 10 and chosen.state is None)
