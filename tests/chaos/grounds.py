"""The ground of a pool in a chaos run: its place, a view of its workers, and faults from outside."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Protocol

Undo = Callable[[], object]
"""Ends a fault. A float that it returns is the seconds after which it is to be called again: it has not ended yet.
Raises ``UnnoticedError``."""

Injury = Callable[[Any, float], Undo | None]
"""Injects a fault into a ground for so many seconds; returns the function that ends it. Raises ``NotPossibleError``."""


class NotPossibleError(Exception):
    """The fault is not possible on the ground at the moment."""


class UnnoticedError(Exception):
    """The fault has ended, and what it should have led to was not seen."""


BEYOND_TIME = 2**63 - 1
"""The largest number of a column: microseconds that no time has."""


def spoiling(number: int, mark: str = "?") -> list[str]:
    """Statements that put a number into the row of a job, and let the leader see that."""
    return [
        f"UPDATE jobs SET settled_until = {number} WHERE id = {mark}",
        f"DELETE FROM job_changes WHERE job_id = {mark}",
        f"INSERT INTO job_changes SELECT {mark}, (SELECT coalesce(max(number), 0) + 1 FROM job_changes)",
    ]


@dataclass(frozen=True, slots=True)
class Seen:
    """Leader, term and pids of the workers, as seen from outside.

    away: whether the ground cannot be read at the moment; ``members`` are then those seen last.
    """

    leader: int | None = None
    term: int | None = None
    members: list[int] = field(default_factory=list)
    away: bool = False


class Ground(Protocol):
    """pool: argument for the workers. ledger: source of the history at the end. environment: for workers.

    away: whether nothing can be written there at the moment.
    """

    actions: ClassVar[Mapping[str, Injury]]
    pool: Path | str
    ledger: Path | str
    environment: Mapping[str, str]
    away: bool

    def look(self) -> Seen:
        """Read the view now, within half a second."""

    def copy(self, name: str) -> Path | str:
        """Copy the pool while it runs; returns where the copy is. Raises ``NotPossibleError``."""

    def spoil(self, job_id: str) -> Undo:
        """Give a job of the ledger a number that no time has; returns what mends it. Raises ``NotPossibleError``."""

    def close(self) -> None:
        """Undo the remaining faults, and leave no process behind."""


def open_ground(engine: str, directory: Path) -> Ground:
    """Make the ground of a new pool on that engine, by the name that ``--engine`` takes."""
    if engine == "file":
        from .files import FileGround

        return FileGround(directory)
    from .servers import PostgresGround, RedisGround

    if engine == "postgres":
        return PostgresGround(directory)
    return RedisGround(directory, PostgresGround(directory) if engine == "redis+postgres" else None)
