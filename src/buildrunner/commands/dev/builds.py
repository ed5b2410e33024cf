"""Builds of one `dev`, each a process of its own: started, superseded, ended."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager

import anyio
from anyio.abc import Process

from buildrunner.commands.dev.servers import ends_with_us

# A build finds out within a second that a later one has begun, and ends as superseded. One that does not is stopped.
_YIELD_SECONDS = 30.0


class Builds:
    """The builds that run, oldest first."""

    def __init__(self) -> None:
        self._running: list[Process] = []
        self.stopped_by: signal.Signals | None = None

    @property
    def active(self) -> bool:
        """Whether a build runs."""
        return any(build.returncode is None for build in self._running)

    def stop(self, number: signal.Signals) -> None:
        """Stop what runs, and what is about to start, in order: each build delivers its result first."""
        self.stopped_by = number
        for build in self._running:
            if build.returncode is None:
                # It stands in a session of its own, so the terminal's Ctrl-C has not reached it yet.
                build.send_signal(signal.SIGINT if number is signal.SIGINT else signal.SIGTERM)

    @asynccontextmanager
    async def start(self, environment: Mapping[str, str]) -> AsyncIterator[Process]:
        """Start a build, whose log streams to where ours goes. It is stopped if it still runs when the block ends."""
        with anyio.CancelScope(shield=True):  # a process without a handle could not be stopped
            build = await anyio.open_process(
                ends_with_us([sys.executable, "-P", "-m", "buildrunner"], signal.SIGTERM),
                stdin=subprocess.DEVNULL,
                stdout=None,
                stderr=None,
                env=environment,
                start_new_session=True,
            )
        self._running.append(build)
        try:
            if self.stopped_by:  # while it was being started
                build.send_signal(signal.SIGTERM)
            yield build
        finally:
            if build.returncode is None:
                build.send_signal(signal.SIGTERM)
                with anyio.CancelScope(shield=True):
                    await build.wait()
            self._running.remove(build)

    async def wait(self, build: Process) -> int:
        """Wait for the end of a build, which supersedes those that were started before, and return its exit code."""
        async with anyio.create_task_group() as tasks:
            for other in self._running[: self._running.index(build)]:
                tasks.start_soon(_let_yield, other)
            code = await build.wait()
        return code if code >= 0 else 128 - code  # as shells count


async def _let_yield(build: Process) -> None:
    """Wait until a build has found out that it is superseded, and stop it if it takes long."""
    with anyio.move_on_after(_YIELD_SECONDS) as limit:
        await build.wait()
    if limit.cancelled_caught and build.returncode is None:
        build.send_signal(signal.SIGTERM)
