"""What an engine is, to those who use one."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass

from election.core.finding import Finding
from election.core.seat import Seat
from election.core.term import LeaderRecord
from election.schedule.ledger import Ledger, LedgerReader


async def _nothing() -> None:
    """The seat of the file engine looks each time that it is asked."""


@dataclass(frozen=True, slots=True)
class Engine:
    """One way to elect: its name, the pool's name without secrets, the seat, and the ledger of whoever leads.

    ``open_ledger`` gives a ledger of its own, not opened yet, to whoever asks; ``look_at_ledger`` one that changes
    nothing. ``examine`` says what there is to say of the engine's own ground.
    ``look`` brings what the seat's ``observe`` and ``workers`` say up to date, for who does not take part; it raises
    ``SeatError`` if nobody can be asked.
    ``last_words``: the file for what a hung leader has to say at its end, ``-`` for standard error; None if none of its
    leaders is ever fenced.
    ``alarm`` returns when the seat that is held may be lost: the next heartbeat, which finds out, should not wait then.
    ``stirred`` returns when others have written to the ledger of whoever holds the seat; None if that is not known
    before one looks.
    ``evict`` takes the seat from a leader that hangs out of reach, in another container or on another host; it raises
    ``SeatError`` if it cannot. None where there is no such leader.
    ``check`` raises ``ConfigurationError`` if the pool cannot be used, whoever would use it.
    """

    name: str
    pool: str
    seat: Seat
    ledger: Ledger
    open_ledger: Callable[[], Ledger]
    look_at_ledger: Callable[[], LedgerReader]
    examine: Callable[[], Iterable[Finding]]
    last_words: str | None
    check: Callable[[], None]
    look: Callable[[], Awaitable[None]] = _nothing
    alarm: Callable[[], Awaitable[None]] | None = None
    stirred: Callable[[], Awaitable[None]] | None = None
    evict: Callable[[LeaderRecord], Awaitable[None]] | None = None
