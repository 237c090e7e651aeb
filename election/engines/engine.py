"""What an engine is, to those who use one."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from election.core.seat import Seat


@dataclass(frozen=True, slots=True)
class Engine:
    """One way to elect: its name, the pool's name without secrets, and the seat.

    ``check`` raises ``ConfigurationError`` if the pool cannot be used, whoever would use it.
    """

    name: str
    pool: str
    seat: Seat
    check: Callable[[], None]
