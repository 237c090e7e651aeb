"""A leader's own hold of its lease: for how long it may believe in it, and how it ends.

It believes until the start of its last heartbeat that the server has answered + lease - margin, by the monotonic clock:
the server, which began to count later, gives the lease to nobody before (docs/pitfalls.md#32).
"""

from __future__ import annotations

import logging
from dataclasses import replace
from typing import Any

from election.core.clock import Clock, time_limit
from election.core.errors import SeatError, SeatLostError
from election.core.events import named
from election.core.term import LeaderRecord, Standing, Term

from .link import Link
from .scripts import RELEASE, RENEW
from .sight import RECORD, Sight

log = logging.getLogger("election")

_LOST = {
    "taken": "another worker has the lease",
    "gone": "the lease is gone: somebody has deleted it, or the server has forgotten it",
    "ended": "somebody else has led since",
    "overtaken": "the server knows of a later term",
}


def lease_for(heartbeat: float) -> float:
    """Seconds that a lease lasts from a heartbeat on: six of them, so that some may fail, and three at least."""
    return max(3.0, 6 * heartbeat)


def trust_for(heartbeat: float) -> float:
    """Seconds for which its holder believes in it. The margin is for clocks that drift, and for a heartbeat's delay."""
    return 0.9 * lease_for(heartbeat) - heartbeat


class Tenure:
    """From a grant to a release. ``heartbeat``: seconds."""

    def __init__(self, link: Link, sight: Sight, clock: Clock, *, heartbeat: float) -> None:
        self._link = link
        self._sight = sight
        self._clock = clock
        self._heartbeat = heartbeat
        self._lease_ms = round(lease_for(heartbeat) * 1000)
        self._trust = trust_for(heartbeat)
        self._term: Term | None = None
        self._until = float("-inf")
        self._lost: str | None = None
        self.record: LeaderRecord | None = None
        """What the pool is to be told; None without a term."""
        self._untold: LeaderRecord | None = None

    def begin(self, record: LeaderRecord, asked_at: float) -> Term:
        """The lease was granted when it was asked for at ``asked_at``, by the monotonic clock."""
        self.record, self._lost, self._until = record, None, asked_at + self._trust
        self._term = Term(record.term, record.elected_at, record.takeover)
        return self._term

    def forget(self) -> None:
        """In a forked child: what there is, is the parent's."""
        self._term = self.record = self._untold = None

    def held(self) -> Term | None:
        """The term, for as long as it is to be believed in."""
        return self._term if self._lost is None and self._clock.monotonic() < self._until else None

    async def say(self, **changes: Any) -> None:
        """Change the record, and renew the lease. Raises ``SeatLostError`` once it is lost, ``SeatError``."""
        assert self.record is not None
        self.record = replace(self.record, **changes)
        began = self._clock.monotonic()
        trusted = self._lost is None and began < self._until
        try:
            async with time_limit(self._clock, self._until - began if trusted else self._heartbeat):
                answer = await self._link.run(RENEW, *self.renewal())
        except (TimeoutError, SeatError) as error:
            if self._clock.monotonic() >= self._until:
                self._lose(f"it could not be renewed in time: {error or 'no answer'}")
            if self._lost is None:
                raise
        else:
            if not trusted:
                self._lose("it was not renewed in time, and may have been another's meanwhile")
            elif answer != "ours":
                self._lose(_LOST[answer])
            else:
                self._until = began + self._trust
                self._sight.told(_json(self.record))
                self._sight.saw(self.record.seat_id, self._lease_ms, began)
        if self._lost is not None:
            raise SeatLostError(self._lost)

    def renewal(self) -> list[Any]:
        """What a renewal says after the keys' prefix."""
        assert self.record is not None
        return [self.record.seat_id, self.record.term, self._lease_ms, _json(self.record)]

    async def end(self, standing: Standing) -> None:
        """Say how the term ended, and give the lease up. Never raises: it ends by itself."""
        assert self.record is not None
        self._untold = replace(self.record, standing=standing, ended_at=self._clock.now())
        self._term = self.record = None
        try:
            await self.tell_end()
        except SeatError as error:
            log.warning(
                "the seat could not be given up, and is free when its lease ends: %s",
                error,
                extra=named("release_failed"),
            )

    async def tell_end(self) -> None:
        """Tell the pool how our last term ended, if it was not told yet, and no later one has begun. Raises
        ``SeatError``."""
        if (over := self._untold) is None:
            return
        answer = await self._link.run(RELEASE, over.seat_id, _json(over))
        self._untold = None
        if answer == "released":
            self._sight.told(_json(over))
            self._sight.saw("", 0, self._clock.monotonic())

    def _lose(self, why: str) -> None:
        self._lost = self._lost or f"the lease of the pool: {why}"


def _json(record: LeaderRecord) -> str:
    return RECORD.dump_json(record).decode()
