"""Access to an existing pool: creates nothing, and does not disturb a running pool."""

from __future__ import annotations

import os
import pwd
import socket
from argparse import Namespace
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from election.core.errors import LedgerError, PoolPathError, SeatError, UnknownJobError
from election.core.seat import Observation
from election.engines import Engine, open_engine
from election.schedule.ledger import Ledger
from election.schedule.ledger_reader import LedgerReader


def engine_of(options: Namespace, *, readable: bool = True) -> Engine:
    """The engine of an existing pool. Raises ``PoolPathError`` if there is none: a command creates no pool.

    readable: whether to raise also if this user may not read the pool, which would look like a vacant one.
    """
    engine = open_engine(options.pool, heartbeat=0.5, safety_poll=1.0, ledger=options.ledger)
    if (text := engine.missing() or (engine.closed() if readable else None)) is not None:
        raise PoolPathError(text)
    return engine


@asynccontextmanager
async def reading(engine: Engine) -> AsyncIterator[LedgerReader]:
    """The ledger of the pool, read only. Raises ``LedgerError``, also if the ledger is empty."""
    ledger = engine.open_reader()
    try:
        if (text := await without_history(engine, ledger)) is not None:
            raise LedgerError(text)
        yield ledger
    finally:
        await ledger.close()


@asynccontextmanager
async def changing(engine: Engine) -> AsyncIterator[Ledger]:
    """The ledger of a pool, to change it. Raises ``LedgerError`` if nobody has led: a command creates no pool."""
    async with reading(engine):
        pass
    ledger = engine.open_ledger()
    try:
        yield ledger
    finally:
        await ledger.close()


def identity(options: Namespace) -> str:
    """Identity of the user of the command line, for the audit trail: ``--by``, or user@host.

    With sudo, also who has called it: a pool is private to the user of its workers, as whom everybody calls it then.
    """
    if options.by is not None:
        return str(options.by)
    uid = os.getuid()
    try:
        name = pwd.getpwuid(uid).pw_name
    except KeyError:  # in a container, a user may have no name
        name = f"uid {uid}"
    caller = os.environ.get("SUDO_USER", "")
    return f"{caller} as {name}@{socket.gethostname()}" if caller else f"{name}@{socket.gethostname()}"


async def refuse_unknown(ledger: LedgerReader, job_id: str | None) -> None:
    """Raise ``UnknownJobError`` for a job that the pool has never had; None is no particular job."""
    if job_id is not None and not await ledger.find_jobs([job_id]):
        raise UnknownJobError(f"there is no job {job_id!r} in this pool; python -m election jobs lists all")


async def without_history(engine: Engine, ledger: LedgerReader) -> str | None:
    """Text why there is no history; None if there is some. Raises ``LedgerError`` if that cannot be read."""
    try:
        if await ledger.terms(limit=1):
            return None
    except LedgerError as error:
        raise LedgerError(await explained(engine, error)) from error
    try:
        seen = await _observed(engine)
    except SeatError as error:
        raise LedgerError(str(error)) from error
    record = seen.record
    if record is None and seen.problem is not None:
        raise LedgerError(seen.problem)
    if record is None:
        return _NEVER.format(engine.pool)
    if record.takeover.takeover_ms is None:
        return None  # its leader is about to begin the term there
    text = f"{engine.pool} was led in term {record.term}, which its ledger does not have"
    return f"{text}; {engine.ledger_advice.unaware}"


async def explained(engine: Engine, error: LedgerError) -> str:
    """Text of the error, with an explanation if there is no ledger because nobody has led yet."""
    return f"{_NEVER.format(engine.pool)}: {error}" if await never_led(engine) else str(error)


async def never_led(engine: Engine) -> bool:
    """Whether there is no leader record; False if that cannot be read."""
    try:
        seen = await _observed(engine)
    except SeatError:
        return False
    return seen.record is None and seen.problem is None and engine.closed() is None


async def _observed(engine: Engine) -> Observation:
    await engine.look()
    return await engine.seat.observe()


_NEVER = "{} has never been led, as it seems, and so has no history"
