"""P5 and P6 when workers are told to stop: in order, at once, and with no new term on the way down."""

from __future__ import annotations

import json
import os
import signal
import socket
import time
from collections.abc import Callable, Iterator
from datetime import datetime
from itertools import pairwise

import httpx2
import psutil
import pytest

from election.core.elector import SIGNAL_GRACE_S
from tests.support.lateness import lateness
from tests.support.pool import Pool, quiet_pools
from tests.support.waiting import until


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pool]:
    """A pool for the tests that keep all of its workers."""
    with quiet_pools(tmp_path_factory.mktemp("whole")) as make:
        yield make().start()


def test_sigterm_to_the_leader(whole: Pool) -> None:
    """The leader resigns in order, a successor takes over at once, Uvicorn replaces the worker."""
    before = whole.settled()
    with lateness(whole.facts_path.parent) as late:
        os.kill(before["leader"]["pid"], signal.SIGTERM)
        after = whole.leader(but=before["leader"]["pid"])
    assert after["last_takeover"]["reason"] == "resigned"
    assert after["leader"]["term"] == before["leader"]["term"] + 1
    assert after["last_takeover"]["takeover_ms"] < 500 + 3000 * late()
    until(lambda: not psutil.pid_exists(before["leader"]["pid"]))
    assert whole.settled()["leader"] is not None


def test_sigterm_to_a_follower(whole: Pool) -> None:
    """docs/pitfalls.md#8: no thread is blocked in flock, so a follower ends at once while the leader continues."""
    before = whole.settled()
    follower = next(worker["pid"] for worker in before["workers"] if worker["role"] == "follower")
    os.kill(follower, signal.SIGTERM)
    until(lambda: f"Finished server process [{follower}]" in whole.log.read_text())
    assert whole.leader()["leader"]["term"] == before["leader"]["term"]


@pytest.mark.parametrize("how", [pytest.param("ctrl-c", marks=pytest.mark.extended), "sigterm"])
def test_stopping_the_pool_begins_no_term(new_pool: Callable[..., Pool], how: str) -> None:
    """docs/pitfalls.md#34: nobody is elected on the way down; every process ends; the record shows that the leader
    resigned. The leader waits for so long as a parent needs to tell all workers; one that stands still meanwhile needs
    longer.
    """
    pool = new_pool(environment={"ELECTION_LOG_FORMAT": "json"}).start()
    term = pool.settled()["leader"]["term"]
    if how == "ctrl-c":
        pool.interrupt()
    else:
        assert pool.stop() in {0, -signal.SIGTERM}
    record = pool.record()
    assert record["standing"] == "resigned"
    if how == "ctrl-c" or told_for_s(pool) < SIGNAL_GRACE_S:
        assert record["term"] == term
        assert pool.log.read_text().count("elected: ") == 1


def told_for_s(pool: Pool) -> float:
    """Seconds from the first to the last signal of the parent to a worker, by its log as JSON."""
    lines = [json.loads(line) for line in pool.log.read_text().splitlines() if line.startswith("{")]
    told = [datetime.fromisoformat(line["ts"]) for line in lines if line["message"].startswith("Terminated child")]
    assert len(told) == pool.workers
    return (max(told) - min(told)).total_seconds()


@pytest.mark.extended
def test_a_stop_interrupts_a_rolling_restart(new_pool: Callable[..., Pool]) -> None:
    """SIGTERM after SIGHUP: no further worker is replaced, and the pool stops in order."""
    pool = new_pool(start_method="spawn").start()
    started = len(pool.processes())
    assert pool.parent is not None
    pool.parent.send_signal(signal.SIGHUP)
    until(lambda: "Received SIGHUP" in pool.log.read_text())
    until(lambda: len(pool.processes()) > started, what="a replacement starts")
    assert pool.stop() == 0
    assert pool.log.read_text().count("Started server process") <= pool.workers + 1
    assert pool.record()["standing"] == "resigned"


def test_ctrl_c_while_the_workers_start(new_pool: Callable[..., Pool]) -> None:
    """A worker that is still importing ends on Ctrl-C without a traceback, and everything ends."""
    pool = new_pool(start_method="spawn")
    pool.launch()
    until(lambda: len(pool.processes()) > 2)
    assert pool.parent is not None
    pool.interrupt()


@pytest.mark.extended
def test_a_second_ctrl_c_ends_at_once(new_pool: Callable[..., Pool]) -> None:
    """A job without an end, a drain limit of a minute, and a second Ctrl-C."""
    pool = new_pool(jobs="never_ends", workers=2, environment={"ELECTION_DRAIN_TIMEOUT": "60"}).start()
    until(lambda: pool.facts().of("begin", "never_ends"))
    assert pool.parent is not None
    pool.processes()
    os.killpg(pool.parent.pid, signal.SIGINT)
    until(lambda: "Waiting for application shutdown" in pool.log.read_text())

    def again() -> bool:
        os.killpg(pool.parent.pid, signal.SIGINT)  # type: ignore[union-attr]
        return pool.parent.poll() is not None  # type: ignore[union-attr]

    until(again, timeout=30, what="the end, well before the drain limit")
    until(lambda: not pool.remaining())


@pytest.mark.extended
def test_an_open_stream_delays_no_takeover(whole: Pool) -> None:
    """docs/pitfalls.md#30: the leader has an event stream open when it is told to stop: a new term begins at once."""
    leader = whole.settled()["leader"]["pid"]
    with httpx2.Client(base_url=f"http://127.0.0.1:{whole.port}", timeout=30) as client:
        for _ in range(100):
            with client.stream("GET", "/stream", headers={"Connection": "close"}) as stream:
                lines = stream.iter_lines()
                if next(lines) != f"data: {leader}":
                    continue
                with lateness(whole.facts_path.parent) as late:
                    began = time.monotonic()
                    os.kill(leader, signal.SIGTERM)
                    whole.leader(but=leader)
                    took = time.monotonic() - began
                assert took < 3 + 3 * late(), f"a new term only after {took:.1f} s"
                break
        else:
            raise AssertionError("the leader never answered")
    until(lambda: not psutil.pid_exists(leader))


@pytest.mark.extended
def test_a_killed_parent_leaves_nothing(new_pool: Callable[..., Pool]) -> None:
    """docs/pitfalls.md#31: workers notice the end of their parent, stop, and free the port."""
    pool = new_pool(workers=2, start_method="spawn").start()
    assert pool.parent is not None
    pool.processes()
    pool.parent.kill()
    pool.parent.wait()
    began = time.monotonic()
    until(lambda: not pool.remaining(), what="the workers stop")
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        probe.bind(("127.0.0.1", pool.port))
    print(f"\nthe port was free {time.monotonic() - began:.1f} s after the parent's death")
    pool.start()


def test_a_running_thread_is_awaited(new_pool: Callable[..., Pool]) -> None:
    """docs/pitfalls.md#23: SIGTERM during a thread job of 2 s: the next term's first run begins after its end (P5)."""
    pool = new_pool(jobs="two_seconds_in_a_thread", workers=2).start()
    job = "two_seconds_in_a_thread"
    begun = until(lambda: pool.facts().of("begin", job))[0]
    os.kill(begun["pid"], signal.SIGTERM)
    until(lambda: [fact for fact in pool.facts().of("begin", job) if fact["term"] > begun["term"]])
    facts = pool.facts()
    end = next(fact for fact in facts.of("end", job) if fact["due"] == begun["due"])
    assert end["pid"] == begun["pid"]
    assert facts.overlaps() == []


@pytest.mark.extended
def test_a_thread_that_never_ends(new_pool: Callable[..., Pool]) -> None:
    """P5: the seat stays held until the process has ended, which run.py forces after the drain limit, naming the
    job.
    """
    pool = new_pool(jobs="never_ends,tick", workers=2, environment={"ELECTION_DRAIN_TIMEOUT": "1"}).start()
    begun = until(lambda: pool.facts().of("begin", "never_ends"))[0]
    os.kill(begun["pid"], signal.SIGTERM)
    after = pool.leader(but=begun["pid"])
    assert after["leader"]["term"] == begun["term"] + 1
    until(lambda: "ending hard: never_ends" in pool.log.read_text())
    until(lambda: not psutil.pid_exists(begun["pid"]))
    until(lambda: [fact for fact in pool.facts().of("begin", "tick") if fact["term"] == begun["term"] + 1])
    assert pool.facts().overlaps() == []
    terms = [fact["term"] for fact in pool.facts().lines if "term" in fact]
    assert all(later >= earlier for earlier, later in pairwise(terms))
