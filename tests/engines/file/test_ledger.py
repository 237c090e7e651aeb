"""Properties of the file engine's ledger in SQLite; the promises of every ledger are in ``conformance/``."""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from election.engines.file.database import SqliteConnection
from election.engines.file.ledger import SqliteLedger
from election.engines.sql import queries
from election.engines.sql.store import prune
from election.schedule.commands import RegisterJob
from election.schedule.model import Request
from tests.schedule.making import NOW, at, make_job, make_term, process

pytestmark = pytest.mark.anyio

SECONDS = make_job("interval", seconds=1, start_date=at(-100))


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture
def path(tmp_path: Path) -> str:
    return str(tmp_path / "ledger.db")


@pytest.fixture
async def ledger(path: str) -> AsyncIterator[SqliteLedger]:
    """One in which term 1 has begun and ``job`` has a tick each second."""
    ledger = SqliteLedger(path)
    await ledger.begin_term(make_term(1), process())
    await ledger.record(1, [RegisterJob("job", SECONDS.schedule, at=NOW, since=NOW)])
    yield ledger
    await ledger.close()


@pytest.fixture
async def other(path: str, ledger: SqliteLedger) -> AsyncIterator[SqliteLedger]:
    """The ledger in another process."""
    other = SqliteLedger(path)
    yield other
    await other.close()


async def test_a_state_is_of_one_moment(
    ledger: SqliteLedger, other: SqliteLedger, path: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A job and a request to run it, both added while the state is read: a request for an unknown job would be
    refused.
    """
    read_requests = queries.open_requests

    def after_the_jobs(connection: sqlite3.Connection) -> list[Request]:
        if threading.current_thread() is not threading.main_thread() and not done:
            done.append(True)
            second = sqlite3.connect(path)
            second.execute("INSERT INTO requests (action, job_id, requested_at) VALUES ('run', 'unheard of', 0)")
            second.commit()
            second.close()
        return read_requests(connection)

    done: list[bool] = []
    await other.pause("job", True)
    monkeypatch.setattr(queries, "open_requests", after_the_jobs)
    state = await ledger.changes()
    assert done
    assert state is not None
    assert state.requests == []
    later = await ledger.changes()
    assert later is not None
    assert [request.job_id for request in later.requests] == ["unheard of"]


def test_to_look_for_old_history_takes_no_longer_when_there_is_more_of_it(tmp_path: Path) -> None:
    """It runs in a transaction, and a claim waits for that."""
    from election.engines.file.schema import migrate

    def steps(rows: int) -> int:
        connection = SqliteConnection(":memory:", isolation_level=None)
        migrate(connection)
        connection.execute(
            "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < ?)"
            " INSERT INTO runs (job_id, due, request, term, claimed_at, outcome)"
            " SELECT 'job', i, 0, 5, 1000000 + i, 'succeeded' FROM n",
            (rows,),
        )
        connection.execute(
            "INSERT INTO skips (job_id, first_due, last_due, reason, request, term, skipped_at)"
            " SELECT job_id, due, due, 'down', 0, 5, claimed_at FROM runs"
        )
        connection.executemany(
            "INSERT INTO terms (term, pid, host, boot_id, began_at, began_ns, reason) VALUES (?, 1, '', '', 9, 9, '')",
            [(number,) for number in range(1, 7)],
        )
        count = [0]

        def step() -> None:
            count[0] += 1

        connection.set_progress_handler(step, 100)
        assert prune(connection, 1000, 10) == 4, "the terms before the oldest run's"
        connection.close()
        return count[0]

    assert steps(40_000) < 1.5 * steps(1_000)
