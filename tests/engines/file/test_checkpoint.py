"""The log is checkpointed into the database beside the work, often enough to stay short."""

from __future__ import annotations

import sqlite3
import threading
from pathlib import Path
from threading import Event

import pytest

from election.engines.file import checkpoint
from election.engines.file.checkpoint import WRITES_PER_CHECKPOINT, Checkpoints
from election.engines.file.database import SqliteDatabase as Database
from tests.schedule.making import until

pytestmark = pytest.mark.anyio


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


def _note(connection: sqlite3.Connection) -> None:
    connection.execute("CREATE TABLE IF NOT EXISTS notes (text)")
    connection.execute("INSERT INTO notes VALUES (?)", ("x" * 10_000,))


def _busy() -> bool:
    return any(thread.name == "election-checkpoint" for thread in threading.enumerate())


async def test_the_log_does_not_grow_with_what_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checkpoint, "INTERVAL_S", 0.0)
    path = tmp_path / "ledger.db"
    database = Database(str(path))
    for _ in range(10):
        for _ in range(WRITES_PER_CHECKPOINT):
            await database.write(_note)
        await until(lambda: not _busy())
    size = path.with_name("ledger.db-wal").stat().st_size
    await database.close()
    assert size < 4 * WRITES_PER_CHECKPOINT * 20_000, "it is written from its beginning again after each checkpoint"


async def test_closing_waits_for_the_checkpoint_that_is_under_way(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun, go_on, ended = Event(), Event(), Event()

    def slow(self: Checkpoints) -> None:
        begun.set()
        assert go_on.wait(30)
        ended.set()

    monkeypatch.setattr(Checkpoints, "_checkpoint", slow)
    database = Database(str(tmp_path / "ledger.db"))
    for _ in range(WRITES_PER_CHECKPOINT):
        await database.write(_note)
    assert begun.wait(30)
    await database.write(_note)  # which waits for nothing
    go_on.set()
    await database.close()
    assert ended.is_set()


async def test_names_of_new_files_are_synced_with_the_next_checkpoint_if_they_could_not_be(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A ledger with many writes a second has only checkpoints, and needs the sync of its names as much."""
    tried = list[str]()

    def sync(path: str) -> None:
        tried.append(path)
        if len(tried) == 1:
            raise OSError("not now")

    monkeypatch.setattr(checkpoint, "INTERVAL_S", 0.0)
    monkeypatch.setattr(checkpoint, "sync_directory", sync)
    monkeypatch.setattr(Checkpoints, "_sync", lambda self: None)
    database = Database(str(tmp_path / "ledger.db"))
    await database.write(_note)
    await until(lambda: not _busy())
    monkeypatch.setattr(checkpoint, "WRITES_PER_CHECKPOINT", 1)
    for _ in range(3):
        await database.write(_note)
        await until(lambda: not _busy())
    await database.close()
    assert tried == [str(tmp_path)] * 2, "once is enough"
