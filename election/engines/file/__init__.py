"""File engine: the workers of one host contend for a flock on a file in their pool directory.

Promises on one host, even when processes die, hang or fork: P1, P2, P6, P7 (reasons in docs/decisions/).
"""

from __future__ import annotations

from election.core.backend import SeatTiming
from election.core.clock import Clock
from election.core.seat import Seat
from election.engines.engine import Engine, LedgerAdvice

from .backend import FileBackend
from .diagnostics import examine
from .directory import PoolDirectory
from .ledger import SqliteLedger
from .stalled_writer import StalledWriter

__all__ = ["FileBackend", "PoolDirectory", "file_engine"]

_LEDGER_ADVICE = LedgerAdvice(
    sound="the ledger is whole",
    unreadable="a leader begins a new ledger where there is none, and sets a corrupt one aside; to save what is in it,"
    " stop the pool and copy the file before that",
    damaged="stop the pool and keep a copy of the file; a leader that finds it corrupt sets it aside and goes on",
    unaware="the next leader begins a new ledger, if somebody has removed it",
)


def file_engine(
    path: str,
    *,
    timing: SeatTiming,
    allow_network_fs: bool,
    durable: bool,
    clock: Clock,
) -> Engine:
    """File engine on the directory ``path``. Does no I/O but to make the path absolute."""
    directory = PoolDirectory(path, allow_network_fs=allow_network_fs)
    stalled_writer = StalledWriter(directory, after=timing.fence_after) if timing.fence_after else None
    ledger = SqliteLedger(directory.ledger, durable=durable, keeper=True, stalled_writer=stalled_writer, clock=clock)
    backend = FileBackend(directory, timing=timing, clock=clock)
    seat = Seat(backend, clock=clock, safety_poll=timing.safety_poll, history=ledger)

    def check() -> None:
        directory.check()
        if not seat.is_taken_here():  # closing a file drops all locks of the process on it, and so SQLite's
            ledger.check()

    return Engine(
        name="file",
        pool=directory.path,
        seat=seat,
        ledger=ledger,
        open_ledger=lambda: SqliteLedger(directory.ledger, durable=durable, clock=clock),
        open_reader=lambda: SqliteLedger(directory.ledger, look_only=True, clock=clock),
        examine=lambda: examine(directory),
        hang_trace=directory.hang_trace,
        check=check,
        look=backend.refresh,
        timing=timing,
        missing=directory.missing,
        closed=directory.closed,
        ledger_advice=_LEDGER_ADVICE,
    )
