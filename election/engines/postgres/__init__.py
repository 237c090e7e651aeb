"""The PostgreSQL engine: the workers of many hosts contend for an advisory lock of a server that they use already.

Promises P2–P8, and P1 for as long as a term may be trusted; see ``seat`` and docs/engines/postgresql.md.
"""

from __future__ import annotations

from collections.abc import Callable

from election.core.clock import Clock
from election.core.errors import ConfigurationError
from election.engines.engine import Engine
from election.schedule.ledger import Ledger

__all__ = ["postgres_engine"]


def postgres_engine(
    url: str,
    *,
    heartbeat: float,
    safety_poll: float,
    fence_after: float | None,
    durable: bool,
    clock: Clock,
    ledger: Callable[[], Ledger] | None = None,
) -> Engine:
    """The PostgreSQL engine on the database that ``url`` names. Does no I/O.

    url: as the driver takes it; ``?pool=`` and ``?schema=`` are ours. ledger: makes another ledger to use instead.
    Raises ``ConfigurationError`` for a URL without meaning, and without the driver.
    """
    try:
        from .address import parse
        from .examine import examine
        from .ground import Ground
        from .ledger import PostgresLedger
        from .seat import PostgresSeat
        from .session import driver_options
    except ImportError as error:
        raise ConfigurationError(
            f"the PostgreSQL engine needs psycopg 3 ({error}); install election[postgres]"
        ) from error

    address = parse(url)
    driver_options(address.url)
    ground = Ground(address)
    elsewhere = ledger() if ledger is not None else None
    seat = PostgresSeat(
        address,
        ground,
        heartbeat=heartbeat,
        safety_poll=safety_poll,
        clock=clock,
        memory=elsewhere,
        fence_after=fence_after,
    )

    def check() -> None:
        ground.check()
        if elsewhere is not None:
            elsewhere.check()

    return Engine(
        name="postgresql",
        pool=address.pool,
        seat=seat,
        ledger=elsewhere or PostgresLedger(address, durable=durable),
        open_ledger=ledger or (lambda: PostgresLedger(address, durable=durable)),
        look_at_ledger=ledger or (lambda: PostgresLedger(address, look_only=True)),
        examine=lambda: examine(address),
        last_words=None,
        check=check,
    )
