"""TCP switch: forwards the connections of clients to a server that the test selects."""

from __future__ import annotations

import contextlib
import select
import socket
import struct
import threading
import time

from .ports import free_port


class Switch:
    """Listens on a port of 127.0.0.1 and forwards each connection to ``port``; None: refuses connections.

    delay: seconds by which all data is delayed.
    """

    def __init__(self, port: int | None, *, delay: float = 0.0) -> None:
        self.delay = delay
        self.port = free_port()
        self._to = port
        self._ends: list[socket.socket] = []
        self._threads: list[threading.Thread] = []
        self._listening = socket.create_server(("127.0.0.1", self.port))
        self._accepting = threading.Thread(target=self._accept)
        self._accepting.start()

    def turn(self, port: int | None, *, reset: bool = True) -> None:
        """Forward to that port from now on; open connections are reset, or stay."""
        self._to = port
        if not reset:
            return
        ends, self._ends = self._ends, []
        for end in ends:
            with contextlib.suppress(OSError):  # closed meanwhile
                end.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                end.shutdown(socket.SHUT_RD)

    def close(self) -> None:
        """Reset all connections, and close."""
        self.turn(None)
        self._listening.shutdown(socket.SHUT_RDWR)
        self._accepting.join()
        self._listening.close()
        self.turn(None)
        for thread in self._threads:
            thread.join()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listening.accept()
            except OSError:
                return
            try:
                if self._to is None:
                    raise ConnectionRefusedError
                server = socket.create_connection(("127.0.0.1", self._to))
            except OSError:
                client.close()
                continue
            thread = threading.Thread(target=self._join, args=(client, server))
            self._threads.append(thread)
            self._ends += [client, server]
            thread.start()

    def _join(self, client: socket.socket, server: socket.socket) -> None:
        """Forward data from both until one of them ends."""
        with client, server, contextlib.suppress(OSError):
            while True:
                readable, _, _ = select.select([client, server], [], [])
                for end in readable:
                    data = end.recv(65536)
                    time.sleep(self.delay)
                    if not data or end not in self._ends:
                        return
                    (server if end is client else client).sendall(data)
