"""What one worker sees of its pool: kept in memory by a task, so that questions are answered at once (P8).

Two connections: one waits for news (P7: a follower does nothing meanwhile), one looks every safety poll, for news that
did not come through, and says now and then that this worker is there.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
import uuid
from datetime import datetime

from pydantic import TypeAdapter, ValidationError

from election.core.clock import Clock, first
from election.core.errors import SeatError
from election.core.events import named
from election.core.process import ProcessIdentity
from election.core.seat import Worker
from election.core.term import LeaderRecord, Standing

from .link import Link
from .scripts import LEAVE, LOOK

log = logging.getLogger("election")

RECORD = TypeAdapter(LeaderRecord)
_WORKER = TypeAdapter(Worker)

PRESENCE = 2.0
"""Seconds between two signs that a worker is there, at least; after three missed ones it is no longer listed."""

RETRY_AT_MOST = 1.0
"""Seconds between two tries to reach the server."""


class Sight:
    """Follows the news of one pool.

    lease: seconds that a lease lasts from a heartbeat on. heartbeat, safety_poll: seconds.
    """

    def __init__(
        self, link: Link, prefix: str, clock: Clock, *, lease: float, heartbeat: float, safety_poll: float
    ) -> None:
        self._link = link
        self._clock = clock
        self._prefix = prefix
        self._lease = lease
        self._safety_poll = safety_poll
        self._presence = max(PRESENCE, heartbeat)
        self._id = uuid.uuid4().hex
        self._worker: Worker | None = None
        self._workers: dict[ProcessIdentity, Worker] = {}
        self._task: asyncio.Task[None] | None = None
        self.news = asyncio.Event()
        """Set when something has changed; cleared by whoever waits for it."""
        self.record: LeaderRecord | None = None
        self.last: LeaderRecord | None = None
        """The last record that there was: one that is lost is no reason to forget who led."""
        self.lease = ""
        """The lease as it was seen last: the holder's, or empty."""
        self.until = float("-inf")
        """When the lease that was seen ends, by the monotonic clock, unless it is renewed."""
        self.largest = 0
        """The largest number of a term that this worker knows of (P2)."""
        self.trouble: str | None = None
        self._unreadable = ""

    # --- its life ---------------------------------------------------------------------------------------------------

    def begin(self, process: ProcessIdentity, now: datetime) -> None:
        """Take part as ``process`` since ``now``, and follow the news."""
        self._worker = Worker(process, now)
        self.news = asyncio.Event()  # for this event loop, which may be another than last time
        self._task = asyncio.create_task(self._follow(), name="election sight")

    async def end(self) -> None:
        """Say that this worker leaves, and follow no more news."""
        task, self._task = self._task, None
        if task is None or self._worker is None:
            return
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        with contextlib.suppress(SeatError):
            await self._link.run(LEAVE, self._id, _WORKER.dump_json(self._worker).decode())
        self._worker = None

    async def look(self, *, workers: bool = True) -> None:
        """Look once. Raises ``SeatError``."""
        began = self._clock.monotonic()
        if self._worker is None or not workers:
            arguments = ["", "", 0]
        else:
            arguments = [self._id, _WORKER.dump_json(self._worker).decode(), round(self._presence * 3500)]
        lease, pttl, record, listed = await self._link.run(LOOK, self.largest, *arguments)
        self.saw(lease, pttl, began)
        self.told(record)
        if self._worker is None:
            listed = await self._link.read("HVALS", f"{self._prefix}workers")
        if listed:
            found = map(_WORKER.validate_json, listed)
            self._workers = {worker.process: worker for worker in found}

    # --- what is seen -----------------------------------------------------------------------------------------------

    def saw(self, lease: str, pttl: int, at: float) -> None:
        """The server said that of the lease when it was asked at ``at``."""
        changed = lease != self.lease
        self.lease = lease
        self.until = at + pttl / 1000 if lease and pttl >= 0 else float("-inf") if not lease else at + self._lease
        if changed:
            self.news.set()

    def told(self, text: str) -> None:
        """The server has this record, or none."""
        record = self._parsed(text)
        if record != self.record:
            self.record = record
            if record is not None:
                self.last, self.largest = record, max(self.largest, record.term)
            self.news.set()

    def _parsed(self, text: str) -> LeaderRecord | None:
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
        """Whether somebody leads, as far as is known; when in doubt, no."""
        record = self.record
        return (
            record is not None
            and record.standing is Standing.LEADING
            and self.lease == record.seat_id
            and self._clock.monotonic() < self.until
            and not record.holder.is_known_dead()
        )

    def heartbeat_age(self) -> float:
        """Seconds since the last heartbeat that is known of."""
        return max(0.0, self._clock.monotonic() - (self.until - self._lease))

    def workers(self) -> list[Worker]:
        """The live workers, oldest first."""
        own = [] if self._worker is None else [self._worker]
        listed = [*own, *self._workers.values()]
        found = {worker.process: worker for worker in listed if not worker.process.is_known_dead()}
        return sorted(found.values(), key=lambda worker: (worker.started_at, worker.process.pid))

    # --- following --------------------------------------------------------------------------------------------------

    async def _follow(self) -> None:
        failures = 0
        while True:
            try:
                with self._link.describe_error():
                    async with self._link.client.pubsub(ignore_subscribe_messages=True) as pubsub:
                        names = {name: f"{self._prefix}{name}" for name in ("news", "joined", "left")}
                        with (
                            self._link.describe_error()
                        ):  # by itself: whoever is cancelled in it is not to go on to the rest
                            await pubsub.subscribe(*names.values())
                        await self.look()  # for what was said before somebody listened
                        if self.trouble is not None:
                            log.info("the pool can be heard again", extra=named("monitor_recovered"))
                        failures, self.trouble = 0, None
                        listening = asyncio.create_task(self._listen(pubsub))
                        try:
                            await self._look_again(listening)
                        finally:
                            listening.cancel()
                            await asyncio.gather(listening, return_exceptions=True)
            except SeatError as error:
                failures += 1
                self.trouble = str(error)
                if failures == 1:
                    log.warning("no news of the pool: %s", self.trouble, extra=named("monitor_failed"))
            except Exception:
                failures += 1
                log.exception("what the server says of the pool cannot be followed", extra=named("monitor_crashed"))
            await self._clock.sleep(min(0.05 * 2.0 ** min(failures, 10), RETRY_AT_MOST) * random.uniform(0.5, 1.0))

    async def _listen(self, pubsub: object) -> None:
        async for message in pubsub.listen():  # type: ignore[attr-defined]
            self._heard(message["channel"].removeprefix(self._prefix), message["data"])

    async def _look_again(self, listening: asyncio.Task[None]) -> None:
        """Look every safety poll for as long as the news are heard."""
        presence = self._clock.monotonic() + self._presence
        while True:
            await first(asyncio.wait([listening]), self._clock.sleep(self._safety_poll * random.uniform(0.8, 1.2)))
            if listening.done():
                listening.result()
                raise SeatError("the server has closed the connection")
            due = self._clock.monotonic() >= presence
            await self.look(workers=due)
            if due:
                presence = self._clock.monotonic() + self._presence

    def _heard(self, channel: str, text: str) -> None:
        if channel == "news":
            record = self._parsed(text)
            if record is None or (self.record is not None and _age(record) < _age(self.record)):
                return  # a look was quicker
            self.told(text)
            leads = record.standing is Standing.LEADING
            self.saw(record.seat_id if leads else "", round(self._lease * 1000), self._clock.monotonic())
            return
        worker = _WORKER.validate_json(text)
        if channel == "joined":
            self._workers[worker.process] = worker
        else:
            self._workers.pop(worker.process, None)


def _age(record: LeaderRecord) -> tuple[int, bool]:
    """Orders what is said of a pool's terms."""
    return record.term, record.standing is not Standing.LEADING
