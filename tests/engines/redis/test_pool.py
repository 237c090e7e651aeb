"""Real pools under Uvicorn on a real server, with faults of leaders, connections, keys and the server (P1 to P4, P6,
P8).
"""

from __future__ import annotations

import re
import statistics
import time
from collections.abc import Callable

import psutil
import pytest

from tests.pool.test_failover import check_that_no_second_was_lost, kill_leaders
from tests.support.pool import Pool
from tests.support.postgres_server import RunningPostgres
from tests.support.redis_server import Server
from tests.support.waiting import until


def check(pool: Pool, *, ledger: str | None = None) -> None:
    """Each tick ran once, or was skipped with a reason. ledger: its URL, if it is not beside the seat."""
    facts = pool.facts()
    assert (facts.run_twice("tick"), facts.overlaps()) == ([], [])
    pool.path = ledger or pool.path
    code, said = pool.verify()
    assert code == 0, said


@pytest.mark.timeout(300)
@pytest.mark.parametrize("kills", [3, pytest.param(8, marks=pytest.mark.extended)])
def test_kills_in_a_row(served: Callable[..., Pool], steady: Server, kills: int) -> None:
    """P1, P2, P4, P6: no second lost, none run twice, never two leaders; on one host nobody waits for the lease."""
    pool = served(pool=f"{steady.url}?pool=kills", workers=3, jobs="tick,while_leading").start()
    took = kill_leaders(pool, kills)
    check_that_no_second_was_lost(pool)
    check(pool)
    print(f"\n{kills} kills, 3 workers: takeover median {statistics.median(took):.1f} ms, worst {max(took):.1f} ms")
    assert statistics.median(took) < 1000, "on a machine with other things to do; a quiet one needs a tenth of it"


@pytest.mark.timeout(300)
@pytest.mark.extended
@pytest.mark.parametrize("how", ["killed", "shut down"])
def test_the_server_is_away_and_comes_back(
    served: Callable[..., Pool], server: Server, new_server: Callable[..., Server], how: str
) -> None:
    """P2, P3, P4: for less than a lease, the term continues; for more, nobody leads, and ``/leader`` gives the
    reason.
    """
    if how == "killed":  # with everysec it forgets claims that it has answered
        server = new_server("--appendfsync", "always").start().grown_up()
    slow = {"ELECTION_TEST_HEARTBEAT": "1"}  # a lease of 6 s
    pool = served(pool=server.url, workers=3, jobs="tick,while_leading", environment=slow).start()
    for away in (0.0, 0.5, 0.0, 8.0, 0.0):
        before = pool.settled()["leader"]["term"]
        if how == "killed":
            server.kill()
        else:
            server.shut_down()
        if away > 6.0:
            until(lambda: _says_why(pool), what="/leader says that the server is away")
        time.sleep(away)
        server.start()
        after = pool.settled()["leader"]["term"]
        assert after == before + (away > 6.0)
        until(lambda: pool.settled()["problem"] is None, what="nothing is wrong any more")
    check(pool)
    assert pool.stop() == 0


def _says_why(pool: Pool) -> bool:
    answer = pool.get()
    return answer is not None and answer.status_code == 503 and "redis://" in answer.text


def _end_connections(server: Server, pid: int) -> int:
    """``CLIENT KILL`` of each connection of the process; returns their number."""
    known = re.findall(r" addr=(\S+)", server.ask("CLIENT", "LIST"))
    own = [f"{at.laddr.ip}:{at.laddr.port}" for at in psutil.Process(pid).net_connections("tcp")]
    return sum(server.ask("CLIENT", "KILL", "ADDR", address) for address in own if address in known)


@pytest.mark.extended
@pytest.mark.timeout(180)
def test_p1_p3_p4_the_leaders_connections_are_ended(served: Callable[..., Pool], steady: Server) -> None:
    """Ten times all connections of its process: they are reopened, and the term continues."""
    pool = served(pool=f"{steady.url}?pool=connections", workers=3, jobs="tick,while_leading").start()
    leader = pool.settled()["leader"]["pid"]
    for _ in range(10):
        before = len(pool.facts().of("begin", "tick"))
        until(lambda: _end_connections(steady, leader) >= 2, what="one that asks is ended, and one that listens")
        until(lambda before=before: len(pool.facts().of("begin", "tick")) > before, what="the next tick runs")
    until(lambda: pool.settled()["problem"] is None, what="nothing is wrong any more")
    found = pool.settled()["leader"]
    assert (found["pid"], found["term"]) == (leader, 1)
    check_that_no_second_was_lost(pool)
    check(pool)


@pytest.mark.extended
@pytest.mark.timeout(180)
def test_p2_p3_p4_the_server_forgets_all_but_the_ledger_is_elsewhere(
    served: Callable[..., Pool], steady: Server, postgres_server: RunningPostgres
) -> None:
    """``FLUSHALL``, five times: the leader ends its term, and the ledger keeps its ticks and terms."""
    ledger = postgres_server.url(pool="flushed")
    place = {"pool": f"{steady.url}?pool=flushed", "environment": {"ELECTION_TEST_LEDGER": ledger}}
    pool = served(workers=3, jobs="tick,while_leading", **place).start()
    for term in range(1, 6):
        until(lambda term=term: [fact for fact in pool.facts().of("begin", "tick") if fact["term"] == term])
        assert pool.settled()["leader"]["term"] == term
        assert steady.ask("EXISTS", "election:{flushed}:runs") == 0, "the ledger is elsewhere"
        steady.ask("FLUSHALL")
        until(lambda term=term: pool.facts().of("leading")[-1]["term"] > term, what="the next term's work runs")
    check_that_no_second_was_lost(pool)
    check(pool, ledger=ledger)
    assert postgres_server.execute("SELECT count(*), max(term) FROM election_flushed.terms") == [(6, 6)]
