"""Start the program in a fork of a process that has imported its modules, which saves 0.8 s of CPU in each build.

Each build is still a process of its own, with its own environment, arguments and output. Only what a test says about the very
start of Python (its command line, what it imports when) needs `Program`, which starts `python -m buildrunner`.
"""

from __future__ import annotations

import gc
import multiprocessing
import os
import pkgutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping
from functools import cache
from multiprocessing import connection, forkserver
from multiprocessing.connection import Connection
from pathlib import Path
from typing import IO

import pytest

from support.harness import ROOT, Commands, Program, Redis, start_readers
from support.s3_server import S3Server

# What the commands import, in the end, much of it by `buildrunner.lazy`.
_ROOMS = "build cache checkout config diagnose events gateway project publish routing s3 sandbox sites toolchain web"
_MODULES = [
    "aiobotocore.session",
    "aiohttp.web",
    "anyio._backends._asyncio",
    "anyio._core._fileio",
    "anyio._core._subprocesses",
    "redis.asyncio",
    "tomllib",
    "buildrunner.cli",
    "buildrunner.commands.logs",
    "buildrunner.commands.run",
    *(
        module.name
        for room in _ROOMS.split()
        for module in pkgutil.walk_packages([f"{ROOT}/src/buildrunner/{room}"], f"buildrunner.{room}.")
    ),
    "support.warm",
    "support.preloaded",
]
_server = multiprocessing.get_context("forkserver")
_server.set_forkserver_preload(_MODULES)
# multiprocessing polls all processes when it starts one, and an exit code can be read only once, from a pipe.
_reading = threading.Lock()


@cache
def _start_server() -> None:
    """Start the process that imports the modules. Python 3.11 does not pass `sys.path` to it, and ignores what it cannot import."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", f"{ROOT}/tests")
        forkserver.ensure_running()


class WarmProcess:
    """A process of `WarmProgram`; what tests use of `subprocess.Popen`."""

    def __init__(
        self, environment: Mapping[str, str], arguments: tuple[str, ...], prepare: Callable[[], None] | None = None
    ) -> None:
        _start_server()
        readers, writers = zip(_server.Pipe(duplex=False), _server.Pipe(duplex=False), strict=True)
        self._process = _server.Process(
            target=_run, args=(dict(environment), arguments, prepare, *writers), daemon=True
        )
        with _reading:
            self._process.start()
        for writer in writers:
            writer.close()
        assert self._process.pid
        self.pid = self._process.pid
        self.stdin = None
        self.stdout, self.stderr = map(_as_file, readers)

    @property
    def returncode(self) -> int | None:
        return self.poll()

    def poll(self) -> int | None:
        with _reading:
            return self._process.exitcode

    def wait(self, timeout: float | None = None) -> int:
        connection.wait([self._process.sentinel], timeout)
        code = self.poll()
        if code is None:
            raise subprocess.TimeoutExpired("buildrunner", timeout or 0)
        return code

    def communicate(self, *, timeout: float | None = None) -> tuple[str, str]:
        lines: tuple[list[str], list[str]] = ([], [])
        readers = start_readers(self, *lines)
        self.wait(timeout)
        for reader in readers:
            reader.join()
        return "".join(lines[0]), "".join(lines[1])

    def send_signal(self, number: int) -> None:
        if self.poll() is None:
            os.kill(self.pid, number)

    def terminate(self) -> None:
        self.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)


class WarmProgram(Program):
    """`Program` whose builds start in a fork. `prepare` is called in each process before all else."""

    def __init__(
        self,
        redis: Redis,
        s3: S3Server,
        folder: Path,
        commands: Commands | None = None,
        prepare: Callable[[], None] | None = None,
    ) -> None:
        super().__init__(redis, s3, folder, commands)
        self._prepare = prepare

    def launch(self, environment: Mapping[str, str], *arguments: str) -> WarmProcess:
        return WarmProcess({"TMPDIR": str(self.folder), **environment}, arguments, self._prepare)


def run_command(
    environment: Mapping[str, str], *arguments: str, timeout: float = 60
) -> subprocess.CompletedProcess[str]:
    """Run the program to its end, as `subprocess.run` does, without servers."""
    process = WarmProcess(environment, arguments)
    stdout, stderr = process.communicate(timeout=timeout)
    return subprocess.CompletedProcess(arguments, process.wait(), stdout, stderr)


def _as_file(reader: Connection) -> IO[str]:
    with reader:
        return open(os.dup(reader.fileno()), errors="replace")


def _run(
    environment: dict[str, str],
    arguments: tuple[str, ...],
    prepare: Callable[[], None] | None,
    stdout: Connection,
    stderr: Connection,
) -> None:
    """Become the program, as `Program.start` starts it."""
    gc.freeze()  # a collection would look through, and copy, all that was imported
    if prepare:
        prepare()
    for pipe, descriptor in ((stdout, 1), (stderr, 2)):
        os.dup2(pipe.fileno(), descriptor)
        pipe.close()
    with open(os.devnull) as null:
        os.dup2(null.fileno(), 0)
    os.chdir("/")
    os.environ.clear()
    os.environ.update(environment)
    time.tzset()
    sys.argv = ["buildrunner", *arguments]
    from buildrunner.cli import main

    main()
