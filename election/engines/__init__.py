"""Engines, which offer a seat and a ledger: ``open_engine`` selects one by the pool's URL."""

from __future__ import annotations

import importlib
import os
import re
from dataclasses import replace
from typing import Any

from election.core.backend import SeatTiming
from election.core.clock import Clock, SystemClock
from election.core.distribution import install_command
from election.core.errors import ConfigurationError, UnknownEngineError

from .engine import NO_SENTINELS, Engine

__all__ = ["Engine", "open_engine"]

_SERVERS = {
    "postgresql": ("postgres", "psycopg"),
    "postgres": ("postgres", "psycopg"),
    "redis": ("redis", "redis"),
    "rediss": ("redis", "redis"),
    "redis+unix": ("redis", "redis"),
}
"""Engine of a URL scheme, and its driver; the extra has the engine's name."""


def open_engine(
    pool: str | os.PathLike[str],
    *,
    heartbeat: float,
    safety_poll: float,
    ledger: str | None = None,
    fence_after: float | None = None,
    allow_network_fs: bool = False,
    durable: bool = False,
    clock: Clock | None = None,
) -> Engine:
    """Engine for ``pool``: a directory, or a URL with the engine's name. Does no I/O.

    Args:
        pool: Directory or URL.
        heartbeat: Seconds between two heartbeats of the leader.
        safety_poll: Seconds after which a follower tries the seat even if nothing woke it.
        ledger: URL of another engine that keeps the ledger; only for Redis.
        fence_after: Seconds after which a process that keeps a dead leader's seat, or a worker that keeps the ledger in
            a file locked, is ended; None for never.
        allow_network_fs: Accept a filesystem on which flock may exclude nobody.
        durable: Whether each claim waits for the disk.
        clock: Time of terms and waits; the machine's by default.

    Raises:
        UnknownEngineError: No engine has the scheme of the URL.
        ConfigurationError: The URL or the combination is invalid.
    """
    name = os.fspath(pool)
    timing = SeatTiming(heartbeat, safety_poll, fence_after)
    common: dict[str, Any] = {"timing": timing, "durable": durable, "clock": clock or SystemClock()}
    scheme = _scheme(name)
    if ledger is not None and _SERVERS.get(scheme, ("",))[0] != "redis":
        raise ConfigurationError("ledger= is for pools on Redis; the other engines keep the ledger beside the seat")
    if scheme == "file":
        from .file import file_engine

        return file_engine(name.removeprefix("file://"), allow_network_fs=allow_network_fs, **common)
    if "sentinel" in scheme or (scheme.startswith("redis") and "," in _authority(name)):
        raise UnknownEngineError(f"a pool on Redis is on one server, and this URL names several: {NO_SENTINELS}")
    if scheme not in _SERVERS:
        raise UnknownEngineError(
            f"no engine supports {scheme}:// URLs; a pool is a directory, such as 'var/pool', or a URL that begins"
            f" with {', '.join(f'{known}://' for known in _SERVERS)}"
        )
    room, driver = _SERVERS[scheme]
    try:
        importlib.import_module(driver)
    except ImportError as error:
        raise ConfigurationError(f"{scheme}:// needs {driver}: {install_command(room)}") from error
    if room == "postgres":
        from .postgres import postgres_engine

        return postgres_engine(name, **common)
    from .redis import redis_engine

    if ledger is None:
        return redis_engine(name, **common)
    if _SERVERS.get(_scheme(ledger), ("",))[0] != "postgres":
        raise ConfigurationError("ledger= is a postgresql:// URL")
    other = open_engine(
        ledger, heartbeat=heartbeat, safety_poll=safety_poll, fence_after=fence_after, durable=durable, clock=clock
    )
    engine = redis_engine(name, ledger=other.open_ledger, **common)
    return replace(engine, open_reader=other.open_reader, ledger_advice=other.ledger_advice)


def _authority(url: str) -> str:
    """The servers that a URL names, without user and password."""
    after_login = re.sub(r"^[^/@]*@", "", url.partition("://")[2])
    return re.split(r"[/?]", after_login)[0]


def _scheme(pool: str) -> str:
    """Scheme of a URL, in small letters; ``file`` for a directory. Raises ``UnknownEngineError``."""
    found = re.match(r"([a-zA-Z][a-zA-Z0-9+.-]*)://", pool)
    if found is None and "://" in pool:  # it may have a password, which no message shows
        raise UnknownEngineError(
            "the pool looks like a URL, but does not begin with its scheme: are there quotes or blanks around it?"
        )
    return found[1].lower() if found else "file"
