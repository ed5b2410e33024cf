"""Relay connections to a real Redis, which a test can cut, move to another server, or make lose responses."""

from __future__ import annotations

import re
import socket
import struct
import threading
from collections.abc import Callable
from contextlib import suppress
from types import TracebackType
from typing import Self

EXECUTED = re.compile(rb"(^|\r\n)([*_]|-EXECABORT)")  # the response to EXEC


class RedisRelay:
    """Passes bytes on between a client, which waits for each answer before its next request, and the server.

    Args:
        target: port of the server.
        away: whether nothing listens until `come`, so that connections are refused.

    """

    def __init__(self, target: int, *, away: bool = False) -> None:
        # Whether to cut the connection before the response to a request that the server has accepted.
        self.loses: Callable[[bytes], bool] = lambda _request: False
        # Whether to cut the connection before the server receives data from a client.
        self.drops: Callable[[bytes], bool] = lambda _piece: False
        self.lost: list[bytes] = []  # requests that were executed and whose responses were lost
        self.connections = 0  # accepted so far
        self.answered = 0  # requests so far
        self._target = target
        self._sockets: list[socket.socket] = []
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = int(self._listener.getsockname()[1])
        if away:
            self._listener.close()
        else:
            self._listen()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.leave()

    @property
    def uri(self) -> str:
        return f"redis://127.0.0.1:{self.port}"

    def leave(self) -> None:
        """Cut every connection, and refuse new ones."""
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for each in self._sockets:
            _reset(each)

    def come(self, target: int | None = None) -> None:
        """Accept connections again, to another server if `target` is set."""
        self._target = target or self._target
        self._listener = socket.create_server(("127.0.0.1", self.port))
        self._listen()

    def _listen(self) -> None:
        threading.Thread(target=self._accept, args=(self._listener,), daemon=True).start()

    def _accept(self, listener: socket.socket) -> None:
        with suppress(OSError):
            while True:
                client, _ = listener.accept()
                self._sockets.append(client)
                self.connections += 1
                try:
                    server = socket.create_connection(("127.0.0.1", self._target))
                except OSError:
                    _reset(client)
                    continue
                self._sockets.append(server)
                request = bytearray()  # data since the last response
                threading.Thread(target=self._requests, args=(client, server, request), daemon=True).start()
                threading.Thread(target=self._answers, args=(server, client, request), daemon=True).start()

    def _answers(self, server: socket.socket, client: socket.socket, request: bytearray) -> None:
        with suppress(OSError):
            while data := server.recv(65536):
                # The first responses of a transaction come before its last command.
                while b"\r\nMULTI\r\n" in request and not EXECUTED.search(data) and (more := server.recv(65536)):
                    data += more
                asked = bytes(request)
                request.clear()
                if asked and not data.startswith(b"-") and self.loses(asked):
                    self.lost.append(asked)
                    break
                client.sendall(data)
                self.answered += 1 if asked else 0
        _reset(client)
        _reset(server)

    def _requests(self, client: socket.socket, server: socket.socket, request: bytearray) -> None:
        with suppress(OSError):
            while (data := client.recv(65536)) and not self.drops(data):
                request += data
                server.sendall(data)
        _reset(client)
        _reset(server)


def _reset(connection: socket.socket) -> None:
    """Reset a connection as a broken network does; data in transit is lost."""
    with suppress(OSError):
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        connection.shutdown(socket.SHUT_RDWR)
    connection.close()
