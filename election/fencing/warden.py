"""The observers' fence: followers detect and log a leader's missing heartbeat, and end the leader as a last resort.

For a leader that is stopped, or whose own switch does not work. Only a punctual observer may decide: after a gap
in its polls (a suspended laptop, an overloaded host), a missing heartbeat proves nothing (docs/pitfalls.md#13).
"""

from __future__ import annotations

import os
from collections.abc import Awaitable, Callable
from contextlib import nullcontext, suppress
from typing import Protocol

from election.core.backend import CAMPAIGN_AGE_S
from election.core.clock import Clock
from election.core.errors import LedgerBusyError, LedgerError, LedgerVersionError, SeatError
from election.core.events import Fenced, described, named
from election.core.logs import log
from election.core.process import ProcessIdentity, pinned
from election.core.seat import Observation, Seat
from election.core.term import LeaderRecord

MAX_POLL_INTERVAL_S = 1.0
"""Maximum seconds between two polls."""

POLLS_PER_FENCE = 4
"""Minimum number of polls within ``fence_after``; an observer may be late by ``fence_after`` divided by this."""

SWITCH_LEAD = 0.1
"""Fraction of ``fence_after`` by which the leader's own switch precedes the observers."""

STAGGER_S = 0.25
"""Seconds by which each follower waits longer than the one before it, so that only one of them acts."""

DYING_S = 1.0
"""Maximum seconds to wait for the death of a leader whose process keeps the ledger locked until then."""


class Intents(Protocol):
    """Record of each fence, written before the leader is ended."""

    async def fence(self, term: int, *, pid: int, by_pid: int, silent: float, every: float) -> bool:
        """Record the intent to fence a term; False if another observer did in the last ``every`` seconds.

        Raises ``LedgerBusyError`` if somebody, perhaps this leader, keeps the ledger locked.
        """


class Warden:
    """Supervises the leader on behalf of one follower.

    stalled_after: seconds of silence after which the log warns.
    fence_after: seconds of silence after which the leader is ended; None to warn only.
    terminate: takes the seat from a leader whose process is out of reach; None where that cannot be done.
    """

    def __init__(
        self,
        seat: Seat,
        intents: Intents,
        *,
        clock: Clock,
        stalled_after: float,
        fence_after: float | None,
        terminate: Callable[[LeaderRecord], Awaitable[None]] | None = None,
    ) -> None:
        self._terminate = terminate
        self._seat = seat
        self._intents = intents
        self._clock = clock
        self._stalled_after = stalled_after
        self._fence_after = fence_after
        self._every = min(MAX_POLL_INTERVAL_S, fence_after / POLLS_PER_FENCE) if fence_after else MAX_POLL_INTERVAL_S
        self._slack = fence_after / POLLS_PER_FENCE if fence_after else stalled_after / POLLS_PER_FENCE
        self._suspicious = min(stalled_after, fence_after or stalled_after) / 2
        self._watched: int | None = None
        self._since = 0.0
        self._expected = float("-inf")
        self._reported_s: float | None = None
        self._cannot: str | None = None

    async def look(self) -> float:
        """Poll once, and act on the result. Returns the seconds until the next poll."""
        seen = await self._seat.observe(CAMPAIGN_AGE_S)
        now = self._clock.monotonic()
        record = seen.record if seen.led else None
        if record is None:
            self._watched = None
            return self._plan(now, self._every)
        if record.term != self._watched or now > self._expected + self._slack:
            self._watched, self._since = record.term, now  # a new leader, or our own poll was late
        silent = self._silent(seen, now)
        if silent < self._suspicious and self._reported_s is None:
            return self._plan(now, self._every)
        turn = await self._position(record)
        self._tell(record, silent, turn)
        if self._fence_after is None:
            return self._plan(now, self._every)
        due = self._fence_after * (1 + SWITCH_LEAD) + turn * STAGGER_S
        if silent >= due:
            await self._fence(record, silent)
            return self._plan(now, self._every)
        return self._plan(now, min(self._every, due - silent))

    def _silent(self, seen: Observation, now: float) -> float:
        """Seconds without a heartbeat while this observer was watching."""
        age = seen.heartbeat_age_s
        return min(now - self._since, float("inf") if age is None else age)

    async def _position(self, record: LeaderRecord) -> int:
        """Number of followers that come before this one."""
        others = [worker.process for worker in await self._seat.workers() if worker.process != record.holder]
        ours = [each.pid == os.getpid() and each.is_neighbour() for each in others]  # in containers pids are equal
        return ours.index(True) if True in ours else 0

    def _plan(self, now: float, seconds: float) -> float:
        self._expected = now + seconds
        return seconds

    def _tell(self, record: LeaderRecord, silent: float, turn: int) -> None:
        if self._reported_s is not None and silent < self._reported_s:
            log.info(
                "the leader (pid %d, term %d) sends heartbeats again",
                record.holder.pid,
                record.term,
                extra=named("leader_responsive"),
            )
            self._reported_s = None
        if silent >= self._stalled_after and self._reported_s is None and turn == 0:
            log.warning(
                "the leader (pid %d, term %d) has sent no heartbeat for %.1f s: its event loop is blocked, or its"
                " process is stopped",
                record.holder.pid, record.term, silent, extra=named("leader_stalled"),
            )  # fmt: skip
            self._reported_s = silent
        elif self._reported_s is not None:
            self._reported_s = silent

    async def _fence(self, record: LeaderRecord, silent: float) -> None:
        """End the leader, unless it turns out to be alive, or another observer fences it."""
        assert self._fence_after is not None
        began, holder = self._clock.monotonic(), record.holder
        who, near = (holder.pid, record.term), holder.is_neighbour()
        is_written = True

        async def still() -> bool:
            seen = await self._seat.observe()
            now = self._clock.monotonic()
            leads = seen.led and seen.record == record
            hangs = leads and self._silent(seen, now) >= silent
            return hangs and now - began < self._slack and (not near or holder.is_alive() is True)

        async def note() -> bool:
            assert self._fence_after is not None
            return await self._intents.fence(
                record.term, pid=holder.pid, by_pid=os.getpid(), silent=silent, every=self._fence_after
            )

        try:
            if not near and self._terminate is None:
                raise PermissionError("it is in another container or on another host")
            with pinned(holder.pid) if near else nullcontext() as kill:
                noted = await still()
                try:
                    noted = noted and await note()
                except LedgerBusyError:
                    # Stopped within a transaction, or about to come back: its storage may have stood still until now.
                    is_written, began = False, self._clock.monotonic() + self._every
                    await self._clock.sleep(self._every)
                if noted and await still():
                    event = Fenced(self._clock.now(), record.term, holder.pid)
                    log.error(
                        "fencing the leader (pid %d, term %d), which has sent no heartbeat for %.1f s",
                        *who, silent, extra=described(event),
                    )  # fmt: skip
                    if kill is not None:
                        kill()
                    elif self._terminate is not None:
                        await self._terminate(record)
                    if not is_written:
                        if near:
                            await self._see_it_die(holder)
                        with suppress(LedgerError):
                            await note()
                if noted:
                    # If it had no effect, do not retry at once.
                    self._since, self._reported_s = self._clock.monotonic(), None
        except (OSError, SeatError, LedgerError, LedgerVersionError) as error:
            if str(error) != self._cannot:
                log.error(
                    "the leader (pid %d, term %d) hangs, and cannot be fenced: %s",
                    *who,
                    error,
                    extra=named("fence_failed"),
                )
            self._cannot = str(error)

    async def _see_it_die(self, holder: ProcessIdentity) -> None:
        """Wait, not for long, until the process that was killed is dead, and its locks are free."""
        end = self._clock.monotonic() + DYING_S
        while holder.is_alive() and self._clock.monotonic() < end:
            await self._clock.sleep(DYING_S / 100)
