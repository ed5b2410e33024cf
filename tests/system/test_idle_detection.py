"""Builds that go on to serve what they built, or only serve; and hints where everybody sees them."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import ExitStack

import pytest

from support.harness import Program, Redis, Repositories, Run
from support.s3_server import S3Server
from support.warm import WarmProgram

# A server that listens and does nothing more, as those of the tools do once they are up.
PREVIEW = "require('http').createServer().listen(0, () => console.log('Local: http://localhost/'))"
APPS = {
    "serving after all": "mkdir dist; echo page >dist/index.html; exec node preview.cjs dist",
    "only serving": "exec node preview.cjs",
    # A page, a server, and for longer than what never ends is left alone: a request that is answered late.
    "at work": (
        "mkdir dist; echo early >dist/index.html; exec node -e '"
        'const server = require("http").createServer((_, answer) => setTimeout(() => answer.end("late"), 14000));'
        'server.listen(0, () => require("http").get({port: server.address().port}, (got) =>'
        ' got.on("data", (data) => { require("fs").writeFileSync("dist/index.html", data); process.exit() })))'
        "'"
    ),
}
pytestmark = pytest.mark.skipif(not shutil.which("node"), reason="there is no Node")


@pytest.fixture(scope="module")
def runs(shared_redis: Redis, s3: S3Server, repositories: Repositories) -> Iterator[dict[str, Run]]:
    """All at once: they wait most of the time."""
    program = WarmProgram(shared_redis, s3, repositories.folder)
    with ExitStack() as stack:
        running = {
            name: stack.enter_context(
                program.running(
                    repositories.app(build, **{"preview.cjs": PREVIEW}), INSTALL_COMMAND="true", BUILD_TIMEOUT="90"
                )
            )
            for name, build in APPS.items()
        }
        yield {name: one.end(120) for name, one in running.items()}


def test_a_build_that_goes_on_to_serve_is_ended_and_published(program: Program, runs: dict[str, Run]) -> None:
    run = runs["serving after all"]

    assert run.code == 0, run.stdout
    assert program.objects(run.slug)["index.html"]["body"] == b"page\n"
    warnings = [event["log"] for event in run.events if event.get("level") == "warning"]
    assert "npm run build serves the site instead of exiting (node preview.cjs dist); stopping it." in warnings
    assert any("Remove `node preview.cjs dist` from the build script" in warning for warning in warnings)
    build = next(e for e in run.events if e["type"] == "stage" and e["stage"] == "build" and e["state"] != "started")
    assert build["seconds"] < 45


def test_a_build_that_only_serves_ends_with_reason_and_hint(program: Program, runs: dict[str, Run]) -> None:
    run = runs["only serving"]

    assert run.code == 40
    assert run.result["status"] == "failed"
    assert "started a server and wrote no HTML (node preview.cjs)" in run.result["reason"]
    assert run.messages[-1] == f"Failed: {run.result['reason']}"
    assert run.messages[-3] == f"What to do: {run.result['hint']}"
    hint = run.events[-3]
    assert (hint["type"], hint["stream"], hint["stage"]) == ("log", "runner", "finish")
    assert program.archive(run) == run.events
    assert run.stdout.count(run.result["hint"]) == 1


def test_a_build_that_serves_while_it_works_is_left_alone(program: Program, runs: dict[str, Run]) -> None:
    run = runs["at work"]

    assert run.code == 0
    assert program.objects(run.slug)["index.html"]["body"] == b"late"
