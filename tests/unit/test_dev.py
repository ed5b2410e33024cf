"""Test the parts of `buildrunner dev` that need no servers: ports, folders, snapshots, watching, and the user."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from collections.abc import Callable
from contextlib import aclosing
from pathlib import Path

import anyio
import pytest
from anyio.abc import SocketStream

from buildrunner.commands.dev.command import _OURS, folder_of, make_slug
from buildrunner.commands.dev.early_port import open_early_port
from buildrunner.commands.dev.folders import cache_of, runtime_folder
from buildrunner.commands.dev.leftovers import removed_at_end
from buildrunner.commands.dev.listeners import open_listeners
from buildrunner.commands.dev.running import RunningDev, announce, find_newest
from buildrunner.commands.dev.servers import held_ports, servers
from buildrunner.commands.dev.snapshot import SnapshotRepository
from buildrunner.commands.dev.watch import watch_changes
from buildrunner.config.variables import variables_of
from buildrunner.errors import BuildEnded


@pytest.fixture(autouse=True)
def _own_folders(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "runtime").mkdir()
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path / "runtime"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


@pytest.mark.parametrize(
    ("repo", "slug"),
    [
        ("/home/me/My App_2", "my-app-2"),
        ("https://example.org/owner/site.git", "site"),
        ("https://example.org/owner/Site/", "site"),
        ("/", "site"),
        ("/x/" + "a" * 62 + "--b", "a" * 62),
    ],
)
def test_a_slug_is_made_of_the_name(repo: str, slug: str) -> None:
    assert make_slug(repo) == slug


@pytest.mark.parametrize(
    ("repo", "folder"),
    [
        ("file:///home/me/My%20App", "/home/me/My App"),
        ("file://localhost/app", "/app"),
        ("file://host/app", "file://host/app"),
        ("https://example.org/a", "https://example.org/a"),
        ("my app", "my app"),
    ],
)
def test_a_file_url_is_its_folder(repo: str, folder: str) -> None:
    assert folder_of(repo) == folder


# --- ports -----------------------------------------------------------------------------------------------------------


def port_of(listener: socket.socket) -> int:
    return int(listener.getsockname()[1])


def test_by_default_two_runs_take_pairs_of_ports_in_turn() -> None:
    with open_listeners(None) as (first, first_site), open_listeners(None) as (second, second_site):
        assert port_of(first) % 2 == 0
        assert (port_of(first_site), port_of(second_site)) == (port_of(first) + 1, port_of(second) + 1)
        assert port_of(second) > port_of(first) >= 4400


def test_a_port_that_is_taken_is_named_with_a_way_out() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = port_of(taken)
        with pytest.raises(BuildEnded, match=f"Port {port} is not available: ") as ended, open_listeners(port):
            pass
    assert ended.value.exit_code == 2
    assert "--port 0" in str(ended.value.hint)


def test_a_named_port_is_the_page_and_the_site_is_next_to_it() -> None:
    with open_listeners(0) as (free, _):
        port = port_of(free)
    with open_listeners(port) as (page, site):
        assert port_of(page) == port
        assert page.getsockname()[0] == site.getsockname()[0] == "127.0.0.1"


def test_connections_wait_for_their_server() -> None:
    async def check() -> None:
        ready, used = anyio.Event(), anyio.Event()
        with socket.create_server(("127.0.0.1", 0)) as late:
            port = port_of(late)
        async with open_early_port(port, ready, used) as early, await anyio.connect_tcp("127.0.0.1", early) as first:
            await first.send(b"sent early")
            await first.send_eof()
            assert not used.is_set()
            async with (
                await anyio.create_tcp_listener(local_host="127.0.0.1", local_port=port) as server,
                anyio.create_task_group() as tasks,
            ):
                tasks.start_soon(server.serve, echo)
                ready.set()
                assert b"".join([chunk async for chunk in first]) == b"sent early, received"
                assert used.is_set()
                async with await anyio.connect_tcp("127.0.0.1", early) as second:
                    await second.send(b"x" * 3_000_000)
                    await second.send_eof()
                    assert len(b"".join([chunk async for chunk in second])) == 3_000_000 + len(", received")
                tasks.cancel_scope.cancel()
            async with await anyio.connect_tcp("127.0.0.1", early) as third:  # the server has gone
                assert [chunk async for chunk in third] == []

    async def echo(client: SocketStream) -> None:
        async with client:
            received = b"".join([chunk async for chunk in client])
            await client.send(received + b", received")

    anyio.run(check)


def test_a_server_that_does_not_start_is_named_with_its_log(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    program = tmp_path / "broken"
    program.write_text("#!/bin/sh\necho no space left\nexit 1\n")
    program.chmod(0o755)
    monkeypatch.setattr("buildrunner.commands.dev.servers._program", lambda *_: str(program))

    async def start() -> None:
        with removed_at_end() as leftovers:
            async with servers(leftovers):
                await anyio.sleep_forever()

    with pytest.raises(BuildEnded, match=r"does not start on this machine. The end of its log:\nno space left"):
        anyio.run(start)


def test_no_other_program_is_given_a_port_that_a_server_will_use() -> None:
    with held_ports(3) as ports:
        assert len(set(ports)) == 3
        for port in ports:
            with pytest.raises(OSError, match="in use"), socket.socket() as other:
                other.bind(("127.0.0.1", port))
            with socket.create_server(("127.0.0.1", port)) as server:
                socket.create_connection(server.getsockname()).close()


# --- folders ---------------------------------------------------------------------------------------------------------


def test_repositories_of_one_name_share_no_cache(tmp_path: Path) -> None:
    first, second = cache_of("/a/app", "app"), cache_of("/b/app", "app")

    assert first
    assert first.parent == tmp_path / "cache" / "buildrunner" / "dependencies"
    assert first.stat().st_mode & 0o777 == 0o700
    assert first != second
    assert cache_of("/a/app", "app") == first


def test_a_cache_that_was_not_used_for_a_month_is_removed() -> None:
    old = cache_of("/a/old", "old")
    assert old
    (old / "archive").write_text("x")
    os.utime(old, (1, 1))

    recent = cache_of("/a/app", "app")

    assert recent
    assert os.listdir(recent.parent) == [recent.name]


def test_without_a_place_for_the_cache_there_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", "/dev/null/cache")

    assert cache_of("/a/app", "app") is None


@pytest.mark.parametrize("given", ["", "runtime", "/no/such/folder", "/dev/null"])
def test_a_runtime_folder_that_is_none_is_not_used(given: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_RUNTIME_DIR", given)

    assert runtime_folder() == tmp_path / "cache" / "buildrunner" / "running"


# --- who runs --------------------------------------------------------------------------------------------------------


def test_the_newest_that_runs_is_found_and_leaves_no_file(tmp_path: Path) -> None:
    running = RunningDev("my-app", {"REDIS_URI": "redis://:secret@h"})
    assert find_newest() is None
    with announce(running):
        (path,) = (tmp_path / "runtime" / "buildrunner").iterdir()
        assert path.stat().st_mode & 0o777 == 0o600
        assert find_newest() == find_newest("my-app") == running
        assert find_newest("other") is None
        assert "secret" not in repr(running)
    assert find_newest() is None
    assert os.listdir(tmp_path / "runtime") == []


ANNOUNCE = """
import os, signal
from buildrunner.commands.dev.running import RunningDev, announce
with announce(RunningDev("killed", {})):
    os.kill(os.getpid(), signal.SIGKILL)
"""


def test_one_that_was_killed_is_not_found_and_is_cleared_away(tmp_path: Path) -> None:
    with announce(RunningDev("older", {})):
        subprocess.run([sys.executable, "-c", ANNOUNCE], check=False, timeout=60)
        assert len(os.listdir(tmp_path / "runtime" / "buildrunner")) == 2

        assert find_newest() == RunningDev("older", {})
        assert len(os.listdir(tmp_path / "runtime" / "buildrunner")) == 1


# --- snapshots -------------------------------------------------------------------------------------------------------


def git(folder: Path, *arguments: str) -> str:
    identity = ["-c", "user.name=Test", "-c", "user.email=test@localhost"]
    return subprocess.check_output(["git", "-C", folder, *identity, *arguments], text=True).strip()


@pytest.fixture
def app(tmp_path: Path) -> Path:
    """Create a repository with one commit."""
    folder = tmp_path / "app"
    (folder / "src").mkdir(parents=True)
    (folder / "src" / "index.js").write_text("1")
    (folder / ".gitignore").write_text("*.log\n/out/\n")
    for arguments in (["init", "-q", "-b", "trunk"], ["add", "-A"], ["commit", "-qm", "first"]):
        git(folder, *arguments)
    return folder


def test_a_repository_without_changes_gives_its_own_commit(app: Path, tmp_path: Path) -> None:
    anyio.run(SnapshotRepository(str(app), f"{tmp_path}/snapshot").take)

    assert git(tmp_path / "snapshot", "rev-parse", "trunk") == git(app, "rev-parse", "HEAD")


def test_a_folder_with_changes_is_committed_as_it_lies_there(app: Path, tmp_path: Path) -> None:
    for name in ("src/new.js", "src/ignored.log", "node_modules/x/index.js", "dist/index.html"):
        (app / name).parent.mkdir(parents=True, exist_ok=True)
        (app / name).write_text("x")

    anyio.run(SnapshotRepository(str(app), f"{tmp_path}/snapshot").take)

    files = git(tmp_path / "snapshot", "ls-tree", "-r", "--name-only", "HEAD").splitlines()
    assert files == [".gitignore", "src/index.js", "src/new.js"]
    assert git(app, "status", "--porcelain") != ""


def test_a_replaced_snapshot_reports_whether_content_changed(app: Path, tmp_path: Path) -> None:
    async def check() -> None:
        repository = SnapshotRepository(str(app), f"{tmp_path}/snapshot")
        first = await repository.take()
        (app / "debug.log").write_text("x")
        assert (await repository.take()).tree == first.tree
        (app / "src" / "index.js").write_text("2")
        second = await repository.take()
        assert second.tree != first.tree
        assert await repository.describe_change(first, second) == "src/index.js"
        git(app, "commit", "-qam", "second")
        assert (await repository.take()).tree == second.tree
        assert git(tmp_path / "snapshot", "rev-parse", "HEAD") == git(app, "rev-parse", "HEAD")
        (app / "src" / "index.js").unlink()
        assert (await repository.take()).tree not in {first.tree, second.tree}
        assert git(tmp_path / "snapshot", "ls-tree", "-r", "--name-only", "HEAD") == ".gitignore"
        for name in ("a.js", "b.js", "c.js"):
            (app / name).write_text(name)
        assert await repository.describe_change(second, await repository.take()) == "a.js and 3 more files"

    anyio.run(check)


def test_no_program_runs_that_the_folder_names(app: Path, tmp_path: Path) -> None:
    for name, value in {
        "core.fsmonitor": "touch ran",
        "filter.x.clean": "touch ran",
        "uploadpack.packObjectsHook": "touch ran",
    }.items():
        git(app, "config", name, value)
    (app / ".gitattributes").write_text("* filter=x\n")
    (app / ".git" / "hooks" / "reference-transaction").write_text("#!/bin/sh\ntouch ran\n")
    (app / ".git" / "hooks" / "reference-transaction").chmod(0o755)

    anyio.run(SnapshotRepository(str(app), f"{tmp_path}/snapshot").take)
    anyio.run(SnapshotRepository(str(app), f"{tmp_path}/other").take, "trunk")

    assert not list(tmp_path.rglob("ran"))


def test_a_ref_is_built_whatever_lies_in_the_folder(app: Path, tmp_path: Path) -> None:
    first = git(app, "rev-parse", "HEAD")
    git(app, "tag", "v1")
    git(app, "branch", "old")
    (app / "src" / "index.js").write_text("2")
    git(app, "commit", "-qam", "second")
    (app / "src" / "index.js").write_text("3")

    for number, ref in enumerate(("v1", "old", first, first[:10])):
        anyio.run(SnapshotRepository(str(app), f"{tmp_path}/{number}").take, ref)
        assert git(tmp_path / str(number), "rev-parse", "HEAD") == first
        assert git(tmp_path / str(number), "symbolic-ref", "--short", "HEAD") == ("old" if ref == "old" else "main")
    for wrong in ("no-such-branch", "--all", "HEAD:src"):
        with pytest.raises(BuildEnded, match="has no branch, tag or commit"):
            anyio.run(SnapshotRepository(str(app), f"{tmp_path}/wrong").take, wrong)


# --- the watch -------------------------------------------------------------------------------------------------------


def test_changes_are_reported_also_in_new_folders(app: Path, tmp_path: Path) -> None:
    async def check() -> None:
        repository = SnapshotRepository(str(app), f"{tmp_path}/snapshot")
        tree = (await repository.take()).tree
        async with aclosing(watch_changes(repository)) as changes:
            await anext(changes)

            async def change(work: Callable[[], object]) -> None:
                nonlocal tree
                work()
                with anyio.fail_after(60):
                    async for _ in changes:
                        if (now := (await repository.take()).tree) != tree:
                            tree = now
                            return

            await change(lambda: (app / "src" / "index.js").write_text("2"))
            (app / "src" / "new").mkdir()
            await change(lambda: (app / "src" / "new" / "a.js").write_text("1"))
            await change(lambda: (app / "src" / "new" / "a.js").write_text("2"))
            await change((app / "src" / "new" / "a.js").unlink)

    anyio.run(check)


def test_ignored_folders_are_not_watched(app: Path, tmp_path: Path) -> None:
    for name in ("node_modules/x/y/index.js", "out/a/index.html", "src/deep/er/index.js"):
        (app / name).parent.mkdir(parents=True)
        (app / name).write_text("x")
    repository = SnapshotRepository(str(app), f"{tmp_path}/snapshot")

    async def list_folders() -> set[str]:
        await repository.take()
        return await repository.list_folders()

    assert anyio.run(list_folders) == {str(app / name) for name in ("", "src", "src/deep", "src/deep/er")}


def test_its_gateway_asks_no_fleet_about_builds() -> None:
    """`ECS_CLUSTER` may be set in a terminal from which builds are submitted, too."""
    fleet = [variable.name for variable in variables_of("serve") if variable.group == "Fleet"]

    assert fleet == ["ECS_CLUSTER", "BATCH_JOB_QUEUE"]
    assert all(_OURS.fullmatch(name) for name in fleet)
