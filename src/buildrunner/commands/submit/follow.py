"""Follow a build that runs elsewhere: its log in the stream, the state of its task, and the signals of this process."""

from __future__ import annotations

import math
import signal
import sys
from collections.abc import Callable, Sequence
from contextlib import aclosing

import anyio
import anyio.abc
import anyio.to_thread

from buildrunner.client.reader import LogReader
from buildrunner.commands.submit.engine import Engine
from buildrunner.commands.submit.request import Request
from buildrunner.commands.submit.start import Starter
from buildrunner.concurrency.retry import RetryPolicy
from buildrunner.errors import EXIT_FAULT, ungrouped
from buildrunner.events.sinks.console import FRAME_SECONDS, STDERR, Display, make_display, print_bytes
from buildrunner.fleet.requests import RequestFailed
from buildrunner.fleet.task_state import TaskState, explain_stop

STOP_SECONDS = 60.0  # for the result of a build that is stopped
# From the end of the task on, for its last events. Of a build that has begun, the reader looks into the archive after 35 s of
# silence; of another one every 5 s.
LAST_EVENTS_SECONDS = 45.0
NO_EVENTS_SECONDS = 15.0
_LOOK_AT_FIRST = RetryPolicy(first=2.0, longest=2.0, jitter=(0.7, 1.3))
_LOOK = RetryPolicy(first=10.0, longest=10.0, jitter=(0.7, 1.3))  # while its events come
_PHASES = {"queued": "The build is queued.", "starting": "The build is starting: its image is being pulled."}


class Following:
    """One build that is followed.

    Args:
        request: the build.
        engine: runs it.
        starter: started it, and does so again where AWS lost it for lack of capacity.
        say: takes a sentence for people.
        is_terminal: whether a person can be asked.

    """

    def __init__(
        self, request: Request, engine: Engine, starter: Starter, say: Callable[[str], None], *, is_terminal: bool
    ) -> None:
        self._request = request
        self._engine = engine
        self._starter = starter
        self._say = say
        self._is_terminal = is_terminal
        self._scope = anyio.CancelScope()
        self._code: int | None = None
        self._has_begun = False
        self._phase = ""
        self._was_asked = False
        self._stopped_by = 0  # the signal
        self._may_print = anyio.Event()
        self._may_print.set()
        self._printing = anyio.Lock()

    async def run(self) -> int:
        """Follow the build to its end, and return its exit code, or why there is none."""
        with self._scope:
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(self._print_log)
                tasks.start_soon(self._watch_task)
        return EXIT_FAULT if self._code is None else self._code

    def interrupt(self, number: int, tasks: anyio.abc.TaskGroup) -> None:
        """Handle SIGINT or SIGTERM: the first one stops the build, or asks whether to; the second one leaves."""
        if self._was_asked or self._stopped_by:
            self._say(f"Not following any more. To see the log: {self._logs_command}")
            self._end(128 + number)
        elif number == signal.SIGINT and self._is_terminal:
            self._was_asked = True
            tasks.start_soon(self._ask)
        else:
            tasks.start_soon(self._stop, number)
            self._stopped_by = number

    @property
    def _logs_command(self) -> str:
        return f"buildrunner logs {self._request.slug} --build {self._request.build} --follow"

    def _end(self, code: int) -> None:
        if self._code is None:
            self._code = code
            self._scope.cancel()

    async def _print_log(self) -> None:
        request = self._request
        reader = LogReader(
            request.log, request.slug, request.build, follow=True, starts_within=math.inf, notice=self._say
        )
        display = make_display("auto", live=self._is_terminal)
        try:
            with ungrouped():
                async with anyio.create_task_group() as tasks:
                    if display.live:
                        tasks.start_soon(self._keep_moving, display)
                    async with aclosing(reader.batches()) as batches:
                        async for events in batches:
                            self._has_begun = True
                            await self._print(display, events)
                    tasks.cancel_scope.cancel()
        except BrokenPipeError:  # of stdout; the build goes on, as at `| head`
            self._end(128 + signal.SIGPIPE)
            return
        assert reader.end
        if reader.end.sentence:
            self._say(reader.end.sentence)
        if reader.end.reason == "lost" and (state := await self._look()):
            self._report(state)
        self._end(reader.end.exit_code)

    async def _print(self, display: Display, events: Sequence[bytes] = ()) -> None:
        await self._may_print.wait()
        async with self._printing:
            if shown := display.show(events):
                # In a thread, which is abandoned at the end: Ctrl-S may have stopped the terminal.
                await anyio.to_thread.run_sync(print_bytes, shown, abandon_on_cancel=True)

    async def _keep_moving(self, display: Display) -> None:
        """Redraw the row that shows what is going on."""
        while True:
            await anyio.sleep(FRAME_SECONDS)
            await self._print(display)

    async def _watch_task(self) -> None:
        while True:
            state = await self._look()
            if state and state.phase == "stopped":
                retries = state.is_lack_of_capacity and not (self._has_begun or self._stopped_by)
                if retries and await self._start_again(state.reason):
                    continue
                # The end of the log cancels this.
                await anyio.sleep(LAST_EVENTS_SECONDS if self._has_begun else NO_EVENTS_SECONDS)
                self._report(state)
                self._stopped_by = self._stopped_by or self._starter.given_up
                self._end(128 + self._stopped_by if self._stopped_by else EXIT_FAULT)
                return
            if state and state.phase != self._phase and not self._has_begun:
                self._phase = state.phase
                if sentence := _PHASES.get(state.phase):
                    self._say(sentence)
            await anyio.sleep((_LOOK if self._has_begun else _LOOK_AT_FIRST).pause(0))

    async def _look(self) -> TaskState | None:
        """Return the state of the task; None if it is not known."""
        try:
            return await self._engine.look()
        except RequestFailed as error:
            if error.transient is None and self._phase != "unknown":
                self._phase = "unknown"
                self._say(f"The state of the task is not known: {error.reason.rstrip('.')}.")
            return None

    async def _start_again(self, reason: str) -> bool:
        """Start the task again that AWS had no capacity for; return whether there is one."""
        try:
            await self._starter.restart(reason)
        except RequestFailed as error:
            self._say(f"{self._engine.service} did not start the build: {error.reason.rstrip('.')}.")
            return False
        self._phase = ""
        return True

    def _report(self, state: TaskState) -> None:
        """Say why there is no result, in the words of AWS."""
        if state.phase != "stopped":
            self._say(f"Its task is still {state.phase}.")
            return
        reason, hint = explain_stop(state, has_begun=self._has_begun)
        self._say(f"The task stopped before its build wrote a result: {reason}.")
        if hint and not self._stopped_by:
            self._say(hint)

    async def _ask(self) -> None:
        self._may_print = anyio.Event()  # the question stays the last line
        try:
            print_bytes(b"\nStop the build? [y/N] ", STDERR)
            answer = await anyio.to_thread.run_sync(sys.stdin.readline, abandon_on_cancel=True)
        finally:
            self._may_print.set()
        if answer.strip().lower() in {"y", "yes"}:
            self._stopped_by = signal.SIGINT
            await self._stop(signal.SIGINT)
        else:
            self._say("The build continues. Ctrl-C again stops following.")

    async def _stop(self, number: int) -> None:
        self._say(f"Stopping the build; waiting up to {STOP_SECONDS:.0f} s for its result.")
        with anyio.move_on_after(STOP_SECONDS):
            try:
                await self._starter.stop()
            except RequestFailed as error:
                self._say(f"The build cannot be stopped: {error.reason.rstrip('.')}.")
            await anyio.sleep_forever()  # the result ends it
        self._say(f"The build has not ended. To see the log: {self._logs_command}")
        self._end(128 + number)
