"""Complete record of a finished run, as values: the input of the judge and the picture."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from election.core.errors import LedgerError
from election.engines import open_engine
from election.schedule.history import RunRow, SkipRow, TermRow
from election.schedule.ledger_reader import LedgerReader
from election.schedule.verify import Violation, verify

from .facts import Fact
from .kinds import POISONED, SETTINGS, Ends, Kind, Setting
from .poller import Sample
from .standstills import Standstill

SECOND = 10**9

STARTING = 15.0
"""Seconds that a pool may take if, when the fault hit, no other worker could take over."""


@dataclass(frozen=True, slots=True)
class Injected:
    """A fault that happened. at, until: nanoseconds since boot, when it began and when its cause was really over.

    pid, term: its worker, and the term at that time. others: number of workers that could have taken over. missed: why
    it did not happen, if it did not.
    """

    kind: str
    at: int
    until: int
    pid: int | None = None
    term: int | None = None
    others: int = 0
    missed: str | None = None
    engine: str = "file"

    @property
    def of(self) -> Kind:
        return self._setting.kinds[self.kind]

    @property
    def _setting(self) -> Setting:
        return SETTINGS[self.engine]

    @property
    def allowance(self) -> float:
        """Seconds for which it may keep the pool from its ticks."""
        lasts = (self.until - self.at) / SECOND
        waits = 0.0 if self.others or not self.of.limit else STARTING
        fence = self._setting.fence_after if self.of.needs_fence else 0.0
        return self.of.limit + lasts + waits + fence

    def as_obeyed(self, facts: Sequence[Fact]) -> Injected:
        """The fault with the time at which the worker carried it out, if it was ordered."""
        if not self.of.ordered:
            return self
        obeyed = (fact.at for fact in facts if fact.event == "order" and fact.pid == self.pid and fact.at >= self.at)
        at = next(obeyed, self.at)
        return replace(self, at=at, until=self.until + at - self.at)

    @property
    def may_be_fenced(self) -> bool:
        """Whether a leader could appear to hang: a heartbeat may have been due when it began."""
        return self.pid is not None and self.until - self.at > (self._setting.fence_after - 1) * SECOND

    def may_end(self, how: Ends) -> bool:
        """Whether it may end a term in that way."""
        return how in self.of.ends or (how is Ends.DIED and self.may_be_fenced)

    def tells_within(self, begin: int, end: int) -> bool:
        """Whether it may explain a missing event between two times."""
        reach = self.until + int((self.allowance + self.of.lingers) * SECOND)
        return self.missed is None and self.at <= end and reach >= begin


@dataclass(frozen=True, slots=True)
class History:
    """since, until: times between which every tick is owed; ..._ns: the same since boot.

    verified: violations found by the ledger's own ``verify``. trouble: failures of the run itself, such as a pool that
    did not recover. unnoticed: faults that the pool, or a copy of it, did not report. left: processes left behind.
    tracebacks: number in the log. standstills: times in which the machine was late for everybody.
    """

    facts: Sequence[Fact]
    samples: Sequence[Sample]
    faults: Sequence[Injected]
    terms: Sequence[TermRow]
    runs: Sequence[RunRow]
    skips: Sequence[SkipRow]
    since: datetime
    until: datetime
    since_ns: int
    until_ns: int
    verified: Sequence[Violation] = ()
    trouble: Sequence[str] = ()
    unnoticed: Sequence[str] = ()
    left: Sequence[str] = ()
    tracebacks: int = 0
    engine: str = "file"
    standstills: Sequence[Standstill] = ()

    @property
    def happened(self) -> list[Injected]:
        return [fault for fault in self.faults if fault.missed is None]

    @property
    def away(self) -> list[Injected]:
        """Faults during which the ledger could not be written."""
        return [fault for fault in self.happened if fault.of.away]

    @property
    def setting(self) -> Setting:
        return SETTINGS[self.engine]


async def read_ledger(pool: Path | str) -> dict[str, Any]:
    """Read everything in the ledger of a stopped pool: ``terms``, ``runs``, ``skips`` and ``verified``.

    pool: URL or directory of its ledger.
    """
    ledger = open_engine(pool, heartbeat=0.5, safety_poll=1.0).open_reader()
    try:
        report = await verify(ledger, now=datetime.now(UTC))
        verified = [
            *report.violations,
            *(Violation("P4", f"{job} was not checked") for job in report.unchecked if not job.startswith(POISONED)),
        ]
        return {
            "terms": await _terms(ledger),
            "runs": await _pages(ledger.runs),
            "skips": await _pages(ledger.skips),
            "verified": verified,
        }
    except LedgerError as error:
        return {"terms": [], "runs": [], "skips": [], "verified": [Violation("P4", f"the ledger is lost: {error}")]}
    finally:
        await ledger.close()


async def _terms(ledger: LedgerReader) -> list[TermRow]:
    rows: list[TermRow] = []
    while page := await ledger.terms(before=rows[-1].term if rows else None, limit=1000):
        rows += page
    return rows[::-1]


async def _pages(read: Any) -> list[Any]:
    """All rows, oldest first, page by page."""
    rows: list[Any] = []
    while page := await read(before=rows[-1].seq if rows else None, limit=1000):
        rows += page
    return rows[::-1]
