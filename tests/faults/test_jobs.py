"""Jobs that harm their worker: the pool survives, and the history is complete."""

from __future__ import annotations

import contextlib
import os
import signal
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from datetime import datetime
from itertools import pairwise
from pathlib import Path

import pytest

from tests.pool.test_ticks import ledger_runs
from tests.support.pool import Pool, pools
from tests.support.waiting import until

ENDS = [
    "exits",
    "uses_up_its_processor_time",
    "crashes_in_c",
    "leaves_children_and_is_killed",
    "closes_all_descriptors",
]
"""Functions that end the worker, or its term; one per term, one after the other: a crash loop."""

FAILS = ["runs_out_of_memory", "raises", "uses_up_its_descriptors"]
"""Functions that fail a run; one per tick, in one term."""


@pytest.fixture
def new_pool(tmp_path: Path) -> Iterator[Callable[..., Pool]]:
    """Factory of pools whose logs may hold tracebacks, since their jobs cause some."""
    with pools(tmp_path) as make:
        yield make


def end_children(pool: Pool) -> None:
    """End the children that a killed worker has left."""
    for pid in [pid for fact in pool.facts().of("children") for pid in fact["pids"]]:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


@pytest.mark.extended
@pytest.mark.timeout(180)
def test_a_crash_loop_of_jobs(new_pool: Callable[..., Pool]) -> None:
    """P2–P4, P6: every term ends by its own job; terms grow by one, every second and every interrupted run is in the
    history.
    """
    pool = new_pool(jobs="tick,misbehave", environment={"MISBEHAVIOUR": ",".join(ENDS)}).start()
    try:
        until(lambda: len(pool.facts().of("misbehaviour")) == len(ENDS), timeout=90)
        last = len(ENDS) + 1
        until(lambda: [fact for fact in pool.facts().of("begin") if fact["term"] >= last])
    finally:
        end_children(pool)
    found = pool.settled()
    assert found["leader"]["term"] == last
    facts = pool.facts()
    assert [(fact["name"], fact["term"]) for fact in facts.of("misbehaviour")] == [
        (name, term) for term, name in enumerate(ENDS, 1)
    ]
    assert facts.overlaps() == []
    pool.stop()
    check_that_every_second_is_told(pool, without_code="interrupted")
    outcomes = list(ledger_runs(pool)["misbehave"].values())
    assert outcomes.count("interrupted") == len(ENDS)
    code, said = pool.verify()
    assert code == 0, said


@pytest.mark.timeout(180)
@pytest.mark.extended
def test_what_fails_a_run_and_nothing_else(new_pool: Callable[..., Pool]) -> None:
    """A memory limit, an exception, no descriptors for three seconds (EMFILE): the term continues, no tick is lost."""
    pool = new_pool(workers=2, jobs="tick,misbehave", environment={"MISBEHAVIOUR": "+".join(FAILS)}).start()
    until(lambda: len(pool.facts().of("misbehaviour")) == len(FAILS))
    done = pool.facts().of("misbehaviour")[-1]["at"] + 3
    until(lambda: [fact for fact in pool.facts().of("begin", "tick") if fact["at"] > done + 1])
    assert pool.leader()["leader"]["term"] == 1
    pool.stop()
    runs = ledger_runs(pool)
    assert sorted(set(runs["misbehave"].values())) == ["failed", "succeeded"]
    check_that_every_second_is_told(pool, without_code="failed")
    assert "failed" in runs["tick"].values(), "without a descriptor it cannot write its fact"
    code, said = pool.verify()
    assert code == 0, said


def check_that_every_second_is_told(pool: Pool, *, without_code: str) -> None:
    """Each second has a run, or was coalesced into a later one; each run was claimed.

    without_code: the outcome of a run without a fact: its worker died, or failed, between the claim and its code.
    """
    runs = ledger_runs(pool)["tick"]
    seconds = {due.timestamp() for due in runs}
    with closing(sqlite3.connect(pool.path / "ledger.db")) as connection:
        skips = "SELECT first_due, count FROM skips WHERE job_id = 'tick' AND reason = 'coalesced'"
        for first, count in connection.execute(skips):
            seconds |= {first / 1e6 + number for number in range(count)}
    assert {later - earlier for earlier, later in pairwise(sorted(seconds))} == {1.0}
    begun = {datetime.fromisoformat(fact["due"]) for fact in pool.facts().of("begin", "tick")}
    assert begun <= set(runs), "code ran without a claim"
    assert {runs[due] for due in set(runs) - begun} <= {without_code}
