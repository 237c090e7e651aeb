"""The cable between hosts is cut, or slow: one leader for unexpired terms, no tick run twice, none lost (P1, P3,
P4).
"""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

import pytest

from election.core.clock import SystemClock
from election.engines.postgres.trust import Trust
from tests.engines.cable import cut_and_mend, judge_cut, through_a_slow_network
from tests.engines.conformance.pool import Pool
from tests.support.hosts import Hosts, Program
from tests.support.postgres_server import PostgresServer, RunningPostgres
from tests.support.processes import ForkServer
from tests.support.switch import Switch

CUT = float(os.environ.get("ELECTION_TEST_CUT", "12"))
"""Seconds for which the cable is cut: longer than the server keeps the session of a silent client."""

KEPT = Trust(0.5, SystemClock()).limit + 3.0
"""Seconds for which the server keeps it, with the default heartbeat."""


@pytest.mark.timeout(180)
def test_p1_p3_p4_the_cable_of_the_leaders_host_is_cut_and_mended(
    hosts: Hosts, tmp_path: Path, new_postgres: Callable[..., PostgresServer]
) -> None:
    with ExitStack() as scope:
        addresses = {"listen_addresses": ",".join(hosts.addresses.values())}
        own = new_postgres(within=hosts.on("server"), **addresses)

        def start(host: str) -> Program:
            return Program(scope, hosts, host, own.url(at=hosts.addresses[host]), tmp_path)

        seen = cut_and_mend(hosts, start, CUT)
    believed, led_after = judge_cut(tmp_path, *seen)
    print(f"\ncable cut for {CUT:.0f} s: the first believed for {believed:.1f} s, the second led in {led_after:.1f} s")
    assert led_after < KEPT + 3.0, "P6: as soon as the server gives the session up, and what it takes to notice"


@pytest.mark.extended
def test_a_slow_network(postgres_server: RunningPostgres, tmp_path: Path, workers: ForkServer) -> None:
    """50 ms each way."""
    switch = Switch(postgres_server.port, delay=0.05)
    pool = Pool("postgres", postgres_server.url(port=switch.port, pool="slow"), tmp_path, workers)
    try:
        through_a_slow_network(pool)
    finally:
        pool.close()
        switch.close()
