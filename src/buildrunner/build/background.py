"""Work beside the story, which may wait for it or not; it ends with the story at the latest."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import anyio
import anyio.abc

from buildrunner.build.faults import FaultReporter


class BackgroundWork:
    """Runs work in the build's task group. A fault in it is reported, and does not cost the build.

    Args:
        tasks: the task group of the build.
        faults: takes exceptions of the work.

    """

    def __init__(self, tasks: anyio.abc.TaskGroup, faults: FaultReporter) -> None:
        self._tasks = tasks
        self._faults = faults
        self._scopes: list[anyio.CancelScope] = []

    def start(self, work: Callable[[], Awaitable[None]]) -> None:
        """Start work."""
        self._tasks.start_soon(self._run, work)

    def cancel(self) -> None:
        """Cancel all that is under way."""
        for scope in self._scopes:
            scope.cancel()

    async def _run(self, work: Callable[[], Awaitable[None]]) -> None:
        with anyio.CancelScope() as scope:
            self._scopes.append(scope)
            try:
                await work()
            except Exception as error:
                self._faults.report(error)
