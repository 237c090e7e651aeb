"""The plan: the same from the same seed, on every machine, and fit to be judged."""

from __future__ import annotations

from collections import Counter
from itertools import combinations, pairwise

import pytest

from .faults import _IN_THE_POOL, _TO_A_WORKER
from .kinds import FENCE_AFTER, KINDS, Hits, drawn
from .plan import APART, CALM, draw


def test_the_same_seed_gives_the_same_plan() -> None:
    assert draw(4711, 600) == draw(4711, 600)
    assert draw(4711, 600) != draw(4712, 600)


def test_a_plan_from_long_ago() -> None:
    """It does not depend on the machine, the process or the hash seed."""
    two = {"kill leader": KINDS["kill leader"], "stop leader": KINDS["stop leader"]}
    drawn_then = [(fault.at, fault.kind, fault.index, fault.seconds) for fault in draw(1, 10, two)]
    assert drawn_then == [
        (1.0, "kill leader", 867, 0.0),
        (1.514, "kill leader", 779, 0.0),
        (3.086, "stop leader", 29, 0.51),
        (4.188, "kill leader", 785, 0.0),
        (4.233, "stop leader", 967, 0.8),
        (4.264, "kill leader", 665, 0.0),
    ]


def test_every_kind_is_drawn_as_often_as_its_weight_says() -> None:
    kinds = Counter(fault.kind for seed in range(20) for fault in draw(seed, 600))
    assert kinds.keys() == drawn().keys()
    assert kinds["kill leader"] > kinds["terminate leader"] > kinds["remove lock"] > kinds["second pool"]


def test_the_end_is_calm() -> None:
    for seed in range(50):
        for fault in draw(seed, 60):
            assert fault.at + fault.seconds < 60 - CALM + 1


def test_faults_keep_the_distances_that_they_need() -> None:
    for seed in range(50):
        plan = draw(seed, 120)
        for one, other in combinations(plan, 2):
            spoilt = {KINDS[one.kind].spoils, KINDS[other.kind].spoils}
            assert spoilt != {"lock", "record"} or other.at - one.at >= APART - 0.001
            assert one.kind != other.kind or other.at - one.at >= KINDS[one.kind].rests - 0.001


def test_some_follow_at_once() -> None:
    plan = draw(3, 600)
    assert any(other.at - one.at < 0.1 for one, other in pairwise(plan))


@pytest.mark.skipif(FENCE_AFTER is not None, reason="with fencing, all kinds are drawn")
def test_without_fencing_nothing_is_drawn_that_needs_it() -> None:
    assert not any(kind.needs_fence for kind in drawn().values())
    assert any(kind.needs_fence for kind in KINDS.values())


def test_every_kind_can_be_done() -> None:
    assert {name for name, kind in KINDS.items() if kind.hits is Hits.POOL} == _IN_THE_POOL.keys()
    assert {name for name, kind in KINDS.items() if kind.hits is not Hits.POOL} == _TO_A_WORKER.keys()
