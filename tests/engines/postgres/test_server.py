"""A server that refuses writes, and one replaced by its standby: nothing is run unclaimed, no tick is lost."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.support.pool import Pool
from tests.support.postgres_server import PostgresServer, give_to_server_user
from tests.support.waiting import until


def check(pool: Pool) -> None:
    """Each tick ran once, or was skipped with a reason."""
    facts = pool.facts()
    assert (facts.run_twice("tick"), facts.overlaps()) == ([], [])
    code, said = pool.verify()
    assert code == 0, said


def says(pool: Pool, words: str) -> bool:
    answer = pool.get()
    return answer is not None and words in answer.text


def nobody_leads(pool: Pool, words: str) -> bool:
    answer = pool.get()
    return answer is not None and answer.status_code == 503 and words in answer.text


@pytest.fixture
def small_disk(own_server: PostgresServer) -> Iterator[Path]:
    """A directory on a separate disk of 32 MB."""
    place = own_server.directory / "small"
    place.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=32m", "election-small", str(place)]
    if os.geteuid() != 0 or subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("only root can mount a small disk, and not everywhere")
    try:
        give_to_server_user(place)
        yield place
    finally:
        own_server.stop()
        subprocess.run(["umount", str(place)], check=True)


@pytest.mark.timeout(180)
def test_p3_p4_the_disk_is_full_and_has_room_again(
    own_server: PostgresServer, small_disk: Path, new_pool: Callable[..., Pool]
) -> None:
    """No claim, no run, and ``/leader`` gives the remedy; then the owed ticks are caught up with."""
    own_server.execute(f"CREATE TABLESPACE small LOCATION '{small_disk}'")
    own_server.execute("CREATE DATABASE small TABLESPACE small")
    pool = new_pool(pool=own_server.url("small"), workers=2).start()
    own_server.execute("ALTER TABLE election.runs SET (fillfactor = 10)", "small")  # a page is full after a few rows
    until(lambda: pool.facts().of("begin", "tick"), what="a job runs")
    with (small_disk / "ballast").open("wb") as ballast:
        free = os.statvfs(small_disk)
        os.posix_fallocate(ballast.fileno(), 0, free.f_bavail * free.f_frsize)
    until(lambda: says(pool, "No space left on device") and says(pool, "free some space"), what="/leader says why")
    before = len(pool.facts().of("begin", "tick"))
    time.sleep(2.5)  # some ticks fall due
    assert len(pool.facts().of("begin", "tick")) == before, "no claim, no run"
    claimed = own_server.execute("SELECT count(*) FROM election.runs", "small")
    assert claimed == [(before,)], "what ran was claimed"
    (small_disk / "ballast").unlink()
    until(lambda: not says(pool, "No space left"), what="the ledger can be written again")
    until(lambda: len(pool.facts().of("begin", "tick")) > before + 3, what="what fell due is caught up with")
    check(pool)


@pytest.mark.extended
@pytest.mark.timeout(180)
def test_p2_p3_p4_a_standby_takes_the_servers_place(own_server: PostgresServer, new_pool: Callable[..., Pool]) -> None:
    """While there are standbys only, nobody leads and ``/leader`` says why; the promoted one has every claim."""
    standby = own_server.standby()
    try:
        standby.start()
        own_server.execute("ALTER SYSTEM SET synchronous_standby_names = '*'")
        own_server.execute("SELECT pg_reload_conf()")
        until(
            lambda: own_server.execute("SELECT 1 FROM pg_stat_replication WHERE sync_state = 'sync'"),
            what="the standby follows",
        )
        both = f"postgresql://postgres@127.0.0.1:{own_server.port},127.0.0.1:{standby.port}/postgres"
        pool = new_pool(pool=both, workers=2, environment={"ELECTION_TEST_DURABLE": "1"}).start()
        until(lambda: len(pool.facts().of("begin", "tick")) > 2, what="jobs run")
        own_server.kill()
        until(lambda: nobody_leads(pool, "read-only"), what="/leader says that there is a standby only")
        standby.execute("ALTER SYSTEM SET synchronous_standby_names = ''")
        standby.execute("SELECT pg_promote()")
        until(lambda: pool.settled()["leader"]["term"] == 2, what="the next term begins")
        check(pool)
    finally:
        standby.close()
