"""The two sockets of one `dev`: for the build page, and on the next port for the site."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager

from buildrunner.errors import EXIT_CONFIGURATION, BuildEnded
from buildrunner.web.listening import listen

FIRST_PORT = 4400  # of the ports that are tried in turn, so that an address stays the same from run to run
_LAST_PORT = 4498


@contextmanager
def open_listeners(port: int | None) -> Iterator[tuple[socket.socket, socket.socket]]:
    """Listen for the page and for the site while the block runs.

    Args:
        port: of the page, 0 for a free one; None for the first of 4400, 4402, … that is free together with the next port.

    Raises:
        BuildEnded: the port is not available.

    """
    page, site = _open_default() if port is None else _open_named(port)
    with page, site:
        yield page, site


def _open_named(port: int) -> tuple[socket.socket, socket.socket]:
    try:
        page = _listen(port)
    except OSError as error:
        raise BuildEnded(
            f"Port {port} is not available: {error.strerror}.",
            "Choose another one, or let --port 0 pick a free one.",
            exit_code=EXIT_CONFIGURATION,
        ) from None
    try:
        return page, _listen(port + 1 if 0 < port < 65535 else 0)
    except OSError:
        return page, _listen(0)


def _open_default() -> tuple[socket.socket, socket.socket]:
    for port in range(FIRST_PORT, _LAST_PORT + 1, 2):
        try:
            page = _listen(port)
        except OSError:
            continue
        try:
            return page, _listen(port + 1)
        except OSError:
            page.close()
    return _listen(0), _listen(0)


def _listen(port: int) -> socket.socket:
    # In the image a loopback address would be the container's own. What is published of it is for `docker run` to say.
    return listen("0.0.0.0" if os.environ.get("BUILDRUNNER_IMAGE") == "1" else "127.0.0.1", port)  # noqa: S104
