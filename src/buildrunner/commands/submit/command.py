"""`buildrunner submit`: start a build on a fleet, follow its log, and exit with its exit code."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any

import anyio

from buildrunner.commands.submit.batch import Batch, BatchTarget
from buildrunner.commands.submit.ecs import Ecs
from buildrunner.commands.submit.engine import Engine
from buildrunner.commands.submit.follow import STOP_SECONDS, Following
from buildrunner.commands.submit.request import Request, read_request
from buildrunner.commands.submit.start import Starter
from buildrunner.errors import EXIT_CONFIGURATION, EXIT_FAULT, EXIT_PUBLISHED
from buildrunner.events.sinks.console import STDERR, print_line
from buildrunner.fleet.requests import RequestFailed, open_client


async def submit(
    environment: Mapping[str, str],
    repo_url: str,
    slug: str,
    *,
    ref: str | None,
    variables: Sequence[str],
    share: str | None,
    detach: bool,
    early_signals: Sequence[int] = (),
) -> int:
    """Start one build elsewhere and follow it.

    Args:
        environment: `ECS_…` or `BATCH_…`, and what `logs` reads; nothing of it is passed on.
        repo_url: that is built.
        slug: of the site.
        ref: branch, tag or commit; None for the default branch.
        variables: `NAME=VALUE` for the build.
        share: of a fair-share queue of Batch.
        detach: print the id of the build, and leave.
        early_signals: SIGINT and SIGTERM that came before.

    Returns:
        The build's own exit code; 1 when AWS started no task in time, or the task was lost; 2 when AWS refuses the request.

    Raises:
        ConfigurationError: a variable or an argument is missing or malformed, or a secret.

    """
    request = read_request(
        environment, repo_url=repo_url, slug=slug, ref=ref, variables=variables, share=share, detach=detach
    )
    async with _open_engine(request) as engine:
        starter = Starter(engine, say)
        following = None if detach else Following(request, engine, starter, say, is_terminal=_is_terminal())
        if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:  # a terminal that is closed ends this, not the build
            signal.signal(signal.SIGHUP, signal.SIG_DFL)
        with anyio.open_signal_receiver(signal.SIGINT, signal.SIGTERM) as signals:
            async with anyio.create_task_group() as tasks:

                async def listen() -> None:
                    async for number in signals:
                        handle(number)

                def handle(number: int) -> None:
                    if following and starter.is_started:
                        following.interrupt(number, tasks)
                    else:
                        starter.give_up(number)

                tasks.start_soon(listen)
                for number in early_signals:
                    handle(number)
                code = await _run(request, engine, starter, following)
                tasks.cancel_scope.cancel()
    return code


async def _run(request: Request, engine: Engine, starter: Starter, following: Following | None) -> int:
    try:
        await starter.start()
    except RequestFailed as error:
        if starter.given_up:
            say("Interrupted; the build was not started.")
            return 128 + starter.given_up
        say(f"{engine.service} did not start the build: {error.reason.rstrip('.')}.")
        if error.transient is None:
            say("Check the variables and your permissions. Nothing was started.")
        return EXIT_FAULT if error.transient else EXIT_CONFIGURATION
    if starter.given_up:  # the answer came after the signal
        return await _stop(engine, starter)
    if following is None:
        print(request.build, flush=True)
        return EXIT_PUBLISHED
    say(f"Submitted build {request.build} to {engine.service}.{f' Its page: {request.page}' if request.page else ''}")
    return await following.run()


async def _stop(engine: Engine, starter: Starter) -> int:
    """Stop a task whose start was abandoned."""
    with anyio.move_on_after(STOP_SECONDS) as scope:
        try:
            await starter.stop()
        except RequestFailed as error:
            say(f"The build cannot be stopped: {error.reason.rstrip('.')}.")
    if scope.cancelled_caught:
        say(f"{engine.service} does not answer; the build may still run.")
    return 128 + starter.given_up


@asynccontextmanager
async def _open_engine(request: Request) -> AsyncIterator[Engine]:
    target = request.target
    is_batch = isinstance(target, BatchTarget)
    async with open_client("batch" if is_batch else "ecs", request.region) as client:
        facts: dict[str, Any] = {"slug": request.slug, "build": request.build, "variables": request.variables}
        yield Batch(client, target, **facts) if isinstance(target, BatchTarget) else Ecs(client, target, **facts)


def say(sentence: str) -> None:
    """Print a sentence of our own to stderr: stdout has the log, or the id of the build."""
    print_line(f"buildrunner: {sentence}", STDERR)


def _is_terminal() -> bool:
    return os.isatty(0) and os.isatty(2) and sys.stdin is not None
