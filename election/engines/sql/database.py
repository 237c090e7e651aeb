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
    """Differences between the SQL databases.

    greatest: the function for the larger of two values.
    first_term: the term of a run's first attempt, from the columns ``attempts`` and ``term``.
    tags: the tags of a job in the table ``jobs``, one a row, as ``(SELECT …)``.
    version: a query for a number that changes when another connection has written.
    place: an expression for an identity that a copy of the database does not have; NULL if it is unknown.
    schema: an expression for the part of the database that has the tables, if it can have them several times.
    after_change: statements for a transaction with changes that a leader has to detect.
    after_copy: statements to run after rows were inserted with the numbers of another database.
    """

    greatest: str
    first_term: str
    tags: str
    version: str
    place: str
    schema: str = "''"
    after_change: tuple[str, ...] = ()
    after_copy: tuple[str, ...] = ()


class Row(Protocol):
    """A row, indexed by the position or name of a column."""

    def __getitem__(self, key: Any, /) -> Any: ...

    def __iter__(self) -> Iterator[Any]: ...


class NamedRow(tuple[Any, ...]):
    """A row for a driver that returns only tuples; see ``rows_with``."""

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
    """A connection within a transaction. The mark of a parameter is ``?``."""

    dialect: Dialect

    def execute(self, statement: str, parameters: Sequence[Any] = ..., /) -> Cursor: ...


class Database(Protocol):
    """Runs functions in transactions, outside of the thread of the event loop."""

    async def read(self, function: Callable[[Any], _T]) -> _T:
        """Run ``function(connection)`` on one snapshot of the database. Raises ``LedgerError``."""

    async def write(self, function: Callable[[Any], _T]) -> _T:
        """Run ``function(connection)`` in one atomic transaction, with no concurrent write.

        Raises ``LedgerError``, and the errors of ``function``.
        """

    async def write_urgently(self, function: Callable[[Any], _T]) -> _T:
        """Run ``function(connection)``, whose writes conflict with no other, without a long wait for other writers.

        One of them may have been stopped within its transaction. Raises as ``write``, and ``LedgerBusyError``.
        """

    def written(self, function: Callable[[Any], _T]) -> asyncio.Future[_T]:
        """Like ``write``, as a future that cannot be cancelled and may be done already."""

    async def close(self) -> None:
        """Close the database; the next use reopens it."""
