"""``python -m election migrate``: copies a pool's whole history from one engine to another."""

from __future__ import annotations

import contextlib
import os
from argparse import Namespace
from datetime import UTC, datetime

from election.core.errors import ElectionError
from election.engines import Engine, open_engine
from election.engines.file.database import SqliteDatabase
from election.engines.sql.database import Database
from election.engines.sql.store import SqlStore
from election.engines.sql.transfer import transfer
from election.schedule.ledger_reader import LedgerReader
from election.schedule.verify import verify

from .show import Progress, show_json


async def migrate(options: Namespace) -> int:
    """Copy, compare and verify; 1 if the copied history breaks a promise."""
    source, target = (open_engine(pool, heartbeat=0.5, safety_poll=1.0) for pool in (options.source, options.target))
    if (text := source.missing()) is not None:
        raise ElectionError(text)
    reader, writer = source.open_reader(), target.ledger
    origin, copy = reader.store, writer.store
    if not isinstance(origin, SqlStore) or not isinstance(copy, SqlStore):
        raise ElectionError("only pools whose ledger is in a file or in PostgreSQL can be moved with their history")
    if source.pool == target.pool or _is_one_file(origin.database, copy.database):
        raise ElectionError(
            f"a pool cannot be moved into itself: {source.pool} and {target.pool} have the same ledger, so nothing was"
            " copied; choose another target"
        )
    for engine in (source, target):
        await _refuse_if_in_use(engine)
    target.check()
    async with Progress("checking both pools") as progress:
        try:
            await _refuse_if_behind(source, reader)
            counts = await transfer(
                origin.database, copy.database, lambda table, rows: progress.update(f"{table}: {rows} rows")
            )
            await _refuse_if_behind(source, reader)
            progress.update("verifying the copy")
            report = await verify(writer, now=datetime.now(UTC))
        finally:
            await reader.close()
            await writer.close()
    for engine in (source, target):
        await _refuse_if_in_use(engine)
    if options.json:
        show_json({"rows": counts, "violations": report.violations})
    else:
        for violation in report.violations:
            print(f"{violation.promise}: {violation.text}")
        print(", ".join(f"{rows} {table}" for table, rows in counts.items()))
        print(
            f"{target.pool} has the history of {source.pool} now; start the workers on {target.pool}, never here again"
        )
    return 1 if report.violations else 0


async def _refuse_if_in_use(engine: Engine) -> None:
    if engine.missing() is not None:
        return
    await engine.look()
    if (await engine.seat.observe()).led or await engine.seat.workers():
        raise ElectionError(f"workers take part in {engine.pool}: stop them first, so that the history does not change")


def _is_one_file(first: Database, second: Database) -> bool:
    """Whether both ledgers are one file, whatever links or mounts lead to it."""
    if not isinstance(first, SqliteDatabase) or not isinstance(second, SqliteDatabase):
        return False
    with contextlib.suppress(OSError):
        return os.path.samefile(first.path, second.path)
    return False  # there is none yet


async def _refuse_if_behind(source: Engine, reader: LedgerReader) -> None:
    """Refuse a ledger that lacks the latest term, whose number would be used again elsewhere (P2), and one whose leader
    has its seat elsewhere and may still write."""
    record = (await source.seat.observe()).record
    latest = next(iter(await reader.terms(limit=1)), None)
    if record is not None and record.term > (latest.term if latest else 0):
        raise ElectionError(
            f"{source.pool} was led in term {record.term}, which its ledger does not have: let a worker lead the pool"
            " once more, so that the ledger is up to date"
        )
    if record is None and latest is not None and latest.ended_at is None:
        raise ElectionError(
            f"term {latest.term} in the ledger of {source.pool} has not ended, and its leader is not known here: if the"
            " ledger is that of a pool on Redis (ledger=), stop its workers; if they are stopped, let a worker lead the"
            " pool once more and stop it, so that the term ends"
        )
