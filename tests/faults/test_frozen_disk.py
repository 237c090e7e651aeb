"""A disk that stands still for a while, as for a backup: HTTP is answered, no leader is fenced, no tick is lost
(P8).
"""

from __future__ import annotations

import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.support.disk import Disk
from tests.support.lateness import lateness
from tests.support.pool import POLL, Pool, Worker, WorkerPool
from tests.support.waiting import until

FENCE_AFTER_S = 4.0
"""A machine that stands still for less gets no leader killed by its own switch."""

FROZEN_S = 1.75 * FENCE_AFTER_S
"""Longer than an observer would wait, who acts after 5.65 s at the latest."""

SLOW_S = 1.5

LONG_FROZEN_S, IDLE_S, PAUSE_S = 8.0, 4.0, 0.01

P99_MS = 50.0

BUSY_MACHINE = 3
"""Times the same without the freeze, if that is more: what others take from the machine."""


@pytest.mark.timeout(180)
def test_p8_pitfall_48_a_frozen_disk_stops_no_worker_and_ends_nobody(new_pool: Callable[..., Pool], disk: Disk) -> None:
    pool = new_pool(pool=disk.path / "pool", environment={"ELECTION_FENCE_AFTER": str(FENCE_AFTER_S)}).start()
    before = pool.settled()
    slowest, told, slowest_else = 0.0, False, slowest_answer(pool, FROZEN_S / 2)
    with disk.frozen(), lateness(pool.facts_path.parent) as late:  # which is on another disk
        end = time.monotonic() + FROZEN_S
        while (began := time.monotonic()) < end:
            answer = pool.get("/healthz")
            slowest = max(slowest, time.monotonic() - began)
            assert answer is not None and answer.status_code == 200
            seen = pool.get("/leader")
            told = told or (seen is not None and "has not answered for" in (seen.json()["problem"] or ""))
            time.sleep(POLL)
    slowest_else = max(slowest_else, slowest_answer(pool, FROZEN_S / 2))
    assert slowest < max(SLOW_S + 3 * late(), BUSY_MACHINE * slowest_else), "the event loops stood still"
    assert told, "/leader says why no job runs"
    ran = len(pool.facts().of("begin", "tick"))
    until(lambda: len(pool.facts().of("begin", "tick")) > ran, what="the job goes on")
    after = pool.settled()
    assert (after["leader"]["pid"], after["leader"]["term"]) == (before["leader"]["pid"], before["leader"]["term"])
    assert {worker["pid"] for worker in after["workers"]} == {worker["pid"] for worker in before["workers"]}
    pool.stop()
    code, said = pool.verify()
    assert code == 0, said


def slowest_answer(pool: Pool, seconds: float) -> float:
    """Seconds of the slowest answer of ``/healthz`` in so many seconds."""
    slowest, end = 0.0, time.monotonic() + seconds
    while (began := time.monotonic()) < end:
        pool.get("/healthz")
        slowest = max(slowest, time.monotonic() - began)
        time.sleep(POLL)
    return slowest


@pytest.mark.extended
@pytest.mark.timeout(180)
def test_p8_pitfall_48_every_worker_answers_as_quickly_while_the_disk_is_frozen(tmp_path: Path, disk: Disk) -> None:
    pool = WorkerPool(tmp_path, str(disk.path / "pool"))
    try:
        pool.start(3)
        before = {worker.pid: percentile_99(worker, IDLE_S) for worker in pool.alive}
        with disk.frozen(), ThreadPoolExecutor(len(before)) as clients:
            asked = {worker.pid: clients.submit(percentile_99, worker, LONG_FROZEN_S) for worker in pool.alive}
            frozen = {pid: each.result() for pid, each in asked.items()}
        idle = {worker.pid: max(before[worker.pid], percentile_99(worker, IDLE_S)) for worker in pool.alive}
        print("p99 of /healthz in ms, idle and frozen:", idle, frozen)
        for pid, milliseconds in frozen.items():
            assert milliseconds < max(P99_MS, BUSY_MACHINE * max(idle.values())), (pid, idle, frozen)
    finally:
        pool.reap()


def percentile_99(worker: Worker, seconds: float) -> float:
    """Milliseconds in which 99 of 100 requests to ``/healthz`` were answered, in so many seconds."""
    took = []
    end = time.monotonic() + seconds
    while (began := time.monotonic()) < end:
        answer = worker.get("/healthz")
        took.append((time.monotonic() - began) * 1000)
        assert answer is not None and answer.status_code == 200
        time.sleep(PAUSE_S)
    return sorted(took)[len(took) * 99 // 100]
