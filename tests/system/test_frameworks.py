"""Frameworks and outputs in a whole run; tests/unit/test_frameworks.py and test_output.py have the rest."""

from __future__ import annotations

import json

from support.harness import Program, Repositories, app_files


def test_what_the_build_wrote_is_published_and_old_files_are_not(program: Program, repositories: Repositories) -> None:
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


def test_what_visitors_would_not_get_is_warned_of(program: Program, repositories: Repositories) -> None:
    page = '<script src="/my-repo/assets/a.js"></script>'
    build = f"mkdir -p dist/v2 dist/assets; echo '{page}' >dist/index.html; echo 1 >dist/assets/a.js"
    build += "; echo 2 >dist/v2/b; ln -s v2 dist/latest"

    run = program.run(
        repositories.app(build, **{"netlify.toml": '[[redirects]]\nfrom = "/x/*"\nto = "/index.html"\nstatus = 200\n'})
    )

    assert run.code == 0
    assert set(program.objects(run.slug)) == {"index.html", "assets/a.js", "v2/b", "latest/b"}
    warnings = [event["log"] for event in run.events if event.get("level") == "warning"]
    assert len(warnings) == 1
    assert "references /my-repo/assets/a.js, but the site has it as /assets/a.js" in warnings[0]
    assert run.said("Rules of the site: 1 rewrite")


def test_a_complete_page_is_published_without_package_sources(program: Program, repositories: Repositories) -> None:
    files = {
        "index.html": '<link rel="stylesheet" href="css/a.css">',
        "css/a.css": "a{}",
        "README.md": "",
        "src/a.scss": "",
    }

    run = program.run(repositories.app("mkdir -p css; echo 'b{}' >css/a.css", **files))

    assert run.code == 0
    assert set(program.objects(run.slug)) == {"index.html", "css/a.css"}
    assert run.said("Set OUTPUT_DIR=. to publish all files.")
