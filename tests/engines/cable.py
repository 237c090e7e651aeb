"""Network faults for engines that span hosts: the leader's cable is cut and repaired, or every cable is slow."""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import datetime
from itertools import pairwise
from pathlib import Path

from election.core.term import Reason, Standing
from tests.engines.conformance.pool import Pool
from tests.support.facts import Facts
from tests.support.hosts import Hosts, Program
from tests.support.waiting import until


def cut_and_mend(
    hosts: Hosts, start: Callable[[str], Program], seconds: float
) -> tuple[Program, Program, float, list[datetime]]:
    """Cut the leader's cable for so many seconds.

    Returns the first and second leader, the time of the cut, and the due times of the runs that it interrupted. start:
    begins a program on a host. On a busy machine, a tick may fall due while the one before is caught up with; it has no
    run then either, and is among those due times.
    """
    here = start("a")
    until(here.leads, what="the first leads")
    there = start("b")
    until(there.follows, what="the second follows")
    until(lambda: here.runs() > 1, what="ordinary ticks")
    cut = time.monotonic()
    hosts.cut("a")
    until(there.leads, what="the second leads")
    until(lambda: here.seen()[-1]["problem"], what="the first says what is wrong")
    time.sleep(max(0.0, cut + seconds - time.monotonic()))
    assert here.seen()[-1]["state"] == "electing", "P8: when in doubt, nobody leads"
    hosts.mend("a")
    until(here.follows, what="the first follows")
    before = there.runs()
    until(lambda: there.runs() > before + 1, what="ordinary ticks again")
    judged = there.verify()
    assert judged.returncode == 0, judged.stdout + judged.stderr
    skipped = there.skipped()
    assert set(skipped.values()) <= {"overlap"}, skipped
    return here, there, cut, [*there.interrupted(), *skipped]


def judge_cut(
    path: Path, here: Program, there: Program, cut: float, without_run: list[datetime]
) -> tuple[float, float]:
    """Judge the facts of both programs after their end.

    Returns for how many seconds after the cut the first one considered itself leader, and after how many the second
    led. A claim whose answer the cut kept from the leader has no first line: its run is interrupted in the ledger.
    """
    facts = Facts.read(path / "facts")
    assert facts.run_twice("tick") == []
    assert facts.overlaps() == []
    begun = {datetime.fromisoformat(fact["due"]) for fact in facts.of("begin", "tick")}
    assert len(without_run) <= 2, "one run at most is cut off, since a job has one at a time"
    assert {(later - earlier).total_seconds() for earlier, later in pairwise(sorted({*begun, *without_run}))} == {1.0}
    by_term = {fact["leads"]: fact["pid"] for fact in facts.of("seen") if fact["leads"]}
    assert by_term[1] == here.process.pid
    assert by_term[2] == there.process.pid
    last = max(fact["at"] for fact in here.seen() if fact["leads"] == 1)
    first = min(fact["at"] for fact in there.seen() if fact["leads"] == 2)
    assert cut < last < first, "P1: the first stopped to believe before the second began"
    return last - cut, first - cut


def through_a_slow_network(pool: Pool) -> None:
    """Heartbeats are in time even so, and a resignation is noticed."""
    leader, follower = pool.worker(), pool.worker()
    assert leader.wins().number == 1
    leader.beats()
    assert follower.campaign() is None
    time.sleep(4)  # longer than a lease
    assert leader.held() is not None
    assert follower.sees(1).led
    follower.waits()
    leader.release(Standing.RESIGNED)
    until(follower.woken, what="the follower is woken")
    term = follower.wins()
    assert (term.number, term.takeover.reason) == (2, Reason.RESIGNED)
