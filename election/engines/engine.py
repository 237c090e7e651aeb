"""What an engine is, to those who use one."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass

from election.core.checks import CheckResult
from election.core.seat import Seat
from election.core.term import LeaderRecord
from election.schedule.ledger import Ledger, LedgerReader


async def _nothing() -> None:
    """The seat of the file engine looks each time that it is asked."""


def _no_words() -> str | None:
    """Nothing on this host tells whether there is a pool on a server."""


@dataclass(frozen=True, slots=True)
class LedgerAdvice:
    """What can be said, and done, about a ledger, in words.

    sound: of one that could be read. unreadable: if it cannot be. damaged: if it is damaged, or holds what no worker
    can have written. unaware: if it knows nothing of a term that was begun.
    """

    sound: str = "the ledger can be read"
    unreadable: str | None = None
    damaged: str | None = None
    unaware: str = "look again"


@dataclass(frozen=True, slots=True)
class Engine:
    """One way to elect: its name, the pool's name without secrets, the seat, and the ledger of whoever leads.

    ``open_ledger`` gives a ledger of its own, not opened yet, to whoever asks; ``open_reader`` one that changes
    nothing. ``examine`` says what there is to say of the engine's own ground.
    ``look`` brings what the seat's ``observe`` and ``workers`` say up to date, for who does not take part; it raises
    ``SeatError`` if nobody can be asked.
    ``hang_trace``: file for the traceback of a hung leader at its end, ``-`` for standard error; None if leaders are
    never fenced.
    ``alarm`` returns when the seat that is held may be lost: the next heartbeat, which finds out, should not wait then.
    ``wait_for_changes`` returns when others have written to the ledger of the seat's holder; None if only a look finds
    that out.
    ``evict`` takes the seat from a leader that hangs out of reach, in another container or on another host; it raises
    ``SeatError`` if it cannot. None where there is no such leader.
    ``check`` raises ``ConfigurationError`` if the pool cannot be used, whoever would use it.
    ``missing`` says in words that there is no pool, and ``closed`` that this user may not look at it; None if there may
    be one, and if it may be looked at, as far as this host tells.
    ``ledger_advice``: what to do about the ledger.
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
    look: Callable[[], Awaitable[None]] = _nothing
    alarm: Callable[[], Awaitable[None]] | None = None
    wait_for_changes: Callable[[], Awaitable[None]] | None = None
    evict: Callable[[LeaderRecord], Awaitable[None]] | None = None
    missing: Callable[[], str | None] = _no_words
    closed: Callable[[], str | None] = _no_words
    ledger_advice: LedgerAdvice = LedgerAdvice()
