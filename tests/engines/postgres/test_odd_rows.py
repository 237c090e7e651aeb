"""Values that no worker of this version writes: all else goes on (P10)."""

from __future__ import annotations

import json
from collections.abc import Iterator

import psycopg
import pytest

from election.engines.postgres.address import parse
from election.engines.postgres.json_text import FIRST_TERM, TAGS
from election.engines.postgres.ledger import PostgresLedger
from election.engines.postgres.preflight import Preflight
from election.engines.sql.schema import NUMBERED, TABLES
from tests.engines.odd_rows import failures, fill

pytestmark = [pytest.mark.anyio, pytest.mark.extended]

ODD = {"text": "[{}]", "bigint": str(2**63 - 1), "double precision": "NaN"}
"""An odd value of each type; the server refuses those of other types."""


@pytest.fixture
async def ledger(url: str) -> PostgresLedger:
    """A ledger with a history."""
    address = parse(url)
    ledger = PostgresLedger(address, Preflight(address))
    await fill(ledger)
    await ledger.close()
    return ledger


@pytest.fixture
def connection(url: str) -> Iterator[psycopg.Connection]:
    address = parse(url)
    with psycopg.connect(address.url, autocommit=True) as connection:
        connection.execute(f'SET search_path TO "{address.schema}"')
        yield connection


@pytest.fixture
def tables(ledger: PostgresLedger, connection: psycopg.Connection) -> psycopg.Connection:
    """Connection to the tables of the ledger, of which each has a copy aside."""
    for table in TABLES:
        connection.execute(f"CREATE TABLE aside_{table.name} AS SELECT * FROM {table.name}")
    return connection


def restore(tables: psycopg.Connection) -> None:
    copies = [
        f"DELETE FROM {table.name}; INSERT INTO {table.name} SELECT * FROM aside_{table.name}" for table in TABLES
    ]
    numbers = [
        f"SELECT setval(pg_get_serial_sequence('{name}', '{key}'), max({key})) FROM {name}"
        for name, key in NUMBERED.items()
    ]
    tables.execute("; ".join([*copies, *numbers]))


def every_value(tables: psycopg.Connection, kind: str) -> Iterator[tuple[str, str, str]]:
    """Tables with a column of a type and a condition for a row each; without those of the job ``steady``."""
    for table in TABLES:
        keys = ", ".join(map("quote_literal({})".format, table.key))
        kinds = ", ".join(map("pg_typeof({})::text".format, table.columns))
        for values in tables.execute(f"SELECT {keys}, {kinds} FROM {table.name}").fetchall():
            row = " AND ".join(f"{key} = {value}" for key, value in zip(table.key, values, strict=False))
            for column, found in zip(table.columns, values[len(table.key) :], strict=True):
                if found == kind and "steady" not in row:
                    yield table.name, column, row


@pytest.mark.parametrize("kind", ODD)
async def test_pitfall_63_no_value_stops_the_next_leader_and_another_job(
    ledger: PostgresLedger, tables: psycopg.Connection, kind: str
) -> None:
    """Every value of every row, one after the other."""
    tried, failed = 0, list[str]()
    for table, column, row in list(every_value(tables, kind)):
        if kind == "bigint" and column in {"seq", "term"} and column in row:
            continue  # after the last number that a database can give out there is none
        restore(tables)
        tables.execute(f"UPDATE {table} SET {column} = '{ODD[kind]}' WHERE {row}")
        failed += await failures(ledger, what=f"{ODD[kind]} in {table}.{column}, where {row}")
        tried += 1
    assert tried > (10 if kind == "double precision" else 50)
    assert not failed, "\n".join(failed)


@pytest.mark.parametrize(
    "tags",
    [[], ["night"], ["nächtlich", "日本", "🌙"], ['"', "\\", "\\u0000", "]}", '\\"'], ["\x01", "/", "\n\t"]],
    ids=["none", "one", "other scripts", "marks", "control"],
)
def test_tags_are_found_in_any_text(connection: psycopg.Connection, tags: list[str]) -> None:
    words = json.dumps({"name": '"tags": ["x"]', "description": None, "tags": tags})
    [(found,)] = connection.execute("SELECT substring(%s from %s)::json", (words, TAGS))
    assert found == tags


@pytest.mark.parametrize(
    "words",
    ["", "x", "[]", '{"tags": 5}', '{"tags": ["a}', '{"tags": ["a",]}', r'{"tags": ["\x"]}', r'{"tags": ["\u0000"]}',
     r'{"tags": ["\ud83c"]}', r'{"tags": ["\udf19\ud83c"]}', '{"tags": ["a" "b"]}', '{"tags": ["\n"]}'],
)  # fmt: skip
def test_no_other_text_is_converted(connection: psycopg.Connection, words: str) -> None:
    assert connection.execute("SELECT substring(%s from %s)::json", (words, TAGS)).fetchall() == [(None,)]


def test_the_term_of_the_first_attempt(connection: psycopg.Connection) -> None:
    def found(attempts: object) -> object:
        [(term,)] = connection.execute("SELECT substring(%s from %s)::bigint", (json.dumps(attempts), FIRST_TERM))
        return term

    first = {"attempt": 1, "term": 12, "ended_at": "", "outcome": "failed", "error": 'of "term": 5,'}
    assert found([first, {**first, "attempt": 2, "term": 13}]) == 12
    assert found([{"error": first["error"], "term": 12}]) == 12
    for odd in ([], [{}], 5, [{"term": "x"}], [{"term": 10**30}], [{"term": 1.5}]):
        assert found(odd) is None
