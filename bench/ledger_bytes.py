"""``python -m bench.ledger_bytes URL``: size of a run on the disk of PostgreSQL, or in the memory of Redis.

Ticks are claimed and settled by the ledger itself, so that the remains of updates are included. The pool at URL must be
new, on a server without other users.
"""

from __future__ import annotations

import argparse
import asyncio
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

from election.core.process import current_process
from election.engines import open_engine
from election.schedule.commands import Claim, Entry, FinishRun, RegisterJob
from election.schedule.ledger import Ledger
from election.schedule.model import Outcome, Tick

from .claims import first_term

ALONE = 200
"""Ticks that fall due alone, for counting transactions."""


async def measure(url: str, runs: int, jobs: int, burst: int) -> dict[str, float]:
    """Return the figures by name."""
    ledger = open_engine(url, heartbeat=0.5, safety_poll=1.0).open_ledger()
    look = _postgresql(url) if url.startswith("postgres") else _redis(url)
    start = datetime.now(UTC).replace(microsecond=0) - timedelta(seconds=runs / jobs + ALONE)
    names = [f"app.jobs:job_{number:02}" for number in range(jobs)]
    await ledger.begin_term(first_term(1, start), current_process())
    await ledger.record(1, [RegisterJob(name, {"type": "other"}, start, start) for name in names])
    empty = await asyncio.to_thread(look)
    began = time.monotonic()
    for first in range(0, runs, burst):
        numbers = range(first, min(first + burst, runs))
        ticks = [Tick(names[number % jobs], start + timedelta(seconds=1 + number // jobs)) for number in numbers]
        await _run(ledger, ticks)
    took = time.monotonic() - began
    full = await asyncio.to_thread(look)
    for number in range(ALONE):
        await _run(ledger, [Tick(names[0], start + timedelta(seconds=2 + runs // jobs + number))])
    after = await asyncio.to_thread(look)
    await ledger.close()
    each = {f"{what}, bytes a run": (full[what] - empty[what]) / runs for what in full if what != "transactions"}
    if "transactions" in full:
        each["transactions for a tick that falls due alone"] = (after["transactions"] - full["transactions"]) / ALONE
        each["log (WAL) for such a tick, bytes"] = (after["log (WAL)"] - full["log (WAL)"]) / ALONE
    return {**each, "it took, seconds": took}


async def _run(ledger: Ledger, ticks: list[Tick]) -> None:
    """Claim these ticks, 2 ms late, and settle them 3 ms later."""
    claims: list[Entry] = [Claim(tick, tick.due + timedelta(milliseconds=2)) for tick in ticks]
    assert all(await ledger.record(1, claims)), ticks[0]
    await ledger.record(1, [FinishRun(tick, Outcome.SUCCEEDED, tick.due + timedelta(milliseconds=5)) for tick in ticks])


def _postgresql(url: str) -> Callable[[], dict[str, float]]:
    import psycopg

    from election.engines.postgres.address import parse

    address = parse(url)

    def look() -> dict[str, float]:
        with psycopg.connect(address.url, autocommit=True) as connection:

            def one(query: str) -> Any:
                found = connection.execute(query.format(f'"{address.schema}".runs')).fetchone()
                assert found is not None
                return found[0]

            begun = "SELECT pg_snapshot_xmax(pg_current_snapshot())::text::bigint"  # those that wrote
            found = {"transactions": one(begun), "log (WAL)": one("SELECT pg_current_wal_lsn() - '0/0'")}
            found["before VACUUM"] = one("SELECT pg_total_relation_size('{}')")
            connection.execute(f'VACUUM "{address.schema}".runs')
            found["after VACUUM"] = one("SELECT pg_total_relation_size('{}')")
            found["its indexes"] = one("SELECT pg_indexes_size('{}')")
            return {what: float(value) for what, value in found.items()}

    return look


def _redis(url: str) -> Callable[[], dict[str, float]]:
    import redis

    from election.engines.redis.address import address_of

    def look() -> dict[str, float]:
        with redis.Redis.from_url(address_of(url).url) as client:
            return {"memory": float(client.info("memory")["used_memory"])}

    return look


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.ledger_bytes", description=__doc__)
    parser.add_argument("url", metavar="URL", help="of a new pool on PostgreSQL or Redis")
    parser.add_argument("--runs", type=int, default=1_000_000)
    parser.add_argument("--jobs", type=int, default=100)
    parser.add_argument("--burst", type=int, default=100, help="ticks that fall due together")
    options = parser.parse_args()
    found = asyncio.run(measure(options.url, options.runs, options.jobs, options.burst))
    for what, value in found.items():
        print(f"{what}: {value:.1f}")


if __name__ == "__main__":
    main()
