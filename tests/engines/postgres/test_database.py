"""The ledger's database: lost sessions, full disks, schemas of another version (P2, P3)."""

from __future__ import annotations

import asyncio
import contextlib
import os
import subprocess
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest

from election.core.errors import LedgerError, LedgerVersionError, StaleTermError
from election.engines.postgres import schema
from election.engines.postgres.address import parse
from election.engines.postgres.database import PostgresDatabase
from election.engines.postgres.ledger import PostgresLedger
from election.engines.postgres.preflight import Preflight
from election.schedule.commands import Claim, FinishRun, RegisterJob
from election.schedule.model import Copied, Outcome, Tick
from tests.schedule.making import NOW, at, make_job, make_term, process
from tests.support.postgres_server import PostgresServer, RunningPostgres
from tests.support.waiting import until_async

pytestmark = pytest.mark.anyio


SECONDS = make_job("interval", seconds=1, start_date=at(-100))


@pytest.fixture
async def opened(url: str) -> AsyncIterator[Callable[..., PostgresDatabase]]:
    """Opens the database of the test's pool; closes it afterwards."""
    made: list[PostgresDatabase] = []

    def open_(where: str = url, **options: Any) -> PostgresDatabase:
        address = parse(where)
        made.append(PostgresDatabase(address, preflight=Preflight(address), **options))
        return made[-1]

    yield open_
    for database in made:
        await database.close()


@pytest.fixture
async def ledger(url: str) -> AsyncIterator[PostgresLedger]:
    """A ledger in which term 1 has begun and ``job`` has a tick each second."""
    address = parse(url)
    ledger = PostgresLedger(address, Preflight(address))
    await begun(ledger)
    yield ledger
    await ledger.close()


async def begun(ledger: PostgresLedger) -> None:
    await ledger.begin_term(make_term(1), process())
    await ledger.record(1, [RegisterJob("job", SECONDS.schedule, at=NOW, since=NOW)])


async def test_p6_an_intent_to_fence_waits_for_no_transaction(ledger: PostgresLedger, url: str) -> None:
    """The leader may be stopped within one, with the lock that keeps writers apart."""
    address = parse(url)
    with psycopg.connect(address.url) as leader:
        leader.execute(f'SET search_path TO "{address.schema}"')
        leader.execute("SELECT schema_version FROM meta FOR UPDATE")
        assert await ledger.fence(1, pid=1, by_pid=2, silent=5.0, every=5.0)
        assert (await ledger.latest_terms()).fenced == 1
        leader.rollback()


def backend(connection: Any) -> int:
    return int(connection.execute("SELECT pg_backend_pid()").fetchone()[0])


def count_runs(connection: Any) -> int:
    return int(connection.execute("SELECT count(*) FROM runs").fetchone()[0])


async def in_thread(function: Callable[..., Any], *arguments: Any) -> Any:
    return await asyncio.to_thread(function, *arguments)


async def test_a_session_that_was_lost_while_nobody_used_it_is_opened_anew(
    opened: Callable[..., PostgresDatabase], postgres_server: RunningPostgres
) -> None:
    database = opened()
    first = await database.read(backend)
    await in_thread(postgres_server.execute, f"SELECT pg_terminate_backend({first}, 30000)")  # waits for its end
    assert await database.read(backend) != first


async def test_p3_a_session_that_is_lost_in_the_middle_writes_nothing_half(
    opened: Callable[..., PostgresDatabase], postgres_server: RunningPostgres
) -> None:
    database = opened()

    def write(connection: Any) -> None:
        connection.execute("INSERT INTO pruned VALUES (7)")
        postgres_server.execute(f"SELECT pg_terminate_backend({backend(connection)})")
        connection.execute("INSERT INTO pruned VALUES (8)")

    with pytest.raises(LedgerError, match=r"pool=gw\d+_\d+: terminating connection"):
        await database.write(write)
    rows = await database.read(lambda connection: connection.execute("SELECT until FROM pruned").fetchall())
    assert [tuple(row) for row in rows] == [(0,)]


async def test_what_a_transaction_raises_undoes_it_and_is_raised(opened: Callable[..., PostgresDatabase]) -> None:
    database = opened()

    def write(connection: Any) -> None:
        connection.execute("INSERT INTO pruned VALUES (7)")
        raise StaleTermError("over")

    with pytest.raises(StaleTermError):
        await database.write(write)
    assert (await database.read(lambda c: c.execute("SELECT count(*) FROM pruned").fetchone()))[0] == 1


async def test_a_read_sees_one_state_of_things_and_writes_nothing(opened: Callable[..., PostgresDatabase]) -> None:
    reader, writer = opened(), opened()
    await writer.write(lambda connection: None)
    loop = asyncio.get_running_loop()

    def look(connection: Any) -> tuple[int, int]:
        before = connection.execute("SELECT count(*) FROM pruned").fetchone()[0]
        insert = writer.write(lambda other: other.execute("INSERT INTO pruned VALUES (7)"))
        asyncio.run_coroutine_threadsafe(insert, loop).result(30)
        return before, connection.execute("SELECT count(*) FROM pruned").fetchone()[0]

    assert await reader.read(look) == (1, 1)
    with pytest.raises(LedgerError, match="read-only"):
        await reader.read(lambda connection: connection.execute("INSERT INTO pruned VALUES (8)"))


async def test_a_writer_that_stands_still_is_ended_by_the_server(
    opened: Callable[..., PostgresDatabase], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A worker stopped in the middle of a transaction would block all other writers."""
    monkeypatch.setattr("election.engines.postgres.database.BUSY_TIMEOUT_S", 1)
    still, other = opened(), opened()
    await still.write(lambda connection: None)

    def stand_still(connection: Any) -> None:
        time.sleep(2.5)  # a process under SIGSTOP would do the same
        connection.execute("SELECT 1")

    standing = asyncio.create_task(still.write(stand_still))
    with pytest.raises(LedgerError, match="this process was stopped or blocked"):
        await standing
    await other.write(lambda connection: connection.execute("INSERT INTO pruned VALUES (7)"))


async def test_a_server_that_does_not_answer_is_given_up(
    own_server: PostgresServer, opened: Callable[..., PostgresDatabase]
) -> None:
    await opened(own_server.url()).write(lambda connection: None)
    database = opened(own_server.url(), timeout_s=0.5)
    await until_async(lambda: _answers(database), what="it is open, which may take longer on a busy machine")
    with own_server.paused():
        with pytest.raises(LedgerError):
            await database.read(count_runs)
    await until_async(lambda: _answers(database), what="it is opened anew")


async def _answers(database: PostgresDatabase) -> bool:
    with contextlib.suppress(LedgerError):
        return await database.read(count_runs) == 0
    return False


async def test_a_server_that_is_away_is_told_without_the_password(opened: Callable[..., PostgresDatabase]) -> None:
    database = opened("postgresql://user:secret@127.0.0.1:1/postgres")
    with pytest.raises(LedgerError, match=r"^postgresql://127\.0\.0\.1:1/postgres: connection failed") as told:
        await database.read(count_runs)
    assert "secret" not in str(told.value)


async def test_many_make_the_tables_at_once(opened: Callable[..., PostgresDatabase]) -> None:
    assert await asyncio.gather(*(opened().read(count_runs) for _ in range(12))) == [0] * 12


async def test_a_migration_that_fails_leaves_nothing_half(
    opened: Callable[..., PostgresDatabase], url: str, postgres_server: RunningPostgres, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as context:
        context.setattr(schema, "_STEPS", [schema._STEPS[0] + "; CREATE TABLE runs ()"])
        with pytest.raises(LedgerError, match="already exists"):
            await opened().read(count_runs)
    named = f"SELECT 1 FROM pg_namespace WHERE nspname = '{parse(url).schema}'"
    assert await in_thread(postgres_server.execute, named) == []
    assert await opened().read(count_runs) == 0


async def test_a_later_version_goes_on_from_this_one(
    opened: Callable[..., PostgresDatabase], monkeypatch: pytest.MonkeyPatch
) -> None:
    first = opened()
    await first.write(lambda connection: connection.execute("INSERT INTO pruned VALUES (7)"))
    await first.close()
    monkeypatch.setattr(schema, "_STEPS", [*schema._STEPS, "ALTER TABLE {schema}.pruned ADD COLUMN note TEXT"])
    monkeypatch.setattr(schema, "VERSION", schema.VERSION + 1)
    query = "SELECT until, note FROM pruned ORDER BY until"
    rows = await opened().read(lambda connection: connection.execute(query).fetchall())
    assert [tuple(row) for row in rows] == [(0, None), (7, None)]


@pytest.mark.parametrize("look_only", [False, True])
@pytest.mark.parametrize(
    ("version", "told"),
    [
        (99, "schema 99, and this version of election supports"),
        (1, "schema 1, from before the first release.*rename or drop"),
        (schema.FIRST_VERSION - 1, f"schema {schema.FIRST_VERSION - 1}, from before the first release.*rename or drop"),
    ],
)
async def test_p3_a_schema_of_other_rules_is_refused(
    url: str, ledger: PostgresLedger, look_only: bool, version: int, told: str
) -> None:
    address = parse(url)
    with psycopg.connect(address.url, autocommit=True) as connection:
        connection.execute(f'UPDATE "{address.schema}".meta SET schema_version = {version}')
    other = PostgresLedger(address, Preflight(address), look_only=look_only)
    with pytest.raises(LedgerVersionError, match=told):
        await other.latest_terms()
    with pytest.raises(LedgerVersionError):
        await in_thread(other.check)
    await other.close()


async def test_to_look_makes_nothing(
    opened: Callable[..., PostgresDatabase], url: str, postgres_server: RunningPostgres
) -> None:
    with pytest.raises(LedgerError, match="there is no pool"):
        await opened(look_only=True).read(count_runs)
    named = f"SELECT 1 FROM pg_namespace WHERE nspname = '{parse(url).schema}'"
    assert await in_thread(postgres_server.execute, named) == []
    await opened().read(count_runs)
    with pytest.raises(LedgerError, match="read-only"):
        await opened(look_only=True).write(lambda connection: connection.execute("INSERT INTO pruned VALUES (7)"))


@pytest.mark.parametrize(("durable", "setting"), [(False, "local"), (True, "on")])
async def test_a_commit_waits_for_the_servers_disk_and_a_durable_one_for_its_standbys(
    opened: Callable[..., PostgresDatabase], durable: bool, setting: str
) -> None:
    asked = await opened(durable=durable).read(lambda c: c.execute("SHOW synchronous_commit").fetchone())
    assert asked[0] == setting


async def test_text_that_the_server_could_not_hold(ledger: PostgresLedger) -> None:
    """A job may raise anything; the text of its error must not prevent that its run is settled."""
    await ledger.record(1, [Claim(Tick("job", at(1)), NOW)])
    assert await ledger.record(1, [FinishRun(Tick("job", at(1)), Outcome.FAILED, NOW, "a\0b 100%s ?")]) == [True]
    assert [run.error for run in await ledger.runs()] == ["a\N{REPLACEMENT CHARACTER}b 100%s ?"]


async def test_a_cancelled_caller_ends_after_its_transaction(opened: Callable[..., PostgresDatabase]) -> None:
    database, done = opened(), []
    began, may_end = threading.Event(), threading.Event()
    await database.write(lambda connection: None)

    def slow(connection: Any) -> None:
        began.set()
        may_end.wait(30)
        connection.execute("INSERT INTO pruned VALUES (7)")
        done.append(True)

    task = asyncio.create_task(database.write(slow))
    await until_async(began.is_set, what="the transaction has begun")
    task.cancel()
    await asyncio.sleep(0.05)
    assert not task.done()
    may_end.set()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert done


async def test_pitfall_1_a_forked_child_opens_its_own(opened: Callable[..., PostgresDatabase]) -> None:
    database = opened()
    ours = await database.read(backend)
    reading, writing = os.pipe()
    if os.fork() == 0:
        try:
            asyncio.events._set_running_loop(None)
            os.write(writing, str(asyncio.run(database.read(backend))).encode())
        finally:
            os._exit(0)
    os.close(writing)
    with os.fdopen(reading) as pipe:
        theirs = int(await in_thread(pipe.read))
    os.wait()
    assert theirs != ours
    assert await database.read(backend) == ours, "the child's end is not the end of our session"


@pytest.fixture
def small_disk(as_root: None) -> Iterator[Path]:
    """A disk of 120 MB, for a server's data."""
    path = Path("/tmp") / f"election-disk-{os.getpid()}"
    path.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=120m", "tmpfs", path], check=False)
    if mounted.returncode:
        path.rmdir()
        pytest.skip("no filesystem can be mounted here")
    yield path
    subprocess.run(["umount", path], check=True)
    path.rmdir()


@pytest.mark.timeout(180)
async def test_p3_a_disk_that_is_full(small_disk: Path, new_postgres: Callable[..., PostgresServer]) -> None:
    """The error gives the remedy, nothing is half written, and work continues when there is space."""
    home = small_disk / "server"
    home.mkdir()
    small = {"wal_level": "minimal", "max_wal_senders": 0, "max_wal_size": "32MB"}
    with contextlib.closing(new_postgres(directory=str(home), **small)) as full:
        address = parse(full.url())
        ledger = PostgresLedger(address, Preflight(address))
        await begun(ledger)
        await in_thread(full.execute, "CREATE TABLE filler (text TEXT)")
        ballast = small_disk / "ballast"
        room = os.statvfs(small_disk)
        ballast.write_bytes(b"x" * (room.f_bavail * room.f_frsize - 200_000))
        granted = 0
        with pytest.raises(LedgerError, match="No space left on device") as told:
            for second in range(1, 2000):
                entries = [
                    Claim(Tick("job", at(second)), NOW),
                    FinishRun(Tick("job", at(second)), Outcome.FAILED, NOW, "x" * 4000),
                ]
                granted += (await ledger.record(1, entries))[0]
        assert "127.0.0.1" in str(told.value)
        ballast.unlink()

        async def goes_on() -> bool:
            with contextlib.suppress(LedgerError):
                return (await ledger.record(1, [Claim(Tick("job", at(5000)), NOW)]))[0]
            return False

        await until_async(goes_on, what="it goes on")
        found = (await ledger.totals()).runs
        assert granted <= sum(found.values()) <= granted + 1
        await ledger.close()


async def test_p3_pitfall_69_a_schema_that_a_newer_worker_has_migrated_is_noticed_in_each_transaction(
    ledger: PostgresLedger, postgres_server: RunningPostgres, url: str
) -> None:
    meta = f'"{parse(url).schema}".meta'
    change = f"UPDATE {meta} SET schema_version = {{}} RETURNING 1"
    await asyncio.to_thread(postgres_server.execute, change.format(schema.VERSION + 1))
    with pytest.raises(LedgerVersionError, match="upgrade election in every worker"):
        await ledger.jobs()
    with pytest.raises(LedgerVersionError, match="upgrade election in every worker"):
        await ledger.record(1, [Claim(Tick("job", at(1)), NOW)])
    await asyncio.to_thread(postgres_server.execute, change.format(schema.VERSION))
    assert await ledger.record(1, [Claim(Tick("job", at(1)), NOW)]) == [True]


async def test_pitfall_49_a_copied_database_is_noted(own_server: PostgresServer) -> None:
    """The same server and the same tables, in another database."""
    address = parse(own_server.url())
    original = PostgresLedger(address, Preflight(address))
    await original.begin_term(make_term(1), process())
    assert not await original.is_moved()
    await original.close()
    own_server.execute(f"CREATE DATABASE restored TEMPLATE {own_server.database}", database="template1")
    own_server.execute("CREATE ROLE plain")
    public = "SELECT has_function_privilege('plain', 'pg_control_system()', 'EXECUTE')"
    assert own_server.execute(public) == [(True,)], "so a role need not be a superuser to tell"
    restored = parse(own_server.url(database="restored"))
    copy = PostgresLedger(restored, Preflight(restored))
    try:
        assert await copy.is_moved()
        assert (await copy.begin_term(make_term(2), process())).copied == Copied(NOW, 2)
        assert await copy.adopt()
        state = await copy.changes()
        assert not await copy.is_moved()
        assert state is None, "it was this connection's own write"
    finally:
        await copy.close()
