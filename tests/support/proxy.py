"""TCP proxy between a client and a server on the loopback interface, with network faults on request."""

from __future__ import annotations

import contextlib
import selectors
import socket
import struct
import threading

from .ports import free_port


class Proxy:
    """Proxy that listens on ``port`` and forwards to ``target`` in a thread, until it is closed."""

    def __init__(self, target: int) -> None:
        self.port = free_port()
        self._target = target
        self._listening = socket.create_server(("127.0.0.1", self.port))
        self._pairs: dict[socket.socket, socket.socket] = {}
        self._cut = self._reset = self._over = False
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def cut(self) -> None:
        """From now on drop everything silently."""
        self._cut = True

    def heal(self) -> None:
        """Forward the data held back, and everything after it."""
        self._cut = False

    def reset(self) -> None:
        """End every connection by RST, on both sides."""
        for end in list(self._pairs):
            with contextlib.suppress(OSError):
                end.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self._reset = True

    def close(self) -> None:
        self._over = True
        self._thread.join(10)
        for end in [self._listening, *self._pairs]:
            end.close()

    def _run(self) -> None:
        while not self._over:
            if self._reset:
                for end in list(self._pairs):
                    self._forget(end)
                self._reset = False
            if self._cut:
                threading.Event().wait(0.01)
                continue
            with selectors.DefaultSelector() as selector:
                for end in [self._listening, *self._pairs]:
                    selector.register(end, selectors.EVENT_READ)
                for key, _ in selector.select(0.02):
                    end = key.fileobj
                    assert isinstance(end, socket.socket)
                    if end is self._listening:
                        self._accept()
                    elif end in self._pairs:
                        self._pass_on(end)

    def _accept(self) -> None:
        client, _ = self._listening.accept()
        try:
            server = socket.create_connection(("127.0.0.1", self._target))
        except OSError:
            client.close()
            return
        self._pairs[client], self._pairs[server] = server, client

    def _pass_on(self, end: socket.socket) -> None:
        try:
            data = end.recv(65536)
            if data:
                self._pairs[end].sendall(data)
        except OSError:
            data = b""
        if not data:
            self._forget(end)

    def _forget(self, end: socket.socket) -> None:
        other = self._pairs.pop(end, None)
        end.close()
        if other is not None:
            self._pairs.pop(other, None)
            other.close()
