"""The values that describe a time in the seat: a term, how it began, and the record that tells the pool."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum

from .process import ProcessIdentity


class Reason(StrEnum):
    """Why the seat was vacant when a term began."""

    STARTED = "started"  # nobody had led before, or the pool had been stopped in good order
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
    """How a term began. ``takeover_ms``: from learning of the vacancy to the scheduler running; None until it runs.

    ``vacant_s``: seconds from the last sign of life of the leader before to this term's beginning; None if there was
    none.
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
        """When the vacancy began, as far as that is known."""
        return self.at - timedelta(seconds=self.vacant_s or 0.0)


@dataclass(frozen=True, slots=True)
class Term:
    """One worker's time in the seat.

    ``number`` only ever grows (P2), and so serves as a fencing token: a system that remembers the largest number it
    has seen can refuse the writes of an earlier leader. After Kleppmann, "How to do distributed locking", 2016.
    """

    number: int
    elected_at: datetime
    takeover: Takeover


@dataclass(frozen=True, slots=True)
class LeaderRecord:
    """Record of the leader: readable by every worker, written only by the holder of the seat.

    ``seat_id`` names what the holder holds (for the file engine the lock file's device and inode), so that a second
    seat that somebody slipped into the pool's place can be told from the first. ``problem`` says in words what keeps
    the leader from its work, so that every worker can tell. ``queued``: runs that wait for a thread in its process.
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

    followed: whether we took part while it lasted; who finds the seat free on arrival starts a pool that had been
    stopped.
    fenced: whether somebody, or itself, set out to fence that term's leader. died: whether it is taken to be dead; a
    leader that may live, and of whose end nothing is known but that its seat was free, has lost it.
    """
    if before is None:
        return Reason.STARTED
    if before.standing is Standing.LEADING:
        return Reason.FENCED if fenced else Reason.DIED if died else Reason.LOST
    if before.standing is Standing.RESIGNED and not followed:
        return Reason.STARTED
    return Reason(before.standing.value)


def ended_by(takeover: Takeover) -> Standing | None:
    """How the term before ended, as its successor knows; None if there was none, or if its leader just died."""
    if takeover.from_pid is None or takeover.reason in {Reason.DIED, Reason.FENCED}:
        return None
    return Standing.LOST if takeover.reason is Reason.LOST else Standing.RESIGNED
