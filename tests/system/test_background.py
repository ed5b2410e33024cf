"""Builds whose command ends while something that it started still runs: `node data.cjs & node pages.cjs`."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import ExitStack

import pytest

from support.harness import Program, Redis, Repositories, Run
from support.s3_server import S3Server
from support.warm import WarmProgram

FILES = {
    # As a download does: little CPU, a piece of the file now and then.
    "pieces.cjs": (
        "const file = require('fs').createWriteStream('dist/data.json'); let i = 0;"
        "const timer = setInterval(() => { file.write('x');"
        " if (++i === 20) { clearInterval(timer); file.end('END'); } }, 200);"
    ),
    "hung.cjs": (
        "const fs = require('fs'); const file = fs.openSync('dist/data.json', 'w'); fs.writeSync(file, 'half');"
        " setInterval(() => {}, 1e6);"
    ),
    "serve.cjs": "require('http').createServer().listen(0, '127.0.0.1')",
    "daemon.cjs": "require('net').createServer().listen(`${process.env.TMPDIR}/daemon.sock`)",
}
READY = "mkdir dist; echo page >dist/index.html;"
APPS = {
    "pieces": f"{READY} node pieces.cjs & sleep 0.5",
    "at work": f"{READY} (i=0; while [ $i -lt 600000 ]; do i=$((i + 1)); done; printf END >dist/data.json) &",
    "a pause": f"{READY} (sleep 3; printf END >dist/data.json) &",
    "hung": f"{READY} node hung.cjs & until [ -s dist/data.json ]; do sleep 0.1; done",
    "detached": f"{READY} setsid node hung.cjs & until [ -s dist/data.json ]; do sleep 0.1; done",
    "sleeps": f"{READY} sleep 600 & while sleep 60; do echo still building; done & echo built",
    "serves": f"{READY} node serve.cjs & node daemon.cjs & sleep 1",
    "fails": f"{READY} node pieces.cjs & exit 3",
}
pytestmark = pytest.mark.skipif(not shutil.which("node"), reason="there is no Node")


@pytest.fixture(scope="module")
def runs(shared_redis: Redis, s3: S3Server, repositories: Repositories) -> Iterator[dict[str, Run]]:
    """All at once: they wait most of the time."""
    program = WarmProgram(shared_redis, s3, repositories.folder)
    with ExitStack() as stack:
        running = {
            name: stack.enter_context(
                program.running(repositories.app(build, **FILES), INSTALL_COMMAND="true", BUILD_COMMAND="sh build.sh")
            )
            for name, build in APPS.items()
        }
        yield {name: one.end(120) for name, one in running.items()}


def warnings(run: Run) -> list[str]:
    return [event["log"] for event in run.events if event.get("level") == "warning" and event["stage"] == "build"]


@pytest.mark.parametrize("name", ["pieces", "at work", "a pause"])
def test_work_in_the_background_is_waited_for(program: Program, runs: dict[str, Run], name: str) -> None:
    run = runs[name]

    assert run.code == 0, run.stdout
    assert program.objects(run.slug)["data.json"]["body"].endswith(b"END")
    assert warnings(run) == []


@pytest.mark.parametrize("name", ["hung", "detached"])
def test_a_file_of_the_output_left_open_fails_the_build(program: Program, runs: dict[str, Run], name: str) -> None:
    run = runs[name]

    assert run.code == 40
    assert "`node hung.cjs` was still writing dist/data.json" in run.result["reason"]
    assert any("`node hung.cjs` still ran" in warning for warning in warnings(run))
    assert program.objects(run.slug) == {}


@pytest.mark.parametrize(
    ("name", "left", "advice"),
    [
        ("sleeps", ["sleep 600", "sleep 60"], "Wait for it in the script, or remove it."),
        ("serves", ["node serve.cjs", "node daemon.cjs"], "so it was stopped. Stop it in the script."),
    ],
)
def test_what_only_waits_is_stopped_and_named(runs: dict[str, Run], name: str, left: list[str], advice: str) -> None:
    run = runs[name]

    assert run.code == 0, run.stdout
    (warning,) = warnings(run)
    assert all(f"`{program}`" in warning for program in left)
    assert warning.endswith(advice)
    assert not run.said("Waiting for `sleep")


def test_nothing_is_waited_for_when_the_command_has_failed(runs: dict[str, Run]) -> None:
    run = runs["fails"]

    assert run.code == 40
    assert "exit code 3" in run.result["reason"]
    assert not run.said("Waiting for")
