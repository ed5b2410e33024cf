"""Start the program in a fork of a process that has imported its modules, which halves the CPU time of a small build.

Each build is still a process of its own, with its own environment, arguments and output. Only what a test says about the very
start of Python (its command line, what it imports when) needs `Program`, which starts `python -m buildrunner`.
"""

from __future__ import annotations

import multiprocessing
import os
import pkgutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping
from multiprocessing import connection
from multiprocessing.connection import Connection
from pathlib import Path
from typing import IO

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
]
_server = multiprocessing.get_context("forkserver")
_server.set_forkserver_preload(_MODULES)


class WarmProcess:
    """A process of `WarmProgram`; what tests use of `subprocess.Popen`."""

    def __init__(
        self, environment: Mapping[str, str], arguments: tuple[str, ...], prepare: Callable[[], None] | None = None
    ) -> None:
        readers, writers = zip(_server.Pipe(duplex=False), _server.Pipe(duplex=False), strict=True)
        self._process = _server.Process(
            target=_run, args=(dict(environment), arguments, prepare, *writers), daemon=True
        )
        self._reading = threading.Lock()  # the exit code comes by a pipe, and can be read once
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
        with self._reading:
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
    """`Program` whose builds start in half the CPU time. `prepare` is called in each process before all else."""

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
