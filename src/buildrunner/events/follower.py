"""Keep a follower of the journal running: a fault in it must cost neither the build nor the rest of the log."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING

import anyio

from buildrunner.concurrency.retry import RetryPolicy

if TYPE_CHECKING:
    from buildrunner.events.journal import Journal

RETRY = RetryPolicy(first=0.1, longest=5.0)  # less than a build waits at its end for what was not delivered


async def restart_after_faults(
    follow: Callable[[], Awaitable[None]], journal: Journal, *, name: str, report: Callable[[Exception], None]
) -> None:
    """Run `follow` until it returns. After an exception say so, and run it again, after a pause that grows."""
    faults = 0
    while True:
        try:
            return await follow()
        except Exception as error:
            report(error)
            journal.log(
                f"Internal error in buildrunner: {name} failed ({type(error).__name__}). Restarting it.", "warning"
            )
        await anyio.sleep(RETRY.pause(faults))
        faults += 1
