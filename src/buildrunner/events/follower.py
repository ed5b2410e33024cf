"""What a sink is, and how one keeps running: a fault in it must cost neither the build nor the rest of the log."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Protocol

import anyio

from buildrunner.concurrency.retry import RetryPolicy

if TYPE_CHECKING:
    from buildrunner.events.journal import Journal

RETRY = RetryPolicy(first=0.1, longest=5.0)  # less than a build waits at its end for what was not delivered


class Sink(Protocol):
    """Delivers the events of the journal to another system. It reads them through its own `Reader`."""

    name: str  # in warnings, such as "the console"

    async def run(self) -> None:
        """Deliver all events up to the result, and return. After an exception it runs again, from the reader's position."""


async def restart_after_faults(sink: Sink, journal: Journal, *, report: Callable[[Exception], None]) -> None:
    """Run a sink until it returns. After an exception, report it, log a warning, and run the sink again after a pause."""
    faults = 0
    while True:
        try:
            return await sink.run()
        except Exception as error:
            report(error)
            journal.log(
                f"Internal error in buildrunner: {sink.name} failed ({type(error).__name__}). Restarting it.", "warning"
            )
        await anyio.sleep(RETRY.pause(faults))
        faults += 1
