"""Seat of a pool: the exclusive resource that makes one worker the leader, on any engine.

Promises P1, given a backend that excludes other workers, and P2: a term's number is larger than any in the backend, the
last record or the ledger. Terms, takeovers and leader records are made only here.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace

from .backend import Grant, Refusal, SeatBackend, TermHistory, Worker, last_known_term
from .clock import Clock
from .errors import PoolInUseError, SeatError
from .events import named
from .logs import log
from .process import ProcessIdentity, current_process
from .term import LeaderRecord, Standing, Takeover, Term, reason_after

__all__ = ["LOSER_PAUSE", "RESIGNER_PAUSE", "Observation", "Seat", "Worker"]

RESIGNER_PAUSE = 1.0
"""Safety polls for which a worker that resigned leaves the seat to others: the next leader may be short of CPU time."""

LOSER_PAUSE = 0.25
"""Safety polls before a worker that lost the seat tries for it again."""

_in_use: dict[str, Seat] = {}
"""Seats of this process by pool. The reference also keeps a seat held that may not be released (P5)."""


@dataclass(frozen=True, slots=True)
class Observation:
    """The pool as one worker sees it.

    Attributes:
        record: Current leader record; None if there is none.
        led: False whenever there is doubt: no record, an ended term, a dead holder.
        heartbeat_age_s: Seconds for which this worker has not seen the leader's heartbeat change; None without leader.
        problem: Why the seat cannot be acquired, or why the leader cannot work; None if there is no problem.
    """

    record: LeaderRecord | None
    led: bool
    heartbeat_age_s: float | None
    problem: str | None = None


class Seat:
    """Exclusive resource that one worker of a pool can hold at a time (P1).

    A lost campaign returns None; ``SeatError`` means that the seat could not be reached.

    Args:
        backend: Engine's part: exclusion and storage.
        clock: Time of terms and waits.
        safety_poll: Seconds, as in ``Election``.
        history: Ledger from which earlier terms are read; None if the backend stores them.
        identify: Returns the identity of this process.
    """

    def __init__(
        self,
        backend: SeatBackend,
        *,
        clock: Clock,
        safety_poll: float,
        history: TermHistory | None = None,
        identify: Callable[[], ProcessIdentity] = current_process,
    ) -> None:
        self.backend = backend
        self.code = ""
        """Digest of the jobs in this worker's code, which ``open`` publishes; empty to publish none."""
        self.candidate = True
        """Whether this worker may lead, which ``open`` publishes."""
        self._clock = clock
        self._safety_poll = safety_poll
        self._history = history
        self._identify = identify
        self._process: ProcessIdentity | None = None
        self._pid = 0
        self._term: Term | None = None
        self._record: LeaderRecord | None = None
        self._has_followed = False
        self._has_left = False
        self._follows_work = False
        self._entered_at = clock.now()
        self._vacant_for_others_until = float("-inf")
        self._reported: str | None = None

    @property
    def takeover(self) -> Takeover | None:
        """Takeover of the term that this process holds, with its duration once it is known; None without a term."""
        return self._record.takeover if self._record is not None else None

    @property
    def doubt(self) -> Callable[[], Awaitable[None]] | None:
        """See ``SeatBackend.doubt``."""
        return self.backend.doubt

    def is_taken_here(self) -> bool:
        """Whether this process takes part in the pool already, by this seat or another."""
        other = _in_use.get(self.backend.pool)
        return other is not None and other._is_ours()

    async def open(self) -> None:
        """Take part in the pool.

        Raises:
            PoolInUseError: This process takes part in the pool already.
        """
        if self.is_taken_here():
            raise PoolInUseError(
                f"this process already takes part in the pool {self.backend.pool};"
                " share one Election, or give the second one a pool of its own"
            )
        try:
            await self._enter()
        except OSError as error:  # may pass: if not, the first campaign raises it
            log.warning("the identity of this process cannot be read: %s", error, extra=named("identity_unknown"))
        _in_use[self.backend.pool] = self

    async def close(self) -> None:
        """Leave the pool. A seat that is still held stays held until the process ends (P5)."""
        if not self._is_ours():
            return
        await self.backend.close()
        self._has_left = True
        if self._record is None:
            await self._leave()

    async def _leave(self) -> None:
        if _in_use.get(self.backend.pool) is self:
            del _in_use[self.backend.pool]
        self._process = None
        if self._history is not None:
            await self._history.close()

    async def campaign(self) -> Term | None:
        """Try once to take the seat, without waiting for its holder.

        Returns:
            The new term, once the pool can read its record; None if another worker may be leading.

        Raises:
            SeatError: The seat could not be reached.
        """
        if not self._is_ours():
            try:
                await self._enter()
            except OSError as error:
                raise SeatError(f"the identity of this process cannot be read: {error}") from error
        if not self.candidate:
            await self.backend.attend()
            return None
        grant = await self.backend.try_acquire()
        if isinstance(grant, Refusal):
            self._has_followed = self._has_followed or grant is Refusal.TAKEN
            return None
        begun = False
        try:
            begun = await self._publish(await self._draft(grant))
            self._has_followed = True
        finally:
            if not begun:
                await self.backend.release(None)
                if self._history is not None:  # a worker that does not lead keeps no connection to the ledger (P7)
                    await self._history.close()
        return self._term if begun else None

    async def _draft(self, grant: Grant) -> LeaderRecord:
        """Record of the term that this grant allows, with a number that is durable already."""
        assert self._process is not None
        before, now = grant.before, self._clock.now()
        number = max(grant.last_term, before.term if before else 0) + 1
        # Side by side, because opening the ledger and syncing the number take a millisecond each.
        asked = asyncio.ensure_future(last_known_term(self._history, before))
        try:
            await self.backend.reserve(number)
        finally:
            last, fenced = await asked
        if last >= number:
            number = last + 1
            await self.backend.reserve(number)
        self._follows_work = before is not None and before.takeover.takeover_ms is not None
        ended_at = before.ended_at if before else None
        followed = self._has_followed or (ended_at is not None and ended_at > self._entered_at)
        reason = reason_after(before, followed=followed, fenced=fenced or grant.fenced, died=grant.died)
        vacant_s = grant.silent_s if before is not None else None
        if ended_at is not None:
            vacant_s = max(0.0, (now - ended_at).total_seconds())
        vacant_s = None if vacant_s is None else round(vacant_s, 3)
        from_pid = before.holder.pid if before else None
        takeover = Takeover(number, from_pid, self._process.pid, reason, now, vacant_s=vacant_s)
        return LeaderRecord(number, self._process, grant.seat_id, now, takeover)

    async def _publish(self, record: LeaderRecord) -> bool:
        """Begin the term. A cancelled caller waits for the outcome, and resigns from a term that has begun."""
        publishing = asyncio.ensure_future(self.backend.publish(record))
        try:
            begun = await asyncio.shield(publishing)
        except asyncio.CancelledError:
            await asyncio.wait([publishing])
            if not publishing.cancelled() and publishing.exception() is None and publishing.result():
                self._begin(record)
                await self.release(Standing.RESIGNED)
            raise
        if begun:
            self._begin(record)
        return begun

    def _begin(self, record: LeaderRecord) -> None:
        self._record = record
        self._term = Term(record.term, record.elected_at, record.takeover, self._follows_work)

    async def vacancy(self) -> None:
        """Return when a campaign is worth trying; too early is allowed, much too late is not."""
        if not self.candidate:
            await self._clock.sleep(self._safety_poll)
            return
        if (left := self._vacant_for_others_until - self._clock.monotonic()) > 0:
            await self._clock.sleep(left)
        await self.backend.wait_for_vacancy()

    def held(self) -> Term | None:
        """Term that this process holds, from memory and open descriptors (P8); None when in doubt."""
        if self._term is None or not self._is_ours() or not self.backend.holds():
            return None
        return self._term

    async def confirm(self, takeover_ms: float) -> None:
        """Publish that the term's work runs.

        Args:
            takeover_ms: Duration of the takeover in milliseconds.
        """
        assert self._record is not None
        takeover = replace(self._record.takeover, takeover_ms=round(takeover_ms, 2))
        self._record = replace(self._record, takeover=takeover)
        try:
            await self.backend.renew(self._record)
        except (SeatError, OSError) as error:  # the next heartbeat publishes it, or detects a loss
            log.warning(
                "the duration of the takeover could not be published: %s",
                error,
                extra=named("takeover_time_unrecorded"),
            )

    async def beat(self, problem: str | None = None, queued: int = 0) -> None:
        """Send a heartbeat.

        Args:
            problem: Why the leader cannot work; None if it can.
            queued: Runs that wait for a thread in this process.

        Raises:
            SeatLostError: The seat or the record is no longer ours.
        """
        assert self._record is not None
        self._record = replace(self._record, problem=problem, queued=queued)
        await self.backend.renew(self._record)

    async def release(self, standing: Standing) -> None:
        """Publish how the term ended, then free the seat, then wake the others, in this order.

        Does nothing in a forked child that runs its parent's clean-up: record and seat are the parent's.
        """
        if not self._is_ours():
            return
        assert self._record is not None
        try:
            await self.backend.release(replace(self._record, standing=standing, ended_at=self._clock.now()))
        finally:
            self._record = self._term = None
            if self._has_left:  # the shutdown did not wait for the end of job code
                await self._leave()
            pause = RESIGNER_PAUSE if standing is Standing.RESIGNED else LOSER_PAUSE
            self._vacant_for_others_until = self._clock.monotonic() + self._safety_poll * pause

    async def observe(self, max_age_s: float = 0.0) -> Observation:
        """State of the pool (P8); after a short time without an answer, the last known state.

        Args:
            max_age_s: Seconds for which an earlier read of a disk is reused.
        """
        seen = await self.backend.snapshot(max_age_s)
        problem = seen.problem or (seen.record.problem if seen.led and seen.record is not None else None)
        return Observation(seen.record, seen.led, seen.heartbeat_age_s if seen.led else None, problem)

    async def report(self, problem: str | None) -> None:
        """Publish why this worker cannot lead, None if it can, whenever that has changed. Raises nothing."""
        if problem != self._reported:
            self._reported = problem
            await self.backend.report(problem)

    async def workers(self) -> list[Worker]:
        """Workers of the pool, this one among them, oldest first; see ``observe``."""
        return await self.backend.workers()

    async def peers_differ(self) -> bool:
        """Whether a living worker that may lead has other jobs in its code than this one (docs/pitfalls.md#50)."""
        candidates = [worker for worker in await self.workers() if worker.candidate]
        return any(worker.code not in {"", self.code} for worker in candidates)

    async def _enter(self) -> None:
        """Take part as this process, which may be a forked child of the process that took part before."""
        self._process, self._pid = self._identify(), os.getpid()
        self._record = self._term = self._reported = None
        self._has_left = False
        self._entered_at = self._clock.now()
        await self.backend.open(Worker(self._process, self._entered_at, self.code, self.candidate))

    def _is_ours(self) -> bool:
        """Whether this process, and not its parent before a fork, takes part."""
        return self._process is not None and self._pid == os.getpid()
