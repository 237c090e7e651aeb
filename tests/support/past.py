"""A past of several days in a ledger, for tests of its views."""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Iterable
from datetime import datetime, timedelta
from pathlib import Path

from election.core.process import current_process
from election.core.term import Reason, Takeover, Term
from election.engines.file.ledger import SqliteLedger
from election.engines.sql.values import to_us
from election.schedule.commands import Claim, Entry, FinishRun, RegisterJob, Skip
from election.schedule.model import Outcome, SkipReason, Tick

TOOK = timedelta(milliseconds=5)
"""Duration of each run."""


async def write_past(
    pool: Path, job_id: str, begin: datetime, runs: Iterable[tuple[datetime, Outcome]], skips: Iterable[datetime] = ()
) -> None:
    """Write a term that began at ``begin``, with runs of one job and ticks that were skipped, into a new pool."""
    pool.mkdir(mode=0o700)
    ledger = SqliteLedger(str(pool / "ledger.db"))
    await ledger.begin_term(Term(1, begin, Takeover(1, None, 1, Reason.STARTED, begin)), current_process())
    trigger = {"type": "date", "run_date": begin.isoformat()}
    entries: list[Entry] = [RegisterJob(job_id, trigger, begin, begin)]
    ticks = sorted([*runs, *[(due, None) for due in skips]], key=lambda tick: tick[0])  # no tick is settled later
    for due, outcome in ticks:
        if outcome is None:
            entries.append(Skip(job_id, due, due, 1, SkipReason.OVERLAP, due))
            continue
        tick = Tick(job_id, due)
        error = None if outcome is Outcome.SUCCEEDED else "ValueError: no luck"
        entries += [Claim(tick, due), FinishRun(tick, outcome, due + TOOK, error)]
    await ledger.record(1, entries)
    await ledger.close()


def add_runs(pool: Path, job_id: str, begin: datetime, end: datetime, *, runs: int, failed: int) -> None:
    """Add so many runs of a job to the ledger of a pool that nobody serves, spread evenly, so many of them failed.

    By one statement: a million in some seconds. The counters of ``/metrics`` are left as they are.
    """
    with contextlib.closing(sqlite3.connect(pool / "ledger.db")) as connection, connection:
        connection.execute(
            "INSERT INTO runs (job_id, due, request, term, claimed_at, ended_at, outcome, error)"
            " WITH RECURSIVE number(n) AS (SELECT 0 UNION ALL SELECT n + 1 FROM number WHERE n + 1 < :runs),"
            " run AS (SELECT :begin + n * :step AS due, n % :each = :each - 1 AS failed FROM number)"
            " SELECT :job_id, due, 0, 1, due, due + 5000, CASE WHEN failed THEN 'failed' ELSE 'succeeded' END,"
            " CASE WHEN failed THEN 'ValueError: no luck' END FROM run",
            {
                "runs": runs, "begin": to_us(begin), "step": to_us(end) // runs - to_us(begin) // runs,
                "each": runs // failed, "job_id": job_id,
            },
        )  # fmt: skip
