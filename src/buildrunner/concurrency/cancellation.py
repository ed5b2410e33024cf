"""End what is under way: one deadline for all that a cancelled run still does, and threads that can be given up.

A clean-up is shielded, since it has to happen while the run is being cancelled. Many of them follow each other at the end of a
run. So after a signal they share one deadline, which leaves time for the archive and the result.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from typing import TypeVar

import anyio
import anyio.from_thread
import anyio.to_thread

_T = TypeVar("_T")

# Of the deadline after a signal, what clean-ups leave for the archive and the delivery of the result.
CLEANUP_RESERVE_SECONDS = 4.5


class Deadline:
    """When a run has to be over: never, until a signal comes."""

    def __init__(self) -> None:
        self.at = math.inf
        self._limited: list[tuple[anyio.CancelScope, float]] = []

    def set(self, at: float) -> None:
        """Bound all that is under way, and all that begins later."""
        self.at = at
        for scope, reserve in self._limited:
            scope.deadline = min(scope.deadline, at - reserve)

    @contextmanager
    def limit(self, seconds: float, reserve: float = 0.0, *, shield: bool = False) -> Iterator[anyio.CancelScope]:
        """Limit a step to `seconds`, and to `reserve` seconds before the deadline, also of one that is set meanwhile."""
        deadline = min(anyio.current_time() + seconds, self.at - reserve)
        scope = anyio.CancelScope(deadline=deadline, shield=shield)
        self._limited.append((scope, reserve))
        try:
            with scope:
                yield scope
        finally:
            self._limited.remove((scope, reserve))


# Of the run whose tasks read it. Outside of a run there is none, and clean-ups have their own limits alone.
run_deadline: ContextVar[Deadline] = ContextVar("run_deadline", default=Deadline())  # noqa: B039 - nobody sets this one


@contextmanager
def cleanup(seconds: float) -> Iterator[anyio.CancelScope]:
    """Shield what has to be done also when the run is cancelled, for `seconds` and within the deadline of the run."""
    with run_deadline.get().limit(seconds, CLEANUP_RESERVE_SECONDS, shield=True) as scope:
        yield scope


async def run_in_thread(work: Callable[[], _T]) -> _T:
    """Run work that only reads in another thread; when it is cancelled, nobody waits for it.

    It ends by itself where it calls `check_cancelled`.
    """
    return await anyio.to_thread.run_sync(work, abandon_on_cancel=True)


def check_cancelled() -> None:
    """Raise the cancellation of the task that waits for this thread; outside of such a thread do nothing."""
    with suppress(RuntimeError, AttributeError):
        anyio.from_thread.check_cancelled()
