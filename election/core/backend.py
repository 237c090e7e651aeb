"""Port between the seat and its engines: exclusion among the workers of a pool, and a published leader record.

``Seat`` has everything that engines have in common: numbers, reasons, records, terms. A backend offers storage and
exclusion, and no more.
"""

from __future__ import annotations

import random
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass
from datetime import datetime
from enum import Enum
from typing import NamedTuple, Protocol

from .errors import LedgerError
from .events import named
from .logs import log
from .numbers import to_seconds
from .process import ProcessIdentity
from .term import LeaderRecord


@dataclass(frozen=True, slots=True)
class Worker:
    """A process that takes part in the pool.

    Attributes:
        process: Identity of the process.
        started_at: When the process began to take part.
        code: Digest of the jobs in its code; empty if not published.
        candidate: Whether the worker may lead.
        problem: Why the worker cannot lead, as its log has it; None if it can, or if the engine does not publish it.
    """

    process: ProcessIdentity
    started_at: datetime
    code: str = ""
    candidate: bool = True
    problem: str | None = None


def live_workers(workers: Iterable[Worker]) -> list[Worker]:
    """Workers that are not known to be dead, each process once, oldest first."""
    found = {worker.process: worker for worker in workers if not worker.process.is_known_dead()}
    return sorted(found.values(), key=lambda worker: (worker.started_at, worker.process.pid))


def describe_problem(workers: Iterable[Worker]) -> str | None:
    """Text of the first problem that a worker has published; None if there is none."""
    found = next((worker for worker in workers if worker.problem), None)
    return None if found is None else f"worker {found.process.pid} on {found.process.host} cannot lead: {found.problem}"


@dataclass(frozen=True, slots=True)
class SeatTiming:
    """Intervals of a seat in seconds, as in ``Election``.

    Attributes:
        heartbeat: Between two heartbeats of the leader.
        safety_poll: Until a follower tries the seat even if nothing woke it.
        fence_after: Until a leader that hangs, an orphan that keeps its seat, or a worker that keeps the ledger
            locked, is ended; None for never.
        uniform: Source of randomness: returns a number between two others.

    Raises:
        ConfigurationError: One of them is no such number.
    """

    heartbeat: float
    safety_poll: float
    fence_after: float | None = None
    uniform: Callable[[float, float], float] = random.uniform

    def __post_init__(self) -> None:
        object.__setattr__(self, "heartbeat", to_seconds(self.heartbeat, "heartbeat"))
        object.__setattr__(self, "safety_poll", to_seconds(self.safety_poll, "safety_poll"))
        if self.fence_after is not None:
            object.__setattr__(self, "fence_after", to_seconds(self.fence_after, "fence_after"))

    def jittered(self, seconds: float) -> float:
        """Return ``seconds`` changed by up to a fifth, so that workers do not poll in step."""
        return seconds * self.uniform(0.8, 1.2)


DEFAULT_TIMING = SeatTiming(heartbeat=0.5, safety_poll=1.0)
"""Intervals of an Election that gives none."""

CAMPAIGN_AGE_S = 0.005
"""Seconds for which a follower reuses the state that its campaign has read, to supervise and wait right after it."""


class Refusal(Enum):
    """Why a seat was not acquired."""

    TAKEN = "another worker holds the seat"
    NOT_YET = "the seat is free, but an earlier leader may still be at work"


@dataclass(frozen=True, slots=True)
class Grant:
    """A seat that this worker may take, and the state of the pool at that moment.

    Attributes:
        seat_id: Name of the held object, for the leader record.
        before: Record of the term before; None if there is none.
        last_term: Largest term number that the backend has stored or seen; 0 if none.
        fenced: Whether the leader of ``before`` was fenced.
        died: Whether the leader of ``before`` is taken to be dead.
        silent_s: Seconds since the last heartbeat of ``before``; None if unknown.
    """

    seat_id: str
    before: LeaderRecord | None
    last_term: int
    fenced: bool = False
    died: bool = True
    silent_s: float | None = None


@dataclass(frozen=True, slots=True)
class Snapshot:
    """State of the pool.

    Attributes:
        record: Current leader record; None if there is none.
        led: Whether the recorded leader holds the seat; False when in doubt (P8).
        heartbeat_age_s: Seconds since the last change of the leader's heartbeat; None if none was seen.
        problem: Why the seat cannot be acquired or reached; None if it can.
    """

    record: LeaderRecord | None
    led: bool
    heartbeat_age_s: float | None = None
    problem: str | None = None


class SeatBackend(Protocol):
    """Exclusive resource of one pool, as one worker uses it.

    All methods raise ``SeatError`` when the resource cannot be reached, unless documented otherwise.
    """

    @property
    def pool(self) -> str:
        """Name of the pool without secrets; one process takes part in it once."""

    @property
    def doubt(self) -> Callable[[], Awaitable[None]] | None:
        """Returns when the held seat may be lost, so that the next heartbeat should not wait; None if unknown."""

    async def open(self, worker: Worker) -> None:
        """Take part as ``worker``. A forked child starts afresh and leaves its parent's resources alone.

        Raises nothing: ``try_acquire`` retries a presence that cannot be published now.
        """

    async def close(self) -> None:
        """Leave the pool. A seat that is still held stays held until the process ends (P5). Raises nothing."""

    async def attend(self) -> None:
        """Keep taking part without a try at the seat, for a worker that never leads."""

    async def report(self, problem: str | None) -> None:
        """Publish why this worker cannot lead, None if it can, for those who look from outside. Raises nothing.

        Does nothing where who looks meets the same server, and so the same error.
        """

    async def try_acquire(self) -> Grant | Refusal:
        """Try once to acquire the seat, without waiting for its holder.

        After a grant, ``publish`` or ``release`` follows in any case.
        """

    async def reserve(self, number: int) -> None:
        """Make a term number durable before it is published (P2).

        Does nothing where ``publish`` writes number and record in one transaction.
        """

    async def publish(self, record: LeaderRecord) -> bool:
        """Begin a term: make its record visible to the pool.

        Not cancelled by its caller. Returns False if another worker was faster; then no worker reads the
        record as current.
        """

    async def renew(self, record: LeaderRecord) -> None:
        """Send a heartbeat, and publish the record if it has changed.

        Raises:
            SeatLostError: The seat or the record is no longer ours.
        """

    def holds(self) -> bool:
        """Whether this process holds the seat of the term that it published; False when in doubt (P8).

        From memory and open descriptors, without waiting.
        """

    async def release(self, record: LeaderRecord | None) -> None:
        """Publish ``record``, which ends the term, then free the seat, then wake the others, in this order.

        Args:
            record: Last record of the term; None for a grant that led to no term.
        """

    async def wait_for_vacancy(self) -> None:
        """Return when an attempt is worth it; too early is allowed, much too late is not. Raises nothing."""

    async def snapshot(self, max_age_s: float = 0.0) -> Snapshot:
        """Current state of the pool; after a short time without an answer, the last known state.

        Raises nothing.

        Args:
            max_age_s: Seconds for which an earlier read of a disk is reused.
        """

    async def workers(self) -> list[Worker]:
        """Live workers, this one among them, oldest first; see ``snapshot``. Raises nothing."""


class LatestTerms(NamedTuple):
    """Numbers of terms in a ledger.

    Attributes:
        begun: Largest number of a term that was begun; 0 if none.
        fenced: Largest number of a term with an intent to fence its leader; 0 if none.
    """

    begun: int
    fenced: int


class TermHistory(Protocol):
    """Part of a ledger that stores earlier terms (P2)."""

    async def latest_terms(self) -> LatestTerms:
        """Latest terms in the ledger."""

    async def close(self) -> None:
        """Close the connection; the next use opens it again."""


async def last_known_term(history: TermHistory | None, before: LeaderRecord | None) -> tuple[int, bool]:
    """Last term in the ledger, and whether the term of ``before`` was fenced.

    Returns 0 and False without a ledger, or if it cannot be read; never raises ``LedgerError``.
    """
    if history is None:
        return 0, False
    try:
        latest = await history.latest_terms()
    except LedgerError as error:
        log.warning("the last term could not be read from the ledger: %s", error, extra=named("last_term_unknown"))
        return 0, False
    return latest.begun, before is not None and before.term == latest.fenced
