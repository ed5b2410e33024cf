"""Start the program in a fork of a process that has imported its modules, which halves the CPU time of a small build.

Each build is still a process of its own, with its own environment, arguments and output. Only what a test says about the very
start of Python (its command line, what it imports when) needs `Program`, which starts `python -m buildrunner`.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from multiprocessing.connection import Connection
from typing import IO

from support.harness import Program

# What a build and `logs` import, in the end.
_MODULES = (
    "aiobotocore.session",
    "anyio._backends._asyncio",
    "buildrunner.build.runner",
    "redis.asyncio",
    "support.warm",
)
_server = multiprocessing.get_context("forkserver")
_server.set_forkserver_preload(list(_MODULES))


class WarmProcess:
    """A process of `WarmProgram`; what tests use of `subprocess.Popen`."""

    def __init__(self, environment: Mapping[str, str], arguments: tuple[str, ...]) -> None:
        readers, writers = zip(_server.Pipe(duplex=False), _server.Pipe(duplex=False), strict=True)
        self._process = _server.Process(target=_run, args=(dict(environment), arguments, *writers), daemon=True)
        self._process.start()
        for writer in writers:
            writer.close()
        assert self._process.pid
        self.pid = self._process.pid
        self.stdin = None
        self.stdout, self.stderr = map(_as_file, readers)

    @property
    def returncode(self) -> int | None:
        return self._process.exitcode

    def poll(self) -> int | None:
        return self._process.exitcode

    def wait(self, timeout: float | None = None) -> int:
        self._process.join(timeout)
        if self._process.exitcode is None:
            raise subprocess.TimeoutExpired("buildrunner", timeout or 0)
        return self._process.exitcode

    def send_signal(self, number: int) -> None:
        if self._process.exitcode is None:
            os.kill(self.pid, number)

    def terminate(self) -> None:
        self.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)


class WarmProgram(Program):
    """`Program` whose builds start in half the CPU time."""

    def launch(self, environment: Mapping[str, str], *arguments: str) -> WarmProcess:
        return WarmProcess({"TMPDIR": str(self.folder), **environment}, arguments)


def _as_file(reader: Connection) -> IO[str]:
    with reader:
        return open(os.dup(reader.fileno()), errors="replace")


def _run(environment: dict[str, str], arguments: tuple[str, ...], stdout: Connection, stderr: Connection) -> None:
    """Become the program, as `Program.start` starts it."""
    for connection, descriptor in ((stdout, 1), (stderr, 2)):
        os.dup2(connection.fileno(), descriptor)
        connection.close()
    with open(os.devnull) as null:
        os.dup2(null.fileno(), 0)
    os.chdir("/")
    os.environ.clear()
    os.environ.update(environment)
    time.tzset()
    sys.argv = ["buildrunner", *arguments]
    from buildrunner.cli import main

    main()
