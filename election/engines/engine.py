"""Engine interface: a seat, a ledger and their diagnostics."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass

from election.core.backend import DEFAULT_TIMING, SeatTiming
from election.core.checks import CheckResult
from election.core.seat import Seat
from election.core.term import LeaderRecord
from election.schedule.ledger import Ledger
from election.schedule.ledger_reader import LedgerReader

NO_SENTINELS = (
    "Redis Sentinel is not supported; name an address that always leads to the master (a virtual IP, a proxy such as"
    " HAProxy, a service): after a failover the workers connect anew within a lease"
)
"""Error message for a Sentinel URL, and for a server that is a sentinel."""


async def _no_refresh() -> None:
    """Default of ``Engine.look``: the seat reads the current state on each call."""


def _no_problem() -> str | None:
    """Default of ``Engine.missing`` and ``Engine.closed``: a server's pool cannot be examined from this host."""


@dataclass(frozen=True, slots=True)
class LedgerAdvice:
    """Texts about the state of a ledger, and what to do about it.

    Attributes:
        sound: The ledger could be read.
        unreadable: It cannot be read.
        damaged: It is damaged, or holds rows that no worker can have written.
        unaware: It lacks a term that was begun.
    """

    sound: str = "the ledger can be read"
    unreadable: str | None = None
    damaged: str | None = None
    unaware: str = "look again"


@dataclass(frozen=True, slots=True)
class Engine:
    """One way to elect a leader, and to keep a ledger.

    Attributes:
        name: Name of the engine.
        pool: Name of the pool without secrets.
        seat: Seat of this worker.
        ledger: Ledger of the leader.
        open_ledger: Returns a new ledger, not opened yet.
        open_reader: Returns a new ledger that changes nothing.
        examine: Yields the engine's results for ``doctor``.
        hang_trace: File for the traceback of a hung leader, ``-`` for standard error; None if leaders are never fenced.
        check: Raises ``ConfigurationError`` if no worker could use the pool.
        look: Refreshes the results of ``observe`` and ``workers``, without a time limit, for a process that does not
            take part; raises ``SeatError`` if the server cannot be reached.
        wait_for_changes: Returns when other processes have written to the leader's ledger; None if only polling helps.
        terminate: Takes the seat from a hung leader in another container or on another host; raises ``SeatError`` if
            it cannot. None where there is no such leader.
        missing: Returns a problem text if there is no pool; None if there may be one.
        closed: Returns a problem text if this user may not read the pool; None if it may.
        ledger_advice: Texts about the ledger.
        timing: Intervals that the seat was made with; the Election of the engine has the same.
    """

    name: str
    pool: str
    seat: Seat
    ledger: Ledger
    open_ledger: Callable[[], Ledger]
    open_reader: Callable[[], LedgerReader]
    examine: Callable[[], Iterable[CheckResult]]
    hang_trace: str | None
    check: Callable[[], None]
    look: Callable[[], Awaitable[None]] = _no_refresh
    wait_for_changes: Callable[[], Awaitable[None]] | None = None
    terminate: Callable[[LeaderRecord], Awaitable[None]] | None = None
    missing: Callable[[], str | None] = _no_problem
    closed: Callable[[], str | None] = _no_problem
    ledger_advice: LedgerAdvice = LedgerAdvice()
    timing: SeatTiming = DEFAULT_TIMING
