"""P1, P2 and P6 through run.py: the leader is killed again and again."""

from __future__ import annotations

import os
import re
import signal
import statistics
import threading
import time
from collections.abc import Callable
from datetime import datetime
from itertools import pairwise

import httpx2
import pytest

from tests.support.lateness import lateness
from tests.support.pool import Pool
from tests.support.waiting import until


def kill_leaders(pool: Pool, times: int) -> list[float]:
    """Kill the leader, wait until another leads and all workers take part again; return the takeovers' times in ms.

    These count from the campaign, so the time from the death to the next leader's answer is judged here: to wait for
    a lease in Redis takes 2.5 s at least, and for a leader's trust on PostgreSQL 4 s.
    """
    took, vacant_s = [], []
    with lateness(pool.facts_path.parent) as late:
        for _ in range(times):
            before = pool.settled()
            os.kill(before["leader"]["pid"], signal.SIGKILL)
            killed = time.monotonic()
            after = pool.leader(but=before["leader"]["pid"])
            vacant_s.append(time.monotonic() - killed)
            assert after["leader"]["term"] == before["leader"]["term"] + 1
            assert after["last_takeover"]["reason"] == "died"
            assert after["last_takeover"]["from_pid"] == before["leader"]["pid"]
            took.append(after["last_takeover"]["takeover_ms"])
    assert statistics.median(vacant_s) < 2.0 + 3 * late(), "by an event, and not after a lease or a leader's trust"
    return took


def check_that_no_second_was_lost(pool: Pool) -> None:
    """Every second from the first to the last has one begin, and no code of two terms ran at the same time.

    A second whose leader died between its claim and the first line of its code has a run without a begin: the ledger
    must have settled it as interrupted.
    """
    now = datetime.now().astimezone()

    def begun_seconds() -> set[datetime]:
        return {datetime.fromisoformat(fact["due"]) for fact in pool.facts().of("begin", "tick")}

    until(lambda: len(begun_seconds()) > 1 and max(begun_seconds()) > now)
    facts = pool.facts()
    begun = {datetime.fromisoformat(fact["due"]) for fact in facts.of("begin", "tick")}
    cut_off = {due for due in _interrupted(pool) if min(begun) < due < max(begun)}
    steps = {(later - earlier).total_seconds() for earlier, later in pairwise(sorted(begun | cut_off))}
    assert steps == {1.0}, f"lost seconds: {steps}"
    assert facts.run_twice("tick") == []
    assert facts.overlaps() == []


def _interrupted(pool: Pool) -> list[datetime]:
    def answered() -> httpx2.Response | None:  # 503 with a reason while an outage is only just over
        answer = pool.get("/leader/runs?job=tick&outcome=interrupted&limit=1000")
        assert answer is None or answer.status_code == 200, answer.text
        return answer

    answer = until(answered)
    return [datetime.fromisoformat(run["due"]) for run in answer.json()["runs"]]


@pytest.mark.timeout(900)
@pytest.mark.parametrize(
    ("kills", "start_method"), [(4, "forkserver"), pytest.param(12, "spawn", marks=pytest.mark.extended)]
)
def test_kills_in_a_row(new_pool: Callable[..., Pool], kills: int, start_method: str) -> None:
    """P1, P2, P6: one leader after the other is killed; no second lost, none run twice, never two leaders."""
    pool = new_pool(workers=4, jobs="tick,while_leading", start_method=start_method).start()
    with lateness(pool.facts_path.parent) as late:
        took = kill_leaders(pool, kills)
    check_that_no_second_was_lost(pool)
    print(f"\n{kills} kills, 4 workers: takeover median {statistics.median(took):.1f} ms, worst {max(took):.1f} ms")
    assert statistics.median(took) < 250 + 3000 * late(), "by an event, not by a poll"
    logged = [float(ms) for ms in re.findall(r"which died, in ([\d.]+) ms", pool.log.read_text())]
    assert logged == pytest.approx(took, abs=0.06), "/leader says what the leader logged"


@pytest.mark.extended
@pytest.mark.timeout(300)
@pytest.mark.parametrize("workers", [8, pytest.param(16, marks=pytest.mark.extended)])
def test_many_workers(new_pool: Callable[..., Pool], workers: int) -> None:
    """P1, P6: many followers that wake at a death elect one; more of them make it little slower."""
    pool = new_pool(workers=workers).start()
    with lateness(pool.facts_path.parent) as late:
        took = kill_leaders(pool, 3)
    check_that_no_second_was_lost(pool)
    print(f"\n3 kills, {workers} workers: takeover median {statistics.median(took):.1f} ms")
    assert statistics.median(took) < 500 + 3000 * late()


@pytest.mark.extended
def test_asking_disturbs_nothing(new_pool: Callable[..., Pool]) -> None:
    """docs/pitfalls.md#16: constant requests to /leader during failovers: every answer is the document, and terms
    never decrease.
    """
    pool = new_pool(workers=3).start()
    stop = threading.Event()
    seen: list[tuple[int, int, int | None]] = []

    def hammer() -> None:
        while not stop.is_set():
            answer = pool.get()
            if answer is not None:
                found = answer.json()
                term = found["leader"]["term"] if found["leader"] else None
                seen.append((answer.status_code, found["answered_by"]["pid"], term))

    thread = threading.Thread(target=hammer)
    thread.start()
    try:
        other = Pool.watching(pool)
        for _ in range(5):
            before = other.settled()
            os.kill(before["leader"]["pid"], signal.SIGKILL)
            other.leader(but=before["leader"]["pid"])
    finally:
        stop.set()
        thread.join()
    assert {status for status, _, _ in seen} <= {200, 503}
    for pid in {pid for _, pid, _ in seen}:
        terms = [term for _, who, term in seen if who == pid and term is not None]
        assert terms == sorted(terms)
    assert len(seen) > 100


@pytest.mark.extended
def test_two_run_py_on_one_pool(new_pool: Callable[..., Pool], tmp_path_factory: pytest.TempPathFactory) -> None:
    """docs/pitfalls.md#21: two run.py, started from two directories, with one absolute pool path: one leader of
    both.
    """
    shared = tmp_path_factory.mktemp("shared") / "pool"
    one = new_pool(workers=2, pool=shared)
    other = new_pool(workers=2, pool=shared, cwd=shared.parent)
    one.launch()
    other.launch()
    until(lambda: len(one.leader()["workers"]) == 4, what="four workers in one pool")
    assert one.leader()["leader"]["pid"] == other.leader()["leader"]["pid"]
    leader = one.leader()["leader"]["pid"]
    os.kill(leader, signal.SIGKILL)
    assert one.leader(but=leader)["leader"]["term"] == other.leader(but=leader)["leader"]["term"] == 2


@pytest.mark.parametrize("loop", ["uvloop", pytest.param("asyncio", marks=pytest.mark.extended)])
def test_both_event_loops(new_pool: Callable[..., Pool], loop: str) -> None:
    """uvloop and the plain loop: on both, workers elect and take over at once."""
    pool = new_pool(workers=2, environment={"ELECTION_TEST_LOOP": loop}).start()
    answer = pool.get("/loop")
    assert answer is not None
    assert answer.json().startswith(loop)
    assert kill_leaders(pool, 2)
