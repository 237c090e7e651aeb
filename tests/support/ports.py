"""Ports to listen on."""

from __future__ import annotations

import os
import socket

SHARE = 1000
"""Ports for each of the processes that run tests in parallel, below those that the system assigns."""

_next = 0


def free_port() -> int:
    """A free port of 127.0.0.1 that no other test is given."""
    global _next  # noqa: PLW0603
    first = 20000 + SHARE * int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw"))
    for _ in range(SHARE):
        port = first + (os.getpid() + _next) % SHARE
        _next += 1
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port
    raise OSError(f"no port from {first} on is free")
