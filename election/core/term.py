"""Values of a term: its number and beginning, the takeover, and the leader record that the pool reads."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum

from .process import ProcessIdentity


class Reason(StrEnum):
    """Why the seat was vacant when a term began."""

    STARTED = "started"  # there was no leader before, or the pool had been stopped in good order
    DIED = "died"
    RESIGNED = "resigned"
    FENCED = "fenced"
    LOST = "lost"


class Standing(StrEnum):
    """State of a term in its leader record."""

    LEADING = "leading"
    RESIGNED = "resigned"
    LOST = "lost"


@dataclass(frozen=True, slots=True)
class Takeover:
    """Beginning of a term. ``takeover_ms``: from detecting the vacancy to the running scheduler; None until it runs.

    ``vacant_s``: seconds from the end of the term before, or its last heartbeat, to this term's beginning; None if
    there was no former leader.
    """

    term: int
    from_pid: int | None
    to_pid: int
    reason: Reason
    at: datetime
    takeover_ms: float | None = None
    vacant_s: float | None = None

    @property
    def vacant_since(self) -> datetime:
        """Beginning of the vacancy; of the term where that is unknown."""
        return self.at - timedelta(seconds=self.vacant_s or 0.0)


@dataclass(frozen=True, slots=True)
class Term:
    """One worker's time in the seat.

    ``number`` only ever grows (P2), and so serves as a fencing token: a system that stores the largest number it has
    received can refuse the writes of an earlier leader. After Kleppmann, "How to do distributed locking", 2016.
    """

    number: int
    elected_at: datetime
    takeover: Takeover
    follows_work: bool = field(default=False, compare=False)
    """Whether the work of the term before had begun, by its record; then its ledger knows of it."""


@dataclass(frozen=True, slots=True)
class LeaderRecord:
    """Record of the leader: readable by every worker, written only by the holder of the seat.

    ``seat_id``: name of the held object (for the file engine the lock file's device and inode), which distinguishes a
    second seat that was put in the pool's place from the first. ``problem``: why the leader cannot work, in words, for
    every worker to report. ``queued``: runs that wait for a thread in the leader's process.
    """

    term: int
    holder: ProcessIdentity
    seat_id: str
    elected_at: datetime
    takeover: Takeover
    standing: Standing = Standing.LEADING
    ended_at: datetime | None = None
    problem: str | None = None
    queued: int = 0


def reason_after(before: LeaderRecord | None, *, followed: bool, fenced: bool = False, died: bool = True) -> Reason:
    """Why the seat was vacant, given the record of the term ``before`` ours.

    followed: whether this worker took part during that term; one that finds a resigned leader's seat free on arrival
    starts a pool that had been stopped.
    fenced: whether there was an intent, also of that leader itself, to fence it. died: whether that leader is taken to
    be dead; one that may live, and that left its seat free without recording an end, has lost it.
    """
    if before is None:
        return Reason.STARTED
    if before.standing is Standing.LEADING:
        return Reason.FENCED if fenced else Reason.DIED if died else Reason.LOST
    if before.standing is Standing.RESIGNED and not followed:
        return Reason.STARTED
    return Reason(before.standing.value)


def ended_by(takeover: Takeover) -> Standing | None:
    """Standing in which the former term ended; None if there was none, or if its leader died or was fenced."""
    if takeover.from_pid is None or takeover.reason in {Reason.DIED, Reason.FENCED}:
        return None
    return Standing.LOST if takeover.reason is Reason.LOST else Standing.RESIGNED
