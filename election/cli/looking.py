"""Opening a pool to look at it: nothing is made, and a running pool does not notice."""

from __future__ import annotations

import os
from argparse import Namespace
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from election.core.errors import LedgerError, PoolPathError
from election.engines import Engine, open_engine
from election.schedule.ledger import LedgerReader


def engine_of(options: Namespace) -> Engine:
    """The engine of an existing pool. Raises ``PoolPathError`` if there is none: to look does not make one."""
    engine = open_engine(options.pool, heartbeat=0.5, safety_poll=1.0)
    if engine.name == "file" and not os.path.isdir(engine.pool):
        what = "it is a file" if os.path.exists(engine.pool) else "nothing is there"
        raise PoolPathError(f"there is no pool at {engine.pool}: {what}; --pool takes the pool's directory")
    return engine


@asynccontextmanager
async def reading(engine: Engine) -> AsyncIterator[LedgerReader]:
    """The ledger of the pool, to look at only. Raises ``LedgerError``."""
    ledger = engine.look_at_ledger()
    try:
        yield ledger
    except LedgerError as error:
        if never_led(engine):
            raise LedgerError(
                f"{engine.pool} has never been led, as it seems, and so has no history: {error}"
            ) from error
        raise
    finally:
        await ledger.close()


def never_led(engine: Engine) -> bool:
    """Whether nobody has left a leader record in the pool."""
    return engine.seat.observe().record is None
