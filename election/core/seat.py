"""What an engine must offer so that an elector can work with it."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from .process import ProcessIdentity
from .term import LeaderRecord, Standing, Term


@dataclass(frozen=True, slots=True)
class Worker:
    """A process that takes part in the pool."""

    process: ProcessIdentity
    started_at: datetime


@dataclass(frozen=True, slots=True)
class Observation:
    """The pool as one worker sees it, from memory and at most a few ``stat``s.

    ``led`` is False whenever there is doubt: no record, an ended term, a holder that is dead.
    ``heartbeat_age_s`` is how long this worker has seen the leader's heartbeat stand still.
    ``problem`` says in words what keeps the seat from being taken, or the leader from its work, if anything does.
    """

    record: LeaderRecord | None
    led: bool
    heartbeat_age_s: float | None
    problem: str | None = None


class Seat(Protocol):
    """What only one worker of a pool can hold (P1).

    Not winning is a value, not an error; ``SeatError`` means that the seat could not be reached at all.
    """

    async def open(self) -> None:
        """Take part in the pool. Raises ``PoolInUseError`` if this process does already, nothing else."""

    async def close(self) -> None:
        """Leave the pool. A seat that is still held stays held until the process is gone (P5)."""

    async def campaign(self) -> Term | None:
        """Try once to take the seat, without waiting for its holder.

        Returns the new term once the pool can read of it, or None if somebody else may be leading.
        Raises ``SeatError`` if that cannot be found out.
        """

    async def vacancy(self) -> None:
        """Return when a campaign is worth trying; earlier is allowed, much later is not."""

    def held(self) -> Term | None:
        """The term that this process holds, worked out anew from the system each time (P8); None when in doubt."""

    async def confirm(self, takeover_ms: float) -> None:
        """Tell the pool that the term's work runs, and what the takeover took, in milliseconds."""

    async def beat(self, problem: str | None = None) -> None:
        """Give a sign of life, and tell the pool what keeps the leader from its work, if anything does.

        Raises ``SeatLostError`` if the seat or the record are no longer ours.
        """

    async def release(self, standing: Standing) -> None:
        """Say in the record how the term ended, then give the seat up, then wake the others, in this order."""

    def observe(self) -> Observation:
        """Who leads, as far as can be told at once."""

    def workers(self) -> list[Worker]:
        """The workers of the pool, this one among them, oldest first."""
