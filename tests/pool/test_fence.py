"""Leaders that hold the seat and hang, in a served pool: killed by their own switch or by their followers."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tests.pool.test_ticks import ledger_runs
from tests.support.lateness import lateness
from tests.support.logs import events_in
from tests.support.pool import POLL, Pool
from tests.support.waiting import until

FENCE_AFTER = 4.0
"""Seconds: a machine that stands still for less gets no leader killed by its own switch."""

LOGGED = {"ELECTION_LOG_FORMAT": "json"}

FENCED = {"ELECTION_FENCE_AFTER": str(FENCE_AFTER), **LOGGED}

OBSERVERS_FENCE = FENCE_AFTER * 1.1 + FENCE_AFTER / 4 + 0.25
"""Seconds until an observer acts at the latest: after the leader's own switch, at a poll, and in its turn."""

SLACK = 1.0
"""Seconds beyond the fence until the work of the next leader runs, on a busy machine."""


def events(pool: Pool, name: str) -> list[dict[str, Any]]:
    return [event for event in events_in(pool.log) if event["event"] == name]


@pytest.mark.extended
@pytest.mark.parametrize("how", ["hangs_in_a_call", "hangs_with_the_gil"])
def test_row_12_an_event_loop_that_hangs_for_good(new_pool: Callable[..., Pool], how: str) -> None:
    """The leader's own switch ends it, with a trace of the hanging line; running jobs are interrupted, the rest
    continues.
    """
    pool = new_pool(jobs=f"tick,{how}", environment=FENCED).start()
    with lateness(pool.facts_path.parent) as late:
        hung = until(lambda: pool.facts().of("begin", how))[0]
        found = pool.leader(but=hung["pid"])
        following = hung["term"] + 1
        ticks = until(lambda: [fact for fact in pool.facts().of("begin", "tick") if fact["term"] == following])
    assert ticks[0]["at"] - hung["at"] < FENCE_AFTER + SLACK + 3 * late()
    assert (found["leader"]["term"], found["last_takeover"]["reason"]) == (following, "fenced")
    assert found["last_takeover"]["from_pid"] == hung["pid"]
    until(lambda: f"in {how}" in pool.log.read_text(), what="the log names the function that hung")
    assert [event["by"] for event in events(pool, "hang_traced")] == [found["leader"]["pid"]]
    pool.settled()
    pool.stop()
    assert list(ledger_runs(pool)[how].values()) == ["interrupted"]
    code, said = pool.verify()
    assert code == 0, said


def test_row_11_a_leader_that_is_stopped_for_good(new_pool: Callable[..., Pool]) -> None:
    """Its own switch stands still with it, so a follower kills it, once, after recording that; the log, here as
    JSON, has both events.
    """
    pool = new_pool(jobs="tick,while_leading", environment=FENCED).start()
    before = pool.leader()["leader"]
    leader, following = before["pid"], before["term"] + 1
    with lateness(pool.facts_path.parent) as late:
        stopped = time.monotonic()
        os.kill(leader, signal.SIGSTOP)
        found = pool.leader(but=leader)
        begun = until(lambda: [fact for fact in pool.facts().of("leading") if fact["term"] == following])[0]
    assert begun["at"] - stopped < OBSERVERS_FENCE + SLACK + 3 * late()
    assert (found["leader"]["term"], found["last_takeover"]["reason"]) == (following, "fenced")
    (taken,) = until(lambda: [event for event in events(pool, "took_over") if event["term"] == following])
    (fenced,) = [event for event in events(pool, "fenced") if event["pid"] == leader]
    assert fenced["term"] == before["term"]
    assert (taken["pid"], taken["reason"]) == (found["leader"]["pid"], "fenced")
    pool.settled()
    pool.stop()
    code, said = pool.verify()
    assert code == 0, said


@pytest.mark.extended
def test_row_11_without_a_fence_it_is_reported_and_keeps_the_seat(new_pool: Callable[..., Pool]) -> None:
    pool = new_pool(workers=2, environment={**LOGGED, "ELECTION_FENCE_AFTER": "0"}).start()
    leader = pool.leader()["leader"]["pid"]
    os.kill(leader, signal.SIGSTOP)

    def unresponsive() -> bool:
        answer = pool.get()
        return answer is not None and answer.json()["leader"] is not None and not answer.json()["leader"]["responsive"]

    # The kernel gives every other connection to the stopped worker, which answers none.
    pool.set_timeout(1)
    until(unresponsive, poll=POLL)
    until(lambda: events(pool, "leader_stalled"))
    os.kill(leader, signal.SIGCONT)
    until(lambda: events(pool, "leader_responsive"))
    assert pool.leader()["leader"]["pid"] == leader


@pytest.mark.extended
def test_row_13_an_observer_that_was_stopped_itself_does_not_judge(new_pool: Callable[..., Pool]) -> None:
    """Stop leader and observer, continue the observer: no kill before it has observed for the whole time itself."""
    fence_after = 0.75 * FENCE_AFTER  # it is waited for several times
    environment = {**FENCED, "ELECTION_FENCE_AFTER": str(fence_after)}
    pool = new_pool(workers=2, environment=environment).start()
    workers = [worker["pid"] for worker in pool.settled()["workers"]]
    leader = pool.leader()["leader"]["pid"]
    (observer,) = set(workers) - {leader}
    os.kill(observer, signal.SIGSTOP)
    os.kill(leader, signal.SIGSTOP)
    stopped = time.monotonic()
    until(lambda: time.monotonic() - stopped > fence_after * 1.5)  # the standstill itself
    resumed = time.monotonic()
    os.kill(observer, signal.SIGCONT)
    found = pool.leader(but=leader)
    assert time.monotonic() - resumed >= fence_after
    assert found["last_takeover"]["reason"] == "fenced"


@pytest.mark.extended
@pytest.mark.parametrize("count", [4, 20])
def test_row_13_nobody_is_fenced_for_being_slow(new_pool: Callable[..., Pool], count: int) -> None:
    """All cores are busy, three times over: heartbeats are late, and no worker is killed."""
    pool = new_pool(environment=FENCED).start()
    before = pool.leader()["leader"]
    with busy(3 * (os.cpu_count() or 1)):
        ticks = len(pool.facts().of("begin", "tick"))
        until(lambda: len(pool.facts().of("begin", "tick")) >= ticks + count, timeout=60)
        assert pool.leader()["leader"]["term"] == before["term"]
    assert events(pool, "fenced") == []


@contextlib.contextmanager
def busy(number: int) -> Iterator[None]:
    """Run that many processes that only use the processor."""
    processes = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(number)]
    try:
        yield
    finally:
        for process in processes:
            process.kill()
            process.wait()
