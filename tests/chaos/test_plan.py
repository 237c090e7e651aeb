"""The plan: the same from the same seed, on every machine, and fit to be judged."""

from __future__ import annotations

from collections import Counter
from itertools import combinations, pairwise

from .faults import _IN_THE_POOL, _TO_A_WORKER
from .kinds import KINDS, Hits
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
        (1.012, "stop leader", 388, 1.34),
        (1.015, "stop leader", 780, 1.25),
        (1.894, "stop leader", 104, 1.6),
        (1.897, "kill leader", 961, 0.0),
        (4.041, "stop leader", 782, 1.46),
        (4.86, "kill leader", 224, 0.0),
    ]


def test_every_kind_is_drawn_as_often_as_its_weight_says() -> None:
    kinds = Counter(fault.kind for seed in range(20) for fault in draw(seed, 600))
    assert kinds.keys() == KINDS.keys()
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


def test_what_needs_fencing_is_left_alone_as_a_rule() -> None:
    hung = [
        (one, other) for seed in range(20) for one, other in pairwise(draw(seed, 300, KINDS)) if KINDS[one.kind].alone
    ]
    alone = sum(other.at - one.at >= KINDS[one.kind].alone for one, other in hung)
    assert len(hung) / 2 < alone < len(hung)


def test_some_follow_at_once() -> None:
    plan = draw(3, 600)
    assert any(other.at - one.at < 0.1 for one, other in pairwise(plan))


def test_every_kind_can_be_done() -> None:
    assert {name for name, kind in KINDS.items() if kind.hits is Hits.POOL} == _IN_THE_POOL.keys()
    assert {name for name, kind in KINDS.items() if kind.hits is not Hits.POOL} == _TO_A_WORKER.keys()
