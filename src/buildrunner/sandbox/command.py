"""Run one untrusted command with its own user, environment, time limit and process tree, and pass on its raw output.

As root, every command runs as another user through `setpriv`, without capabilities and new privileges. `setpriv` itself starts
with an empty environment. The command's environment is read after the change of user, from a memory file on stdin, and is never
on a command line. (An `LD_PRELOAD` in setpriv's own environment would run as root.) Without root, the user stays the same, also
without new privileges. `prlimit` limits the resources. No process outlives its command: the runner is a child subreaper, so
that processes that called `setsid` or forked twice become its children and are killed.
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
# After a command has exited, its background processes may keep its pipes open. They are read for this time, and then closed.
DRAIN_SECONDS = 0.3
# Between SIGTERM and SIGKILL when a command is stopped.
GRACE_SECONDS = 2.0
END_SECONDS = 5.0  # the build fails if processes can't be killed within this time
LOOK_SECONDS = 2.0  # time limit of `Sandbox.look`
LOOK_BYTES = 4 * 2**20  # limit of its output
MAX_STOPPED = 50
KILLED_SECONDS = 1.0  # for an internal program after it was killed
REMOVE_SECONDS = 60.0
# Limits for a command and its processes. No tool that builds sites comes near them; a fork bomb or an endless file does.
MAX_PROCESSES = 4096  # of its user, threads included
MAX_FILE_BYTES = 16 * 2**30
# The shell reads the environment intended for the command from stdin; its own is empty before that. When memory runs out, the
# kernel kills the command before the runner, which can then report it.
_START = (
    'eval "$(/bin/cat)"; { echo 1000 >/proc/self/oom_score_adj; } 2>/dev/null;'
    ' cd "$1" && unset OLDPWD && shift && exec "$@" </dev/null'
)
_FOLDERS = ("/usr/bin", "/bin")  # location of util-linux; PATH may be anything
_PR_SET_DUMPABLE = 4  # <linux/prctl.h>
_PR_SET_CHILD_SUBREAPER = 36

LEFT_BEHIND_HINT = (
    "The kernel does not release them, for example because a disk does not respond. Build again on another machine."
)

# Receives a chunk of one pipe. Its awaitable is awaited before the next chunk is read, so that the command waits.
Output = Callable[[Literal["stdout", "stderr"], bytes], Awaitable[None] | None]


@dataclass(frozen=True, slots=True)
class Account:
    """The user that runs the commands of the repository."""

    name: str
    uid: int
    gid: int


@dataclass(frozen=True, slots=True)
class Exit:
    """How a command ended: `code` as a shell reports it (128 + signal), and whether memory ran out meanwhile."""

    code: int
    out_of_memory: bool | None  # None if that is not counted here
    left_behind: bool = False  # whether processes that it started could not be stopped

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
            # It may have killed itself, or a shell below it reported that by its own exit code: the sentence is true for both.
            number = signal.Signals(self.code - 128)
            meaning = (signal.strsignal(number) or "").lower()
            return f"ended with exit code {self.code}, which stands for {number.name} ({meaning})"
        return f"ended with exit code {self.code}"


def harden_process() -> None:
    """Make the runner's memory and environment unreadable for its own user, and become a child subreaper.

    Both use prctl(2). Call this first, because a process of the same user could read `/proc/<runner>/environ`. It also disables
    core dumps, which would contain secrets.
    """
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    prctl = ctypes.CDLL(None, use_errno=True).prctl
    for option, value in ((_PR_SET_DUMPABLE, 0), (_PR_SET_CHILD_SUBREAPER, 1)):
        if prctl(option, value, 0, 0, 0) != 0:
            raise OSError(ctypes.get_errno(), f"prctl({option}) was refused by the kernel")


async def remove_tree(folder: Path) -> None:
    """Remove the files of a repository as far as possible.

    It uses rm(1), which follows no links and has no depth limit; Python's `rmtree` fails with a RecursionError. Without root,
    folders without permissions are opened first; chmod(1) follows no links below its argument.
    """
    remove = ["/bin/rm", "-rf", "--", str(folder)]
    with suppress(OSError), anyio.move_on_after(REMOVE_SECONDS):
        if await run_program(*remove) != 0:
            await run_program("/bin/chmod", "-R", "u+rwx", "--", str(folder))
            await run_program(*remove)


async def run_program(*command: str) -> int:
    """Run a program of the system, and return its exit code.

    Its environment is empty, because every process of the same user could read it. A cancellation kills it without waiting for
    the kernel to release it, for instance because a disk does not respond.
    """
    nothing = subprocess.DEVNULL
    process = await anyio.open_process(command, stdin=nothing, stdout=nothing, stderr=nothing, env={})
    try:
        return await process.wait()
    finally:
        await _kill(process)


async def _kill(process: anyio.abc.Process) -> None:
    """Kill an internal program that has not exited, and wait for it briefly."""
    if process.returncode is None:
        with suppress(ProcessLookupError):  # not `process.kill`, which reaps it while asyncio is about to
            os.kill(process.pid, signal.SIGKILL)
        with cleanup(KILLED_SECONDS):
            await process.wait()
    if process.returncode is not None:
        with anyio.CancelScope(shield=True):
            await process.aclose()


class Sandbox:
    """Run commands as one user, for one build.

    Args:
        in_image: whether this process is alone in its container, so that all processes of the user can be killed.

    Raises:
        BuildFailed: this is root, and the user or `setpriv` is missing.

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
            most_processes += count_tasks(os.geteuid())  # of the user's other programs, because the limit is per user
        identity += ["--"] if identity else []
        self.stopped: list[str] = []  # command lines that ran when a command was cancelled, parents first
        self.has_leftovers = False  # whether a process could not be killed, because the kernel does not release it
        self._in_image = in_image and self.account is not None
        self._identity = identity  # start of a command line that runs as the account
        self._limits = []  # the same for limits
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
        """Run `command` in `folder`, and pass each chunk of its output to `output`, until all its processes have ended.

        It has no terminal and an empty stdin. A cancellation sends SIGTERM to its process group, then SIGKILL to all its
        descendants. `on_exit` is awaited after the command itself has exited, with its session and exit code, and before its
        background processes are stopped; their output is read meanwhile.

        Raises:
            BuildEnded: the machine cannot start a process.

        """
        kills_before = count_memory_kills()
        try:
            with anyio.CancelScope(shield=True):  # the started process is stopped below
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
                # Output after a signal is part of the log, too; only `stop_reading` ends this early.
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
                while (
                    taking or seen != taken_chunks
                ):  # a slow consumer still receives everything the command has written
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
        """Run an internal script as the user of the commands, to read what only that user may, and return its output."""
        found = bytearray()
        with suppress(OSError):
            process = await anyio.open_process(
                [*self._identity, "/bin/sh", "-c", script, "sh", *arguments],
                stdin=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                env={"PATH": os.pathsep.join(_FOLDERS)},
                start_new_session=True,  # the build may trace it, and must not reach the runner's terminal
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
        """Kill all descendants of the runner, and return whether only `child` is left, which is reaped elsewhere.

        In the image, one `kill -1` as the build's user kills everything at once. Elsewhere that would kill unrelated processes of
        the user, so descendants are listed again until there are none, because they may fork meanwhile.
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
        """Kill all descendants of the runner without waiting, before the runner exits immediately."""
        if self._in_image:
            self._kill_user()
        for _ in range(10):
            if end_descendants_now(spare=0):
                return

    def _kill_user(self) -> None:
        """Kill all processes of the user, and remove memory that outlives processes: System V segments and /dev/shm.

        The process that does so belongs to the same user, so others may stop it. Then it is abandoned, and the runner's own
        kill(2), which can't be stopped, remains. The same happens if no process can be started.
        """
        # Without the limits: at its limit of processes, a user can't start the one that kills the others.
        command = [*self._identity, "/bin/sh", "-c", "kill -KILL -1; ipcrm -a; rm -rf /dev/shm/*"]
        nothing = subprocess.DEVNULL
        with suppress(OSError, subprocess.TimeoutExpired):
            # Don't wait any longer: `end_descendants` kills and reaps it like all others.
            subprocess.Popen(command, env={}, stdin=nothing, stdout=nothing, stderr=nothing).wait(1)


@asynccontextmanager
async def _closed_at_end(process: anyio.abc.Process) -> AsyncIterator[None]:
    """Close the pipes of a process that has ended. `async with process` would wait for one that cannot be killed."""
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
    """Return a limit that is never raised: that fails without privileges, and with them would undo the operator's limit."""
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
