"""Builds of one `dev`, each a process of its own: started, superseded, ended."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress

import anyio
from anyio.abc import Process

from buildrunner.commands.dev.leftovers import Leftovers

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
    async def start(self, process: Process, environment: Mapping[str, str]) -> AsyncIterator[Process]:
        """Let a process of `open_build_process` build. It is stopped if it still runs when the block ends."""
        self._running.append(process)
        try:
            with suppress(anyio.BrokenResourceError, anyio.ClosedResourceError):  # it has ended: so says its exit code
                assert process.stdin
                await process.stdin.send(json.dumps(dict(environment)).encode())
                await process.stdin.aclose()
            if self.stopped_by:  # while it was being started
                process.send_signal(signal.SIGTERM)
            yield process
        finally:
            if process.returncode is None:
                process.send_signal(signal.SIGTERM)
                with anyio.CancelScope(shield=True):
                    await process.wait()
            self._running.remove(process)

    async def wait(self, build: Process) -> int:
        """Wait for the end of a build, which supersedes those that were started before, and return its exit code."""
        async with anyio.create_task_group() as tasks:
            for other in self._running[: self._running.index(build)]:
                tasks.start_soon(_let_yield, other)
            code = await build.wait()
        return code if code >= 0 else 128 - code  # as shells count


@asynccontextmanager
async def open_build_process(leftovers: Leftovers) -> AsyncIterator[Process]:
    """Start a process that a build can begin in at once. It is killed if it still runs when the block ends.

    Importing what a build needs takes half a second, in which there is nothing to build yet. Its log streams to where ours goes.
    """
    with anyio.CancelScope(shield=True):  # a process without a handle could not be stopped
        process = await anyio.open_process(
            [sys.executable, "-P", "-m", "buildrunner.commands.dev.build_process", str(os.getpid())],
            stdin=subprocess.PIPE,
            stdout=None,
            stderr=None,
            start_new_session=True,
            # If we are killed, it ends later than we do. What it uses is removed after that.
            pass_fds=[leftovers.descriptor],
        )
    try:
        yield process
    finally:
        if process.returncode is None:
            process.kill()
        with anyio.CancelScope(shield=True):
            await process.aclose()


async def _let_yield(build: Process) -> None:
    """Wait until a build has found out that it is superseded, and stop it if it takes long."""
    with anyio.move_on_after(_YIELD_SECONDS) as limit:
        await build.wait()
    if limit.cancelled_caught and build.returncode is None:
        build.send_signal(signal.SIGTERM)
