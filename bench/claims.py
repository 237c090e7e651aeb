"""Claim and settlement of one tick, beside the floor: the same rows written by plain sqlite3."""

from __future__ import annotations

import asyncio
import random
import sqlite3
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from election.core.process import current_process
from election.core.term import Reason, Takeover, Term
from election.engines.file.ledger import SqliteLedger
from election.schedule.commands import Claim, FinishRun, RegisterJob
from election.schedule.ledger_writer import LedgerWriter
from election.schedule.model import Outcome, Tick

from .report import Cell, Table, p50, spread

SEED = 20261123
AT_ONCE = 25
"""Ticks that one system settles before the next one's turn."""

FLOOR = "bare sqlite3"


@dataclass(frozen=True, slots=True)
class Claims:
    """Milliseconds of a claim and of its settlement, in order, by (system, durable)."""

    claim: dict[tuple[str, bool], list[float]]
    settle: dict[tuple[str, bool], list[float]]


def claims(directory: Path, *, ticks: int) -> Claims:
    """Measure both, durable and not, in turn."""
    directory.mkdir(parents=True)
    return asyncio.run(_claims(directory, ticks))


async def _claims(directory: Path, ticks: int) -> Claims:
    found = Claims({}, {})
    shuffled = random.Random(SEED)
    async with _ours(directory / "no.db", False) as one, _ours(directory / "yes.db", True) as other:
        floors = {durable: _Floor(directory / f"floor-{durable}.db", durable) for durable in (False, True)}
        books = {False: one, True: other}
        for turn in range(ticks // AT_ONCE):
            for durable in shuffled.sample([False, True], 2):
                for name in shuffled.sample(["election", FLOOR], 2):
                    for number in range(turn * AT_ONCE + 1, (turn + 1) * AT_ONCE + 1):
                        if name == FLOOR:
                            took = floors[durable].tick(number)
                        else:
                            took = await _tick(books[durable], number)
                        found.claim.setdefault((name, durable), []).append(took[0])
                        found.settle.setdefault((name, durable), []).append(took[1])
    return found


@asynccontextmanager
async def _ours(path: Path, durable: bool) -> AsyncIterator[LedgerWriter]:
    ledger = SqliteLedger(str(path), durable=durable)
    now = datetime.now(UTC)
    await ledger.begin_term(first_term(1, now), current_process())
    await ledger.record(1, [RegisterJob("job", {"type": "other"}, now, now - timedelta(days=1))])
    yield LedgerWriter(ledger, 1, is_held=lambda: True, on_failure=_fails, on_stale=_fails)
    await ledger.close()


def first_term(number: int, now: datetime) -> Term:
    """A term of this process."""
    return Term(number, now, Takeover(number, None, current_process().pid, Reason.STARTED, now))


async def _tick(books: LedgerWriter, number: int) -> tuple[float, float]:
    now = datetime.now(UTC)
    tick = Tick("job", now)
    began = time.perf_counter()
    granted = await books.claim([Claim(tick, now)])
    claimed = time.perf_counter()
    books.append(FinishRun(tick, Outcome.SUCCEEDED, now))
    await books.close()
    ended = time.perf_counter()
    assert granted == [True], number
    return (claimed - began) * 1e3, (ended - claimed) * 1e3


class _Floor:
    """The row of a run, and the job's ``settled_until``: two transactions per tick."""

    def __init__(self, path: Path, durable: bool) -> None:
        self._connection = sqlite3.connect(path, isolation_level=None)
        self._connection.execute("PRAGMA journal_mode=WAL")
        self._connection.execute(f"PRAGMA synchronous={'FULL' if durable else 'NORMAL'}")
        self._connection.execute("CREATE TABLE jobs (id TEXT PRIMARY KEY, settled_until INTEGER) WITHOUT ROWID")
        self._connection.execute("CREATE TABLE runs (job_id TEXT, due INTEGER, outcome TEXT, ended_at INTEGER)")
        self._connection.execute("CREATE UNIQUE INDEX one_claim_per_tick ON runs (job_id, due)")
        self._connection.execute("INSERT INTO jobs VALUES ('job', 0)")

    def tick(self, number: int) -> tuple[float, float]:
        return self._timed(self._claim, number), self._timed(self._settle, number)

    def _claim(self, number: int) -> None:
        self._connection.execute("UPDATE jobs SET settled_until = ? WHERE id = 'job'", (number,))
        self._connection.execute("INSERT INTO runs (job_id, due) VALUES ('job', ?)", (number,))

    def _settle(self, number: int) -> None:
        self._connection.execute(
            "UPDATE runs SET outcome = 'succeeded', ended_at = 1 WHERE job_id = 'job' AND due = ?", (number,)
        )

    def _timed(self, write: Callable[[int], None], number: int) -> float:
        began = time.perf_counter()
        self._connection.execute("BEGIN IMMEDIATE")
        write(number)
        self._connection.execute("COMMIT")
        return (time.perf_counter() - began) * 1e3


def claims_table(found: Claims) -> Table:
    """Table of claim, settlement, and both."""
    rows: list[list[Cell]] = []
    for durable in (False, True):
        floor = p50(_both(found, FLOOR, durable))
        for name in ("election", FLOOR):
            both = _both(found, name, durable)
            claim, settle = p50(found.claim[name, durable]), p50(found.settle[name, durable])
            rows.append(["yes" if durable else "no", name, *spread(both), claim, settle, f"{p50(both) / floor:.1f}×"])
    return Table(
        "Claim and settle of one tick, in a transaction each",
        ["durable", "", "n", "p50 ms", "p99 ms", "max ms", "claim p50", "settle p50", "p50 : floor"],
        rows,
    )


def _both(found: Claims, name: str, durable: bool) -> list[float]:
    return [a + b for a, b in zip(found.claim[name, durable], found.settle[name, durable], strict=True)]


def _fails(error: Exception) -> None:
    raise error
