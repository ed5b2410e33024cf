"""Cache Node and package managers, as the registry sent them, for the next build of the same scope."""

from __future__ import annotations

import hashlib
import hmac
import os
import stat
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import anyio
import anyio.to_thread

from buildrunner.cache.store import CacheStore, Log, UnusableError
from buildrunner.errors import BuildEnded

MAX_TOOLS = 8  # of one scope: a Node is 45 MB, a package manager 1 to 40 MB
MAX_TOOL_BYTES = 128 * 2**20
TOOL_SECONDS = 5.0  # for all tools of a build together: the registry needs one or two
TOOLS = "tools/"  # the names of tools begin with it


@dataclass(frozen=True, slots=True)
class _Tool:
    """A package that the registry was asked for."""

    algorithm: str
    digest: str  # hexadecimal
    path: Path


class ToolCache:
    """The tools of one build: a `registry.ToolStore`.

    The registry's document names a package's digest, in each run anew, and by that it is checked when it is taken and when it is
    stored.
    """

    def __init__(self, store: CacheStore, log: Log) -> None:
        self._store = store
        self._log = log
        self._seconds = TOOL_SECONDS  # that are left
        self._tools: dict[str, _Tool] = {}  # by the name

    async def get_tool(self, name: str, algorithm: str, digest: str, path: Path) -> bool:
        """Put a cached package into a file; return whether it is there and has the digest.

        Waits for the list for 2 s at most, and for all tools of a build together for 5 s.
        """
        name = f"{TOOLS}{name}"
        await self._store.wait_for_list()
        if name not in self._usable() or self._seconds <= 0:
            return False
        started = anyio.current_time()
        why = "reading it took too long."
        with anyio.move_on_after(self._seconds):
            try:
                found = hashlib.new(algorithm)
                size = await self._store.save(name, path, found, max_bytes=MAX_TOOL_BYTES)
                why = ""
                if not size:
                    why = "another build removed the cached file."
                elif not hmac.compare_digest(found.hexdigest(), digest):
                    why = "the cached file is damaged (its digest differs)."
                    self._store.damaged.add(name)
            except UnusableError as error:
                why = str(error)
        seconds = anyio.current_time() - started
        self._seconds -= seconds
        if why:
            self._log(f"Fetching {_label(name)} from the registry instead of the cache: {why}", "warning")
            return False
        self._log(f"Restored {_label(name)} of an earlier build ({size / 1e6:.1f} MB in {seconds:.1f} s).")
        return True

    def add_tool(self, name: str, algorithm: str, digest: str, path: Path) -> None:
        """Note that a package came from the registry, and is in a file until it is stored."""
        self._tools[f"{TOOLS}{name}"] = _Tool(algorithm, digest, path)

    async def save(self) -> None:
        """Store what the registry sent, and remove tools that are too old or too many. The caller limits the time."""
        started = anyio.current_time()
        there = self._usable()
        saved: dict[str, int] = {}  # size by the name
        try:
            for name, tool in self._tools.items():
                if name in there:  # S3 was too slow to send it
                    continue
                try:
                    descriptor = os.open(tool.path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
                except OSError:
                    continue
                try:
                    # Where the runner is not root the build could change it.
                    size = await anyio.to_thread.run_sync(_checked_size, descriptor, tool)
                    if size:
                        await self._store.put(name, descriptor, size, content_type="application/gzip")
                        saved[name] = size
                finally:
                    os.close(descriptor)
            if not saved:
                return
            others = {name for name in self._store.stored if name.startswith(TOOLS)} - saved.keys()
            left = [name for name in there if name not in saved][: max(0, MAX_TOOLS - len(saved))]
            await self._store.remove(others - set(left))
        except BuildEnded as error:
            self._log(f"Tools may not be cached: {error.reason}", "warning")
            return
        size, seconds = sum(saved.values()), anyio.current_time() - started
        names = " and ".join(map(_label, saved))
        self._log(f"Cached {names} for the next build ({size / 1e6:.1f} MB, {seconds:.1f} s).")

    def _usable(self) -> list[str]:
        return [name for name in self._store.usable(MAX_TOOL_BYTES) if name.startswith(TOOLS)]


def _checked_size(descriptor: int, tool: _Tool) -> int | None:
    """Return the size of a file that may be stored: it still has the digest."""
    status = os.fstat(descriptor)
    if not stat.S_ISREG(status.st_mode) or status.st_size > MAX_TOOL_BYTES:
        return None
    with suppress(OSError), open(descriptor, "rb", closefd=False) as file:
        if hmac.compare_digest(hashlib.file_digest(file, tool.algorithm).hexdigest(), tool.digest):
            return status.st_size
    return None


def _label(name: str) -> str:
    return name.removeprefix(TOOLS).removesuffix(".tgz")
