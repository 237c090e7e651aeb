"""Ways to offer a seat: ``open_engine`` picks one by the pool's URL."""

from __future__ import annotations

import os
import re

from election.core.clock import Clock, SystemClock
from election.core.errors import UnknownEngineError

from .engine import Engine

__all__ = ["Engine", "open_engine"]


def open_engine(
    pool: str | os.PathLike[str],
    *,
    heartbeat: float,
    safety_poll: float,
    fence_after: float | None = None,
    allow_network_fs: bool = False,
    durable: bool = False,
    clock: Clock | None = None,
) -> Engine:
    """The engine for ``pool``: a directory, or a URL with the engine's name. Does no I/O.

    heartbeat: seconds between two signs of life of the leader.
    safety_poll: seconds after which a follower tries the seat even if nothing woke it.
    fence_after: seconds after which what keeps a dead leader's seat is ended; None: never.
    durable: whether each claim waits for the disk.
    Raises ``UnknownEngineError`` for a URL that no engine answers to.
    """
    name = os.fspath(pool)
    scheme = re.match(r"([a-z][a-z0-9+.-]*)://", name)
    if scheme and scheme[1] != "file":
        raise UnknownEngineError(f"no engine answers to {scheme[1]}:// URLs; a pool is a directory, such as 'var/pool'")
    from .file import file_engine

    return file_engine(
        name.removeprefix("file://"),
        heartbeat=heartbeat,
        safety_poll=safety_poll,
        fence_after=fence_after,
        allow_network_fs=allow_network_fs,
        durable=durable,
        clock=clock or SystemClock(),
    )
