"""The ledger's log, ``ledger.db-wal``, is removed while the ledger is in use: claims survive (P3)."""

from __future__ import annotations

import asyncio
import sqlite3
import subprocess
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from election.core.errors import LedgerError
from election.engines.file.database import SqliteDatabase
from tests.support.pool import ROOT

KEEPER = """
import asyncio, os, sys
from election.engines.file.database import SqliteDatabase
from tests.faults.test_ledger_log import note

async def live(path, times):
    keeper = SqliteDatabase(path, keeper=True)
    await keeper.write(note)
    os.unlink(path + "-wal")
    for _ in range(int(times)):
        await keeper.write(note)
    os.kill(os.getpid(), 9)

asyncio.run(live(*sys.argv[1:]))
"""
"""Writes a note, removes the log, writes more notes, and is killed."""


def note(connection: sqlite3.Connection) -> None:
    connection.execute("INSERT INTO requests (action, requested_at) VALUES ('run', 1)")


def notes(connection: sqlite3.Connection) -> int:
    return int(connection.execute("SELECT count(*) FROM requests").fetchone()[0])


def with_others(path: Path, times: int, then: Callable[[SqliteDatabase, SqliteDatabase], Awaitable[None]]) -> None:
    """``then`` with a follower that has had the ledger open all the time, and with the successor of a dead keeper."""

    async def use() -> None:
        follower, heir = SqliteDatabase(str(path)), SqliteDatabase(str(path), keeper=True)
        assert await follower.read(notes) == 0
        done = subprocess.run([sys.executable, "-c", KEEPER, path, str(times)], check=False, cwd=ROOT)
        assert done.returncode == -9
        try:
            await then(follower, heir)
        finally:
            await follower.close()
            await heir.close()

    asyncio.run(use())


def test_its_keeper_saves_it(tmp_path: Path) -> None:
    """At its next poll, twice a second; otherwise everything since the last checkpoint would be lost with the
    process.
    """

    async def then(follower: SqliteDatabase, heir: SqliteDatabase) -> None:
        assert await heir.read(notes) == 3
        await heir.write(note)
        assert await follower.read(notes) == 4
        await follower.write(note)
        assert await heir.read(notes) == 5

    with_others(tmp_path / "ledger.db", 2, then)
    assert [each.name for each in tmp_path.iterdir()] == ["ledger.db"]


def test_its_keeper_dies_before_it_could(tmp_path: Path) -> None:
    """The index, kept alive by a follower, refers to lost frames: the ledger is set aside, never read in part."""

    async def then(follower: SqliteDatabase, heir: SqliteDatabase) -> None:
        with pytest.raises(LedgerError, match=r"is corrupt: .*; it is kept as .*, and a new one is begun"):
            await heir.read(notes)
        await heir.write(note)
        with pytest.raises(LedgerError, match="removed or replaced"):
            await follower.read(notes)
        assert await follower.read(notes) == 1

    with_others(tmp_path / "ledger.db", 0, then)
    assert [each for each in tmp_path.iterdir() if ".corrupt-" in each.name]


def test_a_reader_that_is_busy_is_waited_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An unsaved log is reported, nothing is written meanwhile, and the next try saves it."""
    monkeypatch.setattr("election.engines.file.database.BUSY_TIMEOUT_S", 0.05)
    path = tmp_path / "ledger.db"

    async def use() -> None:
        keeper = SqliteDatabase(str(path), keeper=True)
        await keeper.write(note)
        reader = sqlite3.connect(path, isolation_level=None)
        reader.execute("BEGIN")
        assert notes(reader) == 1
        await keeper.write(note)
        Path(f"{path}-wal").unlink()
        with pytest.raises(LedgerError, match="cannot be saved yet"):
            await keeper.write(note)
        reader.execute("ROLLBACK")
        reader.close()
        await keeper.write(note)
        assert await keeper.read(notes) == 3
        await keeper.close()

    asyncio.run(use())
