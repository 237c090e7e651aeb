"""The Redis engine: a seat that is a lease, and a ledger of scripts, in one Redis or Valkey server.

Promises P1 for unexpired terms; P2, P3 and P4 as long as the server forgets nothing (docs/engines/redis.md).
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from election.core.backend import SeatTiming
from election.core.clock import Clock
from election.engines.engine import Engine, LedgerAdvice
from election.schedule.ledger import Ledger

from .address import Address, address_of
from .examine import examine
from .ground import check
from .ledger import RedisLedger
from .seat import RedisSeat

__all__ = ["RedisLedger", "RedisSeat", "redis_engine"]


def redis_engine(
    url: str,
    *,
    timing: SeatTiming,
    durable: bool,
    clock: Clock,
    ledger: Callable[[], Ledger] | None = None,
) -> Engine:
    """The Redis engine on the server and pool that ``url`` names. Does no I/O.

    fence_after: a leader that hangs loses its lease in any case; with this, its process ends as well. ledger: opens
    another ledger to use in place of the server's own. Raises ``ConfigurationError`` for a URL without meaning.
    """
    address = address_of(url)
    open_ledger = ledger or partial(RedisLedger, address, durable=durable, clock=clock)
    own = open_ledger()
    seat = RedisSeat(
        address,
        heartbeat=timing.heartbeat,
        safety_poll=timing.safety_poll,
        clock=clock,
        memory=own if ledger is not None else None,
        durable=durable,
    )

    def check_all() -> None:
        check(address, durable=durable)
        own.check()

    return Engine(
        name="redis",
        pool=address.pool,
        seat=seat,
        ledger=own,
        open_ledger=open_ledger,
        open_reader=open_ledger,
        examine=lambda: examine(address, durable=durable),
        hang_trace="-",
        check=check_all,
        look=seat.look,
        ledger_advice=_remedies(address),
    )


def _remedies(address: Address) -> LedgerAdvice:
    return LedgerAdvice(
        unreadable="no tick is run while it cannot be read; mend what the server complains of",
        damaged="nothing sets it aside: stop the pool, keep a copy of the server's data, and put right what is wrong in"
        f" the keys that begin with {address.prefix}",
        unaware="if the pool's ledger is kept in PostgreSQL, name it with --ledger; else the server has forgotten it",
    )
