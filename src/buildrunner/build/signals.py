"""Handle SIGINT, SIGTERM and SIGHUP: the first stops the build gracefully, the second exits immediately."""

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

# One deadline for everything after a signal. docs/deploying.md promises 15 s; the rest is for the exit of the process.
AFTER_SIGNAL_SECONDS = 14.5


class SignalWatcher:
    """Stop the build when the process receives a signal.

    Args:
        journal: journal that logs each signal.
        ending: end of the build, which the first signal stops.
        kill_commands: function that kills every process of the build without waiting.

    """

    def __init__(self, journal: Journal, ending: Ending, *, kill_commands: Callable[[], None]) -> None:
        self.exit_code: int | None = None  # set once the result is delivered; a later signal exits with it
        self._journal = journal
        self._ending = ending
        self._kill_commands = kill_commands

    async def run(self, early: Sequence[int]) -> None:
        """Watch until cancelled.

        Args:
            early: signals received before this method started.

        """
        hang_up = () if signal.getsignal(signal.SIGHUP) is signal.SIG_IGN else (signal.SIGHUP,)  # nohup ignores it
        loop = asyncio.get_running_loop()
        send, signals = anyio.create_memory_object_stream[int](math.inf)

        def catch(number: int, _frame: object) -> None:
            if self.exit_code is not None:
                os._exit(self.exit_code)
            if not loop.is_closed():
                loop.call_soon_threadsafe(send.send_nowait, number)

        # The loop removes its own handlers when it closes. A signal after that would replace the exit code of the result.
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
        """Log a signal and stop the build."""
        name = signal.Signals(number).name
        is_ending = self._ending.published or self._ending.cause is not None
        self._journal.log(
            f"{name} received: {'the build is already ending' if is_ending else 'stopping the build'}.", "warning"
        )
        self._ending.stop(BuildCancelled(_reported(number), f"The build was stopped by {name}."))
        self._ending.deadline.set(anyio.current_time() + AFTER_SIGNAL_SECONDS)


def _reported(number: int) -> int:
    """Return the signal to report in the exit code; SIGHUP (a closed terminal) counts as SIGTERM."""
    return signal.SIGINT if number == signal.SIGINT else signal.SIGTERM
