"""Background view of the pool, so that reads are served from memory (P8).

Two connections: one waits for published news (P7: a follower is idle meanwhile), one reads the state every safety poll,
in case news were lost, and writes this worker's presence.
"""

from __future__ import annotations

import asyncio
import contextlib
import uuid

from pydantic import TypeAdapter, ValidationError

from election.core.backend import SeatTiming, Worker, live_workers
from election.core.backoff import backoff_s
from election.core.clock import Clock, first
from election.core.errors import SeatError
from election.core.events import named
from election.core.logs import log
from election.core.process import ProcessIdentity
from election.core.term import LeaderRecord, Standing
from election.core.watched_task import NOT_WATCHED, WatchedTask

from .client import RedisClient
from .scripts import LEAVE, LOOK

RECORD = TypeAdapter(LeaderRecord)
_WORKER = TypeAdapter(Worker)

MIN_PRESENCE_INTERVAL_S = 2.0
"""Shortest interval between two writes of a worker's presence; after three missed ones it is no longer listed."""

RECONNECT_DELAY_S = 0.05
"""Delay before the first attempt to reach the server again."""

RECONNECT_MAX_DELAY_S = 1.0
"""Longest delay between two attempts to reach the server."""


class PoolMonitor:
    """State of one pool as followed by a background task.

    Args:
        client: Client of the server.
        prefix: Prefix of the pool's keys.
        clock: Time of waits.
        timing: Seconds, as in ``Election``.
        lease: Seconds that a lease lasts from a heartbeat on.
    """

    def __init__(self, client: RedisClient, prefix: str, clock: Clock, *, timing: SeatTiming, lease: float) -> None:
        self._client = client
        self._clock = clock
        self._prefix = prefix
        self._lease = lease
        self._timing = timing
        self._presence = max(MIN_PRESENCE_INTERVAL_S, timing.heartbeat)
        self._id = uuid.uuid4().hex
        self._worker: Worker | None = None
        self._workers: dict[ProcessIdentity, Worker] = {}
        self._task: WatchedTask | None = None
        self.news = asyncio.Event()
        """Set when something has changed; cleared by its waiter."""
        self.record: LeaderRecord | None = None
        self.last: LeaderRecord | None = None
        """Last record that was read, kept when the record is lost."""
        self.lease = ""
        """Lease at the last read; empty if there was none."""
        self.lease_until = float("-inf")
        """Monotonic time at which that lease ends, unless it is renewed."""
        self.largest = 0
        """Largest term number that this worker has seen (P2)."""
        self.trouble: str | None = None
        """Why the server cannot be reached; None if it can."""
        self._unreadable = ""
        self._updates = 0

    # --- life cycle -------------------------------------------------------------------------------------------------

    def open(self, worker: Worker) -> None:
        """Take part as ``worker``, and follow the news."""
        self._worker = worker
        self.news = asyncio.Event()  # for this event loop, which may be a new one
        self._task = WatchedTask(self._follow(), name="election monitor", on_death=self._died)

    async def close(self) -> None:
        """Remove this worker's presence, and stop following the news."""
        task, self._task = self._task, None
        if task is None or self._worker is None:
            return
        await task.stop()
        with contextlib.suppress(SeatError):
            await self._client.run(LEAVE, self._id, _WORKER.dump_json(self._worker).decode())
        self._worker = None

    def _died(self) -> None:
        self.trouble = f"the pool {NOT_WATCHED}"

    async def refresh(self, *, workers: bool = True) -> None:
        """Read the state once. Raises ``SeatError``."""
        began, updates = self._clock.monotonic(), self._updates
        if self._worker is None or not workers:
            arguments = ["", "", 0]
        else:
            arguments = [self._id, _WORKER.dump_json(self._worker).decode(), round(self._presence * 3500)]
        lease, pttl, record, listed = await self._client.run(LOOK, self.largest, *arguments)
        if self._updates == updates:  # else a newer update arrived before this answer
            self.set_lease(lease, pttl, began)
            self.set_record(record)
        if self._worker is None:
            listed = await self._client.read("HVALS", f"{self._prefix}workers")
        if listed:
            found = [worker for worker in map(_parse_worker, listed) if worker is not None]
            self._workers = {worker.process: worker for worker in found}

    # --- state ----------------------------------------------------------------------------------------------------

    def set_lease(self, lease: str, pttl: int, at: float) -> None:
        """Use the lease that the server returned for a request of ``at`` (monotonic).

        Args:
            lease: Value of the lease; empty if there is none.
            pttl: Milliseconds that it lasts; -1 without an end.
            at: When it was requested.
        """
        changed = lease != self.lease
        self.lease = lease
        self.lease_until = at + pttl / 1000 if lease and pttl >= 0 else float("-inf") if not lease else at + self._lease
        if changed:
            self.news.set()

    def set_record(self, text: str) -> None:
        """Use the record that the server returned; empty if there is none."""
        self._updates += 1
        record = self._parse(text)
        if record != self.record:
            self.record = record
            if record is not None:
                self.last, self.largest = record, max(self.largest, record.term)
            self.news.set()

    def _parse(self, text: str) -> LeaderRecord | None:
        try:
            return RECORD.validate_json(text) if text else None
        except ValidationError:
            if text != self._unreadable:
                log.warning(
                    "the leader record in the server cannot be read, so it is ignored: %s",
                    text[:200],
                    extra=named("record_unreadable"),
                )
            self._unreadable = text
            return None

    @property
    def led(self) -> bool:
        """Whether a worker leads; False when in doubt."""
        record = self.record
        return (
            record is not None
            and record.standing is Standing.LEADING
            and self.lease == record.seat_id
            and self._clock.monotonic() < self.lease_until
            and not record.holder.is_surely_dead()
        )

    def heartbeat_age(self) -> float:
        """Seconds since the last observed heartbeat."""
        return max(0.0, self._clock.monotonic() - (self.lease_until - self._lease))

    def workers(self) -> list[Worker]:
        """Live workers, oldest first."""
        own = [] if self._worker is None else [self._worker]
        return live_workers([*own, *self._workers.values()])

    # --- following --------------------------------------------------------------------------------------------------

    async def _follow(self) -> None:
        failures = 0
        while True:
            try:
                with self._client.translated_errors():
                    async with self._client.driver.pubsub(ignore_subscribe_messages=True) as pubsub:
                        names = {name: f"{self._prefix}{name}" for name in ("news", "joined", "left")}
                        with self._client.translated_errors():  # a cancelled subscription must not go on
                            await pubsub.subscribe(*names.values())
                        await self.refresh()  # covers news before the subscription
                        if self.trouble is not None:
                            log.info("the state of the pool can be read again", extra=named("monitor_recovered"))
                        failures, self.trouble = 0, None
                        listening = asyncio.create_task(self._listen(pubsub))
                        try:
                            await self._poll(listening)
                        finally:
                            listening.cancel()
                            await asyncio.gather(listening, return_exceptions=True)
            except SeatError as error:
                failures += 1
                self.trouble = str(error)
                if failures == 1:
                    log.warning("the state of the pool cannot be read: %s", self.trouble, extra=named("monitor_failed"))
            except Exception:
                failures += 1
                log.exception("the monitor of the pool failed, and is started again", extra=named("monitor_crashed"))
            delay = backoff_s(RECONNECT_DELAY_S, failures, RECONNECT_MAX_DELAY_S)
            await self._clock.sleep(delay * self._timing.uniform(0.5, 1.0))

    async def _listen(self, pubsub: object) -> None:
        async for message in pubsub.listen():  # type: ignore[attr-defined]
            self._on_message(message["channel"].removeprefix(self._prefix), message["data"])

    async def _poll(self, listening: asyncio.Task[None]) -> None:
        """Read the state every safety poll for as long as the subscription lasts."""
        presence = self._clock.monotonic() + self._presence
        while True:
            await first(asyncio.wait([listening]), self._clock.sleep(self._timing.jittered(self._timing.safety_poll)))
            if listening.done():
                listening.result()
                raise SeatError("the server has closed the connection")
            due = self._clock.monotonic() >= presence
            await self.refresh(workers=due)
            if due:
                presence = self._clock.monotonic() + self._presence

    def _on_message(self, channel: str, text: str) -> None:
        if channel == "news":
            record = self._parse(text)
            if record is None or (self.record is not None and _age(record) < _age(self.record)):
                return  # a read has returned a newer record
            self.set_record(text)
            leads = record.standing is Standing.LEADING
            self.set_lease(record.seat_id if leads else "", round(self._lease * 1000), self._clock.monotonic())
            return
        worker = _parse_worker(text)
        if worker is None:
            return
        if channel == "joined":
            self._workers[worker.process] = worker
        else:
            self._workers.pop(worker.process, None)


def _parse_worker(text: str) -> Worker | None:
    """The worker of an entry; None for one that another program has written."""
    try:
        return _WORKER.validate_json(text)
    except ValidationError:
        return None


def _age(record: LeaderRecord) -> tuple[int, bool]:
    """Sort key of records by term and end."""
    return record.term, record.standing is not Standing.LEADING
