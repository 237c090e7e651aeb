"""Cost of queries in a large ledger: the same queries on two pools, one with a long history."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import json
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path

from election.core.process import current_process
from election.engines.file.ledger import SqliteLedger
from election.schedule.commands import Claim, FinishRun, RegisterJob
from election.schedule.ledger_writer import LedgerWriter
from election.schedule.model import Outcome, Tick
from election.schedule.verify import verify

from .claims import first_term
from .history import FAILS, write_history
from .pool import Pool
from .report import Cell, Table, p50

SMALL = 1_000

PAGES = {
    "/leader": "/leader",
    "/leader/runs": "/leader/runs",
    "/leader/runs of one job": "/leader/runs?job=job-07",
    "/leader/runs by tag": "/leader/runs?tag=one",
    "/leader/runs that failed": "/leader/runs?outcome=failed",
    "/leader/live, 5 minutes": "/leader/live/data",
    "/leader/live, all of it": "/leader/live/data?since=0",
    "/metrics": "/metrics",
}

BETWEEN = 0.5
"""Seconds between two rounds of queries, so that no cached answer is returned."""

VERIFY = "verify, µs a tick"

PRUNED = 50
"""Rows that are removed at a time: the small ledger does not have more each time."""

PRUNE = f"prune, {PRUNED} rows"


@dataclass(slots=True)
class Sizes:
    """Milliseconds by (query, runs in the ledger). wrote_s: seconds to write each ledger; megabytes: its size."""

    took: dict[tuple[str, int], list[float]] = field(default_factory=dict)
    wrote_s: dict[int, float] = field(default_factory=dict)
    megabytes: dict[int, float] = field(default_factory=dict)

    def add(self, what: str, runs: int, ms: float) -> None:
        self.took.setdefault((what, runs), []).append(ms)


def sizes(directory: Path, *, large: int, rounds: int) -> Sizes:
    """Query pools with ``SMALL`` and with ``large`` runs in turn, then their ledgers."""
    found = Sizes()
    for runs in (large, SMALL):
        began = time.monotonic()
        (directory / str(runs) / "state").mkdir(parents=True, mode=0o700)
        write_history(_ledger(directory, runs), runs)
        found.wrote_s[runs] = time.monotonic() - began
        found.megabytes[runs] = _ledger(directory, runs).stat().st_size / 1e6
    _ask_pools(found, directory, large, rounds)
    asyncio.run(_ask_ledgers(found, directory, large, rounds))
    return found


def _ask_pools(found: Sizes, directory: Path, large: int, rounds: int) -> None:
    for _ in range(max(3, rounds // 4)):  # a term each
        for runs in (SMALL, large):
            with Pool("aged", directory / str(runs), workers=1) as pool:
                pool.whole()
                found.add("takeover, as it tells", runs, _takeover_ms(pool))
    with contextlib.ExitStack() as scope:
        pools = {runs: scope.enter_context(Pool("aged", directory / str(runs), workers=1)) for runs in (SMALL, large)}
        for pool in pools.values():
            pool.whole()
            _takeover_ms(pool)
        for _ in range(rounds):
            for what, path in PAGES.items():
                for runs, pool in pools.items():
                    began = time.perf_counter()
                    pool.get(path)
                    found.add(what, runs, (time.perf_counter() - began) * 1e3)
            time.sleep(BETWEEN)


def _takeover_ms(pool: Pool) -> float:
    def told() -> float | None:
        with contextlib.suppress(OSError):
            taken = json.loads(pool.get("/leader"))["last_takeover"]
            return None if taken is None else taken["takeover_ms"]
        return None

    return pool.until(told)


async def _ask_ledgers(found: Sizes, directory: Path, large: int, rounds: int) -> None:
    for runs in (SMALL, large):
        look = SqliteLedger(str(_ledger(directory, runs)), look_only=True)
        began = time.perf_counter()
        report = await verify(look, now=datetime.now(UTC))
        found.add(VERIFY, runs, (time.perf_counter() - began) * 1e6 / report.ticks)
        assert not report.violations, report.violations[:3]
        assert report.ticks >= runs, (report.ticks, runs)
        await look.close()
    for runs in (SMALL, large):
        await _write(found, SqliteLedger(str(_ledger(directory, runs))), runs, rounds)


async def _write(found: Sizes, ledger: SqliteLedger, runs: int, rounds: int) -> None:
    """The writes of a leader."""
    now = datetime.now(UTC)
    term = (await ledger.latest_terms()).begun
    for turn in range(rounds):
        begin = functools.partial(ledger.begin_term, first_term(term + turn + 1, now), current_process())
        await _timed(found, "begin_term", runs, begin)
    term += rounds
    await ledger.record(term, [RegisterJob("another", {"type": "other"}, now, now)])
    books = LedgerWriter(ledger, term, is_held=lambda: True, on_failure=_fails, on_stale=_fails)
    for turn in range(rounds * 5):
        tick = Tick("another", now + timedelta(seconds=turn + 1))
        await _timed(found, "claim and settle", runs, functools.partial(_claim_and_settle, books, tick))
    for _ in range(rounds):
        await _timed(found, PRUNE, runs, functools.partial(ledger.prune, now - timedelta(seconds=10), PRUNED))
    await ledger.close()


async def _claim_and_settle(books: LedgerWriter, tick: Tick) -> None:
    assert await books.claim([Claim(tick, tick.due)]) == [True]
    books.append(FinishRun(tick, Outcome.SUCCEEDED, tick.due))
    await books.close()


async def _timed(found: Sizes, what: str, runs: int, asked: Callable[[], Awaitable[object]]) -> None:
    began = time.perf_counter()
    await asked()
    found.add(what, runs, (time.perf_counter() - began) * 1e3)


def sizes_table(found: Sizes) -> Table:
    """Each question to both."""
    large = max(runs for _, runs in found.took)
    rows: list[list[Cell]] = []
    for what in dict.fromkeys(what for what, _ in found.took):
        small, much = found.took[what, SMALL], found.took[what, large]
        rows.append([what, len(much), p50(small), p50(much), max(much), f"{p50(much) / p50(small):.2f}×"])
    return Table(
        f"A ledger of {large:,} runs, beside one of {SMALL:,}",
        ["what", "n", f"p50, {SMALL:,} (ms)", f"p50, {large:,} (ms)", "max (ms)", "ratio"],
        rows,
        note=f"The large one is {found.megabytes[large]:.0f} MB, with 100 jobs; one run in {FAILS:,} has failed."
        " `verify` looks at each tick, so what is told of it is the time for one.",
    )


def _ledger(directory: Path, runs: int) -> Path:
    return directory / str(runs) / "state" / "ledger.db"


def _fails(error: Exception) -> None:
    raise error
