"""A relay on loopback in front of a real server: notes each HTTP request, and holds those that a test names."""

from __future__ import annotations

import re
import socket
import threading
from collections.abc import Callable
from contextlib import suppress
from types import TracebackType
from typing import Self

_REQUEST = re.compile(rb"(?:^|(?<=\n))(GET|PUT|POST|DELETE|HEAD) (\S+) HTTP/1\.1\r\n")


class Relay:
    """Passes bytes on as they are, so that signatures stay valid; what is held waits until `release`."""

    def __init__(self, target: int, host: str = "127.0.0.1") -> None:
        self.requests: list[str] = []  # "PUT /sites/demo/index.html", in the order in which they came
        self.hold: Callable[[str], bool] = lambda _request: False
        self.held = threading.Event()  # a request is being held
        self._released = threading.Event()
        self._target = (host, target)
        self._listener = socket.create_server((host, 0))
        self.port = int(self._listener.getsockname()[1])
        self._sockets: list[socket.socket] = []
        threading.Thread(target=self._accept, daemon=True).start()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._released.set()
        for each in (self._listener, *self._sockets):
            with suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)
            each.close()

    def release(self) -> None:
        self._released.set()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                server = socket.create_connection(self._target)
                self._sockets += [client, server]
                threading.Thread(target=self._pass_on, args=(client, server, True), daemon=True).start()
                threading.Thread(target=self._pass_on, args=(server, client, False), daemon=True).start()

    def _pass_on(self, source: socket.socket, target: socket.socket, requests: bool) -> None:
        with suppress(OSError):
            while data := source.recv(65536):
                if requests and (found := _REQUEST.match(data)):
                    request = f"{found[1].decode()} {found[2].decode().split('?')[0]}"
                    self.requests.append(request)
                    if self.hold(request):
                        self.held.set()
                        self._released.wait()
                target.sendall(data)
        with suppress(OSError):
            target.shutdown(socket.SHUT_WR)
