"""`buildrunner plan` as a process: folders and addresses, exit codes, and that nothing of a repository runs."""

from __future__ import annotations

import json
import os
import signal
import threading
from pathlib import Path

import pytest

from support.git_server import git_server
from support.harness import Repositories, wait_for
from support.warm import WarmProcess

PACKAGE = '{"name": "app", "scripts": {"preinstall": "touch ran", "build": "touch ran"}}'


@pytest.fixture
def temp(open_folder: Path, tmp_path: Path) -> Path:
    """The TMPDIR of a plan, which every user can enter."""
    folder = open_folder / f"plan-{tmp_path.name}"
    folder.mkdir()
    return folder


def start(temp: Path, *arguments: str, **variables: str) -> WarmProcess:
    environment = {"PATH": os.environ["PATH"], "HOME": os.environ.get("HOME", "/"), "TMPDIR": str(temp), **variables}
    return WarmProcess(environment, ("plan", *arguments))


def run(temp: Path, *arguments: str, **variables: str) -> tuple[int, str, str]:
    """Return exit code, stdout and stderr; nothing is left in TMPDIR."""
    process = start(temp, *arguments, **variables)
    output, errors = process.communicate(timeout=120)
    assert list(temp.iterdir()) == []
    return process.wait(), output, errors


def test_a_folder_is_planned_as_it_is_now(repositories: Repositories, temp: Path) -> None:
    folder = repositories.make({"package.json": PACKAGE, ".nvmrc": "22", ".gitignore": "dist\n"})
    (folder / ".nvmrc").write_text("20")  # not committed

    code, output, errors = run(temp, str(folder))

    assert (code, errors) == (0, "")
    assert output.startswith(f"Plan for {folder}\n")
    assert "(20" in output or "20 (newest)" in output
    assert ".nvmrc" in output
    assert not [line for line in output.splitlines() if line != line.rstrip() or "\x1b" in line]


def test_an_address_is_cloned_as_a_build_clones_it(repositories: Repositories, temp: Path) -> None:
    path = repositories.make({"package.json": PACKAGE}, bare=True)
    with git_server(path.parent, password="only-for-git") as server:
        variables = {"REPO_ALLOWED_SCHEMES": "http", "GIT_TOKEN": "only-for-git"}
        code, output, _ = run(temp, server.url(path), "--json", **variables)
        refused, _, errors = run(temp, server.url(path), **{**variables, "GIT_TOKEN": "something-else"})

    plan = json.loads(output)
    assert code == 0
    assert plan["repository"] == server.url(path)
    assert plan["commit"] == repositories.git(path, "rev-parse", "HEAD")
    assert (plan["build"]["command"], plan["build"]["source"]) == ("npm run build", "package.json")
    assert refused == 2
    assert errors.startswith(f"Nothing can be built from {server.url(path)}: ")
    assert "something-else" not in errors


def test_what_cannot_be_built_ends_with_2_and_a_hint(repositories: Repositories, temp: Path) -> None:
    folder = str(repositories.make({"package.json": '{"scripts": {}}'}))

    code, output, errors = run(temp, folder)
    with_json, document, _ = run(temp, folder, "--json")

    assert (code, output) == (2, "")
    assert "package.json has no build script." in errors
    assert "\nWhat to do: " in errors
    failed = json.loads(document)
    assert with_json == 2
    assert (failed["kind"], failed["stage"]) == ("build-script-missing", "build")
    assert failed["reason"] == "package.json has no build script."
    assert failed["hint"]


@pytest.mark.parametrize(
    ("repo", "said"),
    [
        ("owner/name", "write https://github.com/owner/name"),
        ("/nowhere", "neither a folder nor an address"),
        ("git@github.com:owner/name", "neither a folder nor an address"),
        ("ext::sh -c touch% ran", "neither a folder nor an address"),
        ("file:///etc", "https://"),
    ],
)
def test_what_is_no_repository_is_a_configuration_error(repo: str, said: str, temp: Path) -> None:
    code, output, errors = run(temp, repo)

    assert (code, output) == (2, "")
    assert said in errors


def test_nothing_of_the_repository_runs(repositories: Repositories, temp: Path, tmp_path: Path) -> None:
    """Neither scripts nor what the folder's own git configuration names: a folder may come from an archive."""
    ran = tmp_path / "ran"
    touch = f"touch {ran}; cat"
    folder = repositories.make(
        {
            "package.json": PACKAGE.replace("touch ran", touch),
            "package-lock.json": "{}",
            ".gitattributes": "* filter=x\n",
        }
    )
    hook = folder / ".git" / "hooks" / "post-checkout"
    hook.parent.mkdir(exist_ok=True)
    hook.write_text(f"#!/bin/sh\n{touch}\n")
    hook.chmod(0o755)
    module = repositories.make({"page.html": "", ".gitattributes": "* filter=x\n"})
    repositories.git(folder, "-c", "protocol.file.allow=always", "submodule", "add", "-q", str(module), "module")
    repositories.git(folder, "commit", "-qm", "a submodule")
    (folder / "module" / "page.html").write_text("changed")
    for place in (folder, folder / "module"):
        for name in ("core.fsmonitor", "filter.x.clean", "filter.x.smudge", "filter.x.process", "diff.external"):
            repositories.git(place, "config", name, touch)
    (folder / "changed.txt").write_text("not committed")
    os.utime(folder / "package.json", (1, 1))  # git has to read it again

    code, _, errors = run(temp, str(folder), GIT_SUBMODULES="off")

    assert code == 0, errors
    assert not ran.exists()


def test_text_of_a_repository_cannot_control_the_terminal(repositories: Repositories, temp: Path) -> None:
    script = json.dumps({"scripts": {"build": "echo \x1b]0;title\x07 \x9b31m \u202e"}})
    folder = str(repositories.make({"package.json": script}))

    for output in (run(temp, folder)[1], run(temp, folder, "--json")[1]):
        assert not set("\x1b\x07\x9b\u202e") & set(output)


def test_a_signal_ends_a_plan_and_leaves_nothing(repositories: Repositories, temp: Path) -> None:
    path = repositories.make({"package.json": PACKAGE}, bare=True)
    hold = threading.Event()
    with git_server(path.parent, hold=hold) as server:
        process = start(temp, server.url(path), REPO_ALLOWED_SCHEMES="http")
        wait_for(lambda: bool(server.requests), "the request of git")
        process.send_signal(signal.SIGINT)
        output, _ = process.communicate(timeout=60)
        hold.set()

    assert (process.returncode, output) == (130, "")
    assert list(temp.iterdir()) == []
