"""Trust of a leader in its seat, and whether a former leader may still trust its own after its session has ended.

The lock of a session is free as soon as the server ends the session, and the leader may not have detected it.
"""

from __future__ import annotations

from dataclasses import dataclass

from election.core.clock import Clock
from election.core.process import ProcessIdentity
from election.core.term import LeaderRecord, Standing

TRUST_HEARTBEATS = 10
MIN_TRUST_S = 2.0

TRUST_MARGIN = 0.1
"""Fraction of the limit by which the leader ceases to trust its seat earlier than others may take it."""


class Trust:
    """Time until which a leader may trust its seat without another answer of the server.

    ``limit``: seconds after a leader's last heartbeat before which no other worker leads, unless the leader is known to
    be gone. The leader counts from the start of that heartbeat, on its own monotonic clock.
    """

    def __init__(self, heartbeat: float, clock: Clock) -> None:
        self._clock = clock
        self.limit = max(MIN_TRUST_S, TRUST_HEARTBEATS * heartbeat)
        self._until = float("-inf")

    def renew(self, started: float) -> None:
        """Count from ``started`` (monotonic), when a statement was sent that the server has answered."""
        self._until = started + self.limit * (1 - TRUST_MARGIN)

    def left(self) -> float:
        """Seconds of trust that are left; 0 if there are none."""
        return max(0.0, self._until - self._clock.monotonic())


@dataclass(frozen=True, slots=True)
class StateBefore:
    """State of the pool when the lock came to this worker.

    Attributes:
        record: Leader record; None if there is none that can be parsed.
        latest: Largest term number.
        fenced: Whether a fence of the recorded term was requested.
        silent: Seconds since the last heartbeat, by the server's clock.
        witnessed: Whether our session is older than that heartbeat, and so saw the end of the leader's session.
        watched: Whether another session of the leader's process is open.
    """

    record: LeaderRecord | None
    latest: int
    fenced: bool = False
    silent: float = 0.0
    witnessed: bool = False
    watched: bool = False


def died(before: StateBefore) -> bool:
    """Whether the recorded leader is taken to be dead, for the record of how its term ended. Decides only.

    On this host, the operating system reports the death. On another host, all sessions of the leader ended while ours
    was open; a dead leader and one that was cut off cannot be distinguished.
    """
    assert before.record is not None
    return before.record.holder.is_known_dead() or _has_vanished(before)


def _has_vanished(before: StateBefore) -> bool:
    assert before.record is not None
    return not before.record.holder.is_neighbour() and before.witnessed and not before.watched


def remaining_trust(before: StateBefore, ours: ProcessIdentity, limit: float) -> float:
    """Seconds for which the recorded leader may still trust its seat though the lock is ours. Decides only.

    The leader's session has ended. If its process is dead, or its term is over by its record, there is no doubt.
    Otherwise the server may have ended the session, and the leader may not have detected it.
    """
    if before.record is None or before.record.standing is not Standing.LEADING:
        return 0.0
    if before.record.holder == ours or before.record.holder.is_surely_dead() or _has_vanished(before):
        return 0.0
    return max(0.0, limit - before.silent)


def was_fenced_by_switch(before: StateBefore, fence_after: float | None, heartbeat: float) -> bool:
    """Whether the recorded leader's own switch has ended it, judged by the length of its silence. Decides only.

    The switch counts from its last press, which may precede the last heartbeat on the server by the interval between
    two presses, one heartbeat; half of another is for a loop that was late.
    """
    if fence_after is None or before.record is None:
        return False
    return before.record.holder.is_neighbour() and before.silent >= fence_after - 1.5 * heartbeat
