"""Run the server of sites: sockets, clients of S3, and the order of the end. `serve` is the command, `open_sites` is for others."""

from __future__ import annotations

import asyncio
import signal
import socket
import sys
from collections.abc import AsyncIterator, Callable, Coroutine, Mapping
from contextlib import asynccontextmanager
from typing import Any

import anyio
from aiohttp import web
from aiohttp.http_exceptions import BadHttpMethod

from buildrunner.errors import EXIT_FAULT
from buildrunner.s3 import open_s3
from buildrunner.sites.catalog import Catalog
from buildrunner.sites.negotiation import slug_of
from buildrunner.sites.objects import Objects
from buildrunner.sites.reply import Written, plain_page
from buildrunner.sites.server import SiteServer
from buildrunner.sites.settings import SitesSettings, read_sites_settings
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

_S3_CONNECTIONS = 64
_FIRST_REQUEST_SECONDS = (
    30.0  # from the start of a connection to the end of a request's headers: connections are limited
)
_DRAIN_SECONDS = 20.0  # for answers that are under way; ECS kills after 30


async def serve(environment: Mapping[str, str], *, host: str, port: int, domain: str | None) -> int:
    """Serve until SIGINT or SIGTERM, then finish what is under way.

    Raises:
        ConfigurationError: a variable or an option is missing or malformed.

    """
    settings = read_sites_settings(environment)
    try:
        listener = listen(host, port)
    except OSError as error:
        print(f"buildrunner: Listening on {host}, port {port}, failed: {error.strerror or error}.", file=sys.stderr)
        return EXIT_FAULT
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop.set)
    domains = ("localhost", domain) if domain else ("localhost",)
    async with open_sites(
        settings, listener, lambda name: slug_of(name, domains), max_connections=raise_connection_limit()
    ):
        print(f"Listening on {address_of(host, listener)}", flush=True)
        await stop.wait()
    return 0


@asynccontextmanager
async def open_sites(
    settings: SitesSettings,
    listener: socket.socket,
    find_slug: Callable[[str], str | None],
    *,
    max_connections: int = 1000,
) -> AsyncIterator[None]:
    """Serve sites on a listening socket while the block runs; then finish what is under way, for 20 s at most.

    Args:
        settings: which buckets they are served from.
        listener: it is closed at the end.
        find_slug: returns the slug that a host name stands for; None if there is none.
        max_connections: more are refused with 503.

    """
    loop = asyncio.get_running_loop()
    viewers = Viewers()
    async with (
        open_s3(
            region=settings.region,
            endpoint_url=settings.endpoint_url,
            concurrency=_S3_CONNECTIONS,
            fast_put=False,
            keys=settings.keys,
        ) as s3,
        s3.open_readers(settings.bucket, settings.state_bucket) as (reader, state),
        asyncio.TaskGroup() as tasks,
    ):
        under_way: set[asyncio.Task[Any]] = set()

        def start(work: Coroutine[Any, Any, Any]) -> asyncio.Task[Any]:
            task = tasks.create_task(work)
            under_way.add(task)
            task.add_done_callback(under_way.discard)
            return task

        objects = Objects(reader)
        catalog = Catalog(s3.bucket(settings.bucket), state, settings.key_prefix, start, objects.is_cached)
        sites = SiteServer(catalog, objects, viewers, find_slug)
        start(viewers.watch())
        options: dict[str, Any] = {
            "access_log": None,
            "logger": silent_logger("buildrunner.sites"),
            "keepalive_timeout": KEEP_ALIVE_SECONDS,
        }
        # A visitor who leaves doesn't cancel the request: others may wait for the same object, and the connection to S3 stays.
        protocol = web.Server(sites.handle, **options)

        open_ones = _OpenConnections()

        def accept() -> asyncio.BaseProtocol:
            full = len(protocol.connections) >= max_connections
            return RefusedConnection() if full else _Connection(protocol, open_ones, loop=loop, **options)

        server = await loop.create_server(accept, sock=listener, backlog=BACKLOG)
        try:
            yield
        finally:
            sites.draining = True
            server.close()
            protocol.pre_shutdown()
            with anyio.move_on_after(_DRAIN_SECONDS):
                await protocol.shutdown(_DRAIN_SECONDS)
                await open_ones.all_closed.wait()  # what was written last is still on its way
            for task in under_way:
                task.cancel()


class _OpenConnections:
    """Connections whose last bytes have not left yet."""

    def __init__(self) -> None:
        self.all_closed = asyncio.Event()
        self.all_closed.set()
        self._open: set[_Connection] = set()

    def add(self, connection: _Connection) -> None:
        self._open.add(connection)
        self.all_closed.clear()

    def discard(self, connection: _Connection) -> None:
        self._open.discard(connection)
        if not self._open:
            self.all_closed.set()


class _Connection(web.RequestHandler):
    """A connection on which also what is no request gets an answer of ours, and not one of aiohttp."""

    __slots__ = ("_first_request", "_open_ones")

    def __init__(
        self,
        server: web.Server,
        open_ones: _OpenConnections,
        *,
        loop: asyncio.AbstractEventLoop,
        **options: Any,
    ) -> None:
        super().__init__(server, loop=loop, **options)
        self._open_ones = open_ones
        self._first_request: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._open_ones.add(self)
        super().connection_made(transport)
        self._first_request = self._loop.call_later(_FIRST_REQUEST_SECONDS, self._close_unless_asked)

    def _close_unless_asked(self) -> None:
        """Close a connection that has not sent a whole request; aiohttp limits the time of later ones alone."""
        if not self._request_count:
            self.force_close()

    def connection_lost(self, exc: BaseException | None) -> None:
        self._open_ones.discard(self)
        if self._first_request:
            self._first_request.cancel()
        super().connection_lost(exc)

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,
    ) -> web.StreamResponse:
        """Return the answer to what could not be parsed, after which the connection is closed."""
        is_method = isinstance(exc, BadHttpMethod)
        head, body = plain_page(405, [("Allow", "GET, HEAD")]) if is_method else plain_page(400)
        if self.transport:
            self.transport.write(head + b"Connection: close\r\n\r\n" + body)
        return Written(keep_alive=False)
