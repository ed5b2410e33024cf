"""Stop work: one deadline for all clean-ups of a cancelled build, and threads that can be abandoned.

Clean-ups are shielded from cancellation, because they run while the build is being cancelled. Several of them follow each other
at the end of a build, so after a signal they share one deadline, which leaves time for the archive and the result.
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

# Part of the deadline after a signal, reserved for the archive and the delivery of the result.
CLEANUP_RESERVE_SECONDS = 4.5


class Deadline:
    """The time when a build must have ended; unlimited before a signal."""

    def __init__(self) -> None:
        self.at = math.inf
        self._limited: list[tuple[anyio.CancelScope, float]] = []

    def set(self, at: float) -> None:
        """Limit everything in progress, and everything that starts later."""
        self.at = at
        for scope, reserve in self._limited:
            scope.deadline = min(scope.deadline, at - reserve)

    @contextmanager
    def limit(self, seconds: float, reserve: float = 0.0, *, shield: bool = False) -> Iterator[anyio.CancelScope]:
        """Limit a step to `seconds`, and to `reserve` seconds before the deadline, even if it is set during the step."""
        deadline = min(anyio.current_time() + seconds, self.at - reserve)
        scope = anyio.CancelScope(deadline=deadline, shield=shield)
        self._limited.append((scope, reserve))
        try:
            with scope:
                yield scope
        finally:
            self._limited.remove((scope, reserve))


# The deadline of the build that the task belongs to. Outside of builds, clean-ups only have their own limits.
run_deadline: ContextVar[Deadline] = ContextVar("run_deadline", default=Deadline())  # noqa: B039 - nobody sets this one


@contextmanager
def cleanup(seconds: float) -> Iterator[anyio.CancelScope]:
    """Shield a clean-up from cancellation, for `seconds` and within the deadline of the build."""
    with run_deadline.get().limit(seconds, CLEANUP_RESERVE_SECONDS, shield=True) as scope:
        yield scope


async def run_in_thread(work: Callable[[], _T]) -> _T:
    """Run read-only work in another thread; a cancellation doesn't wait for it.

    The thread ends when the work calls `check_cancelled`.
    """
    return await anyio.to_thread.run_sync(work, abandon_on_cancel=True)


def check_cancelled() -> None:
    """Raise the cancellation of the task that waits for this thread; do nothing outside of such a thread."""
    with suppress(RuntimeError, AttributeError):
        anyio.from_thread.check_cancelled()
