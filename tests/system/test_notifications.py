"""Webhooks and commit statuses of whole builds."""

from __future__ import annotations

import json
import signal
from pathlib import Path

from support.git_server import git_server
from support.harness import PLAIN, Program, Repositories
from support.receiver import receiver

SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
TOKEN = "ghp_token-of-the-host"


def test_build_reports_to_others_and_hides_it_from_its_commands(
    program: Program, repositories: Repositories, open_folder: Path
) -> None:
    """What the build prints of it by accident is redacted: it learns nothing from its environment."""
    script = "env; echo 'hooks/a-very-secret-path and ghp_token-of-the-host'; mkdir dist && echo '<h1>hello</h1>' >dist/index.html"
    (open_folder / "acme").mkdir()
    repository = repositories.app(script).rename(open_folder / "acme" / "site.git")
    with git_server(open_folder) as git, receiver() as hooks, receiver() as host:
        run = program.run(
            f"{git.origin}/acme/site.git",
            **PLAIN,
            WEBHOOK_URL=f"{hooks.origin}/hooks/a-very-secret-path?key=12345678",
            WEBHOOK_SECRET=SECRET,
            COMMIT_STATUS_TOKEN=TOKEN,
            COMMIT_STATUS="github",
            COMMIT_STATUS_URL=host.origin,
            SITE_URL="https://{slug}.example.com",
        )

    assert run.code == 0
    commit = repositories.git(repository, "rev-parse", "HEAD")
    started, finished = (request.json for request in hooks.requests)
    assert (started["type"], started["data"]) == (
        "build.started",
        {"slug": run.slug, "build": run.result["build"], "commit": commit},
    )
    assert finished["type"] == "build.finished"
    assert finished["data"]["url"] == f"https://{run.slug}.example.com"
    assert finished["data"]["files"] == 1
    assert [(status.path, status.json["state"]) for status in host.requests] == [
        (f"/repos/acme/site/statuses/{commit}", "pending"),
        (f"/repos/acme/site/statuses/{commit}", "success"),
    ]
    assert host.requests[1].json["target_url"] == f"https://{run.slug}.example.com"
    assert "hooks/[redacted] and [redacted]" in run.lines
    for secret in (SECRET[6:], TOKEN, "a-very-secret-path", "12345678", "WEBHOOK", "COMMIT_STATUS"):
        assert not any(secret in line for line in run.lines)
        assert secret not in run.stdout + run.stderr


def test_build_that_is_stopped_says_so_within_its_deadline(program: Program, repositories: Repositories) -> None:
    with receiver(["hang"]) as hooks:
        with program.running(
            repositories.app("echo begun; sleep 60"),
            **PLAIN,
            WEBHOOK_URL=hooks.origin,
            WEBHOOK_SECRET=SECRET,
        ) as running:
            running.wait_for_line("begun")
            hooks.wait_for(1)
            running.process.send_signal(signal.SIGTERM)
            run = running.end()

        assert run.code == 143
        assert [request.json["type"] for request in hooks.requests] == ["build.started", "build.finished"]
        assert hooks.requests[1].json["data"]["status"] == "cancelled"


def test_published_folder_is_announced_without_a_commit(program: Program, tmp_path: Path) -> None:
    (tmp_path / "index.html").write_text("<h1>hello</h1>")
    with receiver() as hooks:
        run = program.run(
            None, "publish", str(tmp_path), REDIS_URI=None, WEBHOOK_URL=hooks.origin, WEBHOOK_SECRET=SECRET
        )

    assert run.code == 0
    assert [request.json["type"] for request in hooks.requests] == ["build.started", "build.finished"]
    assert "commit" not in hooks.requests[1].json["data"]


def test_summary_is_the_last_line_and_carries_the_trace(program: Program, repositories: Repositories) -> None:
    trace = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
    repository = repositories.app('echo "trace $TRACEPARENT"; mkdir dist && echo hello >dist/index.html')
    with receiver() as hooks:
        run = program.run(
            repository,
            **PLAIN,
            SUMMARY="emf",
            TRACEPARENT=trace,
            CONSOLE_FORMAT="json",
            WEBHOOK_URL=hooks.origin,
            WEBHOOK_SECRET=SECRET,
        )

    assert run.code == 0
    assert f"trace {trace}" in run.lines
    assert {request.headers["traceparent"] for request in hooks.requests} == {trace}
    *events, summary = map(json.loads, run.stdout.splitlines())
    assert events == run.events
    assert summary["traceparent"] == trace
    assert summary["cicd.pipeline.run.id"] == run.result["build"]
    assert summary["buildrunner.upload.files"] == summary["buildrunner.site.files"] == 1
    assert summary["buildrunner.cache"] == "miss"
    assert summary["buildrunner.log.events"] == len(events)
    assert summary["_aws"]["CloudWatchMetrics"][0]["Namespace"] == "buildrunner"
