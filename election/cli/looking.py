"""Opening a pool to look at it: nothing is made, and a running pool does not notice."""

from __future__ import annotations

import os
from argparse import Namespace
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from election.core.errors import LedgerError, PoolPathError
from election.engines import Engine, open_engine
from election.schedule.ledger import LedgerReader


def engine_of(options: Namespace, *, readable: bool = True) -> Engine:
    """The engine of an existing pool. Raises ``PoolPathError`` if there is none: to look does not make one.

    readable: whether to raise it, too, if this user may not read the pool, which would look like a vacant one.
    """
    engine = open_engine(options.pool, heartbeat=0.5, safety_poll=1.0)
    if (text := missing(engine)) is not None:
        raise PoolPathError(text)
    if readable and engine.name == "file" and not os.access(engine.pool, os.R_OK | os.X_OK):
        raise PoolPathError(f"{engine.pool} cannot be read by this user; look as the user that the workers run as")
    return engine


def missing(engine: Engine) -> str | None:
    """In words, that there is no pool; None if there may be one."""
    if engine.name != "file" or os.path.isdir(engine.pool):
        return None
    what = "it is a file" if os.path.exists(engine.pool) else "nothing is there"
    return f"there is no pool at {engine.pool}: {what}; --pool takes the pool's directory"


@asynccontextmanager
async def reading(engine: Engine) -> AsyncIterator[LedgerReader]:
    """The ledger of the pool, to look at only. Raises ``LedgerError``."""
    ledger = engine.look_at_ledger()
    try:
        yield ledger
    except LedgerError as error:
        raise without_history(engine, error) from error
    finally:
        await ledger.close()


def without_history(engine: Engine, error: LedgerError) -> LedgerError:
    """The error in other words, where there is no ledger because nobody has led yet."""
    if never_led(engine):
        return LedgerError(f"{engine.pool} has never been led, as it seems, and so has no history: {error}")
    return error


def never_led(engine: Engine) -> bool:
    """Whether nobody has left a leader record in the pool's directory."""
    return engine.name == "file" and engine.seat.observe().record is None
