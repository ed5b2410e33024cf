"""Wait for processes that a command left running, as in `node data.cjs & node pages.cjs`, while they make progress.

Processes stay in the session of their command (setsid(2)) unless they become daemons. Only that session is waited for. Progress is
CPU time, or bytes written to anything but the log. A process without progress may wait for a timer or the network; a server or
watcher does not. What still runs at the end is stopped and named in the log.
"""

from __future__ import annotations

import os
import re
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial

import anyio

from buildrunner.concurrency.cancellation import run_in_thread
from buildrunner.sandbox.processes import (
    CONNECTED,
    LISTENS,
    Process,
    as_typed,
    command_line,
    is_wrapper,
    listens_locally,
    main_program,
    running_descendants,
    socket_states,
)

POLL_SECONDS = 0.1
SAMPLE_SECONDS = 1.0
TOLD_SECONDS = 2.0  # after which the log names the process that is waited for
# Time without progress after which a process is stopped:
SERVICE_QUIET_SECONDS = 1.0  # listens, or watches files
QUIET_SECONDS = 10.0  # may wait for a timer, which can't be detected
CONNECTED_QUIET_SECONDS = 30.0  # may wait for a response over a connection
WORKING_CPU_SHARE = 0.03  # of one CPU; idle servers use at most 0.01, for garbage collection
DAEMON_CPU_SECONDS = 1.0  # a daemon that has used so much was working
MAX_PROCESSES = 50  # examined processes

# Prints what each process has written (proc(5), `io`), and its open files with their modes. It runs as the build's user, because
# in a container root may not inspect processes of other users, but that user may inspect its own.
LOOK = """
for pid do
  while read -r name count; do [ "$name" = wchar: ] && printf 'W%s %s\\0' "$pid" "$count"; done <"/proc/$pid/io"
  shift; set -- "$@" "/proc/$pid/fd"
done 2>/dev/null
find "$@" -mindepth 1 -maxdepth 1 -printf 'F%h %m %l\\0' 2>/dev/null
"""
_RECORD = re.compile(
    r"W(?P<writer>[0-9]{1,10}) (?P<written>[0-9]{1,20})"
    r"|F/proc/(?P<opener>[0-9]{1,10})/fd (?P<mode>[0-7]{1,6}) (?P<target>.*)",
    re.DOTALL,
)
_SLEEP = re.compile(r"(?:\S*/)?sleep (\d+(?:\.\d+)?)([smhd]?)$")
_UNITS = {"": 1, "s": 1, "m": 60, "h": 3600, "d": 86400}


@dataclass(slots=True)
class OpenFiles:
    """What a process has written and has open."""

    written: int = 0  # bytes, to files, pipes and sockets
    targets: set[str] = field(default_factory=set)
    writable: set[str] = field(default_factory=set)


@dataclass(frozen=True, slots=True)
class Leftovers:
    """The processes that still ran when they were stopped."""

    programs: tuple[str, ...] = ()  # as people would type them
    worked: bool = False  # whether one of them was in the command's session, or working
    serves: bool = False  # whether they wait for requests or file changes, and would not exit by themselves
    unfinished: Mapping[str, str] = field(default_factory=dict)  # files open for writing → the program


async def wait_for_background(
    *,
    session: int,
    look: Callable[[Sequence[int]], Awaitable[bytes]],
    printed: Callable[[], int],
    on_wait: Callable[[str], None],
    redact: Callable[[str], str],
) -> Leftovers:
    """Wait for the processes of a session whose leader has exited, and return those that have to be stopped.

    Args:
        session: session of the command, which has exited.
        look: function that runs LOOK as the build's user for these processes.
        printed: function that returns how many bytes the command's processes have written to the log.
        on_wait: function that is called with the name of a process after a while.
        redact: function that replaces secrets in a command line.

    """
    started = quiet_since = last_sample = anyio.current_time()
    told = False
    before: list[Process] = []
    written_before: int | None = None
    while True:
        alive = await run_in_thread(running_descendants)
        own = [process for process in alive if process.session == session]
        now = anyio.current_time()
        if not own or _sleeps_for_long(own):
            break
        if not before or now - last_sample >= SAMPLE_SECONDS:
            opened = parse_look(await look([process.pid for process in own[:MAX_PROCESSES]]))
            written = sum(files.written for files in opened.values()) - printed()
            if before and (
                _cpu_since(before, own) > (now - last_sample) * WORKING_CPU_SHARE
                or any(process.state in "RD" for process in own)
                or (written_before is not None and written > written_before)
            ):
                quiet_since = now
            before, written_before, last_sample = own, written, now
            if now - quiet_since >= await run_in_thread(partial(_patience, opened)):
                break
        if not told and now - started >= TOLD_SECONDS:
            told = True
            on_wait(_shown(own, redact)[0])
        await anyio.sleep(POLL_SECONDS)
    return await _leftovers(session, look, redact)


async def _leftovers(
    session: int, look: Callable[[Sequence[int]], Awaitable[bytes]], redact: Callable[[str], str]
) -> Leftovers:
    alive = await run_in_thread(running_descendants)
    if alive:
        await anyio.sleep(POLL_SECONDS)  # helper processes that notice the end of their parent exit now
        alive = await run_in_thread(running_descendants)
    if not alive:
        return Leftovers()
    pids = [process.pid for process in alive[:MAX_PROCESSES]]
    first = parse_look(await look(pids))
    unfinished: dict[str, str] = {}
    if any(files.writable for files in first.values()):
        await anyio.sleep(POLL_SECONDS)  # a file written in one go is closed by then
        for pid, files in parse_look(await look(pids)).items():
            for path in files.writable & first.get(pid, OpenFiles()).writable:
                unfinished[path] = as_typed(command_line(pid), redact)
    # Daemons are not reported: many tools start one, or a short process that sends telemetry.
    worked = bool(unfinished) or any(
        process.session == session or process.cpu >= DAEMON_CPU_SECONDS for process in alive
    )
    serves = not unfinished and await run_in_thread(partial(_patience, first)) == SERVICE_QUIET_SECONDS
    return Leftovers(tuple(_shown(alive, redact)), worked, serves, unfinished)


def parse_look(text: bytes) -> dict[int, OpenFiles]:
    """Parse the output of LOOK by process; ignore everything else, because the build can write to the same pipe."""
    found: dict[int, OpenFiles] = {}
    for record in os.fsdecode(text).split("\0")[:-1]:
        match = _RECORD.fullmatch(record)
        if not match:
            continue
        files = found.setdefault(int(match["writer"] or match["opener"]), OpenFiles())
        if match["writer"]:
            files.written = int(match["written"])
            continue
        target = match["target"]
        files.targets.add(target)
        is_file = target.startswith("/") and not target.startswith(("/dev/", "/proc/"))
        if is_file and int(match["mode"], 8) & 0o200 and not target.endswith(" (deleted)"):
            files.writable.add(target)
    return found


def _shown(processes: Sequence[Process], redact: Callable[[str], str]) -> list[str]:
    """Return the programs as a person would name them, without shells and package managers."""
    lines = [line for process in processes[:MAX_PROCESSES] if (line := command_line(process.pid))]
    own = [line for line in lines if not is_wrapper(line)]
    return list(dict.fromkeys(as_typed(line, redact) for line in own or [main_program(lines)]))


def _cpu_since(before: Sequence[Process], now: Sequence[Process]) -> float:
    cpu = {process.pid: process.cpu for process in before}
    return sum(max(0.0, process.cpu - cpu.get(process.pid, 0.0)) for process in now)


def _sleeps_for_long(processes: Sequence[Process]) -> bool:
    """Return whether only shells and `sleep`s are left that sleep longer than they would be waited for."""
    lines = [(process, line) for process in processes if (line := command_line(process.pid)) and not is_wrapper(line)]
    with open("/proc/uptime", encoding="ascii") as file:
        uptime = float(file.read().split()[0])
    times = [(process, match) for process, line in lines if (match := _SLEEP.match(line))]
    return (
        bool(lines)
        and len(times) == len(lines)
        and any(
            float(match[1]) * _UNITS[match[2]] - (uptime - process.started) > QUIET_SECONDS for process, match in times
        )
    )


def _patience(opened: Mapping[int, OpenFiles]) -> float:
    targets = {target for files in opened.values() for target in files.targets}
    states = socket_states(targets)
    if states & CONNECTED:
        return CONNECTED_QUIET_SECONDS
    is_service = LISTENS in states or "anon_inode:inotify" in targets or listens_locally(targets)
    return SERVICE_QUIET_SECONDS if is_service else QUIET_SECONDS
