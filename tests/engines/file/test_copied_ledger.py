"""A ledger that was copied, restored or moved: owed ticks belong to the original until the copy is adopted."""

from __future__ import annotations

import os
import subprocess
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from election.engines.file.file_identity import identify_file
from election.engines.file.ledger import SqliteLedger
from election.schedule.commands import RegisterJob
from election.schedule.model import Copied
from tests.schedule.making import NOW, at, make_job, make_term, process

pytestmark = pytest.mark.anyio

SECONDS = make_job("interval", seconds=1, start_date=at(-100))


@pytest.fixture
async def pool(tmp_path: Path) -> Path:
    """The directory of a ledger that was led in term 1."""
    pool = tmp_path / "pool"
    pool.mkdir()
    ledger = SqliteLedger(str(pool / "ledger.db"))
    await ledger.begin_term(make_term(1), process())
    await ledger.record(1, [RegisterJob("job", SECONDS.schedule, at=NOW, since=NOW)])
    await ledger.close()
    return pool


@pytest.fixture
async def copy(pool: Path) -> AsyncIterator[SqliteLedger]:
    """The ledger of a copy of that directory."""
    subprocess.run(["cp", "-a", pool, f"{pool}.copy"], check=True)
    ledger = SqliteLedger(f"{pool}.copy/ledger.db")
    yield ledger
    await ledger.close()


async def test_a_copy_is_noted_by_its_first_term_and_stays_noted(copy: SqliteLedger) -> None:
    assert await copy.is_moved()
    begun = await copy.begin_term(make_term(2, elected_at=at(5)), process())
    assert begun.copied == Copied(at(5), 2)
    assert await copy.is_moved()
    assert (await copy.begin_term(make_term(3, elected_at=at(9)), process())).copied == Copied(at(5), 2)


async def test_a_copy_that_is_adopted_before_it_is_led_was_none(copy: SqliteLedger) -> None:
    assert await copy.adopt()
    assert not await copy.is_moved()
    assert (await copy.begin_term(make_term(2), process())).copied is None
    assert not await copy.adopt()


async def test_a_copy_that_is_adopted_while_it_is_led_is_told_to_its_leader(copy: SqliteLedger) -> None:
    await copy.begin_term(make_term(2), process())
    other = SqliteLedger(copy.store.database.path)  # type: ignore[attr-defined]
    assert await other.adopt()
    await other.close()
    state = await copy.changes()
    assert state is not None
    assert state.copied is None


async def test_a_directory_that_was_renamed_is_no_copy(pool: Path) -> None:
    pool.rename(f"{pool}.renamed")
    ledger = SqliteLedger(f"{pool}.renamed/ledger.db")
    assert not await ledger.is_moved()
    assert (await ledger.begin_term(make_term(2), process())).copied is None
    await ledger.close()


async def test_a_backup_that_is_put_back_is_a_copy(pool: Path) -> None:
    os.rename(pool / "ledger.db", pool / "kept")
    subprocess.run(["cp", "-a", pool / "kept", pool / "ledger.db"], check=True)
    ledger = SqliteLedger(str(pool / "ledger.db"))
    assert (await ledger.begin_term(make_term(2), process())).copied == Copied(NOW, 2)
    await ledger.close()


def test_identities(tmp_path: Path) -> None:
    """They survive a change and a rename; a copy has another one, whatever its inode number."""
    file = tmp_path / "file"
    file.write_text("a")
    first = identify_file(str(file))
    assert first is not None
    file.write_text("b")
    os.utime(file, (0, 0))
    file.rename(tmp_path / "renamed")
    assert identify_file(str(tmp_path / "renamed")) == first
    subprocess.run(["cp", "-a", tmp_path / "renamed", file], check=True)
    assert identify_file(str(file)) not in {None, first}
    assert identify_file(str(tmp_path / "none")) is None
