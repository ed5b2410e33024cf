"""Store the newest lines of a flood of output in a file of a fixed size."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple


class Ring:
    """Store blocks of records in a file; the oldest blocks are dropped for new ones.

    Args:
        path: path of the file, which must not exist.
        capacity: size of the file, bytes.

    Raises:
        OSError: the disk has no space for it.

    """

    def __init__(self, path: Path, capacity: int) -> None:
        self._file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        if capacity:
            os.posix_fallocate(self._file, 0, capacity)
        self._blocks: deque[_Block] = deque()
        self._cost = 0
        self._next = 0  # offset of the next block
        self.dropped_lines = self.dropped_bytes = 0  # dropped output since the last reset by the caller
        self.resize(capacity)

    def resize(self, capacity: int) -> None:
        """Limit the encoded events to `capacity` bytes, at most the size of the file; drop the oldest ones."""
        self._capacity = capacity
        self._block_bytes = max(1, min(65536, capacity // 16))
        while self._cost > capacity:
            self._drop_oldest()

    def put(self, records: Sequence[bytes], text_bytes: Sequence[int], overhead: int) -> None:
        """Store records.

        Args:
            records: encoded records, one per line of output.
            text_bytes: size of each line, bytes.
            overhead: bytes that each record grows by when it becomes an event.

        """
        start = 0
        while start < len(records):
            end, size = start, 0
            while end < len(records) and (end == start or size + len(records[end]) <= self._block_bytes):
                size += len(records[end])
                end += 1
            lines = end - start
            block = _Block(self._next, size, lines, sum(text_bytes[start:end]), size + overhead * lines)
            while self._blocks and self._cost + block.cost > self._capacity:
                self._drop_oldest()
            if block.cost > self._capacity:
                self.dropped_lines += lines
                self.dropped_bytes += block.text_bytes
            else:
                if not self._blocks or block.offset + size > self._capacity:
                    while self._blocks and self._blocks[0].offset >= self._next:
                        self._drop_oldest()
                    block = block._replace(offset=0)
                while self._blocks and block.offset <= self._blocks[0].offset < block.offset + size:
                    self._drop_oldest()
                write_all(self._file, b"".join(records[start:end]), block.offset)
                self._blocks.append(block)
                self._cost += block.cost
                self._next = block.offset + size
            start = end

    def take(self) -> Iterator[list[bytes]]:
        """Yield the blocks of records, oldest first, and remove them."""
        while self._blocks:
            block = self._blocks.popleft()
            self._cost -= block.cost
            yield os.pread(self._file, block.size, block.offset).splitlines(keepends=True)

    def close(self) -> None:
        os.close(self._file)

    def _drop_oldest(self) -> None:
        block = self._blocks.popleft()
        self._cost -= block.cost
        self.dropped_lines += block.lines
        self.dropped_bytes += block.text_bytes


class _Block(NamedTuple):
    """The position of records in the file."""

    offset: int  # bytes
    size: int  # bytes
    lines: int
    text_bytes: int  # size of the lines
    cost: int  # size as encoded events, bytes


def write_all(file: int, data: bytes, offset: int) -> None:
    """Write all of `data` at `offset`, however many calls that takes."""
    view = memoryview(data)
    while view:
        written = os.pwrite(file, view, offset)
        view, offset = view[written:], offset + written
