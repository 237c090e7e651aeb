"""The cable between hosts is cut, or slow: one leader for unexpired terms, no tick run twice, none lost (P1, P3,
P4).
"""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.engines.cable import cut_and_mend, judge_cut, through_a_slow_network
from tests.engines.conformance.pool import Pool
from tests.support.hosts import Hosts, Program
from tests.support.lateness import lateness
from tests.support.redis_server import Server
from tests.support.switch import Switch

CUT = float(os.environ.get("ELECTION_TEST_CUT", "6"))
"""Seconds for which the cable is cut: twice a lease."""


@pytest.mark.timeout(180)
def test_p1_p3_p4_the_cable_of_the_leaders_host_is_cut_and_mended(hosts: Hosts, tmp_path: Path) -> None:
    with ExitStack() as scope:
        server = Server(tmp_path / "server", "--protected-mode", "no", address=" ".join(hosts.addresses.values()))
        scope.callback(server.kill)
        server.start(tuple(hosts.on("server")))
        server.grown_up()

        def start(host: str) -> Program:
            url = f"redis://{hosts.addresses[host]}:{server.port}/0?socket_timeout=1"
            return Program(scope, hosts, host, url, tmp_path)

        late = scope.enter_context(lateness(tmp_path))
        seen = cut_and_mend(hosts, start, CUT)
        latest = late()
    _, led_after = judge_cut(tmp_path, *seen)
    assert led_after < 3.0 + 2.0 + 3 * latest, "P6: within the lease, and what it takes to notice"


@pytest.mark.extended
def test_a_slow_network(steady: Server, new_pool: Callable[[str], Pool]) -> None:
    """50 ms each way."""
    switch = Switch(steady.port, delay=0.05)
    try:
        through_a_slow_network(new_pool(f"redis://127.0.0.1:{switch.port}/0"))
    finally:
        switch.close()
