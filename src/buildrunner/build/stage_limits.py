"""The stages of a build: each announces its beginning and its end, and is stopped when its time runs out."""

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
    """Runs the parts of the story one after the other as stages of the log."""

    def __init__(self, journal: Journal, redactor: Redactor, ending: Ending) -> None:
        self.sandbox: Sandbox | None = None  # once there is one: what it ran when a stage was stopped
        self._journal = journal
        self._redactor = redactor
        self._ending = ending
        self.seconds: dict[str, float] = {}  # that each took
        self._last_output = -math.inf  # when a command last printed something before its time ran out

    def note_output(self) -> None:
        """Note that a command printed something. What it prints when it is told to stop does not count."""
        if not self._ending.timed_out:
            self._last_output = anyio.current_time()

    @asynccontextmanager
    async def run(
        self, name: Stage, limit: float | None, text: str, *, tail_share: float = 0.25
    ) -> AsyncIterator[None]:
        """Run the body as a stage.

        Args:
            name: of the stage.
            limit: seconds that it may take.
            text: says what begins.
            tail_share: of the room for the ends of long logs, what this stage may use.

        Raises:
            BuildTimedOut: when its time ran out.

        """
        journal, ending = self._journal, self._ending
        journal.stage = name
        journal.write("stage", text, state="started")
        started = anyio.current_time()
        succeeded = False
        if self.sandbox:
            self.sandbox.stopped = []

        def check_limit() -> None:
            # What did not notice that its time ran out, as work in a thread does not, is too late as well.
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
                journal.log("A process of this stage cannot be ended: the kernel does not release it.", "warning")
            with anyio.CancelScope(shield=True):  # bounded by LOG_MAX_BYTES
                await journal.end_output(share=tail_share)
            self.seconds[name] = round(seconds, 3)
            word, state = ("done", "succeeded") if succeeded else ("failed", "failed")
            journal.write("stage", f"{name}: {word} in {seconds:.1f} s", state=state, seconds=round(seconds, 3))

    def _stopped_program(self) -> str | None:
        stopped = self.sandbox.stopped if self.sandbox else []
        return as_typed(main_program(stopped), self._redactor.redact) if stopped else None


def timed_out(stage: Stage, limit: float, silent: float = 0.0, program: str | None = None) -> BuildTimedOut:
    """Return what is said of a stage whose time has run out: its command hung if it was silent for half of it.

    Args:
        stage: that ran.
        limit: seconds that it had.
        silent: seconds at its end in which nothing was printed.
        program: that ran then; of a clone it is git, which nobody needs to know.

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
