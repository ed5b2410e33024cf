"""Run work in parallel with the pipeline of a build; it ends with the pipeline at the latest."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import anyio
import anyio.abc

from buildrunner.build.faults import FaultReporter


class BackgroundWork:
    """Run work in the build's task group; an internal error in it is reported and doesn't fail the build.

    Args:
        tasks: task group of the build.
        faults: reporter of internal errors in the work.

    """

    def __init__(self, tasks: anyio.abc.TaskGroup, faults: FaultReporter) -> None:
        self._tasks = tasks
        self._faults = faults
        self._scopes: list[anyio.CancelScope] = []

    def start(self, work: Callable[[], Awaitable[None]]) -> None:
        """Start work."""
        self._tasks.start_soon(self._run, work)

    def cancel(self) -> None:
        """Cancel all work in progress."""
        for scope in self._scopes:
            scope.cancel()

    async def _run(self, work: Callable[[], Awaitable[None]]) -> None:
        with anyio.CancelScope() as scope:
            self._scopes.append(scope)
            try:
                await work()
            except Exception as error:
                self._faults.report(error)
