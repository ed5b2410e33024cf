"""List, name and kill the processes below the runner.

The runner is a child subreaper, so that orphans become its children and all processes of a command stay its descendants.
"""

from __future__ import annotations

import os
import re
import signal
from collections.abc import Callable, Iterator, Set
from contextlib import contextmanager, suppress
from dataclasses import dataclass

import anyio
import anyio.lowlevel

# States of sockets: https://www.kernel.org/doc/Documentation/networking/proc_net_tcp.txt
LISTENS = "0A"
CONNECTED = frozenset(("01", "02"))  # or connecting
_ACCEPTS = 1 << 16  # __SO_ACCEPTCON in <linux/net.h>
_WALL = 0x40000000  # __WALL in <linux/wait.h>: also children that were made without SIGCHLD (clone(2))
_TICKS = os.sysconf("SC_CLK_TCK")
_MAX_COMMAND_LINE = 4096  # bytes read of a command line
_MAX_PROGRAM = 1000  # characters of it that identify the program
_MAX_SHOWN = 60  # characters of it that are shown
# Programs that run another program, which is named instead.
_SHELL = re.compile(r"(\S*/)?(ba|da|z|a)?sh\b")
_MANAGER = re.compile(
    r"(\S*/)?node\b.*/(npm-cli|npx-cli|pnpm|yarn|yarnpkg|corepack)[\w.-]*( |$)|(\S*/)?(npm|npx|pnpm|pnpx|yarn|yarnpkg|bun|bunx)\s"
)


@dataclass(frozen=True, slots=True)
class Process:
    """A process, as in `stat` of proc(5)."""

    pid: int
    parent: int
    session: int
    state: str
    cpu: float  # seconds, including children that have ended
    started: float  # seconds after the boot of the machine


def descendants(root: int) -> list[Process]:
    """List the descendants of `root`, parents first."""
    if root == os.getpid() and not _has_children():
        return []  # without reading /proc
    children: dict[int, list[Process]] = {}
    for pid in _process_ids():
        with suppress(OSError), open(f"/proc/{pid}/stat", "rb") as file:
            # The name of the program is in parentheses, and may itself contain parentheses and spaces.
            fields = file.read().rpartition(b")")[2].split()
            cpu = sum(int(field) for field in fields[11:15]) / _TICKS
            state, parent, started = fields[0].decode(), int(fields[1]), int(fields[19]) / _TICKS
            process = Process(pid, parent, int(fields[3]), state, cpu, started)
            children.setdefault(parent, []).append(process)
    found: list[Process] = []
    waiting = sorted(children.get(root, ()), key=lambda process: process.pid)
    while waiting:
        process = waiting.pop(0)
        found.append(process)
        waiting += sorted(children.get(process.pid, ()), key=lambda process: process.pid)
    return found


def count_tasks(uid: int) -> int:
    """Count the processes and threads of a user, as RLIMIT_NPROC does (getrlimit(2))."""
    count = 0
    for pid in _process_ids():
        with suppress(OSError):
            if os.stat(f"/proc/{pid}").st_uid == uid:
                count += len(os.listdir(f"/proc/{pid}/task"))
    return count


def running_descendants() -> list[Process]:
    """List the living descendants of the runner, parents first."""
    return [process for process in descendants(os.getpid()) if process.state not in "ZX"]


def command_line(pid: int) -> str:
    """Return the start of a command line, its words separated by spaces; empty for a dead process."""
    with suppress(OSError), open(f"/proc/{pid}/cmdline", "rb") as file:
        return file.read(_MAX_COMMAND_LINE).replace(b"\0", b" ").decode(errors="replace").strip()
    return ""


def is_wrapper(line: str) -> bool:
    """Return whether a command line is that of a shell or package manager, which runs another program."""
    line = line[:_MAX_PROGRAM]
    return bool(_SHELL.match(line) or _MANAGER.match(line))


def main_program(lines: list[str]) -> str:
    """Return the program that a person would name, from command lines with parents first."""
    own = [line for line in lines if not is_wrapper(line)]
    return (own or lines or [""])[0]


def as_typed(line: str, redact: Callable[[str], str] = str) -> str:
    """Shorten a command line to what a person would type: without folders, and without the interpreter of a program.

    Secrets are replaced before it is cut, because half of a secret would not be recognized.
    """
    line = redact(line)
    interpreter = re.match(r"(?:\S*/)?(node|nodejs|bun|python[\d.]*)\s+(?:--?\S+\s+)*(?=(\S+))", line)
    if interpreter:
        own = not re.search(r"node_modules/|/bin/", interpreter[2]) and re.search(r"\.[a-z]{2,3}$", interpreter[2])
        program = re.sub(r"^\S*/", "", line[interpreter.end() :])
        line = f"{interpreter[1]} {program}" if own else program
    line = re.sub(r"^next-server\b.*", "next start", re.sub(r"^\S*/", "", line))  # Next's name for itself
    return "".join(character for character in line if character.isprintable())[:_MAX_SHOWN].strip() or "a program"


def socket_states(links: Set[str], user: int | None = None) -> set[str]:
    """Return the states of sockets, given as the targets of links in `/proc/pid/fd`, or of all sockets of a user.

    A UDP socket counts while it is connected to a peer, as in a DNS lookup.
    """
    states = set()
    for table in ("tcp", "tcp6", "udp", "udp6"):
        with suppress(OSError), open(f"/proc/net/{table}", encoding="ascii") as file:
            next(file, None)
            for line in file:
                fields = line.split()
                if f"socket:[{fields[9]}]" in links or (user is not None and fields[7] == str(user)):
                    # An unconnected UDP socket has the state that TCP calls closed.
                    states.add(fields[3])
    return states


def listens_locally(links: Set[str]) -> bool:
    """Return whether one of these is a Unix socket that accepts connections, as those of build daemons (unix(7))."""
    with suppress(OSError), open("/proc/net/unix", encoding="utf-8", errors="replace") as file:
        next(file, None)
        for line in file:
            fields = line.split()
            if int(fields[3], 16) & _ACCEPTS and f"socket:[{fields[6]}]" in links:
                return True
    return False


async def end_descendants(spare: int) -> None:
    """Kill all descendants of the runner until only `spare` is left, which is reaped elsewhere.

    The caller limits the time, because the kernel may not release a process. Descendants are listed again each time, because
    they may fork meanwhile. Other tasks run in between.
    """
    pause = 0.001  # seconds; longer each time, because reading /proc takes the CPU that the killed need to exit
    with _before_all_others():
        while True:
            with suppress(OSError):  # no descriptor or memory is left to read /proc: retry
                for _ in range(20):
                    if _kill_listed(spare):
                        break
                    await anyio.lowlevel.checkpoint()
                if _kill_found(spare):
                    return
            await anyio.sleep(pause)
            pause = min(pause * 1.2, 0.05)


def end_descendants_now(spare: int) -> bool:
    """Do the same once without waiting; return whether nothing is left."""
    for _ in range(20):
        if _kill_listed(spare):
            break
    return _kill_found(spare)


def _kill_listed(spare: int) -> bool:
    """Kill the processes in lists of children (proc(5), `/proc/pid/task/tid/children`); return whether those are all.

    A process that forks faster than all of /proc can be read, and exits each time, becomes a child of the runner.
    """
    children = [pid for task in os.listdir("/proc/self/task") for pid in _children("self", task)]
    waiting = children.copy()
    while waiting:
        pid = waiting.pop()
        waiting += _children(pid, pid)
        _kill(pid, spare)
    return not children or children == [spare]


def _kill_found(spare: int) -> bool:
    """Kill the processes found in all of /proc: not every kernel lists children (CONFIG_PROC_CHILDREN)."""
    left = [process.pid for process in descendants(os.getpid()) if process.state != "Z" or process.pid != spare]
    for pid in left:
        _kill(pid, spare)
    return not left


def _has_children() -> bool:
    """Return whether the runner has a child, alive or dead; without one it has no descendants, and orphans become its children."""
    try:
        os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT | _WALL)
    except ChildProcessError:
        return False
    return True


def _children(pid: int | str, task: int | str) -> list[int]:
    with suppress(OSError), open(f"/proc/{pid}/task/{task}/children", "rb") as file:
        return [int(child) for child in file.read().split()]
    return []


def _process_ids() -> list[int]:
    return [int(name) for name in os.listdir("/proc") if name.isdigit()]


@contextmanager
def _before_all_others() -> Iterator[None]:
    """Raise the runner's CPU priority (sched(7)) if permitted: a fork bomb leaves each process a hundredth of the CPU."""
    with suppress(PermissionError):
        os.sched_setscheduler(0, os.SCHED_RR | os.SCHED_RESET_ON_FORK, os.sched_param(1))
    try:
        yield
    finally:
        with suppress(PermissionError):
            os.sched_setscheduler(0, os.SCHED_OTHER, os.sched_param(0))


def _kill(pid: int, spare: int) -> None:
    """Kill a process, and reap it if it is a dead child of the runner other than `spare`, which is reaped elsewhere."""
    with suppress(ProcessLookupError, PermissionError):
        os.kill(pid, signal.SIGKILL)
    if pid != spare:
        with suppress(ChildProcessError):
            os.waitpid(pid, os.WNOHANG)
