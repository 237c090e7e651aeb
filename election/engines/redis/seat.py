"""The seat in Redis: a lease, granted together with its term's number and record in one script.

Promises P1 for unexpired terms, P2, P6 within the lease (at once on one host), P7 and P8. Not promised: that a server
forgets nothing (see ``ground.py``), or that its wall clock, by which it counts a lease, makes no leaps.

redis-py's ``Lock`` is not used: it cannot hand out a term's number in the script that grants it, and its waiting polls.
"""

from __future__ import annotations

import asyncio
import logging
import os
import random
import uuid
from collections.abc import Awaitable
from dataclasses import replace
from typing import Any

from election.core.backend import TermHistory
from election.core.clock import Clock, time_limit
from election.core.errors import PoolInUseError, SeatError
from election.core.events import named
from election.core.process import ProcessIdentity, current_process
from election.core.seat import Observation, Seat, Worker
from election.core.term import LeaderRecord, Standing, Takeover, Term

from .address import Address
from .campaign import Campaign
from .keeper import keep
from .link import Link
from .neighbour import watched
from .sight import Sight
from .tenure import Tenure, lease_for

log = logging.getLogger("election")

SPREAD = 0.0002
"""Seconds for each worker of the pool, over which the campaigns after a vacancy are spread: no herd."""

RESIGNERS_TURN = 0.25
"""Of a safety poll: how long a worker that gave the seat up leaves it to the others."""

_in_use: dict[str, RedisSeat] = {}
"""The pools this process takes part in."""


class RedisSeat(Seat):
    """Implements ``election.core.seat.Seat`` under the keys of a pool.

    heartbeat, safety_poll: seconds, as in ``Election``. memory: another ledger, which is asked for earlier terms; None
    if it is in the same server. durable: whether a grant counts only when the disk, and the replicas that the server
    asks for, have it.
    """

    def __init__(
        self,
        address: Address,
        *,
        heartbeat: float,
        safety_poll: float,
        clock: Clock,
        memory: TermHistory | None = None,
        durable: bool = False,
    ) -> None:
        self._address = address
        self._safety_poll = safety_poll
        self._clock = clock
        self._lease = lease = lease_for(heartbeat)
        self._link = Link(address, SeatError, durable=durable)
        timing = {"lease": lease, "heartbeat": heartbeat, "safety_poll": safety_poll}
        self._sight = Sight(self._link, address.prefix, clock, **timing)
        self._tenure = Tenure(self._link, self._sight, clock, heartbeat=heartbeat)
        self._memory = memory
        self._campaign = Campaign(self._link, self._sight, clock, lease=lease, settle=2 * heartbeat, memory=memory)
        self._process: ProcessIdentity | None = None
        self._id = ""
        self._has_followed = False
        self._wait: float | None = None
        self._problem: str | None = None

    @property
    def takeover(self) -> Takeover | None:
        return self._tenure.record.takeover if self._tenure.record is not None else None

    async def open(self) -> None:
        other = _in_use.get(self._address.pool)
        if other is not None and other._is_ours():
            raise PoolInUseError(
                f"this process already takes part in the pool {self._address.pool};"
                " share one Election, or give the second one a pool of its own"
            )
        try:
            self._enter()
        except OSError as error:  # may pass: the first campaign meets it again, and tells
            log.warning("this worker cannot say that it takes part: %s", error, extra=named("presence_failed"))
        _in_use[self._address.pool] = self

    async def close(self) -> None:
        if not self._is_ours():
            return
        if self._tenure.record is not None:
            keep(self._address, self._tenure.renewal(), self._lease / 6)
        elif _in_use.get(self._address.pool) is self:
            del _in_use[self._address.pool]
        await self._sight.end()
        await self._link.close()
        if self._tenure.record is None:
            self._process = None
            if self._memory is not None:
                await self._memory.close()

    def _enter(self) -> None:
        """Take part as this process, which may be a forked child of the one that did before."""
        self._tenure.forget()
        self._process = current_process()
        self._id = uuid.uuid4().hex
        self._sight.begin(self._process, self._clock.now())

    async def look(self) -> None:
        """Bring what is observed up to date, for who does not take part. Raises ``SeatError``."""
        try:
            await self._sight.look()
        finally:
            if self._process is None:
                await self._link.close()

    async def campaign(self) -> Term | None:
        if not self._is_ours():
            try:
                self._enter()
            except OSError as error:
                raise SeatError(f"the identity of this process cannot be read: {error}") from error
        assert self._process is not None
        self._wait = self._problem = None
        await self._tenure.tell_end()
        result = await self._to_the_end(self._campaign.run(self._process, self._id, followed=self._has_followed))
        if isinstance(result, LeaderRecord):
            self._has_followed = True
            return self._tenure.begin(result, self._campaign.granted_at)
        self._has_followed = self._has_followed or result.somebody_leads
        self._wait, self._problem = result.wait, result.problem
        if self._memory is not None:  # who does not lead keeps no connection to it (P7)
            await self._memory.close()
        return None

    async def _to_the_end(self, campaign: Awaitable[Any]) -> Any:
        """A campaign is not left half-way: if it is no longer wanted and was won, the seat is given back."""
        work = asyncio.ensure_future(campaign)
        try:
            return await asyncio.shield(work)
        except asyncio.CancelledError:
            await asyncio.wait([work])
            if not work.cancelled() and work.exception() is None and isinstance(work.result(), LeaderRecord):
                self._tenure.begin(work.result(), self._campaign.granted_at)
                await self._tenure.end(Standing.RESIGNED)
            raise

    async def vacancy(self) -> None:
        sight = self._sight
        sight.news.clear()
        if self._wait is not None:
            await self._news_within(self._wait)
        while True:
            record = sight.record
            if record is not None and record.standing is not Standing.LEADING and record.holder == self._process:
                if not await self._news_within(self._safety_poll * RESIGNERS_TURN):
                    return
                continue
            dead = record is not None and record.seat_id == sight.lease and record.holder.is_known_dead()
            if not dead and (left := sight.until - self._clock.monotonic()) > 0:
                holder = record.holder if record is not None and sight.led else None
                with watched(holder, sight.news.set):
                    await self._news_within(left)
            elif not await self._news_within(random.uniform(0, SPREAD * len(sight.workers()))):
                return

    async def _news_within(self, seconds: float) -> bool:
        """Wait for news; whether there were any."""
        try:
            async with time_limit(self._clock, seconds):
                await self._sight.news.wait()
        except TimeoutError:
            return False
        self._sight.news.clear()
        return True

    def held(self) -> Term | None:
        return self._tenure.held() if self._is_ours() else None

    async def confirm(self, takeover_ms: float) -> None:
        assert self._tenure.record is not None
        takeover = self._tenure.record.takeover
        try:
            await self._tenure.say(takeover=replace(takeover, takeover_ms=round(takeover_ms, 2)))
        except SeatError as error:  # the next heartbeat says it, or finds more
            log.warning(
                "the pool was not told what the takeover took: %s", error, extra=named("takeover_time_unrecorded")
            )

    async def beat(self, problem: str | None = None) -> None:
        await self._tenure.say(problem=problem)

    async def release(self, standing: Standing) -> None:
        if self._is_ours():  # a forked child may run its parent's clean-up, and the lease is the parent's
            await self._tenure.end(standing)

    def _is_ours(self) -> bool:
        return self._process is not None and self._process.pid == os.getpid()

    def observe(self) -> Observation:
        record, led = self._sight.record, self._sight.led
        if led and record is not None and record.holder == self._process:
            led = self.held() is not None
        problem = self._sight.trouble
        if led and record is not None:
            problem = problem or record.problem
        elif self._problem is not None:
            problem = self._problem
        return Observation(record, led, self._sight.heartbeat_age() if led else None, problem)

    def workers(self) -> list[Worker]:
        return self._sight.workers()
