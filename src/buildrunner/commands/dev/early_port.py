"""A port that accepts connections before its server does: they wait for it, instead of being refused."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

import anyio
from anyio.abc import SocketListener, SocketStream

from buildrunner.web.listening import listen


@asynccontextmanager
async def open_early_port(server: int, ready: anyio.Event, used: anyio.Event) -> AsyncIterator[int]:
    """Forward the connections of a port while the block runs, which gets its number.

    Args:
        server: the port to forward to, of this machine.
        ready: set once the server accepts connections.
        used: is set at the first connection that is forwarded.

    """

    async def forward(client: SocketStream) -> None:
        used.set()
        with suppress(OSError):  # the server has ended: so does the connection
            async with (
                client,
                await anyio.connect_tcp("127.0.0.1", server) as upstream,
                anyio.create_task_group() as directions,
            ):
                directions.start_soon(_copy, client, upstream, directions.cancel_scope)
                directions.start_soon(_copy, upstream, client, directions.cancel_scope)

    async def serve() -> None:
        async with door:  # after a cancellation, connections are refused
            await ready.wait()
            await door.serve(forward)

    listener = listen("127.0.0.1", 0)
    port: int = listener.getsockname()[1]
    door = await SocketListener.from_socket(listener)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(serve)
        yield port
        tasks.cancel_scope.cancel()


async def _copy(source: SocketStream, target: SocketStream, both: anyio.CancelScope) -> None:
    """Copy until the source ends, and pass the end on; end both directions when either side is gone."""
    try:
        async for chunk in source:
            await target.send(chunk)
        await target.send_eof()
    except (anyio.BrokenResourceError, anyio.ClosedResourceError, OSError):
        both.cancel()
