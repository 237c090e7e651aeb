"""What a pool stands on, for a chaos run: where it is, who takes part, and what can be done to it from outside."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Protocol

Undo = Callable[[], object]

Injury = Callable[[Any, float], Undo | None]
"""Does a fault to a ground that lasts so many seconds; returns what ends it. Raises ``NotPossibleError``."""


class NotPossibleError(Exception):
    """The fault cannot be done to the ground at the moment."""


@dataclass(frozen=True, slots=True)
class Seen:
    """Who leads, in which term, and which pids take part, as far as that can be seen from outside.

    away: whether nobody can be asked at the moment; ``members`` are those that were seen last then.
    """

    leader: int | None = None
    term: int | None = None
    members: list[int] = field(default_factory=list)
    away: bool = False


class Ground(Protocol):
    """pool: what the workers are told. ledger: where the history is read when all is over. environment: for workers."""

    actions: ClassVar[Mapping[str, Injury]]
    pool: Path | str
    ledger: Path | str
    environment: Mapping[str, str]

    def look(self) -> Seen:
        """Look now, for half a second at most."""

    def close(self) -> None:
        """Undo what is left, and leave no process behind."""


def open_ground(engine: str, directory: Path) -> Ground:
    """The ground of a new pool on that engine, by the name that ``--engine`` takes."""
    if engine == "file":
        from .files import FileGround

        return FileGround(directory)
    from .servers import PostgresGround, RedisGround

    if engine == "postgres":
        return PostgresGround(directory)
    return RedisGround(directory, PostgresGround(directory) if engine == "redis+postgres" else None)
