"""One try at the seat: how things stand is looked at, what follows is decided here, and one script makes it so (P2)."""

from __future__ import annotations

import logging
import math
from dataclasses import dataclass

from election.core.backend import TermHistory, last_known_term
from election.core.clock import Clock, first
from election.core.errors import SeatError
from election.core.process import ProcessIdentity
from election.core.term import LeaderRecord, Standing, Takeover, reason_after

from .ground import EVICTS
from .link import Link
from .scripts import GRANT, PEEK
from .sight import RECORD, Sight

log = logging.getLogger("election")

TRIES = 3
"""How often a number is worked out anew when somebody else has used it meanwhile."""


@dataclass(frozen=True, slots=True)
class NotWon:
    """The seat is not to be had. wait: seconds until it is worth another try; None if that is known from elsewhere."""

    somebody_leads: bool
    wait: float | None = None
    problem: str | None = None


@dataclass(frozen=True, slots=True)
class Stand:
    """How the seat stands, as ``peek.lua`` gives it."""

    lease: str
    pttl: int
    record: str
    term: int
    beat_age_ms: int
    uptime_s: int
    policy: str
    fenced: int


class Campaign:
    """Campaigns for one worker.

    lease: seconds. settle: seconds that a winner waits who finds no record and knows of no term, so that a leader whose
    keys were deleted has noticed. Who knows of one waits for a lease: that leader may stand still, and believe for as
    long. memory: see ``RedisSeat``.
    """

    def __init__(
        self, link: Link, sight: Sight, clock: Clock, *, lease: float, settle: float, memory: TermHistory | None
    ) -> None:
        self._link = link
        self._sight = sight
        self._clock = clock
        self._lease = lease
        self._settle = settle
        self._memory = memory
        self.granted_at = 0.0
        """When, by the monotonic clock, the last grant was asked for."""

    async def run(self, process: ProcessIdentity, own: str, *, followed: bool) -> LeaderRecord | NotWon:
        """The record of the term that was won, or why none was. own: this worker's id. Raises ``SeatError``."""
        settled_at: float | None = None
        tries = 0
        while tries < TRIES:
            asked = self._clock.monotonic()
            seen = Stand(*await self._link.run(PEEK))
            self._sight.saw(seen.lease, seen.pttl, asked)
            self._sight.told(seen.record)
            before, told = self._sight.last, self._sight.record
            proof = told.seat_id if told is not None and _left(told) else ""
            if seen.lease and seen.lease != proof and not seen.lease.startswith(f"{own}:"):
                endless = "the lease has no end: DEL it, somebody has tampered with it" if seen.pttl == -1 else None
                return NotWon(True, self._lease if endless else None, endless)
            if seen.policy != "noeviction":
                raise SeatError(EVICTS.format(seen.policy))
            if seen.uptime_s <= math.ceil(self._lease):
                wait = math.ceil(self._lease) + 1.0 - seen.uptime_s
                text = f"the server has just started, and may have forgotten a lease: no election for {wait:g} s"
                return NotWon(False, wait, text)
            if told is None:
                if settled_at is None:
                    known = seen.term or self._sight.largest or (await last_known_term(self._memory, None))[0]
                    settled_at = asked + (self._lease if known else self._settle)
                if (left := settled_at - self._clock.monotonic()) > 0:
                    self._sight.news.clear()
                    await first(self._sight.news.wait(), self._clock.sleep(left))
                    continue
            tries += 1
            record = await self._drafted(process, own, before, seen, followed)
            answer = await self._grant(record, proof, own)
            if answer == "granted":
                return record
            if answer == "held":
                return NotWon(True)
        return NotWon(True, 0.0)

    async def _drafted(
        self, process: ProcessIdentity, own: str, before: LeaderRecord | None, seen: Stand, followed: bool
    ) -> LeaderRecord:
        last, fenced = await last_known_term(self._memory, before)
        number = max(seen.term, self._sight.largest, last) + 1
        now = self._clock.now()
        died = before is not None and before.holder.is_known_dead()
        reason = reason_after(before, followed=followed, fenced=fenced or bool(seen.fenced), died=died)
        vacant = None if seen.beat_age_ms < 0 else seen.beat_age_ms / 1000
        if before is not None and before.ended_at is not None:
            vacant = max(0.0, round((now - before.ended_at).total_seconds(), 3))
        from_pid = before.holder.pid if before else None
        takeover = Takeover(number, from_pid, process.pid, reason, now, vacant_s=vacant if before else None)
        return LeaderRecord(number, process, f"{own}:{number}", now, takeover)

    async def _grant(self, record: LeaderRecord, proof: str, own: str) -> str:
        self.granted_at = self._clock.monotonic()
        text = RECORD.dump_json(record).decode()
        answer: str = await self._link.write(
            GRANT, record.seat_id, record.term, round(self._lease * 1000), text, proof or "-", own
        )
        if answer == "granted":
            self._sight.told(text)
            self._sight.saw(record.seat_id, round(self._lease * 1000), self.granted_at)
        return answer


def _left(record: LeaderRecord) -> bool:
    """Whether the record's holder is dead for certain, though its lease lasts."""
    return record.standing is Standing.LEADING and record.holder.is_known_dead()
