"""Test that the event loop forwards lines while large files are written to a stalled disk."""

from __future__ import annotations

import hashlib
import os
import threading
from collections.abc import AsyncGenerator, Awaitable, Callable
from pathlib import Path
from typing import Any, cast

import anyio

from buildrunner.cache.archive import CacheableInstall
from buildrunner.cache.packing import PackedArchive, Packer
from buildrunner.cache.store import CacheStore
from buildrunner.concurrency.files import open_for_writing
from buildrunner.project.package_managers.table import MANAGERS
from buildrunner.s3.bucket import Bucket
from buildrunner.sandbox.command import Sandbox

CONTENT = os.urandom(600_000)  # a pipe takes 64 KiB, so that writes of the rest wait for its reader
LINES = 50


class StalledDisk:
    """A pipe instead of a file: writes block, because it is not read until the log has all lines."""

    def __init__(self, path: Path) -> None:
        os.mkfifo(path)
        self.path = path
        self.written = b""
        self.stalled_too_long = False
        self.resume = threading.Event()
        self._thread = threading.Thread(target=self._read, daemon=True)

    def _read(self) -> None:
        with self.path.open("rb") as pipe:
            self.stalled_too_long = not self.resume.wait(20)
            self.written = pipe.read()

    def run(self, write: Callable[[], Awaitable[None]], expected: int = LINES) -> int:
        """Return the number of lines that the event loop forwarded while a write was stalled."""
        lines = 0

        async def forward() -> None:
            nonlocal lines
            while lines < expected:
                await anyio.sleep(0.001)
                lines += 1
            self.resume.set()

        async def both() -> None:
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(forward)
                await write()

        self._thread.start()
        anyio.run(both)
        self._thread.join(20)
        return 0 if self.stalled_too_long else lines


def test_a_stalled_write_does_not_hold_up_the_log(tmp_path: Path) -> None:
    disk = StalledDisk(tmp_path / "file")

    async def write() -> None:
        async with open_for_writing(disk.path) as put:
            await put(CONTENT)

    assert disk.run(write) == LINES
    assert disk.written == CONTENT


def test_an_archive_that_is_downloaded_does_not_hold_up_the_log(tmp_path: Path) -> None:
    disk = StalledDisk(tmp_path / "archive")

    class SlowlyRead:
        async def stream(self, _: str) -> AsyncGenerator[bytes]:
            for start in range(0, len(CONTENT), 100_000):
                yield CONTENT[start : start + 100_000]

    async def bucket() -> Bucket:
        return cast(Bucket, SlowlyRead())

    async def download() -> None:
        store = CacheStore("scope", bucket=bucket, log=lambda *_: None)
        assert await store.save("a", disk.path, hashlib.sha256(), max_bytes=2**20) == len(CONTENT)

    assert disk.run(download) == LINES
    assert disk.written == CONTENT


def test_packing_an_archive_does_not_delay_lines(open_folder: Path) -> None:
    """The disk is stalled longer than the wait for the output of an ended command: 0.3 s, then 1 s."""
    lines = 2000  # a millisecond each, at least
    folder = open_folder / "slow-disk"
    modules = folder / "work/node_modules/a"
    modules.mkdir(parents=True)
    (modules / "big").write_bytes(CONTENT[:150_000])  # the command ends as soon as it has written that
    disk = StalledDisk(folder / "packed.tar.zst")
    sandbox = Sandbox(in_image=False)
    if sandbox.account:
        os.chown(folder / "work", sandbox.account.uid, sandbox.account.gid)
    cache = MANAGERS["npm"].cache
    assert cache
    install = CacheableInstall("npm", cache, {"modules": "k"}, "", True, False, folder / "work", folder / "work")
    packed: list[Any] = []

    async def pack() -> None:
        packed.append(await Packer(sandbox, disk.path).pack(install, "modules"))

    assert disk.run(pack, lines) == lines
    (archive,) = packed
    assert isinstance(archive, PackedArchive)
    assert (archive.size, archive.sha256) == (len(disk.written), hashlib.sha256(disk.written).hexdigest())
    assert len(disk.written) > 150_000
