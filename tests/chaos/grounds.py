"""The ground of a pool in a chaos run: its place, a view of its workers, and faults from outside."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Protocol

Undo = Callable[[], object]

Injury = Callable[[Any, float], Undo | None]
"""Injects a fault into a ground for so many seconds; returns the function that ends it. Raises ``NotPossibleError``."""


class NotPossibleError(Exception):
    """The fault is not possible on the ground at the moment."""


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
    """pool: argument for the workers. ledger: source of the history at the end. environment: for workers."""

    actions: ClassVar[Mapping[str, Injury]]
    pool: Path | str
    ledger: Path | str
    environment: Mapping[str, str]

    def look(self) -> Seen:
        """Read the view now, within half a second."""

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
