"""Run the gateway from its environment until a signal comes: sockets, clients of Redis and S3, and the order of the end."""

from __future__ import annotations

import asyncio
import logging
import resource
import signal
import socket
import sys
from collections.abc import Mapping
from contextlib import AsyncExitStack, suppress
from typing import Any

from aiohttp import web
from aiohttp.http_exceptions import BadHttpMethod, HttpProcessingError
from redis.asyncio import BlockingConnectionPool, Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff

from buildrunner.config.log_settings import LogSettings
from buildrunner.errors import EXIT_FAULT, BuildEnded
from buildrunner.gateway.archive import Archive
from buildrunner.gateway.assets import load_assets
from buildrunner.gateway.feed import Feeds
from buildrunner.gateway.limits import Viewers
from buildrunner.gateway.server import Gateway
from buildrunner.gateway.settings import read_gateway_settings

_ANSWER_SECONDS = 5.0
_CONNECTIONS = 16  # to Redis, for what does not block
_BACKLOG = 1024
_SEND_BUFFER_BYTES = (
    128 * 2**10
)  # of each socket in the kernel, which doubles it: a viewer that takes nothing holds no more
_KEEP_ALIVE_SECONDS = 75.0  # of an idle connection: longer than proxies keep one (nginx and ALB: 60)
_END_SECONDS = 2.0
_MAX_CONNECTIONS = 10_000
_OTHER_DESCRIPTORS = 300


async def serve(environment: Mapping[str, str], *, host: str, port: int) -> int:
    """Serve until SIGINT or SIGTERM.

    Raises:
        ConfigurationError: a variable or an option is missing or malformed.

    """
    settings = read_gateway_settings(environment, host=host, port=port)
    try:
        listener = _listen(settings.host, settings.port)
    except OSError as error:
        reason = error.strerror or error
        print(f"buildrunner: The gateway cannot listen on {host}, port {port}: {reason}.", file=sys.stderr)
        return EXIT_FAULT
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop.set)
    most = _raise_limit()
    async with AsyncExitStack() as stack:
        pool = BlockingConnectionPool.from_url(
            settings.logs.redis_uri, max_connections=_CONNECTIONS, timeout=_ANSWER_SECONDS, **_OPTIONS
        )
        redis = await stack.enter_async_context(Redis.from_pool(pool))
        tasks = await stack.enter_async_context(asyncio.TaskGroup())
        feeds = Feeds(redis, lambda: Redis.from_url(settings.logs.redis_uri, **_OPTIONS), tasks)
        archive = await _open_archive(settings.logs, feeds, stack)
        viewers = Viewers()
        watch = tasks.create_task(viewers.watch())
        gateway = Gateway(settings, load_assets(), feeds, archive, viewers)
        options: dict[str, Any] = {"access_log": None, "logger": _silent(), "keepalive_timeout": _KEEP_ALIVE_SECONDS}
        runner = web.AppRunner(
            gateway.application(),
            handle_signals=False,
            handler_cancellation=True,
            shutdown_timeout=_END_SECONDS,
            **options,
        )
        await runner.setup()
        protocol = runner.server
        assert protocol

        def accept() -> asyncio.BaseProtocol:
            return _Connection(gateway, protocol, loop, options) if len(protocol.connections) < most else _Refused()

        server = await loop.create_server(accept, sock=listener, backlog=_BACKLOG)
        shown = f"[{settings.host}]" if ":" in settings.host else settings.host
        print(f"Listening on http://{shown}:{listener.getsockname()[1]}", flush=True)
        await stop.wait()
        server.close()
        viewers.leave()
        await runner.cleanup()
        watch.cancel()
    return 0


_OPTIONS: dict[str, Any] = {
    "socket_timeout": _ANSWER_SECONDS,
    "socket_connect_timeout": _ANSWER_SECONDS,
    "retry": Retry(NoBackoff(), 0),
}


class _Connection(web.RequestHandler):
    """A connection on which also what is no request gets an answer of the gateway, and not one of aiohttp."""

    __slots__ = ("_gateway",)

    def __init__(
        self, gateway: Gateway, server: web.Server, loop: asyncio.AbstractEventLoop, options: dict[str, Any]
    ) -> None:
        super().__init__(server, loop=loop, **options)
        self._gateway = gateway

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,
    ) -> web.StreamResponse:
        """Return the answer to what could not be parsed, after which the connection is closed."""
        if not isinstance(exc, HttpProcessingError):
            return super().handle_error(request, status, exc, message)
        response = self._gateway.refuse_malformed(request, is_method=isinstance(exc, BadHttpMethod))
        response.force_close()
        return response


class _Refused(asyncio.Protocol):
    """A connection that is one too many."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        transport.write(
            b"HTTP/1.1 503 Service Unavailable\r\nRetry-After: 5\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
        )
        transport.close()


def _silent() -> logging.Logger:
    """Return a logger for aiohttp, which writes requests that it cannot parse as they are, tokens included."""
    logger = logging.Logger("buildrunner.gateway")
    logger.addHandler(logging.NullHandler())
    return logger


def _listen(host: str, port: int) -> socket.socket:
    family, kind, number, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[
        0
    ]
    listener = socket.socket(family, kind, number)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _SEND_BUFFER_BYTES)
        listener.bind(address)
        listener.listen(_BACKLOG)
        listener.setblocking(False)
    except BaseException:
        listener.close()
        raise
    return listener


def _raise_limit() -> int:
    """Allow as many open files as the machine does, and return how many connections that is enough for."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = _MAX_CONNECTIONS + _OTHER_DESCRIPTORS
    if soft < wanted:
        with suppress(ValueError, OSError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (min(wanted, hard) if hard >= 0 else wanted, hard))
        soft = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    return min(_MAX_CONNECTIONS, max(16, soft - _OTHER_DESCRIPTORS))


async def _open_archive(settings: LogSettings, feeds: Feeds, stack: AsyncExitStack) -> Archive | None:
    if not settings.state_bucket:
        return None
    from buildrunner.s3 import open_s3

    try:
        s3 = await stack.enter_async_context(
            open_s3(region=settings.region, endpoint_url=settings.s3_endpoint_url, concurrency=_CONNECTIONS)
        )
    except BuildEnded as error:
        print(f"buildrunner: Finished builds are not shown. {error.reason}", file=sys.stderr)
        return None
    return Archive(s3.bucket(settings.state_bucket), feeds.history)
