"""Redis engine: a seat that is a lease, and a ledger of scripts, in one Redis or Valkey server.

Promises P1 for unexpired terms; P2, P3 and P4 as long as the server loses no data (docs/engines/redis.md).
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from election.core.backend import SeatTiming
from election.core.clock import Clock
from election.core.seat import Seat
from election.engines.engine import Engine, LedgerAdvice
from election.schedule.ledger import Ledger

from .address import Address, address_of
from .backend import RedisBackend
from .diagnostics import check, examine
from .store import RedisLedger

__all__ = ["RedisBackend", "RedisLedger", "redis_engine"]


def redis_engine(
    url: str,
    *,
    timing: SeatTiming,
    durable: bool,
    clock: Clock,
    ledger: Callable[[], Ledger] | None = None,
) -> Engine:
    """Redis engine on the server and pool that ``url`` names. Does no I/O.

    Args:
        url: Server, database and pool.
        timing: Seconds, as in ``Election``. A leader that hangs loses its lease in any case; with ``fence_after``, its
            process ends as well.
        durable: Whether each claim waits for the disk and the replicas.
        clock: Time of terms and waits.
        ledger: Returns another ledger to use in place of the server's own.

    Raises:
        ConfigurationError: The URL is invalid.
    """
    address = address_of(url)
    open_ledger = ledger or partial(RedisLedger, address, durable=durable, clock=clock)
    own = open_ledger()
    history = own if ledger is not None else None
    backend = RedisBackend(address, timing=timing, clock=clock, history=history, durable=durable)

    def check_all() -> None:
        check(address, durable=durable)
        own.check()

    return Engine(
        name="redis",
        pool=address.pool,
        seat=Seat(backend, clock=clock, safety_poll=timing.safety_poll, history=history),
        ledger=own,
        open_ledger=open_ledger,
        open_reader=open_ledger,
        examine=lambda: examine(address, durable=durable),
        hang_trace="-",
        check=check_all,
        look=backend.refresh,
        timing=timing,
        ledger_advice=_ledger_advice(address),
    )


def _ledger_advice(address: Address) -> LedgerAdvice:
    return LedgerAdvice(
        unreadable="no tick is run while it cannot be read; fix the error that the server reports",
        damaged="nothing sets it aside: stop the pool, keep a copy of the server's data, and put right what is wrong in"
        f" the keys that begin with {address.prefix}",
        unaware="if the pool's ledger is kept in PostgreSQL, name it with --ledger; else the server has lost it",
    )
