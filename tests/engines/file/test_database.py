"""The ledger's file: every fault is reported, nothing is deleted, and nothing is half written (P2, P3)."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import shutil
import sqlite3
import stat
import subprocess
import sys
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from election.core.errors import LedgerBusyError, LedgerError, LedgerVersionError
from election.core.threads import in_passing
from election.engines.file import database as database_module
from election.engines.file import schema
from election.engines.file.database import SqliteDatabase, stored_version
from election.engines.file.ledger import SqliteLedger
from election.schedule.commands import Claim, RegisterJob
from election.schedule.model import Action, Tick
from tests.schedule.making import NOW, at, make_job, make_term, process, until

pytestmark = pytest.mark.anyio


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture
def path(tmp_path: Path) -> str:
    return str(tmp_path / "a pool" / "ledger.db")


@pytest.fixture
async def opened(path: str) -> AsyncIterator[Callable[..., SqliteDatabase]]:
    """Factory of databases on ``path``, closed at the end."""
    os.makedirs(os.path.dirname(path))
    made: list[SqliteDatabase] = []

    def make(**options: Any) -> SqliteDatabase:
        made.append(SqliteDatabase(options.pop("path", path), **options))
        return made[-1]

    yield make
    for database in made:
        await database.close()


JOB = make_job("interval", seconds=1, start_date=at(-100))


def note(connection: sqlite3.Connection, number: int = 1) -> None:
    connection.execute("INSERT INTO requests (action, requested_at) VALUES ('run', ?)", (number,))


def notes(connection: sqlite3.Connection) -> list[int]:
    return [number for (number,) in connection.execute("SELECT requested_at FROM requests ORDER BY id")]


def pragma(name: str) -> Callable[[sqlite3.Connection], object]:
    return lambda connection: connection.execute(f"PRAGMA {name}").fetchone()[0]


def names(path: str) -> list[str]:
    return sorted(os.listdir(os.path.dirname(path)))


# --- opened ----------------------------------------------------------------------------------------------------------


async def test_the_file_is_made_when_first_used(opened: Callable[..., SqliteDatabase], path: str) -> None:
    database = opened()
    assert names(path) == []
    assert await database.read(notes) == []
    assert stat.S_IMODE(os.stat(path).st_mode) == 0o600
    assert await database.read(pragma("journal_mode")) == "wal"
    await database.close()
    assert names(path) == ["ledger.db"], "the last one to close leaves one whole file"
    assert stored_version(path) == schema.VERSION


@pytest.mark.parametrize(("durable", "synchronous"), [(False, 1), (True, 2)])
async def test_durable_is_a_commit_that_waits_for_the_disk(
    opened: Callable[..., SqliteDatabase], durable: bool, synchronous: int
) -> None:
    database = opened(durable=durable)
    assert await database.read(pragma("synchronous")) == synchronous
    await database.close()
    assert await database.read(pragma("synchronous")) == synchronous, "and so it is when it is opened again"


@pytest.mark.parametrize("content", [None, b""], ids=["no file", "an empty file"])
async def test_migration_begins_with_nothing(
    opened: Callable[..., SqliteDatabase], path: str, content: bytes | None
) -> None:
    """A worker that died between creating the file and filling it left it empty."""
    if content is not None:
        Path(path).write_bytes(content)
    database = opened()
    await database.write(note)
    assert await database.read(pragma("user_version")) == schema.VERSION
    tables = "SELECT count(*) FROM sqlite_schema WHERE name IN ('terms', 'jobs', 'epochs', 'runs', 'skips', 'requests')"
    assert await database.read(lambda connection: connection.execute(tables).fetchone()[0]) == 6


async def test_a_migration_that_fails_leaves_nothing_half(
    opened: Callable[..., SqliteDatabase], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(schema, "_STEPS", [*schema._STEPS, ["CREATE TABLE more (x)", "CREATE TABLE wrong syntax"]])
    database = opened()
    with pytest.raises(LedgerError, match="syntax"):
        await database.read(notes)
    monkeypatch.undo()
    assert await database.read(pragma("user_version")) == schema.VERSION
    with pytest.raises(LedgerError, match="no such table: more"):
        await database.read(lambda connection: connection.execute("SELECT * FROM more"))


async def test_a_later_version_goes_on_from_this_one(
    opened: Callable[..., SqliteDatabase], path: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = opened()
    await first.write(note)
    await first.close()
    monkeypatch.setattr(schema, "_STEPS", [*schema._STEPS, ["ALTER TABLE requests ADD COLUMN more TEXT"]])
    later_version = schema.VERSION + 1
    monkeypatch.setattr(schema, "VERSION", later_version)
    monkeypatch.setattr(database_module, "VERSION", later_version)
    later = opened()
    assert await later.read(notes) == [1]
    assert await later.read(lambda connection: connection.execute("SELECT more FROM requests").fetchone()[0]) is None
    assert await later.read(pragma("user_version")) == later_version


async def test_many_open_a_new_file_at_once(opened: Callable[..., SqliteDatabase]) -> None:
    """The whole pool starts at once, and each of its workers reads the ledger."""
    databases = [opened() for _ in range(8)]
    await asyncio.gather(*(database.write(lambda c, n=n: note(c, n)) for n, database in enumerate(databases)))
    assert sorted(await databases[0].read(notes)) == list(range(8))


# --- from the future -------------------------------------------------------------------------------------------------


NEWER = rf"has schema {schema.VERSION + 1}.*supports {schema.VERSION} at most.*upgrade election in every worker"
OLDER = r"has schema {}, from before the first release.*move .* away.*start again"


@pytest.mark.parametrize("look_only", [False, True])
@pytest.mark.parametrize(
    ("version", "told"),
    [
        (schema.VERSION + 1, NEWER),
        (1, OLDER.format(1)),
        (schema.FIRST_VERSION - 1, OLDER.format(schema.FIRST_VERSION - 1)),
    ],
)
async def test_p3_a_schema_of_other_rules_is_refused(path: str, look_only: bool, version: int, told: str) -> None:
    """Older code that writes to it without its rules could grant forbidden claims."""
    os.makedirs(os.path.dirname(path))
    connection = sqlite3.connect(path)
    connection.execute("CREATE TABLE of_another_time (x)")
    connection.execute(f"PRAGMA user_version={version}")
    connection.commit()
    connection.close()
    content = Path(path).read_bytes()
    ledger = SqliteLedger(path, look_only=look_only)
    with pytest.raises(LedgerVersionError, match=told):
        ledger.check()
    with pytest.raises(LedgerVersionError, match=told):
        await ledger.jobs()
    await ledger.close()
    assert Path(path).read_bytes() == content


async def test_check_opens_nothing_and_needs_nothing(path: str) -> None:
    SqliteLedger(path).check()
    SqliteLedger(":memory:").check()
    assert not os.path.exists(os.path.dirname(path))


# --- corrupt ---------------------------------------------------------------------------------------------------------


def overwrite(path: str) -> None:
    with open(path, "r+b") as file:
        file.write(b"\xa5" * 65536)


async def test_a_corrupt_file_is_kept_and_a_new_one_begun(opened: Callable[..., SqliteDatabase], path: str) -> None:
    first = opened()
    await first.write(note)
    await first.close()
    overwrite(path)
    content = Path(path).read_bytes()
    keeper = opened(keeper=True)
    with pytest.raises(LedgerError, match=r"is corrupt: .*; it is kept as .*, and a new one is begun") as caught:
        await keeper.write(note)
    assert await keeper.read(notes) == []
    [aside] = [name for name in names(path) if "corrupt" in name]
    assert aside in str(caught.value)
    assert (Path(path).parent / aside).read_bytes() == content
    await keeper.write(note)
    assert await keeper.read(notes) == [1]


async def test_p3_pitfall_69_a_schema_that_a_newer_worker_has_migrated_is_noticed_in_each_transaction(
    opened: Callable[..., SqliteDatabase], path: str
) -> None:
    database = opened()
    await database.write(note)
    newer = schema.VERSION + 1
    with contextlib.closing(sqlite3.connect(path)) as somebody:
        somebody.execute(f"PRAGMA user_version={newer}")
        for transaction in (database.read, database.write):
            with pytest.raises(LedgerVersionError, match=NEWER):
                await transaction(notes)
        somebody.execute(f"PRAGMA user_version={schema.VERSION}")
    assert await database.read(notes) == [1]


async def test_a_file_that_gets_corrupt_in_use_is_kept_with_its_log(
    opened: Callable[..., SqliteDatabase], path: str
) -> None:
    keeper = opened(keeper=True)
    for number in range(2000):
        await keeper.write(lambda connection, number=number: note(connection, number))
    with contextlib.closing(sqlite3.connect(path)) as somebody:  # the log hides faults of the file

        def all_in_the_file() -> bool:
            busy, in_the_log, moved = somebody.execute("PRAGMA wal_checkpoint(RESTART)").fetchone()
            return not busy and in_the_log == moved

        await until(all_in_the_file)  # busy as long as the keeper's own checkpoint runs
    other = opened()
    await other.read(notes)
    overwrite(path)
    await keeper.read(lambda connection: connection.execute("PRAGMA cache_size=0"))
    with pytest.raises(LedgerError, match="is corrupt"):
        await keeper.read(lambda connection: connection.execute("PRAGMA wal_checkpoint").fetchall() + notes(connection))
    aside = [name for name in names(path) if "corrupt" in name]
    assert [name.rpartition("-")[2] for name in aside if name.endswith(("-wal", "-shm"))] == ["shm", "wal"]
    assert await keeper.read(notes) == []
    await keeper.write(note)
    with pytest.raises(LedgerError, match="removed or replaced"):
        await other.read(notes)
    assert await other.read(notes) == [1], "the others find the new one"
    assert [name for name in names(path) if "corrupt" in name and "wal" in name] != []


@pytest.mark.parametrize("options", [{}, {"create": False}], ids=["a follower", "who only looks"])
async def test_only_its_keeper_sets_a_file_aside(
    opened: Callable[..., SqliteDatabase], path: str, options: dict[str, bool]
) -> None:
    Path(path).write_bytes(b"no database at all" * 1000)
    with pytest.raises(LedgerError, match="is corrupt"):
        await opened(**options).read(notes)
    assert names(path) == ["ledger.db"]


async def test_a_good_file_that_has_taken_the_place_of_the_corrupt_one_stays(
    opened: Callable[..., SqliteDatabase], path: str
) -> None:
    """Two workers find the same file corrupt; the first has already replaced it when the second gets to it."""
    good = opened(path=path + ".good")
    await good.write(note)
    await good.close()
    keeper = opened(keeper=True)
    await keeper.read(notes)

    def found_corrupt(connection: sqlite3.Connection) -> None:
        os.replace(path + ".good", path)
        error = sqlite3.DatabaseError("database disk image is malformed")
        error.sqlite_errorcode = sqlite3.SQLITE_CORRUPT  # type: ignore[misc]
        raise error

    with pytest.raises(LedgerError, match="is corrupt"):
        await keeper.read(found_corrupt)
    assert [name for name in names(path) if "corrupt" in name] == []
    assert await keeper.read(notes) == [1]


# --- removed, replaced -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("how", ["removed", "replaced", "renamed"])
async def test_a_file_that_is_no_longer_the_pools_is_noticed(
    opened: Callable[..., SqliteDatabase], path: str, how: str
) -> None:
    """A detached file would grant claims that no other worker can see (P3)."""
    leader, worker = opened(), opened()
    await leader.write(note)
    await worker.read(notes)
    if how == "removed":
        os.unlink(path)
    elif how == "renamed":
        os.rename(path, path + ".old")
    else:
        shutil.copy(path, path + ".copy")
        os.replace(path + ".copy", path)
    with pytest.raises(LedgerError, match="removed or replaced"):
        await leader.write(note)
    await leader.write(lambda connection: note(connection, 7))
    with pytest.raises(LedgerError, match="removed or replaced"):
        await worker.read(notes)
    assert (await worker.read(notes))[-1] == 7, "the same file again for both, and its log was not thrown away"
    await leader.write(lambda connection: note(connection, 8))
    assert (await worker.read(notes))[-2:] == [7, 8]


async def test_a_directory_that_is_gone_is_told(opened: Callable[..., SqliteDatabase], path: str) -> None:
    database = opened()
    await database.write(note)
    shutil.rmtree(os.path.dirname(path))
    for message in ("removed or replaced", "No such file or directory; a worker of the pool makes", "No such file"):
        with pytest.raises(LedgerError, match=message):
            await database.read(notes)
    os.makedirs(os.path.dirname(path))
    assert await database.read(notes) == []


async def test_a_symlink_is_not_followed_to_make_a_file(opened: Callable[..., SqliteDatabase], path: str) -> None:
    os.symlink(path + ".elsewhere", path)
    with pytest.raises(LedgerError, match=os.strerror(errno.ELOOP)):
        await opened().read(notes)


# --- not to be written -----------------------------------------------------------------------------------------------


async def test_p3_a_full_disk_writes_nothing_half(opened: Callable[..., SqliteDatabase]) -> None:
    """SQLite rolls the transaction back by itself; the error names the disk, and the next try works."""
    database = opened()
    await database.write(note)
    pages = await database.read(pragma("page_count"))
    await database.read(pragma(f"max_page_count={pages}"))

    def much(connection: sqlite3.Connection) -> None:
        for number in range(2, 1000):
            note(connection, number)

    with pytest.raises(LedgerError, match=r"full; free some space on its disk"):
        await database.write(much)
    assert await database.read(notes) == [1]
    await database.write(much)
    assert len(await database.read(notes)) == 999


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A filesystem of a quarter of a megabyte."""
    if sys.platform != "linux" or os.geteuid() != 0:
        pytest.skip("only root can mount")
    mounted = tmp_path / "mounted"
    mounted.mkdir()
    options = ["mount", "-t", "tmpfs", "-o", "size=384k", "tmpfs", str(mounted)]
    if subprocess.run(options, capture_output=True, check=False).returncode != 0:
        pytest.skip("mounts are not allowed here")
    try:
        yield mounted
    finally:
        subprocess.run(["umount", "-l", str(mounted)], check=True)


async def test_p3_a_real_disk_that_is_full(opened: Callable[..., SqliteDatabase], small_disk: Path) -> None:
    database = opened(path=str(small_disk / "ledger.db"))
    await database.write(note)
    ballast = small_disk / "ballast"
    ballast.write_bytes(bytes(shutil.disk_usage(small_disk).free - 4096))

    def much(connection: sqlite3.Connection) -> None:
        for number in range(2, 5000):
            note(connection, number)

    with pytest.raises(LedgerError, match="full; free some space on its disk"):
        await database.write(much)
    assert await database.read(notes) == [1]
    ballast.unlink()
    await database.write(lambda connection: note(connection, 2))
    assert await database.read(notes) == [1, 2]


async def test_a_disk_that_cannot_be_written_at_all(opened: Callable[..., SqliteDatabase], small_disk: Path) -> None:
    path = str(small_disk / "ledger.db")
    database = opened(path=path)
    await database.write(note)
    await database.close()
    subprocess.run(["mount", "-o", "remount,ro", str(small_disk)], check=True)
    with pytest.raises(LedgerError, match=r"; (make it and its directory writable|check that its directory exists)"):
        await opened(path=path).write(note)
    with pytest.raises(LedgerError, match="Read-only file system"):
        await opened(path=path + ".new").write(note)
    subprocess.run(["mount", "-o", "remount,rw", str(small_disk)], check=True)
    await database.write(note)
    assert await database.read(notes) == [1, 1]


async def test_another_writer_that_does_not_end_is_told(
    opened: Callable[..., SqliteDatabase], path: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(database_module, "BUSY_TIMEOUT_S", 0.01)
    database = opened()
    await database.write(note)
    blocker = sqlite3.connect(path, isolation_level=None)
    blocker.execute("BEGIN IMMEDIATE")
    with pytest.raises(LedgerBusyError, match=r"another process has kept it locked$"):
        await database.write(note)
    assert await database.read(notes) == [1], "reading goes on"
    blocker.execute("ROLLBACK")
    blocker.close()
    await database.write(note)


async def test_an_urgent_write_waits_only_shortly_for_another_process(
    opened: Callable[..., SqliteDatabase], path: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(database_module, "BUSY_TIMEOUT_S", 600.0)
    database = opened()
    await database.write(note)
    script = f"import sqlite3; it = sqlite3.connect({path!r}); it.execute('BEGIN IMMEDIATE'); print(); input()"
    command = [sys.executable, "-c", script]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as blocker:
        assert blocker.stdout is not None
        blocker.stdout.readline()
        with pytest.raises(LedgerBusyError, match=rf"has kept it locked: pid {blocker.pid} \(.*import sqlite3"):
            await database.write_urgently(note)
        blocker.kill()
    await database.write_urgently(note)
    waits = await database.read(lambda connection: connection.execute("PRAGMA busy_timeout").fetchone()[0])
    assert waits == 600_000, "as before"
    assert await database.read(notes) == [1, 1]


async def test_p3_each_nth_statement_that_fails_undoes_all(opened: Callable[..., SqliteDatabase]) -> None:
    """As in SQLite's own tests: the fault moves through the transaction until it has passed its end."""
    database = opened()

    def three(connection: sqlite3.Connection) -> None:
        note(connection, 1)
        connection.execute("INSERT INTO requests (action, requested_at) SELECT action, 2 FROM requests")
        connection.execute("INSERT INTO requests (action, requested_at) SELECT action, 3 FROM requests LIMIT 1")

    faults = 0
    while True:
        calls = [0]

        def authorize(action: int, *_: object, calls: list[int] = calls, faults: int = faults) -> int:
            calls[0] += action in {sqlite3.SQLITE_INSERT, sqlite3.SQLITE_TRANSACTION}
            return sqlite3.SQLITE_DENY if calls[0] > faults else sqlite3.SQLITE_OK

        await in_passing(
            database._submitted(database._guarded, lambda connection: connection.set_authorizer(authorize))
        )
        try:
            await database.write(three)
        except LedgerError as error:
            assert "not authorized" in str(error)
        else:
            break
        faults += 1
        assert await database.read(notes) == []
    assert faults >= 5, "the beginning, three statements and the end"
    await database.close()
    assert await database.read(notes) == [1, 2, 3]


async def test_what_a_transaction_raises_undoes_it_and_is_raised(opened: Callable[..., SqliteDatabase]) -> None:
    database = opened()

    def broken(connection: sqlite3.Connection) -> None:
        note(connection)
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await database.write(broken)
    await database.write(lambda connection: note(connection, 2))
    assert await database.read(notes) == [2]


async def test_a_cancelled_caller_ends_after_its_transaction(opened: Callable[..., SqliteDatabase]) -> None:
    """Otherwise a write would continue after the seat was released (P5)."""
    database = opened()
    begun, go_on = threading.Event(), threading.Event()

    def slow(connection: sqlite3.Connection) -> None:
        begun.set()
        assert go_on.wait(30)
        note(connection)

    writing = asyncio.ensure_future(database.write(slow))
    await until(begun.is_set)
    writing.cancel()
    for _ in range(20):
        await asyncio.sleep(0)
    assert not writing.done()
    go_on.set()
    with pytest.raises(asyncio.CancelledError):
        await writing
    assert await database.read(notes) == [1]


async def test_a_read_sees_one_state_of_things(opened: Callable[..., SqliteDatabase]) -> None:
    reader, writer = opened(), opened()
    await writer.write(note)
    seen, written = threading.Event(), threading.Event()

    def twice(connection: sqlite3.Connection) -> list[list[int]]:
        first = notes(connection)
        seen.set()
        assert written.wait(30)
        return [first, notes(connection)]

    reading = asyncio.ensure_future(reader.read(twice))
    await until(seen.is_set)
    await writer.write(lambda connection: note(connection, 2))
    written.set()
    assert await reading == [[1], [1]]
    assert await reader.read(notes) == [1, 2]


async def test_closed_is_opened_again_when_it_is_used(opened: Callable[..., SqliteDatabase]) -> None:
    before = set(threading.enumerate())
    database = opened()
    for number in range(3):
        await database.write(lambda connection, number=number: note(connection, number))
        await database.close()
        await database.close()
    assert await database.read(notes) == [0, 1, 2]
    await database.close()
    await until(lambda: not [thread for thread in set(threading.enumerate()) - before if "ledger" in thread.name])


async def test_what_is_asked_for_while_it_is_closed_waits_for_that(opened: Callable[..., SqliteDatabase]) -> None:
    """A request while the leader resigns. It got the connection that was about to be closed, and Python ended with a
    segmentation fault if the connection was in use.
    """
    database, go_on, told = opened(), threading.Event(), []

    def slow(connection: sqlite3.Connection) -> None:
        told.append("begun")
        assert go_on.wait(30)
        told.append("ended")

    tasks = [asyncio.create_task(database.read(slow))]
    await until(lambda: told)
    tasks.append(asyncio.create_task(database.close()))
    await asyncio.sleep(0)
    tasks.append(asyncio.create_task(database.read(lambda _: told.append("next"))))
    await asyncio.wait(tasks, timeout=0.1)  # long enough for the wrong thing to happen
    go_on.set()
    await asyncio.gather(*tasks)
    assert told == ["begun", "ended", "next"]


async def test_closed_again_and_again_while_it_is_used(opened: Callable[..., SqliteDatabase]) -> None:
    database = opened()
    for number in range(200):
        await asyncio.gather(
            database.read(notes),
            database.close(),
            database.write(lambda connection, number=number: note(connection, number)),
            database.read(notes),
        )
    assert await database.read(notes) == list(range(200))


# --- to look only ----------------------------------------------------------------------------------------------------


async def test_to_look_makes_nothing(opened: Callable[..., SqliteDatabase], path: str) -> None:
    with pytest.raises(LedgerError, match="unable to open"):
        await opened(create=False).read(notes)
    assert names(path) == []


async def test_to_look_changes_nothing(opened: Callable[..., SqliteDatabase], path: str) -> None:
    writer, looker = opened(), opened(create=False)
    await writer.write(note)
    assert await looker.read(notes) == [1]
    await writer.write(note)
    assert await looker.read(notes) == [1, 1], "on a live pool"
    await looker.close()
    await writer.close()
    before = os.stat(path)
    content = Path(path).read_bytes()
    with pytest.raises(LedgerError, match="readonly"):
        await looker.write(note)
    assert await looker.read(notes) == [1, 1], "on a pool that was stopped"
    await looker.close()
    assert Path(path).read_bytes() == content
    assert (os.stat(path).st_mtime_ns, os.stat(path).st_ino) == (before.st_mtime_ns, before.st_ino)


DIES = """
import asyncio, os, signal, sys
from election.engines.file.ledger import SqliteLedger
from election.schedule.model import Action

async def main():
    ledger = SqliteLedger(sys.argv[1])
    await ledger.request(Action.RESIGN)
    await ledger.request(Action.RESIGN)
    os.kill(os.getpid(), signal.SIGKILL)

asyncio.run(main())
"""


async def test_to_look_works_on_a_pool_that_was_killed(opened: Callable[..., SqliteDatabase], path: str) -> None:
    """Its last writes are in the log only; a crash of a process loses nothing."""
    await asyncio.to_thread(subprocess.run, [sys.executable, "-c", DIES, path], check=False)
    assert names(path) == ["ledger.db", "ledger.db-shm", "ledger.db-wal"]
    looker = opened(create=False)
    assert len(await looker.read(notes)) == 2
    await looker.close()
    assert len(await opened().read(notes)) == 2, "and nothing is missing for the next leader either"


# --- forks -----------------------------------------------------------------------------------------------------------

FORKS = """
import asyncio, os, sys
from election.engines.file.ledger import SqliteLedger
from election.schedule.model import Action

ledger = SqliteLedger(sys.argv[1])

async def ask(times):
    return [await ledger.request(Action.RESIGN) for _ in range(times)][-1]

async def parent():
    print("parent", await ask(3), flush=True)
    pid = os.fork()
    if pid == 0:
        os._exit(child())
    await asyncio.to_thread(os.waitpid, pid, 0)
    print("parent", await ask(1), flush=True)
    print("intact", await ledger.integrity(), flush=True)
    await ledger.close()

def child():
    asyncio.events._set_running_loop(None)

    async def work():
        await ledger.close()  # what is its parent's is left alone, and it does not wait for a thread it has not got
        print("child", await ask(2), flush=True)
        await ledger.close()

    asyncio.run(work())
    return 0

asyncio.run(parent())
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there are no forks here")
async def test_pitfall_1_a_forked_child_opens_its_own(path: str) -> None:
    """SQLite forbids using a connection across a fork, or closing it there."""
    os.makedirs(os.path.dirname(path))
    command = [sys.executable, "-c", FORKS, path]
    done = await asyncio.to_thread(subprocess.run, command, capture_output=True, text=True, timeout=60, check=False)
    assert done.stdout.split("\n") == ["parent 3", "child 5", "parent 6", "intact []", ""], done.stderr


# --- and the ledger on it --------------------------------------------------------------------------------------------


async def test_p2_p3_after_its_ledger_was_lost_a_term_goes_on_in_a_new_one(path: str) -> None:
    os.makedirs(os.path.dirname(path))
    ledger = SqliteLedger(path, keeper=True)
    await ledger.begin_term(make_term(4), process())
    await ledger.record(4, [RegisterJob("job", JOB.schedule, at=NOW, since=NOW)])
    await ledger.close()
    overwrite(path)
    with pytest.raises(LedgerError, match="is corrupt"):
        await ledger.record(4, [Claim(Tick("job", at(1)), NOW)])
    assert await ledger.record(4, [Claim(Tick("job", at(1)), NOW)]) == [False], "nothing is granted of what is unknown"
    state = await ledger.begin_term(make_term(4), process())
    assert (state.jobs, state.open_runs) == ([], [])
    assert (await ledger.latest_terms()).begun == 4
    await ledger.request(Action.RESIGN, term=4)
    await ledger.close()
