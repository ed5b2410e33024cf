"""Process many items in parallel."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection
from typing import TypeVar

import anyio

_T = TypeVar("_T")


async def in_parallel(work: Callable[[_T], Awaitable[None]], items: Collection[_T], *, limit: int) -> None:
    """Run `work` for each of `items`, in their order, at most `limit` at once.

    The first error cancels the rest, and is raised itself instead of a group.
    """
    waiting = iter(items)

    async def worker() -> None:
        for item in waiting:
            await work(item)

    try:
        async with anyio.create_task_group() as workers:
            for _ in range(min(limit, len(items))):
                workers.start_soon(worker)
    except BaseExceptionGroup as group:
        error: BaseException = group
        while isinstance(error, BaseExceptionGroup):
            error = error.exceptions[0]
        raise error from None
