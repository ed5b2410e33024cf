"""Run one untrusted command: its user, its environment, its time, its process tree; hand out its raw output.

As root every command runs as another user, through `setpriv`, without capabilities and new privileges. `setpriv` itself
starts with an empty environment: what the command is to find reaches it only after the user has changed, from a memory
file on stdin, and is never on a command line. (An `LD_PRELOAD` in setpriv's own environment would run as root.)
Without root it keeps its user, and gets no new privileges all the same. `prlimit` bounds what it may take of the machine.
Nothing that a command starts outlives it: the runner is a child subreaper, so that also what called `setsid` or forked
twice comes back to it and is ended.
"""

from __future__ import annotations

import ctypes
import os
import pwd
import resource
import shlex
import signal
import subprocess
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import anyio
import anyio.abc
import anyio.to_thread

from buildrunner.concurrency.cancellation import cleanup
from buildrunner.errors import BuildEnded, BuildFailed, ungrouped
from buildrunner.sandbox.memory import count_memory_kills
from buildrunner.sandbox.processes import (
    command_line,
    count_tasks,
    end_descendants,
    end_descendants_now,
    running_descendants,
)

CHUNK_BYTES = 65536
# After a command has ended, what it left behind may hold its pipes open: that is read for so long, and then ended.
DRAIN_SECONDS = 0.3
# Between SIGTERM and SIGKILL when a command is cut short.
GRACE_SECONDS = 2.0
END_SECONDS = 5.0  # what cannot be killed for so long (the kernel does not let go of it) fails the run
LOOK_SECONDS = 2.0  # for `Sandbox.look`, and what it may print
LOOK_BYTES = 4 * 2**20
MAX_STOPPED = 50
KILLED_SECONDS = 1.0  # for a program of ours that was killed
REMOVE_SECONDS = 60.0
# What a command and all that it starts may take. No tool that builds sites comes near; a fork bomb and a file without end do.
MAX_PROCESSES = 4096  # of its user, threads included
MAX_FILE_BYTES = 16 * 2**30
# sh reads the environment that is meant for the command, and only after that is there anything in it. The kernel is told to
# end the command before the runner when memory runs out, so that somebody is left to say so.
_START = (
    'eval "$(/bin/cat)"; { echo 1000 >/proc/self/oom_score_adj; } 2>/dev/null;'
    ' cd "$1" && unset OLDPWD && shift && exec "$@" </dev/null'
)
_FOLDERS = ("/usr/bin", "/bin")  # where util-linux is; PATH may be anything
_PR_SET_DUMPABLE = 4  # <linux/prctl.h>
_PR_SET_CHILD_SUBREAPER = 36

LEFT_BEHIND_HINT = (
    "The kernel does not release them, for example because a disk does not respond. Build again on another machine."
)

# Takes a chunk of one pipe. What it returns is awaited before the next chunk is read, so that the command waits.
Output = Callable[[Literal["stdout", "stderr"], bytes], Awaitable[None] | None]


@dataclass(frozen=True, slots=True)
class Account:
    """Who runs the commands of the repository."""

    name: str
    uid: int
    gid: int


@dataclass(frozen=True, slots=True)
class Exit:
    """How a command ended: `code` as a shell counts it (128 + signal), and whether memory ran out meanwhile."""

    code: int
    out_of_memory: bool | None  # None: nothing counts that here
    left_behind: bool = False  # something that it started cannot be ended

    @property
    def failed(self) -> bool:
        return self.code != 0 or self.left_behind

    @property
    def explanation(self) -> str:
        """Complete the sentence "npm run build …"."""
        if self.left_behind:
            return f"left processes behind that could not be stopped within {END_SECONDS:.0f} s"
        if self.out_of_memory:
            return "was killed because it used more memory than the build has"
        if self.code == 128 + signal.SIGKILL and self.out_of_memory is None:
            return "was killed (SIGKILL), most likely because it used more memory than the build has"
        if self.code > 128 and self.code - 128 in set(signal.Signals):
            # Killed itself, or a shell below it that said so by its own exit code: the same sentence is true of both.
            number = signal.Signals(self.code - 128)
            meaning = (signal.strsignal(number) or "").lower()
            return f"ended with exit code {self.code}, which stands for {number.name} ({meaning})"
        return f"ended with exit code {self.code}"


def harden_process() -> None:
    """Make the runner's memory and environment unreadable for its own user, and let orphans come back to it.

    Both by prctl(2); called before anything else, since a process of the same user could read `/proc/<runner>/environ`.
    Nothing writes a core dump either: one of the runner would hold its secrets.
    """
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    prctl = ctypes.CDLL(None, use_errno=True).prctl
    for option, value in ((_PR_SET_DUMPABLE, 0), (_PR_SET_CHILD_SUBREAPER, 1)):
        if prctl(option, value, 0, 0, 0) != 0:
            raise OSError(ctypes.get_errno(), f"prctl({option}) was refused by the kernel")


async def remove_tree(folder: Path) -> None:
    """Remove what a repository has left, as far as that can be done.

    By rm(1), which follows no link and goes as deep as folders can: Python's own `rmtree` ends with a RecursionError. Without
    root a folder that was closed has to be opened first; chmod(1) follows no link below its argument.
    """
    remove = ["/bin/rm", "-rf", "--", str(folder)]
    with suppress(OSError), anyio.move_on_after(REMOVE_SECONDS):
        if await run_program(*remove) != 0:
            await run_program("/bin/chmod", "-R", "u+rwx", "--", str(folder))
            await run_program(*remove)


async def run_program(*command: str) -> int:
    """Run a program of the system's own, and return its exit code.

    It has no environment: that could be read by every process of the same user. Cancelling kills it, and does not wait for what
    the kernel does not let go of, as on a disk that does not answer.
    """
    nothing = subprocess.DEVNULL
    process = await anyio.open_process(command, stdin=nothing, stdout=nothing, stderr=nothing, env={})
    try:
        return await process.wait()
    finally:
        await _kill(process)


async def _kill(process: anyio.abc.Process) -> None:
    """Kill a program of ours that has not ended, and wait for it for a moment."""
    if process.returncode is None:
        with suppress(ProcessLookupError):  # not `process.kill`: that reaps it where asyncio is about to
            os.kill(process.pid, signal.SIGKILL)
        with cleanup(KILLED_SECONDS):
            await process.wait()
    if process.returncode is not None:
        with anyio.CancelScope(shield=True):
            await process.aclose()


class Sandbox:
    """As whom commands run; one for a run.

    Args:
        in_image: the process is alone in a container of its own, so that all processes of the user may be ended.

    Raises:
        BuildFailed: as root, where there is no user or no `setpriv` to become it with.

    """

    def __init__(self, *, in_image: bool) -> None:
        self.account: Account | None = None  # None without root: commands run as the runner's own user
        setpriv, prlimit = _program("setpriv"), _program("prlimit")
        identity = [setpriv, "--no-new-privs"] if setpriv else []
        most_processes = MAX_PROCESSES
        if os.geteuid() == 0:
            entry = next((entry for name in ("build", "nobody") if (entry := _user(name))), None)
            if entry is None or entry.pw_uid == 0 or not (setpriv and prlimit):
                raise BuildFailed(
                    "prepare",
                    "This machine cannot run a build safely as root: setpriv, prlimit, or the users build and nobody are missing.",
                    "Install util-linux, or start buildrunner as a user other than root.",
                    kind="sandbox-unavailable",
                )
            self.account = Account(entry.pw_name, entry.pw_uid, entry.pw_gid)
            identity += [f"--reuid={entry.pw_uid}", f"--regid={entry.pw_gid}", "--clear-groups"]
            identity += ["--inh-caps=-all", "--bounding-set=-all"]
        elif prlimit:
            most_processes += count_tasks(os.geteuid())  # of the person's other programs: the limit is the user's
        identity += ["--"] if identity else []
        self.stopped: list[str] = []  # command lines of what ran when a command was cancelled, parents first
        self.has_leftovers = False  # something cannot be ended: the kernel does not let go of it
        self._in_image = in_image and self.account is not None
        self._identity = identity  # begins a command line that is run as the account
        self._limits = []  # the same, for limits
        if prlimit:
            wanted = {"core": 0, "fsize": MAX_FILE_BYTES, "nproc": most_processes}
            self._limits = [prlimit, *(f"--{name}={_at_most(name, value)}" for name, value in wanted.items()), "--"]

    async def run(
        self,
        command: Sequence[str],
        *,
        folder: Path,
        environment: Mapping[str, str],
        output: Output,
        on_exit: Callable[[int, int], Awaitable[None]] | None = None,
    ) -> Exit:
        """Run `command` in `folder` and hand each chunk of its output to `output`, until all that it started has ended.

        It has no terminal and an empty stdin. Cancelling ends it: SIGTERM to its process group, then SIGKILL to all that
        descends from it. `on_exit` is awaited when the command itself has ended, with its session and its exit code, and before
        what it left running is ended; meanwhile its output is read.

        Raises:
            BuildEnded: when the machine cannot start a process.

        """
        kills_before = count_memory_kills()
        try:
            with anyio.CancelScope(shield=True):  # what has been started is ended below
                process = await self._start(command, folder, environment)
        except OSError as error:
            raise BuildEnded(
                f"The machine could not start a process: {error.strerror}.",
                "Give it more memory, or raise its limit of processes and open files.",
            ) from None
        left_behind = True
        async with _closed_at_end(process), anyio.create_task_group() as readers:
            ended: list[anyio.Event] = []
            scopes: list[anyio.CancelScope] = []
            taking = taken_chunks = 0

            async def read(pipe: anyio.abc.ByteReceiveStream, name: Literal["stdout", "stderr"]) -> None:
                # What a command says after it was told to stop is part of its log: only `stop_reading` ends this early.
                with anyio.CancelScope(shield=True) as scope:
                    scopes.append(scope)
                    with suppress(anyio.EndOfStream):
                        while True:
                            taken = output(name, await pipe.receive(CHUNK_BYTES))
                            if taken is not None:
                                nonlocal taking, taken_chunks
                                taking += 1
                                await taken
                                taking -= 1
                                taken_chunks += 1
                ended[0 if name == "stdout" else 1].set()

            async def read_to_end(seconds: float) -> None:
                seen = -1
                while taking or seen != taken_chunks:  # a slow taker gets all that the command has written
                    seen = taken_chunks
                    with anyio.move_on_after(seconds):
                        for event in ended:
                            await event.wait()
                        return

            ended += [anyio.Event(), anyio.Event()]
            assert process.stdout is not None
            assert process.stderr is not None
            readers.start_soon(read, process.stdout, "stdout")
            readers.start_soon(read, process.stderr, "stderr")
            try:
                code = await process.wait()
                if on_exit:
                    await on_exit(process.pid, code)
                await read_to_end(DRAIN_SECONDS)
            except anyio.get_cancelled_exc_class():
                self.stopped = [command_line(process.pid) for process in running_descendants()[:MAX_STOPPED]]
                raise
            finally:
                with cleanup(GRACE_SECONDS + END_SECONDS + 2 * KILLED_SECONDS):
                    if process.returncode is None:
                        with suppress(ProcessLookupError):
                            os.killpg(process.pid, signal.SIGTERM)
                        with anyio.move_on_after(GRACE_SECONDS):
                            await process.wait()
                    left_behind = not await self.end_all(process.pid)
                    with anyio.move_on_after(KILLED_SECONDS):
                        await process.wait()
                    await read_to_end(1.0)
                self.has_leftovers |= left_behind
                for scope in scopes:
                    scope.cancel()
        if process.returncode is None:
            left_behind = True
        code = -signal.SIGKILL if process.returncode is None else process.returncode
        kills = count_memory_kills()
        out_of_memory = None if kills is None or kills_before is None else code != 0 and kills > kills_before
        return Exit(128 - code if code < 0 else code, out_of_memory, left_behind)

    async def _start(self, command: Sequence[str], folder: Path, environment: Mapping[str, str]) -> anyio.abc.Process:
        exports = "".join(f"export {name}={shlex.quote(value)}\n" for name, value in environment.items())
        variables = os.memfd_create("environment", os.MFD_CLOEXEC)
        try:
            _write_from_start(variables, exports.encode(errors="surrogateescape"))
            return await anyio.open_process(
                [*self._limits, *self._identity, "/bin/sh", "-c", _START, "sh", str(folder), *command],
                stdin=variables,
                cwd="/",
                env={},
                start_new_session=True,
            )
        finally:
            os.close(variables)

    async def look(self, script: str, arguments: Sequence[str]) -> bytes:
        """Run a script of ours as the user of the commands, for what only that user may read, and return what it printed."""
        found = bytearray()
        with suppress(OSError):
            process = await anyio.open_process(
                [*self._identity, "/bin/sh", "-c", script, "sh", *arguments],
                stdin=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                env={"PATH": os.pathsep.join(_FOLDERS)},
                start_new_session=True,  # the build may trace it, and is not to reach a terminal of the runner's
            )
            assert process.stdout is not None
            try:
                with anyio.move_on_after(LOOK_SECONDS), suppress(anyio.EndOfStream):
                    while len(found) < LOOK_BYTES:
                        found += await process.stdout.receive()
                    await process.wait()
            finally:
                await _kill(process)
        return bytes(found)

    async def end_all(self, child: int) -> bool:
        """Kill all that descends from the runner, and return whether nothing is left but `child`, which others reap.

        In the image one `kill -1` as the build's user gets everything at once. Elsewhere that would end strangers'
        processes: there descendants are looked for again until there are none, because they may fork meanwhile.
        """
        if self._in_image:
            try:
                await anyio.to_thread.run_sync(self._kill_user)
            except RuntimeError:  # no thread can be started
                self._kill_user()
        with anyio.move_on_after(END_SECONDS):
            await end_descendants(spare=child)
            return True
        return False

    def end_all_now(self) -> None:
        """Kill all that descends from the runner without waiting for anything, for a runner that ends at once."""
        if self._in_image:
            self._kill_user()
        for _ in range(10):
            if end_descendants_now(spare=0):
                return

    def _kill_user(self) -> None:
        """Kill all of the user's processes, and remove what takes memory without one: System V's segments, /dev/shm.

        This is a process of the same user for a moment, which others may stop: then it is given up, and the runner's own kill(2) is
        left, which nobody can stop. So it is where no process at all can be started.
        """
        # Without the limits: at the limit of its processes a user cannot start the one that ends the others.
        command = [*self._identity, "/bin/sh", "-c", "kill -KILL -1; ipcrm -a; rm -rf /dev/shm/*"]
        nothing = subprocess.DEVNULL
        with suppress(OSError, subprocess.TimeoutExpired):
            # Not waited for any longer: `end_descendants` ends and reaps it like all others.
            subprocess.Popen(command, env={}, stdin=nothing, stdout=nothing, stderr=nothing).wait(1)


@asynccontextmanager
async def _closed_at_end(process: anyio.abc.Process) -> AsyncIterator[None]:
    """Close the pipes of a process that has ended. `async with process` would wait for one that cannot be ended."""
    try:
        with ungrouped():
            yield
    finally:
        if process.returncode is not None:
            with anyio.CancelScope(shield=True):
                await process.aclose()


def _program(name: str) -> str | None:
    return next((path for folder in _FOLDERS if os.path.exists(path := f"{folder}/{name}")), None)


def _at_most(name: str, value: int) -> int:
    """Return a limit that raises none: without privileges it could not, and with them it would undo the operator's."""
    there = resource.getrlimit(getattr(resource, f"RLIMIT_{name.upper()}"))
    return min(value, *(limit for limit in there if limit != resource.RLIM_INFINITY), value)


def _user(name: str) -> pwd.struct_passwd | None:
    try:
        return pwd.getpwnam(name)
    except KeyError:
        return None


def _write_from_start(file: int, data: bytes) -> None:
    while data:
        data = data[os.write(file, data) :]
    os.lseek(file, 0, os.SEEK_SET)
