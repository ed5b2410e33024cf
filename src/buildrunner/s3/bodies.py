"""Read the bodies of requests in slices, hash them, and limit how much of them is in memory at once."""

from __future__ import annotations

import base64
import hashlib
import io
import os
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass

import anyio

from buildrunner.concurrency.cancellation import check_cancelled
from buildrunner.errors import BuildFailed

MULTIPART_ABOVE = 16 * 2**20  # bytes
PART_SIZE = 8 * 2**20  # bytes
MAX_PARTS = 10_000  # https://docs.aws.amazon.com/AmazonS3/latest/userguide/qfacts.html
READ_AT_ONCE = 256 * 2**10  # bytes read at a time, and the most that is read without a thread

_SENT_AT_ONCE = 64 * 2**10  # bytes of a large body; TLS buffers them twice per connection
_WRITES = "A process still writes to it after the build. Wait for that process in the build script."


@dataclass(frozen=True, slots=True)
class Slice:
    """A part of a file that becomes the body of a request. Reading raises BuildFailed if the file became shorter."""

    key: str
    descriptor: int
    offset: int
    size: int

    def digest(self) -> bytes:
        found = hashlib.sha256()
        for piece in pieces_of(self.key, self.descriptor, self.offset, self.size):
            found.update(piece)
        return found.digest()

    def md5(self) -> bytes:
        found = hashlib.md5(usedforsecurity=False)
        for piece in pieces_of(self.key, self.descriptor, self.offset, self.size):
            found.update(piece)
        return found.digest()

    def pieces(self) -> Iterator[bytes]:
        return pieces_of(self.key, self.descriptor, self.offset, self.size, _SENT_AT_ONCE)

    def read(self, body: io.BytesIO, digest: bytes) -> io.BytesIO:
        with body.getbuffer() as room:
            filled = 0
            for piece in pieces_of(self.key, self.descriptor, self.offset, self.size):
                room[filled : filled + len(piece)] = piece
                filled += len(piece)
            if hashlib.sha256(room).digest() != digest:
                raise BuildFailed("upload", f"{self.key} changed during upload.", _WRITES)
        return body


def sha256_of(key: str, descriptor: int, size: int) -> str:
    """Return the value of `Stored.sha256` for the first `size` bytes of a file sent as the object `key`.

    It is hexadecimal, as printed by sha256sum(1). An object sent in parts has the SHA-256 of the SHA-256 of its parts instead,
    followed by `-` and their number: S3's composite checksum.
    https://docs.aws.amazon.com/AmazonS3/latest/userguide/checking-object-integrity-upload.html
    """
    if size <= MULTIPART_ABOVE:
        return Slice(key, descriptor, 0, size).digest().hex()
    digests = []
    for part in slices_of(key, descriptor, size):
        check_cancelled()
        digests.append(part.digest())
    return composite(digests)


def slices_of(key: str, descriptor: int, size: int) -> list[Slice]:
    """Return the parts in which an object of that size is sent."""
    part_size = max(PART_SIZE, -(-size // MAX_PARTS))
    return [Slice(key, descriptor, offset, min(part_size, size - offset)) for offset in range(0, size, part_size)]


def composite(digests: Sequence[bytes]) -> str:
    return f"{composite_digest(digests).hex()}-{len(digests)}"


def composite_digest(digests: Sequence[bytes]) -> bytes:
    return hashlib.sha256(b"".join(digests)).digest()


class ByteLimit:
    """Limit the bytes held at once. Waiting bodies are served in order, so that small ones don't overtake a large one."""

    def __init__(self, total: int) -> None:
        self._total = total
        self._free = total
        self._first_in_line = anyio.Lock(fast_acquire=True)
        self._freed = anyio.Event()

    @asynccontextmanager
    async def hold(self, count: int) -> AsyncIterator[None]:
        count = min(count, self._total)
        if self._free >= count and not self._first_in_line.locked():
            self._free -= count
        else:
            async with self._first_in_line:
                while self._free < count:
                    self._freed = anyio.Event()
                    await self._freed.wait()
                self._free -= count
        try:
            yield
        finally:
            self._free += count
            self._freed.set()


def room_for(size: int) -> io.BytesIO:
    """Return a body of `size` bytes to be filled in place.

    aiohttp sends a BytesIO in pieces, but bytes as a whole, which copies them into its buffer. Call this in the thread of the
    event loop: malloc keeps a separate arena for each thread that allocates.
    """
    body = io.BytesIO()
    if size:
        body.seek(size - 1)
        body.write(b"\0")
        body.seek(0)
    return body


def pieces_of(key: str, descriptor: int, offset: int, size: int, at_once: int = READ_AT_ONCE) -> Iterator[bytes]:
    while size:
        try:
            piece = os.pread(descriptor, min(size, at_once), offset)
        except OSError as error:
            raise BuildFailed("upload", f"Could not read {key}: {error.strerror}.") from None
        if not piece:
            raise BuildFailed(
                "upload",
                f"{key} was truncated during upload.",
                _WRITES,
            )
        yield piece
        size, offset = size - len(piece), offset + len(piece)


def to_base64(digest: bytes) -> str:
    return base64.b64encode(digest).decode()
