"""Test the report on processes that a command left running; tests/system/test_background.py has the rest."""

from __future__ import annotations

import socket
import subprocess
import sys
from pathlib import Path

import pytest

from buildrunner.sandbox.background import (
    LOOK,
    QUIET_SECONDS,
    SERVICE_QUIET_SECONDS,
    OpenFiles,
    _cpu_since,
    _patience,
    _sleeps_for_long,
    parse_look,
)
from buildrunner.sandbox.processes import Process, as_typed, running_descendants


def process(pid: int, cpu: float) -> Process:
    return Process(pid, parent=1, session=1, state="S", cpu=cpu, started=0)


def test_what_is_written_and_open_for_writing_is_seen(tmp_path: Path) -> None:
    script = (
        "import time; f = open('a\\nb', 'w'); f.write('x' * 5000); f.flush();"
        " g = open('/etc/passwd'); print('up', flush=True); time.sleep(60)"
    )
    with subprocess.Popen([sys.executable, "-c", script], cwd=tmp_path, stdout=subprocess.PIPE) as child:
        try:
            assert child.stdout
            child.stdout.readline()
            printed = subprocess.run(
                ["/bin/sh", "-c", LOOK, "sh", str(child.pid)], capture_output=True, check=True
            ).stdout
        finally:
            child.kill()

    found = parse_look(printed)[child.pid]

    assert found.written >= 5000
    assert found.writable == {f"{tmp_path}/a\nb"}
    assert "/etc/passwd" in found.targets


def test_a_process_that_is_gone_or_closed_shows_nothing() -> None:
    assert parse_look(b"") == {}
    assert parse_look(b"W12 0\0F/proc/12/fd 700 /tmp/a (deleted)\0")[12].writable == set()


@pytest.mark.parametrize(
    "text", ["", "X", "W", "W1", "W1 x", "F", "F1", "F1 700", "F1 x /a", "Wx 1", "W" + "1" * 5000, "F\u0661 7 "]
)
def test_what_the_build_writes_into_the_look_is_left_out(text: str) -> None:
    """The runner has the same user, so the build can write to its pipe."""
    found = parse_look(f"{text}\0W7 9\0F/proc/7/fd 300 /a\0".encode())

    assert found[7].written == 9
    assert found[7].writable == {"/a"}


def test_cpu_counts_for_each_process_by_itself() -> None:
    before = [process(1, 50.0), process(2, 1.0)]

    assert _cpu_since(before, [process(2, 1.5), process(3, 0.25)]) == 0.75


@pytest.mark.parametrize(("seconds", "long"), [("600", True), ("10m", True), ("3", False)])
def test_a_sleep_says_how_long_it_takes(seconds: str, long: bool) -> None:
    with subprocess.Popen(["/bin/sleep", seconds]) as child:
        try:
            found = [one for one in running_descendants() if one.pid == child.pid]
            assert _sleeps_for_long(found) is long
        finally:
            child.kill()


def test_servers_and_watchers_are_not_waited_for(tmp_path: Path) -> None:
    def patience(*targets: str) -> float:
        return _patience({1: OpenFiles(targets=set(targets))})

    with socket.create_server(("127.0.0.1", 0)) as server, socket.socket(socket.AF_UNIX) as local:
        local.bind(str(tmp_path / "s"))
        local.listen()
        inodes = [f"socket:[{Path(f'/proc/self/fd/{s.fileno()}').stat().st_ino}]" for s in (server, local)]
        assert [patience(inode) for inode in inodes] == [SERVICE_QUIET_SECONDS] * 2
        with socket.create_connection(server.getsockname()) as client:
            inode = f"socket:[{Path(f'/proc/self/fd/{client.fileno()}').stat().st_ino}]"
            assert patience(inode) > QUIET_SECONDS
    assert patience("anon_inode:inotify") == SERVICE_QUIET_SECONDS
    assert patience("/dev/null") == QUIET_SECONDS


def test_a_secret_is_replaced_before_a_command_line_is_cut() -> None:
    line = f"node {'x' * 50} --token=s3cr3t-s3cr3t-s3cr3t"

    shown = as_typed(line, lambda text: text.replace("s3cr3t-s3cr3t-s3cr3t", "[redacted]"))

    assert "s3c" not in shown
    assert len(shown) <= 60
