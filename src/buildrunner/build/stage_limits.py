"""Run the stages of a build: log the start and end of each, and stop it at its time limit."""

from __future__ import annotations

import math
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import anyio

from buildrunner.build.ending import Ending
from buildrunner.errors import BuildEnded, BuildTimedOut, Stage
from buildrunner.events.journal import Journal
from buildrunner.redaction import Redactor
from buildrunner.sandbox import Sandbox, as_typed, main_program

_DOING = {"clone": "Cloning", "install": "Installing dependencies", "build": "The build", "upload": "Publishing"}


class Stages:
    """Run the parts of the pipeline, one at a time, as stages of the log."""

    def __init__(self, journal: Journal, redactor: Redactor, ending: Ending) -> None:
        self.sandbox: Sandbox | None = None  # set once created; names the program that a time limit stopped
        self._journal = journal
        self._redactor = redactor
        self._ending = ending
        self.seconds: dict[str, float] = {}  # duration by stage
        self._last_output = -math.inf  # time of the last output before the time limit (event loop clock, seconds)

    def note_output(self) -> None:
        """Record that a command printed something; output after the time limit doesn't count."""
        if not self._ending.timed_out:
            self._last_output = anyio.current_time()

    @asynccontextmanager
    async def run(
        self, name: Stage, limit: float | None, text: str, *, tail_share: float = 0.25
    ) -> AsyncIterator[None]:
        """Run the body as a stage.

        Args:
            name: name of the stage.
            limit: time limit, seconds; None for no limit.
            text: log line at its start.
            tail_share: fraction, 0 to 1, of the space for the ends of long logs that this stage may use.

        Raises:
            BuildTimedOut: the stage exceeded its time limit.

        """
        journal, ending = self._journal, self._ending
        journal.stage = name
        journal.write("stage", text, state="started")
        started = anyio.current_time()
        succeeded = False
        if self.sandbox:
            self.sandbox.stopped = []

        def check_limit() -> None:
            # Work in a thread can't be cancelled, so a body that completed may still have exceeded the limit.
            if limit is not None and anyio.current_time() >= started + limit and not ending.published:
                silent = started + limit - max(started, self._last_output)
                raise ending.decide(timed_out(name, limit, silent, self._stopped_program()))

        try:
            with anyio.move_on_after(limit) as ending.limit:
                yield
            check_limit()
            succeeded = True
        except BuildEnded as error:
            if ending.cause is None:
                check_limit()
            ending.decide(error)
            raise
        finally:
            ending.limit = None
            seconds = anyio.current_time() - started
            if self.sandbox and self.sandbox.has_leftovers:
                self.sandbox.has_leftovers = False
                journal.log("Could not stop a process of this stage: the kernel does not release it.", "warning")
            with anyio.CancelScope(shield=True):  # bounded by LOG_MAX_BYTES
                await journal.end_output(share=tail_share)
            self.seconds[name] = round(seconds, 3)
            word, state = ("done", "succeeded") if succeeded else ("failed", "failed")
            journal.write("stage", f"{name}: {word} in {seconds:.1f} s", state=state, seconds=round(seconds, 3))

    def _stopped_program(self) -> str | None:
        stopped = self.sandbox.stopped if self.sandbox else []
        return as_typed(main_program(stopped), self._redactor.redact) if stopped else None


def timed_out(stage: Stage, limit: float, silent: float = 0.0, program: str | None = None) -> BuildTimedOut:
    """Return the error of a stage that exceeded its time limit.

    A command that printed nothing for the last half of the limit is reported as hanging.

    Args:
        stage: name of the stage.
        limit: time limit, seconds.
        silent: time without output before the limit, seconds.
        program: program that was stopped; named for install and build only, since a clone always runs git.

    """
    reason = f"{_DOING.get(stage, stage)} took longer than {limit:g} s"
    raise_it = f"raise {stage.upper()}_TIMEOUT"
    if program and stage in {"install", "build"}:
        reason = f"{reason} and was stopped at `{program}`"
    if stage in {"install", "build"} and silent >= limit / 2:
        return BuildTimedOut(
            f"{reason}; it had printed nothing for the last {silent:.0f} s.",
            f"It may be waiting for input, or serving or watching files. If it is only slow, {raise_it}.",
        )
    return BuildTimedOut(f"{reason}.", f"Make it faster, or {raise_it}.")
