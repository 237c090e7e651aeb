"""The cable between hosts is cut, or slow: one leader for unexpired terms, no tick twice, none lost (P1, P3, P4)."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from datetime import datetime
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from election.core.term import Standing
from tests.engines.conformance.pool import Pool
from tests.support.facts import Facts
from tests.support.hosts import Hosts, two_hosts
from tests.support.redis_server import Server
from tests.support.switch import Switch
from tests.support.waiting import until

ROOT = Path(__file__).parents[3]
CUT = float(os.environ.get("ELECTION_TEST_CUT", "6"))
"""Seconds for which the cable is cut: twice a lease."""


@pytest.fixture
def hosts() -> Iterator[Hosts]:
    with two_hosts() as hosts:
        yield hosts


class Program:
    """``tests.support.program`` on a host."""

    def __init__(self, scope: ExitStack, hosts: Hosts, host: str, port: int, path: Path) -> None:
        self._pool = f"redis://{hosts.addresses[host]}:{port}/0?socket_timeout=1"
        self._on = hosts.on(host)
        environment = {
            **os.environ,
            "PYTHONPATH": str(ROOT),
            "FACTS": str(path / "facts"),
            "ELECTION_POOL": self._pool,
        }
        command = [*self._on, sys.executable, "-m", "tests.support.program"]
        log = scope.enter_context((path / f"log-{host}").open("wb"))
        self.process = subprocess.Popen(command, env=environment, stdout=log, stderr=log, cwd=ROOT)
        scope.callback(self._end)
        self._facts = path / "facts"

    def seen(self) -> list[dict[str, Any]]:
        return [fact for fact in Facts.read(self._facts).of("seen") if fact["pid"] == self.process.pid]

    def leads(self) -> bool:
        return bool(self.seen() and self.seen()[-1]["leads"])

    def verify(self) -> subprocess.CompletedProcess[str]:
        """What the command line has to say of the pool's history."""
        command = [*self._on, sys.executable, "-m", "election", "verify", "--pool", self._pool]
        return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)

    def _end(self) -> None:
        self.process.terminate()
        try:
            self.process.wait(20)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()


@pytest.mark.timeout(180)
def test_p1_p3_p4_the_cable_of_the_leaders_host_is_cut_and_mended(hosts: Hosts, tmp_path: Path) -> None:
    with ExitStack() as scope:
        server = Server(tmp_path / "server", "--protected-mode", "no", address=" ".join(hosts.addresses.values()))
        scope.callback(server.kill)
        server.start(tuple(hosts.on("server")))
        server.grown_up()
        here = Program(scope, hosts, "a", server.port, tmp_path)
        until(here.leads, what="the first leads")
        there = Program(scope, hosts, "b", server.port, tmp_path)
        until(lambda: there.seen() and there.seen()[-1]["state"] == "led", what="the second follows")
        time.sleep(2)
        cut = time.monotonic()
        hosts.cut("a")
        until(there.leads, what="the second leads")
        until(lambda: here.seen()[-1]["problem"], what="the first says what is wrong")
        time.sleep(max(0.0, cut + CUT - time.monotonic()))
        hosts.mend("a")
        until(lambda: here.seen()[-1]["state"] == "led" and not here.seen()[-1]["problem"], what="the first follows")
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
    assert first - cut < 3.0 + 2.0, "P6: within the lease, and what it takes to notice"


def test_a_slow_network(steady: Server, new_pool: Callable[[str], Pool]) -> None:
    """50 ms each way: the lease is renewed all the same, and a resignation is noticed."""
    switch = Switch(steady.port, delay=0.05)
    try:
        pool = new_pool(f"redis://127.0.0.1:{switch.port}/0")
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
        assert follower.wins().number == 2
    finally:
        switch.close()
