"""``python -m election migrate``: the whole history is copied unchanged, however often it was interrupted."""

from __future__ import annotations

import asyncio
import json
import shutil
import sqlite3
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from election import Election
from election.cli import main
from election.engines.file.database import SqliteConnection
from election.engines.sql import schema, transfer
from tests.cli.conftest import Call, as_program, called, good, live
from tests.support.pool import WorkerPool
from tests.support.postgres_server import RunningPostgres
from tests.support.redis_server import RunningRedis
from tests.support.servers import new_name
from tests.support.waiting import until_async

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


def linked_parent(pool: Path) -> Path:
    (pool.parent / "current").symlink_to(pool.parent)
    return pool.parent / "current" / pool.name


def linked_ledger(pool: Path) -> Path:
    other = pool.parent / "other"
    other.mkdir(mode=0o700)
    (other / "ledger.db").symlink_to(pool / "ledger.db")
    return other


def hard_link(pool: Path) -> Path:
    other = pool.parent / "other"
    other.mkdir(mode=0o700)
    (other / "ledger.db").hardlink_to(pool / "ledger.db")
    return other


@pytest.mark.parametrize("name", [linked_parent, linked_ledger, hard_link])
def test_a_pool_under_another_name_is_left_alone(spoiled: Path, migrate: Migrate, name: Callable[[Path], Path]) -> None:
    before = tables(spoiled)
    code, out, err = migrate(spoiled, name(spoiled))
    assert (code, out) == (2, "")
    assert "cannot be moved into itself" in err
    assert tables(spoiled) == before


@pytest.mark.timeout(60)
@pytest.mark.parametrize(
    ("at", "query"),
    [("localhost", "pool={}"), ("127.0.0.1", "schema=election_{}")],
    ids=["another host name", "another name of the schema"],
)
def test_a_pool_on_postgresql_under_another_name_is_left_alone(
    ended: Path, postgres_server: RunningPostgres, migrate: Migrate, at: str, query: str
) -> None:
    name = new_name()
    source = postgres_server.url(pool=name)
    assert migrate(ended, source)[0] == 0
    rows = " UNION ALL ".join(
        f"SELECT '{table.name}', count(*) FROM election_{name}.{table.name}" for table in schema.TABLES
    )
    before = sorted(postgres_server.execute(rows))
    key, _, value = query.format(name).partition("=")
    code, _, err = migrate(source, postgres_server.url(at=at, **{key: value}))
    assert code == 2
    assert "cannot be moved into itself" in err
    assert sorted(postgres_server.execute(rows)) == before


def test_two_schemas_of_a_database_are_two_pools(
    ended: Path, postgres_server: RunningPostgres, migrate: Migrate
) -> None:
    source, target = (postgres_server.url(pool=new_name()) for _ in range(2))
    assert migrate(ended, source)[0] == 0
    code, _, err = migrate(source, target)
    assert (code, err) == (0, "")


def test_where_both_places_are_unknown_nothing_is_copied(
    ended: Path, tmp_path: Path, migrate: Migrate, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They may be the same; the user of a server need not have the right to ask where it is."""
    monkeypatch.setattr(SqliteConnection, "dialect", replace(SqliteConnection.dialect, place="NULL"))
    code, _, err = migrate(ended, tmp_path / "moved")
    assert code == 2
    assert "the target may be the source under another name" in err
    assert not tables(tmp_path / "moved")["terms"]


async def add_a_job(pool: Path) -> None:
    """As a script does that takes no part."""
    await Election(pool).add_job("json:dumps", "interval", hours=1, id="kept", kwargs={"obj": 1})


def execute(pool: Path, statement: str) -> None:
    connection = sqlite3.connect(pool / "ledger.db")
    assert connection.execute(statement).rowcount
    connection.commit()
    connection.close()


A_REQUEST = "INSERT INTO requests (action, job_id, requested_at) VALUES ('run', 'kept', 1)"


@pytest.mark.parametrize(
    "statements",
    [
        ["DELETE FROM audit"],
        ["DELETE FROM jobs", "DELETE FROM audit", A_REQUEST],
        ["DELETE FROM jobs"],
    ],
    ids=["a job", "a request", "a change"],
)
def test_a_target_that_was_never_led_keeps_what_a_script_has_stored(
    ended: Path, tmp_path: Path, migrate: Migrate, statements: list[str]
) -> None:
    target = tmp_path / "target"
    target.mkdir(mode=0o700)
    asyncio.run(add_a_job(target))
    for statement in statements:
        execute(target, statement)
    before = tables(target)
    code, _, err = migrate(ended, target)
    assert code == 2
    assert "the target has a history of its own" in err
    assert tables(target) == before


def test_a_job_that_was_added_to_the_copy_is_kept(ended: Path, tmp_path: Path, migrate: Migrate) -> None:
    target = tmp_path / "moved"
    assert migrate(ended, target)[0] == 0
    asyncio.run(add_a_job(target))
    before = tables(target)
    assert migrate(ended, target)[0] == 2
    assert tables(target) == before


def test_cut_off_and_done_again_after_a_change_of_the_source(
    spoiled: Path, tmp_path: Path, migrate: Migrate, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The rows that an earlier copy has left are known, although the source has changed them."""
    asyncio.run(add_a_job(spoiled))
    execute(spoiled, A_REQUEST)
    real, target = transfer._copy, tmp_path / "moved"

    async def copy(table: transfer.Table, *arguments: object) -> int:
        if table.name == "audit":
            raise KeyboardInterrupt
        return await real(table, *arguments)  # type: ignore[arg-type]

    with monkeypatch.context() as patch:
        patch.setattr(transfer, "_copy", copy)
        assert migrate(spoiled, target)[0] == 2
    assert [tables(target)[name] != [] for name in ("jobs", "requests", "terms")] == [True, True, False]
    execute(spoiled, "UPDATE jobs SET scheduled_since = scheduled_since + 1, kwargs = '{}' WHERE id = 'kept'")
    execute(spoiled, "UPDATE requests SET done_at = 2, outcome = 'refused' WHERE job_id = 'kept'")
    code, _, err = migrate(spoiled, target)
    assert (code, err) == (0, "")
    assert tables(target) == tables(spoiled)


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
    assert not (tmp_path / "moved" / "ledger.db").exists(), "refused before anything was copied"


@pytest.mark.timeout(60)
def test_the_ledger_of_a_pool_on_redis_is_not_moved_while_it_lives(
    postgres_server: RunningPostgres, redis_server: RunningRedis, tmp_path: Path, migrate: Migrate
) -> None:
    """Its workers and its leader are not known to PostgreSQL, but its term has not ended."""
    pool, ledger = f"{redis_server.url}?pool={new_name()}", postgres_server.url(pool=new_name())

    async def try_it() -> str:
        called.clear()
        election = Election(pool, ledger=ledger)
        election.scheduled_job("interval", seconds=0.1, id="good")(good)
        async with election:
            await until_async(lambda: called["good"] > 0)
            done = await asyncio.to_thread(as_program, "migrate", ledger, str(tmp_path / "moved"))
        assert done.returncode == 2
        return done.stderr

    assert "has not ended, and its leader is not known here" in asyncio.run(try_it())
    assert not (tmp_path / "moved" / "ledger.db").exists()
    assert migrate(ledger, tmp_path / "moved")[0] == 0


def test_a_ledger_in_redis_cannot_be_moved(
    ended: Path, redis_server: RunningRedis, tmp_path: Path, migrate: Migrate
) -> None:
    pool = f"{redis_server.url}?pool={new_name()}"
    for source, target in ((pool, tmp_path / "moved"), (ended, pool), (pool, pool.replace("127.0.0.1", "localhost"))):
        code, _, err = migrate(source, target)
        assert code == 2
        assert "only pools whose ledger is in a file or in PostgreSQL" in err
    assert not (tmp_path / "moved").exists(), "refused before the target was made"


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
