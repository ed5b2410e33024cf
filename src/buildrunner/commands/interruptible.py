"""Run a command until it ends or a signal stops it."""

from __future__ import annotations

import signal
from collections.abc import Awaitable, Callable, Sequence

import anyio

from buildrunner.errors import ungrouped


async def run_until_signal(work: Callable[[], Awaitable[int]], early_signals: Sequence[int]) -> int:
    """Run a command and cancel it at the first SIGINT, SIGTERM or SIGHUP.

    Args:
        work: coroutine function that returns the exit code.
        early_signals: numbers of the signals received before; the command doesn't start then.

    Returns:
        The exit code of `work`, or 128 plus the number of the first signal.

    """
    received = list(early_signals)
    code = 0
    with ungrouped(), anyio.open_signal_receiver(signal.SIGINT, signal.SIGTERM, signal.SIGHUP) as signals:
        async with anyio.create_task_group() as tasks:

            async def listen() -> None:
                async for number in signals:
                    received.append(number)
                    tasks.cancel_scope.cancel()

            if not received:
                tasks.start_soon(listen)
                code = await work()
            tasks.cancel_scope.cancel()
    return 128 + received[0] if received else code
