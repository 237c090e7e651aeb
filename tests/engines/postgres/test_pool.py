"""Real pools under Uvicorn on a real server: leaders killed, the server killed and restarted."""

from __future__ import annotations

import os
import signal
import statistics
import time
from collections.abc import Callable

import pytest

from tests.pool.test_failover import check_that_no_second_was_lost, kill_leaders
from tests.support.lateness import lateness
from tests.support.pool import Pool
from tests.support.postgres_server import PostgresServer, RunningPostgres, sessions
from tests.support.waiting import until


@pytest.mark.timeout(300)
@pytest.mark.parametrize("kills", [3, pytest.param(8, marks=pytest.mark.extended)])
def test_kills_in_a_row(new_pool: Callable[..., Pool], postgres_server: RunningPostgres, kills: int) -> None:
    """P1, P2, P4, P6: no second lost, none run twice, never two leaders, and a successor soon."""
    pool = new_pool(pool=postgres_server.url(pool=f"kills{kills}"), workers=3, jobs="tick,while_leading").start()
    took = kill_leaders(pool, kills)
    check_that_no_second_was_lost(pool)
    code, said = pool.verify()
    assert code == 0, said
    print(f"\n{kills} kills, 3 workers: takeover median {statistics.median(took):.1f} ms, worst {max(took):.1f} ms")
    assert statistics.median(took) < 1000, "on a machine with other things to do; a quiet one needs a tenth of it"


@pytest.mark.timeout(300)
@pytest.mark.extended
@pytest.mark.parametrize("how", ["killed", "restarted"])
def test_the_server_is_away(new_pool: Callable[..., Pool], own_server: PostgresServer, how: str) -> None:
    """P2, P3, P4: without the server nobody leads, ``/leader`` gives the reason, and owed ticks are caught up with."""
    pool = new_pool(pool=own_server.url(), workers=3, jobs="tick,while_leading").start()
    for _ in range(5):
        before = pool.settled()["leader"]["term"]
        if how == "killed":
            own_server.kill()
        else:
            own_server.stop(signal.SIGINT)

        def says_why() -> bool:
            answer = pool.get()
            return answer is not None and answer.status_code == 503 and "postgresql" in answer.text

        until(says_why, what="/leader says that the server is away")
        own_server.start()
        until(lambda before=before: pool.settled()["leader"]["term"] > before, what="another term begins")
    facts = pool.facts()
    assert (facts.run_twice("tick"), facts.overlaps()) == ([], [])
    code, said = pool.verify()
    assert code == 0, said


@pytest.mark.extended
@pytest.mark.parametrize("loop", ["uvloop", "asyncio"])
def test_both_event_loops(new_pool: Callable[..., Pool], postgres_server: RunningPostgres, loop: str) -> None:
    """uvloop and the plain loop: on both, workers elect, take over at once, and stop in order."""
    url, before = postgres_server.url(pool=loop), sessions(postgres_server)
    pool = new_pool(pool=url, workers=2, environment={"ELECTION_TEST_LOOP": loop}).start()
    answer = pool.get("/loop")
    assert answer is not None
    assert answer.json().startswith(loop)
    assert kill_leaders(pool, 2)
    pool.settled()
    assert pool.stop() == 0
    assert postgres_server.execute(f"SELECT count(*) FROM election_{loop}.terms") == [(3,)], "none on the way down"
    until(lambda: sessions(postgres_server) <= before, what="the server has ended their sessions")


FENCE_AFTER = 4.0


@pytest.mark.extended
@pytest.mark.parametrize("how", ["stopped", "hangs_in_a_call"])
def test_rows_11_12_a_leader_that_hangs(
    new_pool: Callable[..., Pool], postgres_server: RunningPostgres, how: str
) -> None:
    """When stopped, it is ended by a follower; when hanging in a job, by its own switch."""
    fenced = {"ELECTION_FENCE_AFTER": str(FENCE_AFTER)}
    jobs = "tick" if how == "stopped" else f"tick,{how}"
    pool = new_pool(pool=postgres_server.url(pool=how), workers=3, jobs=jobs, environment=fenced).start()
    leader = (
        pool.leader()["leader"]["pid"] if how == "stopped" else until(lambda: pool.facts().of("begin", how))[0]["pid"]
    )
    if how == "stopped":
        os.kill(leader, signal.SIGSTOP)
    began = time.monotonic()
    found = pool.leader(but=leader)
    assert time.monotonic() - began < 5 * FENCE_AFTER
    assert (found["leader"]["term"], found["last_takeover"]["reason"]) == (2, "fenced")
    pool.settled()
    pool.stop()
    code, said = pool.verify()
    assert code == 0, said


@pytest.mark.timeout(300)
@pytest.mark.extended
def test_the_leaders_session_is_ended(new_pool: Callable[..., Pool], postgres_server: RunningPostgres) -> None:
    """P1–P4, P6: the term ends at once, without waiting for a heartbeat, and the next one begins after it."""
    url, slow = postgres_server.url(pool="ended"), {"ELECTION_TEST_HEARTBEAT": "1.5"}
    pool = new_pool(pool=url, workers=3, jobs="tick,while_leading", environment=slow).start()
    took = []
    with lateness(pool.facts_path.parent) as late:
        for _ in range(10):
            before = pool.settled()["leader"]["term"]
            statement = "SELECT pg_terminate_backend(backend) FROM election_ended.leader"
            assert postgres_server.execute(statement) == [(True,)]
            ended = time.monotonic()
            until(lambda before=before: pool.facts().of("leading")[-1]["term"] > before, what="the next term works")
            took.append(pool.facts().of("leading")[-1]["at"] - ended)
            assert pool.settled()["last_takeover"]["reason"] == "lost"
    facts = pool.facts()
    assert (facts.run_twice("tick"), facts.overlaps()) == ([], [])
    code, said = pool.verify()
    assert code == 0, said
    print(
        f"\n10 sessions ended: vacancy median {1000 * statistics.median(took):.0f} ms, worst {1000 * max(took):.0f} ms"
    )
    allowed = 0.8 + 3 * late()
    assert sorted(took)[7] < allowed, (
        "of ten terms that end with a heartbeat, every 1.5 s, eight would rarely be so quick"
    )
