"""Define sinks, and keep them running: an internal error in one must affect neither the build nor the rest of the log."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable
from typing import TYPE_CHECKING, Protocol

import anyio

from buildrunner.concurrency.retry import RetryPolicy

if TYPE_CHECKING:
    from buildrunner.events.journal import Journal

RETRY = RetryPolicy(first=0.1, longest=5.0)  # shorter than a build waits for delivery at its end


class Sink(Protocol):
    """Deliver the events of the journal to another system, reading them through a `Reader` of its own.

    Nothing waits for a sink before the end of a build. A subclass needs `name`, `undelivered` and `run`.
    """

    name: str  # for warnings, such as "the console"
    fault: str | None = None  # last failure of `run`, for warnings

    @property
    @abstractmethod
    def undelivered(self) -> int:
        """Number of events that the other system should have received but has not."""

    @property
    def behind(self) -> str | None:
        """Why events are missing, such as "Redis does not answer"; None if nothing is wrong."""
        return None

    @property
    def pending_warning(self) -> str | None:
        """A warning for the log about events that are not delivered when the build has ended; None if there are none."""
        name = self.name[:1].upper() + self.name[1:]
        return (
            f"{name} is incomplete at this point: {self.behind}. The archive in S3 has all of it."
            if self.behind
            else None
        )

    def final_warning(self, *, finished: bool, total: int, place: str) -> str | None:
        """Return a warning for the console when nothing more is sent.

        Args:
            finished: whether `run` has returned.
            total: number of events of the build.
            place: where else the events are, such as "they are lost".

        """
        if finished or not self.undelivered:
            return None
        why = self.behind or self.fault or f"{self.name} was too slow"
        return f"{self.undelivered:,} of {total:,} events were not delivered: {why}; {place}."

    @property
    def last_wait(self) -> float:
        """Seconds that the end of a build waits for this sink."""
        return 5.0

    @abstractmethod
    async def run(self) -> None:
        """Deliver all events up to the result, and return. After an exception it is called again, with the reader where it was."""

    def flush(self) -> None:
        """Deliver the remaining events without waiting for more; the journal is complete."""
        return


class Follower:
    """A sink of a build, and whether it has delivered everything.

    Args:
        sink: sink to run, and to restart after an exception.
        journal: journal of the build.
        report: function that reports an exception to the operator.

    """

    def __init__(self, sink: Sink, journal: Journal, *, report: Callable[[Exception], None]) -> None:
        self.sink = sink
        self.finished = anyio.Event()
        self._journal = journal
        self._report = report

    async def run(self) -> None:
        """Run the sink until it has delivered the result."""
        await restart_after_faults(self.sink, self._journal, report=self._report)
        self.finished.set()


async def restart_after_faults(sink: Sink, journal: Journal, *, report: Callable[[Exception], None]) -> None:
    """Run a sink until it returns; after an exception, run it again after a pause.

    The operator sees every exception; the log has one warning for consecutive ones of a kind.
    """
    faults = 0
    while True:
        try:
            return await sink.run()
        except Exception as error:
            report(error)
            fault = f"{sink.name} failed ({type(error).__name__})"
            if sink.fault != fault:
                journal.log(f"Internal error in buildrunner: {fault}. Restarting it.", "warning")
            sink.fault = fault
        await anyio.sleep(RETRY.pause(faults))
        faults += 1
