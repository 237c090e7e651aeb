"""Signals to one, some and all processes of a pool."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable

import pytest

from tests.pool.test_failover import check_that_no_second_was_lost
from tests.support.pool import POLL, Pool
from tests.support.waiting import until


@pytest.mark.extended
def test_stopped_for_a_while(pool: Pool) -> None:
    """Leader, follower, parent, in turn, for longer than two heartbeats: no takeover, no tick lost."""
    assert pool.parent is not None
    found = pool.settled()
    leader = found["leader"]["pid"]
    follower = next(worker["pid"] for worker in found["workers"] if worker["pid"] != leader)
    for pid in (leader, follower, pool.parent.pid):
        os.kill(pid, signal.SIGSTOP)
        stopped = time.monotonic()
        until(lambda stopped=stopped: time.monotonic() - stopped > 1.3)  # the standstill itself
        os.kill(pid, signal.SIGCONT)
    check_that_no_second_was_lost(pool)
    after = pool.settled()
    assert (after["leader"]["pid"], after["leader"]["term"]) == (leader, found["leader"]["term"])
    pool.stop()
    code, said = pool.verify()
    assert code == 0, said


def test_a_follower_that_is_killed_changes_nothing(pool: Pool) -> None:
    found = pool.settled()
    leader = found["leader"]["pid"]
    follower = next(worker["pid"] for worker in found["workers"] if worker["pid"] != leader)
    os.kill(follower, signal.SIGKILL)
    until(lambda: follower not in pids(pool), poll=POLL)
    assert pool.leader()["leader"]["pid"] == leader
    check_that_no_second_was_lost(pool)


@pytest.mark.extended
def test_all_workers_at_once(pool: Pool) -> None:
    """Uvicorn starts others; the first of them leads, and catches up with ticks that fell due meanwhile."""
    found = pool.settled()
    for worker in found["workers"]:
        os.kill(worker["pid"], signal.SIGKILL)
    after = pool.settled()
    assert after["leader"]["term"] > found["leader"]["term"]
    assert not {worker["pid"] for worker in found["workers"]} & {worker["pid"] for worker in after["workers"]}
    until(lambda: [fact for fact in pool.facts().of("begin") if fact["term"] == after["leader"]["term"]])
    assert pool.facts().overlaps() == []
    assert pool.facts().run_twice("tick") == []
    pool.stop()
    code, said = pool.verify()
    assert code == 0, said


@pytest.mark.extended
def test_rolling_restarts_in_a_row(new_pool: Callable[..., Pool]) -> None:
    """SIGHUP to the parent, twice: every worker is replaced, each leader resigns in order; no second is lost, none
    is run twice.
    """
    pool = new_pool(workers=3).start()
    assert pool.parent is not None
    for _ in range(2):
        before = pids(pool)
        pool.parent.send_signal(signal.SIGHUP)
        until(lambda before=before: not before & pids(pool), timeout=60, poll=POLL)
    check_that_no_second_was_lost(pool)
    pool.stop()
    code, said = pool.verify()
    assert code == 0, said


def pids(pool: Pool) -> set[int]:
    """The workers, once all take part."""
    return {worker["pid"] for worker in pool.settled()["workers"]}
