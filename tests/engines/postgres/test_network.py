"""The cable between hosts is cut, or slow: one leader for unexpired terms, no tick twice, none lost (P1, P3, P4)."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import ExitStack
from datetime import datetime
from itertools import pairwise
from pathlib import Path

import pytest

from election.core.term import Reason, Standing
from election.engines.postgres.trust import Trust
from tests.engines.conformance.pool import Pool
from tests.engines.file.pool import Nursery
from tests.support.facts import Facts
from tests.support.hosts import Hosts, Program, two_hosts
from tests.support.postgres_server import PostgresServer, server
from tests.support.switch import Switch
from tests.support.waiting import until

CUT = float(os.environ.get("ELECTION_TEST_CUT", "12"))
"""Seconds for which the cable is cut: for longer than the server keeps the session of a client that is silent."""

KEPT = Trust(0.5).limit + 3.0
"""Seconds for which it keeps it, with the default heartbeat."""


@pytest.fixture
def hosts() -> Iterator[Hosts]:
    with two_hosts() as hosts:
        yield hosts


@pytest.mark.timeout(180)
def test_p1_p3_p4_the_cable_of_the_leaders_host_is_cut_and_mended(hosts: Hosts, tmp_path: Path) -> None:
    with ExitStack() as scope:
        addresses = {"listen_addresses": ",".join(hosts.addresses.values())}
        own = scope.enter_context(server(within=hosts.on("server"), **addresses))
        urls = {host: own.url(at=address) for host, address in hosts.addresses.items()}
        here = Program(scope, hosts, "a", urls["a"], tmp_path)
        until(here.leads, what="the first leads")
        there = Program(scope, hosts, "b", urls["b"], tmp_path)
        until(there.follows, what="the second follows")
        time.sleep(2)
        cut = time.monotonic()
        hosts.cut("a")
        until(there.leads, what="the second leads")
        until(lambda: here.seen()[-1]["problem"], what="the first says what is wrong")
        time.sleep(max(0.0, cut + CUT - time.monotonic()))
        assert here.seen()[-1]["state"] == "electing", "P8: when in doubt, nobody leads"
        hosts.mend("a")
        until(here.follows, what="the first follows")
        time.sleep(2)
        judged = there.verify()
        assert judged.returncode == 0, judged.stdout + judged.stderr
    facts = Facts.read(tmp_path / "facts")
    assert facts.run_twice("tick") == []
    assert facts.overlaps() == []
    dues = [datetime.fromisoformat(fact["due"]) for fact in facts.of("begin", "tick")]
    assert {(later - earlier).total_seconds() for earlier, later in pairwise(sorted(dues))} == {1.0}
    by_term = {fact["leads"]: fact["pid"] for fact in facts.of("seen") if fact["leads"]}
    assert by_term[1] == here.process.pid
    assert by_term[2] == there.process.pid
    last = max(fact["at"] for fact in here.seen() if fact["leads"] == 1)
    first = min(fact["at"] for fact in there.seen() if fact["leads"] == 2)
    assert cut < last < first, "P1: the first stopped to believe before the second began"
    print(
        f"\ncable cut for {CUT:.0f} s: the first believed for {last - cut:.1f} s, the second led in {first - cut:.1f} s"
    )
    assert first - cut < KEPT + 3.0, "P6: as soon as the server gives the session up, and what it takes to notice"


def test_a_slow_network(postgres_server: PostgresServer, tmp_path: Path, hands: Nursery) -> None:
    """50 ms each way: the heart beats in time all the same, and a resignation is noticed."""
    switch = Switch(postgres_server.port, delay=0.05)
    pool = Pool("postgres", postgres_server.url(port=switch.port, pool="slow"), tmp_path, hands)
    try:
        leader, follower = pool.worker(), pool.worker()
        assert leader.wins().number == 1
        leader.beats()
        assert follower.campaign() is None
        time.sleep(4)
        assert leader.held() is not None
        assert follower.sees(1).led
        follower.waits()
        leader.release(Standing.RESIGNED)
        until(follower.woken, what="the follower is woken")
        term = follower.wins()
        assert (term.number, term.takeover.reason) == (2, Reason.RESIGNED)
    finally:
        pool.close()
        switch.close()
