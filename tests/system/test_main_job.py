"""The main job, seen from outside: a repository goes in; a site, its log and an exit code come out."""

from __future__ import annotations

from itertools import pairwise

from harness import Program, Repositories


def test_a_site_is_published_and_the_run_ends_with_0(program: Program, repositories: Repositories) -> None:
    app = repositories.app("mkdir -p dist/assets; echo page >dist/index.html; echo 'x' >dist/assets/index-DiwrgTda.js")

    run = program.run(app)

    assert run.code == 0
    assert run.result["status"] == "succeeded"
    assert run.result["stage"] == "finish"
    assert run.result["files"] == 2
    assert run.result["commit"] == repositories.git(app, "rev-parse", "HEAD")
    site = program.objects(run.slug)
    assert site["index.html"]["body"] == b"page\n"
    assert site["index.html"]["ContentType"] == "text/html; charset=utf-8"
    assert site["index.html"]["CacheControl"] == "public, max-age=0, must-revalidate"
    assert site["assets/index-DiwrgTda.js"]["ContentType"] == "text/javascript; charset=utf-8"
    assert site["assets/index-DiwrgTda.js"]["CacheControl"] == "public, max-age=31536000, immutable"


def test_numbers_have_no_gap_and_the_stream_the_channel_and_the_archive_agree(
    program: Program, repositories: Repositories
) -> None:
    app = repositories.app(
        "i=0; while [ $i -lt 3000 ]; do echo line $i; i=$((i+1)); done; mkdir dist; echo 1 >dist/index.html"
    )

    run = program.run(app)

    assert run.code == 0
    assert [event["seq"] for event in run.events] == list(range(1, len(run.events) + 1))
    assert [line for line in run.lines if line.startswith("line ")] == [f"line {i}" for i in range(3000)]
    assert run.messages == [event["log"] for event in run.events if "log" in event]
    assert run.messages[-1] == "Done"
    assert program.archive(run) == run.events
    assert all(before["ts"] <= after["ts"] for before, after in pairwise(run.events))
    assert all(None not in event.values() for event in run.events)


def test_a_build_that_fails_publishes_nothing_and_ends_with_40(program: Program, repositories: Repositories) -> None:
    run = program.run(repositories.app("echo before; mkdir dist; echo 1 >dist/index.html; echo oops >&2; exit 7"))

    assert run.code == 40
    assert run.result["status"] == "failed"
    assert run.result["stage"] == "build"
    assert "exit code 7" in run.result["reason"]
    assert run.messages[-1].startswith("Failed: ")
    assert {"before", "oops"} <= set(run.lines)
    assert program.objects(run.slug) == {}
    assert program.archive(run)[-1] == run.result
