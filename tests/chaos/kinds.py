"""The kinds of faults, as a table: how often each is drawn, whom it hits, and what it may cost the pool."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

FENCE_AFTER = 3.0
"""Seconds after which the pool fences a leader that hangs."""

JOBS = {"each_second": 1.0, "quarter_second": 0.25, "in_a_thread": 2.0}
"""The jobs of the application, and the seconds from one tick to the next."""


class Hits(StrEnum):
    """Who is chosen when the moment has come."""

    LEADER = "leader"
    FOLLOWER = "follower"
    POOL = "pool"


class Ends(StrEnum):
    """How a fault may end a term, as the ledger tells of the term later."""

    NOTHING = "nothing"
    DIED = "died"
    RESIGNED = "resigned"
    LOST = "lost"


@dataclass(frozen=True, slots=True)
class Kind:
    """weight: how often it is drawn, against the others. hits: whom.
    ends: how it may end a term. replaces: whether another term has to follow.
    limit: seconds it may keep the pool from its ticks, beyond the time that it lasts.
    lasts: the range of seconds to draw from, for what does not happen at once.
    lingers: seconds for which it may still tell.
    rests: seconds before the same kind is drawn again. alone: seconds before another is, as a rule.
    spoils: what it takes from the pool; the lock file and the record are never taken together, see ``plan.py``.
    needs_fence: whether the pool can only recover by fencing.
    ordered: whether the worker does it itself, a moment after it was told to.
    """

    weight: int
    hits: Hits
    ends: Ends = Ends.NOTHING
    replaces: bool = False
    limit: float = 2.0
    lasts: tuple[float, float] | None = None
    lingers: float = 0.0
    rests: float = 0.0
    alone: float = 0.0
    spoils: str = ""
    needs_fence: bool = False
    ordered: bool = False


_BEAT = 4.0
"""A heartbeat to notice, a running thread to wait for, a safety poll to be asked again; generously."""

_START = 15.0
"""Processes that have to be started, on a machine that may be busy."""

KINDS = {
    "kill leader": Kind(10, Hits.LEADER, Ends.DIED, replaces=True),
    "kill follower": Kind(6, Hits.FOLLOWER, Ends.DIED),
    "kill all": Kind(2, Hits.POOL, Ends.DIED, replaces=True, limit=_START, rests=8),
    "exit leader": Kind(4, Hits.LEADER, Ends.DIED, replaces=True, ordered=True),
    "fork and kill leader": Kind(4, Hits.LEADER, Ends.DIED, replaces=True, ordered=True),
    "terminate leader": Kind(6, Hits.LEADER, Ends.RESIGNED, replaces=True, limit=_BEAT),
    "terminate follower": Kind(4, Hits.FOLLOWER, Ends.RESIGNED),
    "stop leader": Kind(6, Hits.LEADER, lasts=(0.3, 2.5)),
    "stop follower": Kind(4, Hits.FOLLOWER, lasts=(0.3, 2.5)),
    "stop leader for good": Kind(4, Hits.LEADER, Ends.DIED, replaces=True, limit=_BEAT, alone=_BEAT, needs_fence=True),
    "block leader": Kind(5, Hits.LEADER, lasts=(1.0, 2.0), ordered=True),
    "block leader for good": Kind(
        4, Hits.LEADER, Ends.DIED, replaces=True, limit=_BEAT, alone=_BEAT, needs_fence=True, ordered=True
    ),
    "remove lock": Kind(3, Hits.POOL, Ends.LOST, replaces=True, limit=_BEAT, lingers=1, spoils="lock"),
    "rename lock": Kind(2, Hits.POOL, Ends.LOST, replaces=True, limit=_BEAT, lingers=1, spoils="lock"),
    "replace lock": Kind(3, Hits.POOL, Ends.LOST, replaces=True, limit=_BEAT, lingers=1, spoils="lock"),
    "remove record": Kind(3, Hits.POOL, Ends.LOST, limit=_BEAT, lingers=1, spoils="record"),
    "empty record": Kind(2, Hits.POOL, Ends.LOST, limit=_BEAT, lingers=1, spoils="record"),
    "garble record": Kind(3, Hits.POOL, Ends.LOST, limit=_BEAT, lingers=1, spoils="record"),
    "remove number": Kind(2, Hits.POOL, limit=0),
    "remove fifo": Kind(2, Hits.POOL, limit=0),
    "replace fifo": Kind(2, Hits.POOL, limit=0),
    "restart workers": Kind(2, Hits.POOL, Ends.RESIGNED, limit=_BEAT, lingers=30, rests=25),
    "second pool": Kind(1, Hits.POOL, Ends.RESIGNED, limit=_BEAT, lingers=10, lasts=(3.0, 5.0), rests=20),
    "burn": Kind(2, Hits.POOL, lasts=(2.0, 2.0), rests=5),
}


def fence_limit(kind: Kind) -> float:
    """Seconds beyond the kind's own limit until the pool has fenced, for what it recovers from in no other way."""
    return FENCE_AFTER if kind.needs_fence else 0.0
