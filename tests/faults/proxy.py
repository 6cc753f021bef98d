"""A proxy in front of Postgres that cuts connections after a random number of bytes."""

from __future__ import annotations

import contextlib
import random
import socket
import threading
from typing import Self


class CuttingProxy:
    """Listens on loopback, forwards to a Unix socket, and cuts each connection somewhere in its first `most` bytes."""

    def __init__(self, target: str, most: int = 200_000) -> None:
        self._target = target
        self._most = most
        self._random = random.Random(7)
        self._server = socket.create_server(("127.0.0.1", 0))
        self.url = f"postgresql://postgres@127.0.0.1:{self._server.getsockname()[1]}/postgres"
        self.cut = True
        self.cuts = 0
        self._thread = threading.Thread(target=self._accept, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown(socket.SHUT_RDWR)
        self._server.close()
        self._thread.join(5)

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = self._server.accept()
                server = socket.socket(socket.AF_UNIX)
                server.connect(self._target)
                # Some die before they can log in, most in the middle of a batch or of its answer.
                left = [self._random.randrange(200, self._most) if self.cut else 1 << 60]
                for source, sink in ((client, server), (server, client)):
                    threading.Thread(target=self._forward, args=(source, sink, left), daemon=True).start()

    def _forward(self, source: socket.socket, sink: socket.socket, left: list[int]) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(4096):
                if len(data) >= left[0]:
                    sink.sendall(data[: max(left[0], 0)])
                    self.cuts += 1
                    break
                left[0] -= len(data)
                sink.sendall(data)
        for end in (source, sink):
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
