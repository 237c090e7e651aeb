"""The PostgreSQL engine: the workers of many hosts contend for an advisory lock of a server that they use already.

Promises P2–P8, and P1 for as long as a term may be trusted; see ``seat`` and docs/engines/postgresql.md.
"""

from __future__ import annotations

from election.core.clock import Clock
from election.engines.engine import Engine, LedgerAdvice

from .address import parse
from .evict import evictor
from .examine import examine
from .ground import Ground
from .ledger import PostgresLedger
from .seat import PostgresSeat
from .session import driver_options

__all__ = ["postgres_engine"]


def postgres_engine(
    url: str,
    *,
    heartbeat: float,
    safety_poll: float,
    fence_after: float | None,
    durable: bool,
    clock: Clock,
) -> Engine:
    """The PostgreSQL engine on the database that ``url`` names. Does no I/O.

    url: as the driver takes it; ``?pool=`` and ``?schema=`` are ours.
    Raises ``ConfigurationError`` for a URL without meaning.
    """
    address = parse(url)
    driver_options(address.url)
    ground = Ground(address)
    timing = {"heartbeat": heartbeat, "safety_poll": safety_poll}
    ledger = PostgresLedger(address, ground, durable=durable, clock=clock)
    seat = PostgresSeat(address, ground, **timing, clock=clock, fence_after=fence_after, ledger=ledger)
    return Engine(
        name="postgresql",
        pool=address.pool,
        seat=seat,
        ledger=ledger,
        open_ledger=lambda: PostgresLedger(address, ground, durable=durable, clock=clock),
        open_reader=lambda: PostgresLedger(address, ground, look_only=True, clock=clock),
        examine=lambda: examine(address),
        hang_trace="-",
        check=ground.check,
        look=seat.look,
        alarm=seat.alarm,
        wait_for_changes=seat.wait_for_changes,
        evict=evictor(address),
        ledger_advice=LedgerAdvice(
            unreadable="no tick is run while it cannot be read; mend what the server complains of",
            damaged="nothing sets it aside: stop the pool, keep a copy of its schema"
            f" (pg_dump --schema={address.schema}), and put right what is wrong in the tables",
            unaware="somebody has emptied its tables",
        ),
    )
