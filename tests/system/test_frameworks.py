"""Frameworks and outputs in a whole run; tests/unit/test_frameworks.py and test_output.py have the rest."""

from __future__ import annotations

import json

from harness import Program, Repositories, app_files


def test_what_the_build_wrote_is_published_and_what_was_there_is_not(
    program: Program, repositories: Repositories
) -> None:
    there = {"dist/index.html": "old", "public/index.html": "template"}

    run = program.run(repositories.app("mkdir build; echo new >build/index.html", **there))

    assert run.code == 0
    assert {name: found["body"] for name, found in program.objects(run.slug).items()} == {"index.html": b"new\n"}
    assert run.said("No page in dist; publishing build, where index.html is.")


def test_a_server_is_explained_before_anything_is_installed(program: Program, repositories: Repositories) -> None:
    package = {"name": "app", "scripts": {"build": "next build"}, "dependencies": {"next": "15.0.0"}}

    run = program.run(repositories.make({**app_files(""), "package.json": json.dumps(package)}))

    assert (run.code, run.result["stage"]) == (40, "build")
    assert "rendered by a server" in run.result["reason"]
    assert "output: 'export'" in run.result["hint"]
    assert "install" not in {event.get("stage") for event in run.events}
