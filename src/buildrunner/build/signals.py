"""SIGINT, SIGTERM and SIGHUP: the first stops the build in good order, the second ends the process at once."""

from __future__ import annotations

import asyncio
import math
import os
import signal
from collections.abc import Callable, Sequence

import anyio

from buildrunner.build.ending import Ending
from buildrunner.errors import BuildCancelled
from buildrunner.events.journal import Journal

# After a signal one deadline covers everything: docs/deploying.md promises 15 s, and the process itself takes some time to end.
AFTER_SIGNAL_SECONDS = 14.5


class SignalWatcher:
    """Stops the build when a signal comes.

    Args:
        journal: gets a line for each.
        ending: is told of the first one.
        kill_commands: kills all that the build has started, without waiting.

    """

    def __init__(self, journal: Journal, ending: Ending, *, kill_commands: Callable[[], None]) -> None:
        self.exit_code: int | None = None  # once the result is delivered: nothing is left to stop then
        self._journal = journal
        self._ending = ending
        self._kill_commands = kill_commands

    async def run(self, early: Sequence[int]) -> None:
        """Watch until cancelled; `early` are signals that came before."""
        hang_up = () if signal.getsignal(signal.SIGHUP) is signal.SIG_IGN else (signal.SIGHUP,)  # nohup has it ignored
        loop = asyncio.get_running_loop()
        send, signals = anyio.create_memory_object_stream[int](math.inf)

        def catch(number: int, _frame: object) -> None:
            if self.exit_code is not None:
                os._exit(self.exit_code)
            if not loop.is_closed():
                loop.call_soon_threadsafe(send.send_nowait, number)

        # Not the loop's own handlers: it takes them back when it ends, and a signal that comes after that would kill a build
        # that has said how it ended, with another code.
        for number in (signal.SIGINT, signal.SIGTERM, *hang_up):
            signal.signal(number, catch)
        for number in early[:1]:
            self.handle(number)
        async for number in signals:
            if self._ending.deadline.at < math.inf:
                self._kill_commands()
                os._exit(128 + _reported(number))
            self.handle(number)

    def handle(self, number: int) -> None:
        """Stop the build for its first signal."""
        name = signal.Signals(number).name
        ends = self._ending.published or self._ending.cause is not None
        self._journal.log(
            f"{name} received: {'the build is already ending' if ends else 'stopping the build'}.", "warning"
        )
        self._ending.stop(BuildCancelled(_reported(number), f"The build was stopped by {name}."))
        self._ending.deadline.set(anyio.current_time() + AFTER_SIGNAL_SECONDS)


def _reported(number: int) -> int:
    """Return the signal that the exit code names: a terminal that is closed (SIGHUP) ends a build as SIGTERM does."""
    return signal.SIGINT if number == signal.SIGINT else signal.SIGTERM
