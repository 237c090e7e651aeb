"""PostgreSQL engine: the workers of many hosts contend for an advisory lock of a server that they use already.

Promises P2–P8, and P1 for as long as a term may be trusted; see ``backend`` and docs/engines/postgresql.md.
"""

from __future__ import annotations

from functools import partial

from election.core.backend import SeatTiming
from election.core.clock import Clock
from election.core.seat import Seat
from election.engines.engine import Engine, LedgerAdvice

from .address import parse
from .advisory_lock import terminate_leader
from .backend import PostgresBackend
from .connection import driver_options
from .diagnostics import examine
from .ledger import PostgresLedger
from .preflight import Preflight

__all__ = ["postgres_engine"]


def postgres_engine(
    url: str,
    *,
    timing: SeatTiming,
    durable: bool,
    clock: Clock,
) -> Engine:
    """PostgreSQL engine on the database that ``url`` names. Does no I/O.

    Args:
        url: URL of the driver; ``?pool=`` and ``?schema=`` are ours.
        timing: Seconds, as in ``Election``.
        durable: Whether each claim waits for the disk.
        clock: Time of waits.

    Raises:
        ConfigurationError: The URL is invalid.
    """
    address = parse(url)
    driver_options(address.url)
    preflight = Preflight(address)
    ledger = PostgresLedger(address, preflight, durable=durable, clock=clock)
    backend = PostgresBackend(address, preflight, ledger, timing=timing, clock=clock)
    return Engine(
        name="postgresql",
        pool=address.pool,
        seat=Seat(backend, clock=clock, safety_poll=timing.safety_poll),
        ledger=ledger,
        open_ledger=lambda: PostgresLedger(address, preflight, durable=durable, clock=clock),
        open_reader=lambda: PostgresLedger(address, preflight, look_only=True, clock=clock),
        examine=lambda: examine(address),
        hang_trace="-",
        check=preflight.check,
        look=backend.refresh,
        timing=timing,
        wait_for_changes=backend.wait_for_changes,
        terminate=partial(terminate_leader, address),
        ledger_advice=LedgerAdvice(
            unreadable="no tick is run while it cannot be read; fix the error that the server reports",
            damaged="nothing sets it aside: stop the pool, keep a copy of its schema"
            f" (pg_dump --schema={address.schema}), and put right what is wrong in the tables",
            unaware="somebody has emptied its tables",
        ),
    )
