"""Selection of due ticks to run, by the rules of APScheduler's documentation (P4, docs/pitfalls.md#25)."""

from __future__ import annotations

from collections import Counter
from datetime import datetime, timedelta
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from election.schedule.commands import Skip
from election.schedule.model import SkipReason
from election.schedule.policy import decide, is_misfire
from tests.schedule.making import NOW, at, make_job, moments

MISFIRED, COALESCED, OVERLAP = SkipReason.MISFIRED, SkipReason.COALESCED, SkipReason.OVERLAP

Fates = list[tuple[SkipReason, float, float, int]]


@pytest.mark.parametrize(
    ("arguments", "due", "running", "run", "skips"),
    [
        # One tick, in time.
        ({}, [0], 0, [0], []),
        ({}, [-30], 0, [-30], []),
        ({"misfire_grace_time": 1}, [-1], 0, [-1], []),
        # "misfire_grace_time: seconds after the designated runtime that the job is still allowed to be run"
        ({"misfire_grace_time": 1}, [-1.000001], 0, [], [(MISFIRED, -1.000001, -1.000001, 1)]),
        ({"misfire_grace_time": None}, [-1e8], 0, [-1e8], []),
        # "coalesce: run once instead of many times if ... the job should be run more than once in succession"
        ({"coalesce": True}, [-3, -2, -1], 0, [-1], [(COALESCED, -3, -2, 2)]),
        ({"coalesce": False}, [-3, -2, -1], 0, [-3, -2, -1], []),
        # Both: a tick that is too late cannot be the one run.
        (
            {"coalesce": True, "misfire_grace_time": 2},
            [-4, -3, -2, -1],
            0,
            [-1],
            [(MISFIRED, -4, -3, 2), (COALESCED, -2, -2, 1)],
        ),
        ({"coalesce": False, "misfire_grace_time": 2}, [-4, -3, -2, -1], 0, [-2, -1], [(MISFIRED, -4, -3, 2)]),
        ({"coalesce": True, "misfire_grace_time": 1}, [-4, -3], 0, [], [(MISFIRED, -4, -3, 2)]),
        # "max_instances: maximum number of concurrently running instances allowed for this job"
        ({}, [0], 1, [], [(OVERLAP, 0, 0, 1)]),
        ({"max_instances": 2}, [0], 1, [0], []),
        ({"max_instances": 2}, [0], 2, [], [(OVERLAP, 0, 0, 1)]),
        ({"coalesce": True}, [-2, -1, 0], 1, [], [(COALESCED, -2, -1, 2), (OVERLAP, 0, 0, 1)]),
        ({"coalesce": False}, [-2, -1, 0], 1, [], [(OVERLAP, -2, 0, 3)]),
        (
            {"coalesce": True, "misfire_grace_time": 1},
            [-3, -2, -1, 0],
            1,
            [],
            [(MISFIRED, -3, -2, 2), (COALESCED, -1, -1, 1), (OVERLAP, 0, 0, 1)],
        ),
        # One batch is one instance, as in APScheduler: its ticks run one after the other.
        ({"coalesce": False, "max_instances": 1}, [-2, -1, 0], 0, [-2, -1, 0], []),
        # docs/pitfalls.md#25: the loop was blocked for four seconds, with a one-second job.
        ({}, [-3, -2, -1, 0], 0, [0], [(COALESCED, -3, -1, 3)]),
    ],
)
def test_the_rules_of_apscheduler(
    arguments: dict[str, object], due: list[float], running: int, run: list[float], skips: Fates
) -> None:
    decision = decide(make_job(**arguments), moments(*due), now=NOW, running=running)
    assert decision.run == moments(*run)
    assert [(skip.reason, skip.first_due, skip.last_due, skip.count) for skip in decision.skips] == [
        (reason, at(first), at(last), count) for reason, first, last, count in skips
    ]


@given(
    due=st.sets(st.integers(-100, 0), min_size=1),
    coalesce=st.booleans(),
    grace=st.one_of(st.none(), st.integers(1, 100)),
    instances=st.integers(1, 3),
    running=st.integers(0, 3),
)
def test_p4_every_tick_is_run_or_in_exactly_one_skip(
    due: set[int], coalesce: bool, grace: int | None, instances: int, running: int
) -> None:
    job = make_job(coalesce=coalesce, misfire_grace_time=grace, max_instances=instances)
    dues = moments(*sorted(due))
    decision = decide(job, dues, now=NOW, running=running)
    accounted = Counter(decision.run)
    for skip in decision.skips:
        within = [due for due in dues if skip.first_due <= due <= skip.last_due]
        assert len(within) == skip.count
        assert skip.job_id == job.id
        accounted.update(within)
    assert accounted == Counter(dues)
    assert decision.run == () or running < instances
    assert not coalesce or len(decision.run) <= 1
    assert not any(is_misfire(job, due, NOW) for due in decision.run)


def test_no_skip_reaches_over_what_was_leapt_over() -> None:
    """Otherwise a month of sleep would become a month of coalesced ticks, fifty of them."""
    job = make_job(misfire_grace_time=None)
    decision = decide(job, moments(-9000, -8999, -2, -1, 0), now=NOW, running=0, gaps=[at(-2)])
    assert [(skip.first_due, skip.last_due, skip.count) for skip in decision.skips] == [
        (at(-9000), at(-8999), 2),
        (at(-2), at(-1), 2),
    ]
    assert decision.run == (NOW,)


@given(due=st.sets(st.integers(-100, 0), min_size=2), running=st.integers(0, 1))
def test_p3_skips_and_runs_can_be_written_in_the_order_of_their_ticks(due: set[int], running: int) -> None:
    """Each moves ``settled_until`` forward, so none of them may extend beyond another."""
    decision = decide(make_job(misfire_grace_time=50), moments(*sorted(due)), now=NOW, running=running)
    spans = sorted([(due, due) for due in decision.run] + [_span(skip) for skip in decision.skips])
    assert all(one[1] < other[0] for one, other in pairwise(spans))


@pytest.mark.parametrize("grace", [1, 10**9, 10**15])
def test_a_grace_time_may_be_as_long_as_somebody_likes(grace: int) -> None:
    job = make_job(misfire_grace_time=grace)
    assert not is_misfire(job, NOW - timedelta(seconds=1), NOW)
    assert is_misfire(job, NOW - timedelta(days=30), NOW) is (grace == 1)


def _span(skip: Skip) -> tuple[datetime, datetime]:
    return skip.first_due, skip.last_due
