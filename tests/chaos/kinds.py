"""Kinds of faults, as a table for each engine: frequency, target, and permitted cost to the pool."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from enum import StrEnum

from election.engines.file.file_thread import MAX_WAIT_S

JOBS = {"each_second": 1.0, "quarter_second": 0.25, "in_a_thread": 2.0}
"""The jobs of the application, and the seconds from one tick to the next."""


POISONED = "poison"
"""Beginning of the ids of jobs that cannot be run."""

CLOCK_STEP_S = 4.0
"""Seconds by which a clock is put forward or back, and by which jobs may be silent when it is put back."""


class Hits(StrEnum):
    """The worker that is chosen when the time has come."""

    LEADER = "leader"
    FOLLOWER = "follower"
    POOL = "pool"


class Ends(StrEnum):
    """Ways in which a fault may end a term, by the ledger's later record."""

    DIED = "died"
    RESIGNED = "resigned"
    LOST = "lost"


@dataclass(frozen=True, slots=True)
class Kind:
    """weight: how often it is drawn, relative to the others. hits: its target.

    ends: ways in which it may end a term. replaces: whether another term has to follow.
    limit: seconds it may keep the pool from its ticks, beyond its duration.
    lasts: range of durations in seconds, if it does not happen at once.
    lingers: seconds for which it may still have an effect.
    rests: seconds before the same kind is drawn again. alone: usual seconds before another is.
    spoils: part of the pool that it destroys; the lock file and the record are never destroyed together, see
    ``plan.py``.
    needs_fence: whether the pool can only recover by fencing.
    ordered: whether the worker does it itself, a moment after its order.
    away: whether the ledger cannot be written meanwhile.
    """

    weight: int
    hits: Hits
    ends: tuple[Ends, ...] = ()
    replaces: bool = False
    limit: float = 2.0
    lasts: tuple[float, float] | None = None
    lingers: float = 0.0
    rests: float = 0.0
    alone: float = 0.0
    spoils: str = ""
    needs_fence: bool = False
    ordered: bool = False
    away: bool = False


_BEAT = 4.0
"""A heartbeat to notice, a running thread to wait for, a safety poll for the next try; generously."""

_START = 15.0
"""Processes that have to be started, on a machine that may be busy."""

_BACK = 14.0
"""A server that starts and recovers, workers that try it at least every five seconds, and a lease that runs out."""

_DIED, _RESIGNED, _LOST = (Ends.DIED,), (Ends.RESIGNED,), (Ends.LOST,)

_PROCESSES = {
    "kill leader": Kind(10, Hits.LEADER, _DIED, replaces=True),
    "kill follower": Kind(6, Hits.FOLLOWER, _DIED),
    "kill all": Kind(2, Hits.POOL, _DIED, replaces=True, limit=_START, rests=8),
    "exit leader": Kind(4, Hits.LEADER, _DIED, replaces=True, ordered=True),
    "fork and kill leader": Kind(4, Hits.LEADER, _DIED, replaces=True, ordered=True),
    "terminate leader": Kind(6, Hits.LEADER, _RESIGNED, replaces=True, limit=_BEAT),
    "terminate follower": Kind(4, Hits.FOLLOWER, _RESIGNED),
    "stop leader": Kind(6, Hits.LEADER, lasts=(0.3, 2.5)),
    "stop follower": Kind(4, Hits.FOLLOWER, lasts=(0.3, 2.5)),
    "stop leader for good": Kind(4, Hits.LEADER, _DIED, replaces=True, limit=_BEAT, alone=_BEAT, needs_fence=True),
    "block follower": Kind(4, Hits.FOLLOWER, lasts=(1.0, 3.0), ordered=True),
    "use up threads": Kind(4, Hits.LEADER, limit=0, lasts=(1.0, 3.0), ordered=True),
    "step clock of leader": Kind(2, Hits.LEADER, limit=CLOCK_STEP_S + 2.0, lasts=(0.5, 2.0), lingers=2, rests=8),
    "step clock of follower": Kind(2, Hits.FOLLOWER, limit=CLOCK_STEP_S + 2.0, lasts=(0.5, 2.0), lingers=2, rests=8),
    "block leader": Kind(5, Hits.LEADER, lasts=(1.0, 2.0), ordered=True),
    "block leader for good": Kind(
        4, Hits.LEADER, _DIED, replaces=True, limit=_BEAT, alone=_BEAT, needs_fence=True, ordered=True
    ),
}

_FILES = {
    "remove lock": Kind(3, Hits.POOL, _LOST, replaces=True, limit=_BEAT, lingers=1, spoils="lock"),
    "rename lock": Kind(2, Hits.POOL, _LOST, replaces=True, limit=_BEAT, lingers=1, spoils="lock"),
    "replace lock": Kind(3, Hits.POOL, _LOST, replaces=True, limit=_BEAT, lingers=1, spoils="lock"),
    "remove record": Kind(3, Hits.POOL, _LOST, limit=_BEAT, lingers=1, spoils="record"),
    "empty record": Kind(2, Hits.POOL, _LOST, limit=_BEAT, lingers=1, spoils="record"),
    "garble record": Kind(3, Hits.POOL, _LOST, limit=_BEAT, lingers=1, spoils="record"),
    "remove number": Kind(2, Hits.POOL, limit=0),
    "remove fifo": Kind(2, Hits.POOL, limit=0),
    "replace fifo": Kind(2, Hits.POOL, limit=0),
}

_DISK = {
    "freeze disk": Kind(3, Hits.POOL, limit=_BEAT, lasts=(0.5, 4.0), lingers=2, rests=8, away=True),
}

_POOLS = {
    "restart workers": Kind(2, Hits.POOL, _RESIGNED, limit=_BEAT, lingers=30, rests=25),
    "second pool": Kind(1, Hits.POOL, _RESIGNED, limit=_BEAT, lingers=10, lasts=(3.0, 5.0), rests=20),
    "poison": Kind(2, Hits.POOL, lasts=(2.0, 4.0), rests=8),
    "step clock": Kind(2, Hits.POOL, limit=CLOCK_STEP_S + 2.0, lasts=(0.5, 3.0), lingers=2, rests=8),
    "burn": Kind(2, Hits.POOL, lasts=(2.0, 2.0), rests=5),
}

_COPIES = {
    "copied pool": Kind(2, Hits.POOL, lasts=(6.0, 9.0), rests=20),
}


def _server(weight: int, longest: float, limit: float = _BACK) -> Kind:
    """A server that is away for up to so many seconds."""
    lasts = (0.2, longest)
    return Kind(weight, Hits.POOL, _LOST, limit=limit, lasts=lasts, lingers=2, rests=12, alone=longest, away=True)


_SERVER = {
    "kill server": _server(4, 4.0),
    "restart server": _server(3, 4.0),
    "pause server": _server(4, 6.0),
    "cut network": _server(4, 6.0),
    "reset network": Kind(4, Hits.POOL, _LOST, limit=_BEAT, lingers=2, away=True),
}

_LEDGER = {
    "kill ledger": replace(_server(3, 4.0), ends=()),
    "pause ledger": replace(_server(3, 6.0), ends=()),
    "cut ledger": replace(_server(3, 6.0), ends=()),
}


@dataclass(frozen=True, slots=True)
class Setting:
    """An engine, with the properties that a plan and a verdict need.

    kinds: faults of a pool on it. fence_after: seconds after which the pool fences a hanging leader. behind: seconds by
    which one worker's answer may be older than another's, since it is cached. patience: seconds that a worker waits for
    the disk before it answers from memory.
    """

    kinds: Mapping[str, Kind]
    fence_after: float
    behind: float = 0.0
    patience: float = math.inf


def _leased(kinds: Mapping[str, Kind]) -> dict[str, Kind]:
    """A leader that stands still for long enough loses its lease."""
    still = ("stop leader", "block leader", "stop leader for good", "block leader for good")
    return {name: replace(kind, ends=(*kind.ends, *_LOST)) if name in still else kind for name, kind in kinds.items()}


_ON_REDIS = {
    **_leased(_PROCESSES),
    **_SERVER,
    "demote server": _server(3, 4.0),
    "end connections": Kind(4, Hits.POOL, lingers=1, away=True),
    **_POOLS,
}

SETTINGS = {
    "file": Setting({**_PROCESSES, **_FILES, **_DISK, **_POOLS, **_COPIES}, fence_after=3.0, patience=MAX_WAIT_S),
    "postgres": Setting(
        {
            **_PROCESSES,
            **_SERVER,
            "demote server": _server(3, 4.0),
            "end session": Kind(5, Hits.LEADER, _LOST, replaces=True, limit=_BEAT),
            **_POOLS,
            **_COPIES,
        },
        fence_after=3.0,
        behind=5.0,
    ),
    # Its fence is quicker than its lease, or a blocked loop would lose the lease while a thread's job goes on.
    "redis": Setting(_ON_REDIS, fence_after=2.0, behind=3.0),
    "redis+postgres": Setting(
        {**_ON_REDIS, **_LEDGER, "flush server": Kind(3, Hits.POOL, _LOST, replaces=True, limit=2 * _BEAT, lingers=2)},
        fence_after=2.0,
        behind=3.0,
    ),
}
"""Engines by the name that ``--engine`` takes."""
