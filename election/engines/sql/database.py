"""Port of a SQL database, and the dialects."""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Protocol, TypeVar

_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class Dialect:
    """The little that is not the same SQL everywhere.

    greatest: the function for the larger of two values.
    first_term: the term of a run's first attempt, from the columns ``attempts`` and ``term``.
    tags: the tags of a job in the table ``jobs``, one a row, as ``(SELECT …)``.
    version: a query for a number that changes when somebody else has written.
    place: an expression for what only this database has, and not a copy of it; NULL if that cannot be told.
    after_change: what is to be done in a transaction that has changed what a leader has to notice.
    after_copy: what is to be done when rows were inserted with the numbers that they had elsewhere.
    """

    greatest: str
    first_term: str
    tags: str
    version: str
    place: str
    after_change: tuple[str, ...] = ()
    after_copy: tuple[str, ...] = ()


class Row(Protocol):
    """A row, by the columns' places or names."""

    def __getitem__(self, key: Any, /) -> Any: ...

    def __iter__(self) -> Iterator[Any]: ...


class NamedRow(tuple[Any, ...]):
    """A row of a driver that has tuples only; see ``rows_with``."""

    __slots__ = ()
    places: ClassVar[dict[str, int]] = {}

    def __getitem__(self, key: Any) -> Any:
        return super().__getitem__(self.places[key] if isinstance(key, str) else key)


@functools.lru_cache(maxsize=256)
def rows_with(*names: str) -> type[NamedRow]:
    """Type of the rows with these columns, made from a sequence of values."""
    return type("NamedRow", (NamedRow,), {"__slots__": (), "places": {name: place for place, name in enumerate(names)}})


class Cursor(Protocol):
    """Result of a statement: the rows, or the number of rows that it has changed."""

    @property
    def rowcount(self) -> int: ...

    def fetchone(self) -> Any: ...

    def __iter__(self) -> Iterator[Any]: ...


class Connection(Protocol):
    """A connection within a transaction. Parameters stand as ``?`` in the statement."""

    dialect: Dialect

    def execute(self, statement: str, parameters: Sequence[Any] = ..., /) -> Cursor: ...


class Database(Protocol):
    """Runs functions in transactions, each in a thread that is not the event loop's."""

    async def read(self, function: Callable[[Any], _T]) -> _T:
        """Run ``function(connection)``, which sees one state of things all the time. Raises ``LedgerError``."""

    async def write(self, function: Callable[[Any], _T]) -> _T:
        """Run ``function(connection)`` in one transaction, all of it or nothing, and no other write beside it.

        Raises ``LedgerError``, and what it raises.
        """

    def written(self, function: Callable[[Any], _T]) -> asyncio.Future[_T]:
        """The same, as a future that cannot be cancelled, and that may be done already."""

    async def close(self) -> None:
        """Let go of the database; using it again opens it again."""
