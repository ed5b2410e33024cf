"""Run the commands that install and build, one at a time, and feed their output into the journal."""

from __future__ import annotations

import os
import shutil
import signal
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import anyio

from buildrunner import sandbox
from buildrunner.build.run import Run
from buildrunner.errors import BuildFailed, CommandFailed, Stage, ungrouped
from buildrunner.events.lines import Line, LineDecoder, without_color

if TYPE_CHECKING:
    Watch = Callable[["CommandOutput"], Awaitable[sandbox.IdleProcess]]

MAX_NAMED = 5  # processes named in a warning about leftovers
_MAX_OUTPUT = 32768  # characters at the end of the output, stored for hints


class CommandOutput:
    """Feed both pipes of one command into the journal, and store the end of the output for hints."""

    def __init__(self, run: Run) -> None:
        self._run = run
        self._decoders = {"stdout": LineDecoder(run.redactor), "stderr": LineDecoder(run.redactor)}
        self.end = ""
        self.last = anyio.current_time()  # time of the last output
        self.bytes = 0

    def feed(self, stream: Literal["stdout", "stderr"], data: bytes) -> None:
        """Process a chunk of a pipe."""
        self._run.stages.note_output()
        self.last = anyio.current_time()
        self.bytes += len(data)
        self._put(stream, self._decoders[stream].feed(data))

    def finish(self) -> None:
        """Write the incomplete last lines."""
        self._put("stdout", self._decoders["stdout"].finish())
        self._put("stderr", self._decoders["stderr"].finish())

    def _put(self, stream: Literal["stdout", "stderr"], lines: Sequence[Line]) -> None:
        self._run.journal.output(stream, lines)
        if lines:
            self.end = (self.end + "\n".join(text for text, _ in lines[-200:]) + "\n")[-_MAX_OUTPUT:]


@contextmanager
def output_of(run: Run) -> Iterator[CommandOutput]:
    """Yield an object for the output of one command, and write the incomplete last lines at the end."""
    output = CommandOutput(run)
    try:
        yield output
    finally:
        output.finish()


class CommandRunner:
    """Run the commands of a build in its sandbox, and explain their failures.

    Args:
        run: the build.
        box: sandbox that runs the commands.

    """

    def __init__(self, run: Run, box: sandbox.Sandbox) -> None:
        self.unfinished: dict[
            str, str
        ] = {}  # files that were being written when a command ended → the program that did
        self._build = run
        self._box = box

    async def run(
        self,
        stage: Stage,
        command: Sequence[str],
        *,
        folder: Path,
        environment: Mapping[str, str],
        shown: str | None = None,
        watch: Watch | None = None,
    ) -> sandbox.IdleProcess | None:
        """Run a command and everything that it starts until all of it has ended.

        Args:
            stage: stage that fails with the command.
            command: program and its arguments.
            folder: working directory.
            environment: complete environment of the command.
            shown: the command as a person would type it; by default the command line.
            watch: function that returns once the command only serves or watches files; then the command is stopped.

        Returns:
            The return value of `watch`; None for a command that ended by itself.

        Raises:
            CommandFailed: the command failed.
            BuildFailed: the command could not be started or stopped.

        """
        run, shown = self._build, shown or " ".join(command)
        _check_command(stage, command, environment)
        memory = sandbox.memory_limit()
        if options := sandbox.node_options(environment.get("NODE_OPTIONS", ""), memory):
            environment = {**environment, "NODE_OPTIONS": options}
        run.log(f"$ {shown}")
        ended: sandbox.Exit | None = None
        idle: sandbox.IdleProcess | None = None
        left: sandbox.Leftovers | None = None
        exited = False  # set once the command itself exits; its child processes may still run
        with output_of(run) as output, ungrouped():
            async with anyio.create_task_group() as tasks:

                async def open_storage() -> None:
                    run.storage.open()  # the command has started, and only other processes are busy

                async def stop_when_idle(watch: Watch) -> None:
                    nonlocal idle
                    with run.faults.tolerate():
                        found = await watch(output)
                        if exited:  # too late: the command has exited by itself
                            return
                        idle = found
                        run.warn(f"{shown} {found.does} instead of exiting ({found.program}); stopping it.")
                        tasks.cancel_scope.cancel()

                async def wait_for_rest(session: int, code: int) -> None:
                    nonlocal exited, left
                    exited = True
                    if code == 0:
                        with run.faults.tolerate():
                            left = await self._wait_for_background(session, output, shown)

                tasks.start_soon(open_storage)
                if watch:
                    tasks.start_soon(stop_when_idle, watch)
                ended = await self._box.run(
                    command, folder=folder, environment=environment, output=output.feed, on_exit=wait_for_rest
                )
                tasks.cancel_scope.cancel()
        if left and left.programs:
            self._report_leftovers(shown, left)
        if idle and not ended:
            # Cancelling discarded the return value of the sandbox.
            if not await self._box.end_all(0):
                raise BuildFailed(
                    stage, f"{shown} left processes behind that could not be stopped.", idle.hint, kind="processes-left"
                )
            return idle
        assert ended is not None
        if ended.left_behind:  # no other command may start, not even a retry
            raise BuildFailed(stage, f"{shown} {ended.explanation}.", sandbox.LEFT_BEHIND_HINT, kind="processes-left")
        if ended.failed:
            raise CommandFailed(
                stage,
                f"{shown} {ended.explanation}.",
                _memory_hint(ended, memory),
                output=output.end,
                command=shown,
                environment=environment,
                certain=bool(ended.out_of_memory),
                kind="out-of-memory" if ended.out_of_memory else None,
            )
        return None

    async def run_quietly(self, command: Sequence[str], *, folder: Path, environment: Mapping[str, str]) -> str | None:
        """Run a short internal command without logging it; return the start of its stdout, or None if it failed."""
        printed = bytearray()
        ended = await self._box.run(
            command,
            folder=folder,
            environment=environment,
            output=lambda stream, data: printed.extend(data[:100] if stream == "stdout" else b""),
        )
        return None if ended.failed else printed.decode(errors="replace")

    async def _wait_for_background(self, session: int, output: CommandOutput, shown: str) -> sandbox.Leftovers:
        run, box = self._build, self._box
        return await sandbox.wait_for_background(
            session=session,
            look=lambda pids: box.look(sandbox.LOOK, [str(pid) for pid in pids]),
            printed=lambda: output.bytes,
            on_wait=lambda program: run.log(f"Waiting for `{program}`, which {shown} left running."),
            redact=run.redactor.redact,
        )

    def _report_leftovers(self, shown: str, left: sandbox.Leftovers) -> None:
        run = self._build
        names = ", ".join(f"`{name}`" for name in left.programs[:MAX_NAMED])
        more = f" and {len(left.programs) - MAX_NAMED} more" if left.programs[MAX_NAMED:] else ""
        if left.worked:
            advice = "Stop it in the script" if left.serves else "Wait for it in the script, or remove it"
            run.warn(f"{shown} ended while {names}{more} still ran, so it was stopped. {advice}.")
        else:
            run.log(f"Stopped what {shown} left running: {names}{more}.")
        self.unfinished |= left.unfinished


def _check_command(stage: Stage, command: Sequence[str], environment: Mapping[str, str]) -> None:
    """Raise BuildFailed for a command that cannot be started."""
    for program in ("node", "npm") if command[0] == "npm" else ():
        if not shutil.which(program, path=environment["PATH"]):
            raise BuildFailed(
                stage,
                f"{program} is not installed on the machine that builds.",
                "Install Node.js with npm there, or use the image.",
                kind="node-missing",
            )
    if not can_be_run(command):
        raise BuildFailed(
            stage,
            "The command is too long or contains invalid characters.",
            "Fix the scripts in package.json.",
            kind="command-invalid",
        )


def can_be_run(command: Sequence[str]) -> bool:
    """Return whether the kernel accepts a command line: an argument is at most 128 KiB (execve(2), MAX_ARG_STRLEN)."""
    try:
        return all("\0" not in word and len(os.fsencode(word)) < 128 * 1024 for word in command)
    except UnicodeEncodeError:
        return False


def output_text(error: CommandFailed) -> str:
    """Return the end of the output of a failed command, without colors."""
    return without_color(error.output)


def _memory_hint(ended: sandbox.Exit, memory: int | None) -> str | None:
    if not (ended.out_of_memory or (ended.out_of_memory is None and ended.code == 128 + signal.SIGKILL)):
        return None
    more = f" than its {memory // 2**20} MB" if memory else ""
    return f"Give the build more memory{more}, or make the build use less: fewer workers, no source maps."
