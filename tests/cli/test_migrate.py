"""``python -m election migrate``: the whole history is copied unchanged, however often it was interrupted."""

from __future__ import annotations

import asyncio
import json
import shutil
import sqlite3
from collections.abc import Callable
from pathlib import Path

import pytest

from election.cli import main
from election.engines.sql import schema, transfer
from tests.cli.conftest import Call, live
from tests.support.pool import WorkerPool
from tests.support.postgres_server import RunningPostgres
from tests.support.servers import new_name

Migrate = Callable[[Path | str, Path | str], tuple[int, str, str]]


@pytest.fixture
def migrate(capsys: pytest.CaptureFixture[str]) -> Migrate:
    """Run the command in this process; return its exit code, stdout and stderr."""

    def run(source: Path | str, target: Path | str) -> tuple[int, str, str]:
        capsys.readouterr()
        code = main(["migrate", str(source), str(target)])
        return code, *capsys.readouterr()

    return run


OWN = {table.name for table in schema.TABLES if not table.moves}
"""Tables of the database itself: its place, and the order of changes of jobs."""


def tables(pool: Path) -> dict[str, list[tuple[object, ...]]]:
    """All rows of all tables of a ledger, except for SQLite's own and the database's."""
    connection = sqlite3.connect(pool / "ledger.db")
    names = [name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
    found = {
        name: sorted(connection.execute(f"SELECT * FROM {name}"), key=repr)
        for name in names
        if "sqlite" not in name and name not in OWN
    }
    connection.close()
    return found


def test_all_tables_are_known(ended: Path) -> None:
    """A new table or column of the ledger is copied too, except for those of the database itself."""
    connection = sqlite3.connect(ended / "ledger.db")
    names = {name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
    known = {table.name: set(table.columns) for table in schema.TABLES}
    assert names - {"sqlite_sequence"} == known.keys()
    for name, columns in known.items():
        assert {column for _, column, *_ in connection.execute(f"PRAGMA table_info({name})")} == columns
    connection.close()


def test_the_copy_is_the_same_and_goes_on(ended: Path, tmp_path: Path, migrate: Migrate, call: Call) -> None:
    target = tmp_path / "moved"
    code, out, err = migrate(ended, target)
    assert (code, err) == (0, "")
    assert ", never here again" in out
    assert tables(target) == tables(ended)
    asyncio.run(live(target, pause=False))
    code, out, _ = call("verify", target)
    assert code == 0, out
    terms = [term for term, *_ in tables(target)["terms"]]
    assert terms == [*range(1, max(terms) + 1)]
    assert max(terms) == len(tables(ended)["terms"]) + 1


def test_a_pool_on_postgresql_goes_on_with_its_numbers(
    ended: Path, postgres_server: RunningPostgres, migrate: Migrate, call: Call
) -> None:
    """The rows keep their numbers; later ones get new numbers, and each tick its run."""
    target = postgres_server.url(pool=new_name())
    assert migrate(ended, target)[0] == 0
    asyncio.run(live(target, pause=True))
    code, out, _ = call("verify", target)
    assert code == 0, out
    runs = json.loads(call("runs", target, "--json")[1])
    assert max(run["seq"] for run in runs) > max(row[0] for row in tables(ended)["runs"])


def test_cut_off_and_done_again(ended: Path, tmp_path: Path, migrate: Migrate, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each time one batch further; copied rows are not copied again."""
    target = tmp_path / "moved"
    monkeypatch.setattr(transfer, "ROWS_PER_TRANSACTION", 3)
    real, copied = transfer._each, list[str]()

    def each(statement: str, rows: list[tuple[object, ...]]) -> object:
        if statement.startswith("INSERT INTO runs"):
            copied.extend(str(row[0]) for row in rows)
            if len(copied) == 6:
                raise KeyboardInterrupt
        return real(statement, rows)

    monkeypatch.setattr(transfer, "_each", each)
    assert migrate(ended, target)[0] == 2
    code, _, err = migrate(ended, target)
    assert (code, err) == (0, "")
    assert tables(target) == tables(ended)
    assert len(copied) - len(set(copied)) == 3, "only the stretch that was cut off was copied twice"


def test_a_target_with_a_history_of_its_own_is_left_alone(spoiled: Path, ended: Path, migrate: Migrate) -> None:
    connection = sqlite3.connect(spoiled / "ledger.db")
    connection.execute("UPDATE terms SET pid = pid + 1")
    connection.commit()
    connection.close()
    before = tables(spoiled)
    code, out, err = migrate(ended, spoiled)
    assert (code, out) == (2, "")
    assert "the target has a history of its own" in err
    assert tables(spoiled) == before


def test_a_source_that_changes_meanwhile_is_noticed(
    spoiled: Path, tmp_path: Path, migrate: Migrate, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = transfer._copy

    async def copy(table: transfer.Table, *arguments: object) -> int:
        done = await real(table, *arguments)  # type: ignore[arg-type]
        if table.name == "totals":
            connection = sqlite3.connect(spoiled / "ledger.db")
            connection.execute("UPDATE runs SET error = 'another' WHERE seq = 1")
            connection.commit()
            connection.close()
        return done

    monkeypatch.setattr(transfer, "_copy", copy)
    code, _, err = migrate(spoiled, tmp_path / "moved")
    assert code == 2
    assert "the table runs differs between the pools" in err


def test_a_pool_that_lives_is_not_moved(living: WorkerPool, tmp_path: Path, migrate: Migrate) -> None:
    code, _, err = migrate(living.path, tmp_path / "moved")
    assert code == 2
    assert "workers take part in" in err
    assert not (tmp_path / "moved").exists()


def test_a_term_that_the_ledger_does_not_know_is_not_left_behind(
    spoiled: Path, tmp_path: Path, migrate: Migrate
) -> None:
    record = json.loads((spoiled / "leader.json").read_text())
    record["term"] += 1
    (spoiled / "leader.json").write_text(json.dumps(record))
    code, _, err = migrate(spoiled, tmp_path / "moved")
    assert code == 2
    assert "which its ledger does not have" in err


@pytest.mark.parametrize(
    ("source", "target", "said"),
    [
        ("{}/none", "{}/moved", "there is no pool at"),
        ("{}/pool", "{}/pool", "cannot be moved into itself"),
    ],
)
def test_what_cannot_be(spoiled: Path, migrate: Migrate, source: str, target: str, said: str) -> None:
    code, _, err = migrate(source.format(spoiled.parent), target.format(spoiled.parent))
    assert code == 2
    assert said in err


def test_a_broken_promise_moves_along_and_is_told(spoiled: Path, tmp_path: Path, migrate: Migrate) -> None:
    connection = sqlite3.connect(spoiled / "ledger.db")
    connection.execute("DELETE FROM skips WHERE reason = 'paused'")
    connection.commit()
    connection.close()
    shutil.rmtree(tmp_path / "moved", ignore_errors=True)
    code, out, _ = migrate(spoiled, tmp_path / "moved")
    assert code == 1
    assert "P4" in out
