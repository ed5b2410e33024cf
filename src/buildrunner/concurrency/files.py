"""Write large files without blocking the event loop, which forwards every line of the log; a disk may be slow or full."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from functools import partial
from io import FileIO
from pathlib import Path

import anyio.to_thread


@asynccontextmanager
async def open_for_writing(path: Path) -> AsyncIterator[Callable[[bytes], Awaitable[None]]]:
    """Open a file and yield its `write`, which writes all of the data in a thread.

    Raises:
        OSError: the disk is full, for instance; also raised by `write`.

    """
    file: FileIO = await anyio.to_thread.run_sync(partial(FileIO, path, "wb"))  # unbuffered

    def write_all(data: bytes) -> None:
        left = memoryview(data)
        while left:
            left = left[file.write(left) :]

    try:
        yield lambda data: anyio.to_thread.run_sync(write_all, data)
    finally:
        file.close()
