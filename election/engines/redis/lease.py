"""Lease of a leader: its trust, its renewal and its end.

The leader trusts the lease until the start of the last heartbeat that the server has answered + lease - margin, by the
monotonic clock. The server began to count later, so it grants the lease to no other worker before
(docs/pitfalls.md#32).
"""

from __future__ import annotations

import contextlib
import threading
import time
from typing import Any

from redis import Redis
from redis.exceptions import RedisError

from election.core.clock import Clock, time_limit
from election.core.errors import SeatError, SeatLostError
from election.core.events import named
from election.core.logs import log
from election.core.term import LeaderRecord

from .address import Address
from .client import RedisClient
from .monitor import RECORD, PoolMonitor
from .scripts import RELEASE, RENEW

_LOST = {
    "taken": "another worker has the lease",
    "gone": "the lease is gone: somebody has deleted it, or the server has lost it",
    "ended": "another worker has led since",
    "overtaken": "the server has a record of a later term",
}


def lease_for(heartbeat: float) -> float:
    """Seconds that a lease lasts from a heartbeat on: six heartbeats, so that some may fail, and three at least."""
    return max(3.0, 6 * heartbeat)


def trust_for(heartbeat: float) -> float:
    """Seconds for which its holder trusts a lease. The margin covers clock drift, and the delay of a heartbeat."""
    return 0.9 * lease_for(heartbeat) - heartbeat


class Lease:
    """Lease of one worker, from a grant to a release.

    Args:
        client: Client of the server.
        monitor: View of the pool, updated with each answer.
        address: Server and keys, for a thread that outlives the event loop.
        clock: Time of the lease.
        heartbeat: Seconds, as in ``Election``.
    """

    def __init__(
        self, client: RedisClient, monitor: PoolMonitor, address: Address, clock: Clock, *, heartbeat: float
    ) -> None:
        self._client = client
        self._monitor = monitor
        self._address = address
        self._clock = clock
        self._heartbeat = heartbeat
        self._lease_ms = round(lease_for(heartbeat) * 1000)
        self._trust = trust_for(heartbeat)
        self._until = float("-inf")
        self._lost: str | None = None
        self._record: LeaderRecord | None = None
        self._unpublished_end: LeaderRecord | None = None

    def begin(self, record: LeaderRecord, asked_at: float) -> None:
        """Trust the lease from ``asked_at`` (monotonic), when it was requested."""
        self._record, self._lost, self._until = record, None, asked_at + self._trust

    def forget(self) -> None:
        """Reset in a forked child: the lease belongs to the parent."""
        self._record = self._unpublished_end = None

    def is_trusted(self) -> bool:
        """Whether the lease is held for certain."""
        return self._record is not None and self._lost is None and self._clock.monotonic() < self._until

    async def renew(self, record: LeaderRecord) -> None:
        """Renew the lease, and publish ``record``. Raises ``SeatLostError`` once it is lost, ``SeatError``."""
        self._record = record
        began = self._clock.monotonic()
        trusted = self._lost is None and began < self._until
        try:
            async with time_limit(self._clock, self._until - began if trusted else self._heartbeat):
                answer = await self._client.run(RENEW, *self._renewal(record))
        except (TimeoutError, SeatError) as error:
            if self._clock.monotonic() >= self._until:
                self._lose(f"it could not be renewed in time: {str(error) or 'no answer'}")
            if self._lost is None:
                raise
        else:
            if not trusted:
                self._lose("it was not renewed in time, and another worker may have had it meanwhile")
            elif answer != "ours":
                self._lose(_LOST[answer])
            else:
                self._until = began + self._trust
                self._monitor.set_record(_to_json(record))
                self._monitor.set_lease(record.seat_id, self._lease_ms, began)
        if self._lost is not None:
            raise SeatLostError(self._lost)

    async def end(self, over: LeaderRecord) -> None:
        """Publish how the term ended, and delete the lease. Never raises: the lease ends by itself."""
        self._record, self._unpublished_end = None, over
        try:
            await self.publish_end()
        except SeatError as error:
            log.warning(
                "the seat could not be released, and is free when its lease expires: %s",
                error,
                extra=named("release_failed"),
            )

    async def publish_end(self) -> None:
        """Publish the end of our last term, unless that is done or a later one has begun. Raises ``SeatError``."""
        if (over := self._unpublished_end) is None:
            return
        answer = await self._client.run(RELEASE, over.seat_id, _to_json(over))
        self._unpublished_end = None
        if answer == "released":
            self._monitor.set_record(_to_json(over))
            self._monitor.set_lease("", 0, self._clock.monotonic())

    def keep_alive_if_held(self) -> None:
        """Renew a held lease in a thread until this process ends, because job code still runs (P5)."""
        if self._record is None:
            return
        url, prefix, interval = self._address.url, self._address.prefix, self._lease_ms / 1000 / 6
        arguments = self._renewal(self._record)

        def renew() -> None:
            client = Redis.from_url(url)
            while True:
                with contextlib.suppress(RedisError, OSError):
                    client.eval(RENEW.text, 1, f"{prefix}term", prefix, *arguments)
                time.sleep(interval)

        threading.Thread(target=renew, name="election-lease", daemon=True).start()

    def _renewal(self, record: LeaderRecord) -> list[Any]:
        return [record.seat_id, record.term, self._lease_ms, _to_json(record)]

    def _lose(self, why: str) -> None:
        self._lost = self._lost or f"the lease of the pool: {why}"


def _to_json(record: LeaderRecord) -> str:
    return RECORD.dump_json(record).decode()
