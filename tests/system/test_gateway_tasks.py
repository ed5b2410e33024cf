"""A gateway that is told where builds run: what viewers learn of a build before its first line, and how AWS is asked.

That it finds the tasks of `submit` and of both starters is tested with moto, in `test_deploying.py`.
"""

from __future__ import annotations

import os
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, expect

from support.aws_server import ACCOUNT, REGION
from support.browser import Tab, chromium
from support.fleet_api import FleetApi, fleet_api
from support.gateway import Gateway, StreamWriter
from support.harness import Program, Redis, wait_for
from support.s3_server import S3Server
from support.warm import WarmProgram

TASK = f"arn:aws:ecs:{REGION}:{ACCOUNT}:task/builds/0123456789abcdef"
NONE: dict[str, Any] = {"taskArns": []}
REASON = f"CannotPullContainerError: {ACCOUNT}.dkr.ecr.{REGION}.amazonaws.com/buildrunner:0.1.0: not found"
Open = Callable[..., Tab]


@pytest.fixture(scope="module")
def server() -> Iterator[FleetApi]:
    with fleet_api() as api:
        yield api


@pytest.fixture
def aws(server: FleetApi) -> FleetApi:
    server.clear()
    return server


@pytest.fixture(scope="module")
def gateway(server: FleetApi, shared_redis: Redis, s3: S3Server, open_folder: Path) -> Iterator[Gateway]:
    gateway = Gateway(WarmProgram(shared_redis, s3, open_folder), **server.environment(), ECS_CLUSTER="builds")
    yield gateway
    gateway.close()


@pytest.fixture
def slug() -> str:
    return f"t-{uuid.uuid4().hex[:12]}"


def task(slug: str, status: str, build: str = "b1", **fields: Any) -> dict[str, Any]:
    """Return an answer of DescribeTasks."""
    environment = [{"name": "SLUG", "value": slug}, {"name": "BUILD_ID", "value": build}]
    overrides = {"containerOverrides": [{"name": "buildrunner", "environment": environment}]}
    times = {"createdAt": 1_767_261_600, "pullStartedAt": 1_767_261_660}
    return {"tasks": [{"taskArn": TASK, "lastStatus": status, "overrides": overrides, **times, **fields}]}


def stopped(slug: str) -> dict[str, Any]:
    containers = [{"name": "buildrunner", "reason": REASON}]
    return task(slug, "STOPPED", stopCode="TaskFailedToStart", stoppedAt=1_767_261_720, containers=containers)


def test_a_viewer_is_told_what_becomes_of_the_task(
    aws: FleetApi, gateway: Gateway, shared_redis: Redis, slug: str
) -> None:
    """In comments, which clients of events ignore."""
    aws.answer("ListTasks", NONE, NONE, {"taskArns": [TASK]})
    aws.answer("DescribeTasks", task(slug, "PROVISIONING"), task(slug, "PENDING"), stopped(slug))
    viewer = gateway.events(slug, "b1")

    wait_for(lambda: len(viewer.tasks) == 3, "all states", 60)
    assert viewer.messages == []
    assert viewer.tasks == [
        {"state": "queued", "since": "2026-01-01T10:00:00.000Z"},
        {"state": "starting", "since": "2026-01-01T10:01:00.000Z"},
        {
            "state": "stopped",
            "since": "2026-01-01T10:02:00.000Z",
            "reason": REASON.replace(ACCOUNT, "[redacted]") + ".",
            "hint": "Check that the image exists, and that the subnets reach its registry.",
        },
    ]
    StreamWriter(shared_redis, slug, "b1").end()
    assert viewer.end() == "result"
    late = gateway.events(slug, "b1")
    assert late.end() == "result"
    assert late.tasks == []


def test_viewers_share_one_question(aws: FleetApi, gateway: Gateway, slug: str) -> None:
    aws.answer("ListTasks", {"taskArns": [TASK]})
    aws.answer("DescribeTasks", task(slug, "PENDING"))

    viewers = [gateway.events(slug, "b1") for _ in range(20)]

    wait_for(lambda: all(viewer.tasks for viewer in viewers), "all viewers to know", 60)
    assert len(aws.asked("ListTasks")) == 1
    for viewer in viewers:
        viewer.leave()


def test_made_up_builds_cost_two_requests_a_second_at_most(aws: FleetApi, gateway: Gateway, slug: str) -> None:
    """Forty builds of eight sites; a search is two requests, one for tasks that run and one for those that have stopped."""
    viewers = [gateway.events(f"{slug}-{n % 8}", f"made-up-{n}") for n in range(40)]
    wait_for(lambda: bool(aws.asked("ListTasks")), "the first question", 60)
    before = len(aws.asked("ListTasks"))

    late = gateway.events(f"{slug}-honest", "b1")
    wait_for(lambda: any(ask["startedBy"] == "b1" for ask in aws.asked("ListTasks")), "its turn", 60)

    asked = [ask["startedBy"] for ask in aws.asked("ListTasks")[before:]]
    assert len(asked) <= 2 * 8 * 5, "each build was searched for at most once before it"
    for viewer in [*viewers, late]:
        viewer.leave()


def test_a_job_waits_in_its_queue(aws: FleetApi, program: Program, slug: str) -> None:
    environment = [{"name": "SLUG", "value": slug}, {"name": "BUILD_ID", "value": "b1"}]
    needed = {"jobName": f"{slug}-b1", "jobId": "1234", "jobQueue": "q", "jobDefinition": "d", "startedAt": 1}
    job = {**needed, "status": "RUNNABLE", "createdAt": 1_767_261_600_000, "container": {"environment": environment}}
    aws.answer("ListJobs", {"jobSummaryList": [{"jobId": "1234", "jobName": f"{slug}-b1"}]})
    aws.answer("DescribeJobs", {"jobs": [job]})
    gateway = Gateway(program, **aws.environment(), BATCH_JOB_QUEUE="builds")
    try:
        viewer = gateway.events(slug, "b1")
        wait_for(lambda: bool(viewer.tasks), "the job", 60)
    finally:
        gateway.close()

    assert viewer.tasks == [{"state": "queued", "since": "2026-01-01T10:00:00.000Z"}]
    assert aws.asked("ListJobs")[0]["filters"] == [{"name": "JOB_NAME", "values": [f"{slug}-b1"]}]
    assert aws.asked("ListTasks") == []


# --- the page --------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as browser:
        yield browser


@pytest.fixture
def open_page(browser: Browser, gateway: Gateway) -> Iterator[Open]:
    tabs: list[Tab] = []

    def open_build(slug: str, **options: Any) -> Tab:
        tabs.append(Tab(browser, **options))
        return tabs[-1].open(f"http://127.0.0.1:{gateway.port}/sites/{slug}/builds/b1")

    yield open_build
    for tab in tabs:
        tab.close()


def take_pictures(tab: Tab, name: str) -> None:
    """Save pictures, wide and narrow, light and dark, where PICTURES names a folder."""
    if folder := os.environ.get("PICTURES"):
        for width, height in ((1280, 800), (390, 844)):
            for scheme in ("light", "dark"):
                tab.page.set_viewport_size({"width": width, "height": height})
                tab.page.emulate_media(color_scheme=scheme)
                tab.page.screenshot(path=f"{folder}/{name}-{width}-{scheme}.png")
        tab.page.set_viewport_size({"width": 1280, "height": 800})


def test_the_page_shows_a_build_that_waits_starts_and_dies(
    aws: FleetApi, open_page: Open, shared_redis: Redis, slug: str
) -> None:
    aws.answer("ListTasks", {"taskArns": [TASK]})
    aws.answer("DescribeTasks", task(slug, "PROVISIONING"))
    tab = open_page(slug, timezone_id="UTC")
    empty, card = tab.page.locator("#empty"), tab.page.locator("#card")

    expect(tab.state).to_have_text("Queued")
    expect(empty).to_contain_text("Since Jan 1, 10:00 AM. It starts as soon as AWS has room for it.")
    assert tab.page.title() == f"○ Queued · {slug}"
    assert tab.axe() == []
    take_pictures(tab, "queued")

    aws.answer("DescribeTasks", task(slug, "PENDING"))
    expect(tab.state).to_have_text("Starting")
    expect(empty).to_contain_text("The image is being pulled, since Jan 1, 10:01 AM.")
    take_pictures(tab, "starting")

    aws.answer("DescribeTasks", stopped(slug))
    expect(tab.state).to_have_text("Not started")
    expect(card).to_contain_text("Stopped before its first line")
    expect(card).to_contain_text("Jan 1, 10:02 AM: CannotPullContainerError: [redacted].dkr.ecr")
    expect(card).to_contain_text("Check that the image exists")
    expect(empty).to_be_empty()
    expect(tab.page.locator("#result-announcer")).to_contain_text("Not started. CannotPullContainerError")
    assert tab.page.title() == f"✗ Not started · {slug}"
    assert tab.axe() == []
    take_pictures(tab, "stopped")

    aws.answer("DescribeTasks", task(slug, "RUNNING", startedAt=1_767_261_700))  # somebody started it again
    expect(empty).to_contain_text("The task has been running since Jan 1, 10:01 AM. Check that it can reach Redis.")
    expect(card).to_be_hidden()
    take_pictures(tab, "silent")

    writer = StreamWriter(shared_redis, slug, "b1")
    writer.write("hello")
    expect(tab.state).to_have_text("Running")
    expect(empty).to_be_empty()
    writer.end(seconds=1.5)
    expect(tab.state).to_have_text("Succeeded")
    expect(card).to_contain_text("Published")
    assert len([address for address in tab.requests if "/events" in address]) == 1
