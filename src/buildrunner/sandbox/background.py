"""Wait for what a command left running, as `node data.cjs & node pages.cjs` does, for as long as it makes progress.

What a command starts stays in its session (setsid(2)), unless it is made a daemon. Only the command's own session is waited for.
Progress is CPU time, or bytes that are written to anything but the log. What makes none may wait for a timer or for the network; a
server or a watcher waits for nobody. What still runs at the end is stopped, and named.
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
TOLD_SECONDS = 2.0  # then the log says what is waited for
# Without progress, for so long:
SERVICE_QUIET_SECONDS = 1.0  # what listens, or watches files
QUIET_SECONDS = 10.0  # what may wait for a timer, which nothing shows
CONNECTED_QUIET_SECONDS = 30.0  # what may wait for an answer over a connection
WORKING_CPU_SHARE = 0.03  # of one CPU; servers at rest use 0.01 at the most, for collecting garbage
DAEMON_CPU_SECONDS = 1.0  # a daemon that has used so much has worked
MAX_PROCESSES = 50  # that are looked at

# Prints for each process what it has written (proc(5), `io`) and its open files, with the mode that they were opened in. It runs as
# the build's user: in a container root may not look at other users' processes, but that user may look at its own.
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
    """What a process has written so far, and has open."""

    written: int = 0  # bytes, to files, pipes and sockets
    targets: set[str] = field(default_factory=set)
    writable: set[str] = field(default_factory=set)


@dataclass(frozen=True, slots=True)
class Leftovers:
    """What still ran when it was stopped."""

    programs: tuple[str, ...] = ()  # as a person would type them
    worked: bool = False  # one of them was the command's own, or at work
    serves: bool = False  # they wait for requests or for changes of files, and would not end by themselves
    unfinished: Mapping[str, str] = field(default_factory=dict)  # files that were open for writing → the program


async def wait_for_background(
    *,
    session: int,
    look: Callable[[Sequence[int]], Awaitable[bytes]],
    printed: Callable[[], int],
    on_wait: Callable[[str], None],
    redact: Callable[[str], str],
) -> Leftovers:
    """Wait for the processes of a session that has lost its leader, and return what is left to be stopped.

    Args:
        session: of the command, which has ended.
        look: runs LOOK as the build's user, for these processes.
        printed: bytes that the command's processes wrote to the log so far.
        on_wait: is called with what is waited for, once that takes long.
        redact: replaces secrets in a command line.

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
        await anyio.sleep(POLL_SECONDS)  # helpers that notice the end of their parent end now
        alive = await run_in_thread(running_descendants)
    if not alive:
        return Leftovers()
    pids = [process.pid for process in alive[:MAX_PROCESSES]]
    first = parse_look(await look(pids))
    unfinished: dict[str, str] = {}
    if any(files.writable for files in first.values()):
        await anyio.sleep(POLL_SECONDS)  # a file that is written at once is no longer open then
        for pid, files in parse_look(await look(pids)).items():
            for path in files.writable & first.get(pid, OpenFiles()).writable:
                unfinished[path] = as_typed(command_line(pid), redact)
    # Of daemons it is no news that they were left: many tools start one, or something short that sends their telemetry.
    worked = bool(unfinished) or any(
        process.session == session or process.cpu >= DAEMON_CPU_SECONDS for process in alive
    )
    serves = not unfinished and await run_in_thread(partial(_patience, first)) == SERVICE_QUIET_SECONDS
    return Leftovers(tuple(_shown(alive, redact)), worked, serves, unfinished)


def parse_look(text: bytes) -> dict[int, OpenFiles]:
    """Read what LOOK printed, by process; anything else is the build's, which can write to the same pipe, and is left out."""
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
    """Name the programs as a person would, without the shells and package managers around them."""
    lines = [line for process in processes[:MAX_PROCESSES] if (line := command_line(process.pid))]
    own = [line for line in lines if not is_wrapper(line)]
    return list(dict.fromkeys(as_typed(line, redact) for line in own or [main_program(lines)]))


def _cpu_since(before: Sequence[Process], now: Sequence[Process]) -> float:
    cpu = {process.pid: process.cpu for process in before}
    return sum(max(0.0, process.cpu - cpu.get(process.pid, 0.0)) for process in now)


def _sleeps_for_long(processes: Sequence[Process]) -> bool:
    """Return whether nothing is there but `sleep` with more time to go than would be waited for, and shells around it."""
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
