"""Run the gateway from its environment until a signal: sockets, clients of Redis and S3, and the shutdown."""

from __future__ import annotations

import asyncio
import signal
import socket
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import anyio
from aiohttp import web
from aiohttp.http_exceptions import BadHttpMethod, HttpProcessingError
from redis.asyncio import BlockingConnectionPool, Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff

from buildrunner.config.log_settings import LogSettings
from buildrunner.errors import EXIT_FAULT, BuildEnded
from buildrunner.gateway.archive import Archive, ArchiveBucket
from buildrunner.gateway.assets import load_assets
from buildrunner.gateway.feed import Feeds
from buildrunner.gateway.server import Gateway
from buildrunner.gateway.settings import GatewaySettings, read_gateway_settings
from buildrunner.gateway.tasks import open_awaited_tasks
from buildrunner.web.limits import Viewers
from buildrunner.web.listening import (
    BACKLOG,
    KEEP_ALIVE_SECONDS,
    RefusedConnection,
    address_of,
    listen,
    raise_connection_limit,
    silent_logger,
)

_ANSWER_SECONDS = 5.0
_CONNECTIONS = 16  # to Redis, for requests that do not block
_END_SECONDS = 2.0


async def serve(environment: Mapping[str, str], *, host: str, port: int) -> int:
    """Serve until SIGINT or SIGTERM.

    Raises:
        ConfigurationError: a variable or an option is missing or malformed.

    """
    settings = read_gateway_settings(environment, host=host, port=port)
    try:
        listener = listen(settings.host, settings.port)
    except OSError as error:
        reason = error.strerror or error
        print(f"buildrunner: The gateway cannot listen on {host}, port {port}: {reason}.", file=sys.stderr)
        return EXIT_FAULT
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop.set)
    async with open_gateway(settings, listener):
        print(f"Listening on {address_of(settings.host, listener)}", flush=True)
        await stop.wait()
    return 0


@asynccontextmanager
async def open_gateway(
    settings: GatewaySettings, listener: socket.socket, *, bucket: ArchiveBucket | None = None
) -> AsyncIterator[None]:
    """Serve connections of a listening socket while the context is open, and close the socket afterwards.

    Args:
        settings: settings of the gateway.
        listener: listening socket.
        bucket: bucket of the archive; by default a client of S3 is opened for that of the settings.

    """
    loop = asyncio.get_running_loop()
    most = raise_connection_limit()
    async with AsyncExitStack() as stack:
        pool = BlockingConnectionPool.from_url(
            settings.logs.redis_uri, max_connections=_CONNECTIONS, timeout=_ANSWER_SECONDS, **_OPTIONS
        )
        redis = await stack.enter_async_context(Redis.from_pool(pool))
        tasks = await stack.enter_async_context(asyncio.TaskGroup())
        feeds = Feeds(redis, lambda: Redis.from_url(settings.logs.redis_uri, **_OPTIONS), tasks)
        archive = Archive(bucket, feeds.history) if bucket else await _open_archive(settings.logs, feeds, stack)
        awaited = await open_awaited_tasks(settings.fleet, stack) if settings.fleet else None
        viewers = Viewers()
        running = [tasks.create_task(viewers.watch())]
        if awaited:
            running.append(tasks.create_task(awaited.run()))
        gateway = Gateway(settings, load_assets(), feeds, archive, awaited, viewers)
        options: dict[str, Any] = {
            "access_log": None,
            "logger": silent_logger("buildrunner.gateway"),
            "keepalive_timeout": KEEP_ALIVE_SECONDS,
        }
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
            return (
                _Connection(gateway, protocol, loop, options)
                if len(protocol.connections) < most
                else RefusedConnection()
            )

        server = await loop.create_server(accept, sock=listener, backlog=BACKLOG)
        try:
            yield
        finally:
            with anyio.CancelScope(shield=True):
                server.close()
                viewers.leave()
                await runner.cleanup()
                for task in running:
                    task.cancel()


_OPTIONS: dict[str, Any] = {
    "socket_timeout": _ANSWER_SECONDS,
    "socket_connect_timeout": _ANSWER_SECONDS,
    "retry": Retry(NoBackoff(), 0),
}


class _Connection(web.RequestHandler):
    """A connection on which the gateway, not aiohttp, answers invalid requests."""

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
        """Respond to a request that could not be parsed, and close the connection."""
        if not isinstance(exc, HttpProcessingError):
            return super().handle_error(request, status, exc, message)
        response = self._gateway.guard.refuse_malformed(request, is_method=isinstance(exc, BadHttpMethod))
        response.force_close()
        return response


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
