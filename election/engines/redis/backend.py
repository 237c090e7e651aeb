"""Seat backend of the Redis engine: a lease, granted together with its term's number and record in one script.

Promises P1 for unexpired terms, P2, P6 within the lease (at once on one host), P7 and P8. Not promised
but required: the server keeps its data (see ``diagnostics.py``), and its wall clock, which times leases, does not jump.

redis-py's ``Lock`` is not used: it cannot write a term's number in the script that grants it, and its waiting polls.
"""

from __future__ import annotations

import asyncio
import contextlib
import math
import os
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from election.core.backend import Grant, Refusal, SeatTiming, Snapshot, TermHistory, Worker, last_known_term
from election.core.clock import Clock, first, time_limit
from election.core.errors import SeatError
from election.core.process import ProcessIdentity
from election.core.term import LeaderRecord, Standing

from .address import Address
from .client import RedisClient
from .diagnostics import EVICTION_POLICY
from .lease import Lease, lease_for
from .monitor import RECORD, PoolMonitor
from .scripts import GRANT, PEEK

CAMPAIGN_SPREAD_S = 0.0002
"""Time per worker of the pool, over which the campaigns after a vacancy are spread against a thundering herd."""

SETTLE_HEARTBEATS = 2.0
"""Heartbeats that a winner waits if it finds neither a record nor an earlier term, so that a leader whose keys were
deleted detects that. After an earlier term, the winner waits for a lease: a stopped leader may trust it as long."""


@dataclass(frozen=True, slots=True)
class SeatState:
    """Reply of ``peek.lua``."""

    lease: str
    pttl: int
    record: str
    term: int
    beat_age_ms: int
    uptime_s: int
    policy: str
    fenced: int


class RedisBackend:
    """Implements ``election.core.backend.SeatBackend`` under the keys of a pool.

    Args:
        address: Server and keys of the pool.
        timing: Seconds, as in ``Election``.
        clock: Time of waits and of the lease.
        history: Another ledger, queried for earlier terms; None if the ledger is in the same server.
        durable: Whether a grant counts only when the disk, and the replicas that the server requires, have stored it.
    """

    doubt = None  # only a heartbeat finds a loss

    def __init__(
        self,
        address: Address,
        *,
        timing: SeatTiming,
        clock: Clock,
        history: TermHistory | None = None,
        durable: bool = False,
    ) -> None:
        self.pool = address.pool
        self._timing = timing
        self._clock = clock
        self._history = history
        self._lease_s = lease_for(timing.heartbeat)
        self._client = RedisClient(address, SeatError, durable=durable)
        self._monitor = PoolMonitor(self._client, address.prefix, clock, timing=timing, lease=self._lease_s)
        self._lease = Lease(self._client, self._monitor, address, clock, heartbeat=timing.heartbeat)
        self._process: ProcessIdentity | None = None
        self._id = ""
        self._lease_of_dead = ""
        self._retry_after: float | None = None
        self._problem: str | None = None

    async def open(self, worker: Worker) -> None:
        self._lease.forget()
        self._process = worker.process
        self._id = uuid.uuid4().hex
        self._monitor.open(worker)

    async def close(self) -> None:
        self._lease.keep_alive_if_held()
        await self._monitor.close()
        await self._client.close()
        self._process = None

    async def refresh(self) -> None:
        """See ``Engine.look``."""
        try:
            await self._monitor.refresh()
        finally:
            if self._process is None:
                await self._client.close()

    # --- the beginning of a term ------------------------------------------------------------------------------------

    async def attend(self) -> None:
        """Do nothing: the monitor writes this worker's presence."""

    async def report(self, problem: str | None) -> None:
        """Do nothing: who looks from outside meets the same server."""

    async def try_acquire(self) -> Grant | Refusal:
        self._retry_after = self._problem = None
        await self._lease.publish_end()
        grant = await self._judge()
        if isinstance(grant, Refusal) and self._history is not None:  # only a leader keeps a connection to it (P7)
            await self._history.close()
        return grant

    async def _judge(self) -> Grant | Refusal:
        """Read the state of the seat until it allows or forbids a term."""
        settled_at: float | None = None
        while True:
            asked = self._clock.monotonic()
            state = SeatState(*await self._client.run(PEEK))
            self._monitor.set_lease(state.lease, state.pttl, asked)
            self._monitor.set_record(state.record)
            record = self._monitor.record
            is_dead = record is not None and record.standing is Standing.LEADING and record.holder.is_surely_dead()
            self._lease_of_dead = record.seat_id if is_dead and record is not None else ""
            if state.lease and state.lease != self._lease_of_dead and not state.lease.startswith(f"{self._id}:"):
                if state.pttl == -1:
                    self._retry_after = self._lease_s
                    self._problem = "the lease has no expiry, because somebody has changed it: delete it with DEL"
                return Refusal.TAKEN
            if state.policy != "noeviction":
                raise SeatError(EVICTION_POLICY.format(state.policy))
            if state.uptime_s <= math.ceil(self._lease_s):
                wait = self._retry_after = math.ceil(self._lease_s) + 1.0 - state.uptime_s
                self._problem = f"the server has just started, and may have lost a lease: no election for {wait:g} s"
                return Refusal.NOT_YET
            if record is not None:
                return self._grant(state)
            if settled_at is None:
                settled_at = asked + await self._settle_s(state)
            if (left := settled_at - self._clock.monotonic()) <= 0:
                return self._grant(state)
            self._monitor.news.clear()
            await first(self._monitor.news.wait(), self._clock.sleep(left))

    async def _settle_s(self, state: SeatState) -> float:
        known = state.term or self._monitor.largest or (await last_known_term(self._history, None))[0]
        return self._lease_s if known else SETTLE_HEARTBEATS * self._timing.heartbeat

    def _grant(self, state: SeatState) -> Grant:
        before, last_term = self._monitor.last, max(state.term, self._monitor.largest)
        return Grant(
            f"{self._id}:{last_term + 1}",
            before,
            last_term,
            fenced=bool(state.fenced),
            died=before is not None and before.holder.is_known_dead(),
            silent_s=None if state.beat_age_ms < 0 else state.beat_age_ms / 1000,
        )

    async def reserve(self, number: int) -> None:
        """``publish`` writes number, lease and record in one script."""

    async def publish(self, record: LeaderRecord) -> bool:
        asked, lease_ms = self._clock.monotonic(), round(self._lease_s * 1000)
        text = RECORD.dump_json(record).decode()
        answer = await self._client.write(
            GRANT, record.seat_id, record.term, lease_ms, text, self._lease_of_dead or "-", self._id
        )
        if answer != "granted":
            return False
        self._monitor.set_record(text)
        self._monitor.set_lease(record.seat_id, lease_ms, asked)
        self._lease.begin(record, asked)
        return True

    # --- the term and its end ---------------------------------------------------------------------------------------

    def holds(self) -> bool:
        return self._lease.is_trusted()

    async def renew(self, record: LeaderRecord) -> None:
        await self._lease.renew(record)

    async def release(self, record: LeaderRecord | None) -> None:
        if record is not None:
            await self._lease.end(record)

    # --- following --------------------------------------------------------------------------------------------------

    async def wait_for_vacancy(self) -> None:
        monitor = self._monitor
        monitor.news.clear()
        if self._retry_after is not None:
            await self._news_within(self._retry_after)
        while True:
            record = monitor.record
            dead = record is not None and record.seat_id == monitor.lease and record.holder.is_surely_dead()
            if not dead and (left := monitor.lease_until - self._clock.monotonic()) > 0:
                holder = record.holder if record is not None and monitor.led else None
                with watch_local_leader(holder, monitor.news.set):
                    await self._news_within(left)
            elif not await self._news_within(self._timing.uniform(0, CAMPAIGN_SPREAD_S * len(monitor.workers()))):
                return

    async def _news_within(self, seconds: float) -> bool:
        """Wait for news; returns whether there were any."""
        try:
            async with time_limit(self._clock, seconds):
                await self._monitor.news.wait()
        except TimeoutError:
            return False
        self._monitor.news.clear()
        return True

    async def snapshot(self, max_age_s: float = 0.0) -> Snapshot:
        record, led = self._monitor.record, self._monitor.led
        if led and record is not None and record.holder == self._process:
            led = self.holds()
        problem = self._monitor.trouble if led else self._problem or self._monitor.trouble
        return Snapshot(record, led, self._monitor.heartbeat_age(), problem)

    async def workers(self) -> list[Worker]:
        return self._monitor.workers()


@contextlib.contextmanager
def watch_local_leader(process: ProcessIdentity | None, on_death: Callable[[], None]) -> Iterator[None]:
    """Call ``on_death`` at the death of a leader on this host, by its pidfd, while the scope is open.

    The death suffices to take the lease without waiting. Leaders that cannot be watched from here are ignored.
    """
    descriptor = _open_pidfd(process)
    if descriptor is None:
        if process is not None and process.is_surely_dead():  # meanwhile
            on_death()
        yield
        return
    loop = asyncio.get_running_loop()
    loop.add_reader(descriptor, on_death)
    try:
        yield
    finally:
        loop.remove_reader(descriptor)
        os.close(descriptor)


def _open_pidfd(process: ProcessIdentity | None) -> int | None:
    if process is None or process.pid == os.getpid() or not process.is_neighbour():
        return None
    try:
        descriptor = os.pidfd_open(process.pid)
    except (OSError, AttributeError):  # dead already, no descriptors left, or no Linux: the lease bounds the vacancy
        return None
    if process.is_alive():
        return descriptor
    os.close(descriptor)  # the pid was reused in between
    return None
