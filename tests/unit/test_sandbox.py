"""Test what a sandbox reads from its control group, and which processes it ends."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path

import anyio
import pytest

from buildrunner.sandbox import command, processes
from buildrunner.sandbox.command import Sandbox
from buildrunner.sandbox.memory import count_memory_kills
from buildrunner.sandbox.processes import descendants, end_descendants

EVENTS = "low 0\nhigh 0\nmax 12\noom 1\noom_kill {}\noom_group_kill 0\n"  # control groups v2
CONTROL = "oom_kill_disable 0\nunder_oom 0\noom_kill {}\n"  # v1


def group(folder: Path, line: str, files: dict[str, str]) -> int | None:
    """Return the out-of-memory kills in the group that `line` names, with these files in the mounted control groups."""
    (folder / "cgroup").write_text(line)
    for name, text in files.items():
        (folder / "mounted" / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / "mounted" / name).write_text(text)
    return count_memory_kills(folder / "cgroup", folder / "mounted")


def test_in_a_cgroup_v2_container_the_root_is_the_groups_folder(tmp_path: Path) -> None:
    assert group(tmp_path, "0::/\n", {"memory.events": EVENTS.format(3)}) == 3


def test_on_a_cgroup_v2_host_the_folder_has_the_groups_name(tmp_path: Path) -> None:
    assert group(tmp_path, "0::/user.slice/a:b.scope\n", {"user.slice/a:b.scope/memory.events": EVENTS.format(2)}) == 2


def test_in_a_cgroup_v1_container_the_hosts_group_name_is_absent(tmp_path: Path) -> None:
    lines = "9:name=systemd:/docker/1f\n4:cpu,memory:/ecs/task/1f\n0::/docker/1f\n"

    assert group(tmp_path, lines, {"memory/memory.oom_control": CONTROL.format(1)}) == 1


def test_where_nothing_counts_it_is_not_known(tmp_path: Path) -> None:
    assert group(tmp_path, "0::/\n", {"memory.events": "low 0\n"}) is None
    assert count_memory_kills(tmp_path / "none", tmp_path / "none") is None


@pytest.mark.parametrize("lists_children", [True, False], ids=["children are listed", "a kernel that lists none"])
def test_orphans_of_every_kind_are_ended_and_reaped(lists_children: bool) -> None:
    """Runs in a separate process, since it kills all descendants. Some kernels lack CONFIG_PROC_CHILDREN."""
    script = f"""
import os, signal, subprocess, sys, time
from buildrunner.sandbox import command as sandbox, processes

sandbox.harden_process()
if not {lists_children}:
    processes._children = lambda pid, task: []
orphans = "for i in 1 2 3; do setsid sh -c 'sleep 600 & sleep 600 & wait' & (true &) ; done; exit 3"
command = subprocess.Popen(["sh", "-c", orphans])
os.waitid(os.P_PID, command.pid, os.WEXITED | os.WNOWAIT)  # it is there, and dead, as who waits for it finds it
until = time.monotonic() + 20
while not processes.end_descendants_now(spare=command.pid):
    assert time.monotonic() < until, processes.descendants(os.getpid())
    time.sleep(0.001)
assert [process.pid for process in processes.descendants(os.getpid())] == [command.pid]
assert command.wait() == 3
"""

    ended = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=False)

    assert ended.returncode == 0, ended.stderr


def test_an_error_in_taking_output_is_raised_as_itself() -> None:
    script = """
import anyio, sys
from buildrunner.sandbox import command
from buildrunner.sandbox.command import Sandbox
def fail(*_):
    raise OSError(28, "No space left on device")
async def main():
    try:
        await Sandbox(in_image=False).run(["/bin/echo", "x"], folder="/", environment={}, output=fail)
    except OSError as error:
        print(error.strerror)
anyio.run(main)
"""

    ended = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=False)

    assert ended.stdout == "No space left on device\n", ended.stderr


class StuckProcess:
    """A process that the kernel does not release, for example because a disk does not respond."""

    pid = 2**22 + 1  # larger than any process id (proc(5), `pid_max`)
    returncode = None
    stdout = None

    async def wait(self) -> int:
        await anyio.sleep(10)
        return -9


async def cancel_program() -> None:
    with anyio.move_on_after(0.05):
        await command.run_program("/bin/true")


@pytest.mark.parametrize("work", [cancel_program, lambda: command.remove_tree(Path("x"))], ids=["stopped", "removal"])
def test_an_internal_program_that_is_stuck_is_given_up(
    monkeypatch: pytest.MonkeyPatch, work: Callable[[], Awaitable[None]]
) -> None:
    async def start(*_: object, **__: object) -> StuckProcess:
        return StuckProcess()

    monkeypatch.setattr(anyio, "open_process", start)
    monkeypatch.setattr(command, "KILLED_SECONDS", 0.05)
    monkeypatch.setattr(command, "REMOVE_SECONDS", 0.05)
    started = time.monotonic()

    anyio.run(work)

    assert time.monotonic() - started < 5


def test_a_look_has_no_terminal_of_the_runners() -> None:
    """The build's processes have the same user: one that traced the runner could type into the operator's shell."""

    async def look() -> bytes:
        return await Sandbox(in_image=False).look("cut -d' ' -f6 /proc/$$/stat", [])

    assert int(anyio.run(look)) != os.getsid(0)


@pytest.fixture(scope="module")
def server() -> Iterator[subprocess.Popen[bytes]]:
    """Processes from before the test, such as the servers that the session shares."""
    with subprocess.Popen(["sh", "-c", "sleep 60 & wait"]) as process:
        yield process
        process.kill()


def test_a_process_that_does_not_end_is_sought_less_often(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each search reads all of /proc at real-time priority; the caller limits the time."""
    looks = []

    def find(_spare: int) -> bool:
        looks.append(1)
        return False

    monkeypatch.setattr(processes, "_kill_listed", lambda _spare: True)
    monkeypatch.setattr(processes, "_kill_found", find)

    async def end() -> None:
        with anyio.move_on_after(1):
            await end_descendants(0)

    anyio.run(end)

    assert 2 <= len(looks) < 60  # a thousand searches per second would use a whole core


def test_without_children_the_list_of_all_processes_is_not_read() -> None:
    """Reading it takes milliseconds on a busy machine, several times in each build."""
    script = """
import os
from buildrunner.sandbox import command as sandbox, processes

sandbox.harden_process()
processes._process_ids = None
assert processes.descendants(os.getpid()) == []
"""

    ended = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=False)

    assert ended.returncode == 0, ended.stderr


def test_servers_of_the_session_outlive_a_sandbox(server: subprocess.Popen[bytes]) -> None:
    with subprocess.Popen(["sleep", "60"]) as own:
        anyio.run(end_descendants, own.pid)
        assert own.wait() == -9

    assert server.poll() is None
    assert [process.parent for process in descendants(server.pid)] == [server.pid]
