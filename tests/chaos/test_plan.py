"""The plan: the same from the same seed, on every machine, and with enough room to be judged."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from itertools import combinations, pairwise

import pytest

from .faults import _IN_THE_POOL, _TO_A_WORKER
from .files import FileGround
from .grounds import Ground
from .kinds import SETTINGS, Hits, Kind
from .plan import APART, CALM, draw
from .servers import PostgresGround, RedisGround

FILE = SETTINGS["file"].kinds

GROUNDS: dict[str, type[Ground]] = {
    "file": FileGround,
    "postgres": PostgresGround,
    "redis": RedisGround,
    "redis+postgres": RedisGround,
}

on_each_engine = pytest.mark.parametrize(
    "kinds", [pytest.param(setting.kinds, id=engine) for engine, setting in SETTINGS.items()]
)


def test_the_same_seed_gives_the_same_plan() -> None:
    assert draw(4711, 600, FILE) == draw(4711, 600, FILE)
    assert draw(4711, 600, FILE) != draw(4712, 600, FILE)


def test_a_plan_from_long_ago() -> None:
    """It does not depend on the machine, the process or the hash seed."""
    two = {"kill leader": FILE["kill leader"], "stop leader": FILE["stop leader"]}
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


@on_each_engine
def test_every_kind_is_drawn_as_often_as_its_weight_says(kinds: Mapping[str, Kind]) -> None:
    drawn = Counter(fault.kind for seed in range(10) for fault in draw(seed, 600, kinds))
    assert drawn.keys() == kinds.keys()
    assert drawn["kill leader"] > drawn["terminate leader"] > drawn["second pool"]


@on_each_engine
def test_the_end_is_calm(kinds: Mapping[str, Kind]) -> None:
    for seed in range(50):
        for fault in draw(seed, 60, kinds):
            assert fault.at + fault.seconds < 60 - CALM + 1


@on_each_engine
def test_faults_keep_the_distances_that_they_need(kinds: Mapping[str, Kind]) -> None:
    for seed in range(50):
        plan = draw(seed, 120, kinds)
        for one, other in combinations(plan, 2):
            spoilt = {kinds[one.kind].spoils, kinds[other.kind].spoils}
            assert spoilt != {"lock", "record"} or other.at - one.at >= APART - 0.001
            assert one.kind != other.kind or other.at - one.at >= kinds[one.kind].rests - 0.001


def test_what_needs_fencing_is_left_alone_as_a_rule() -> None:
    plans = [draw(seed, 300, FILE) for seed in range(20)]
    hung = [(one, other) for plan in plans for one, other in pairwise(plan) if FILE[one.kind].alone]
    alone = sum(other.at - one.at >= FILE[one.kind].alone for one, other in hung)
    assert len(hung) / 2 < alone < len(hung)


def test_some_follow_at_once() -> None:
    plan = draw(3, 600, FILE)
    assert any(other.at - one.at < 0.1 for one, other in pairwise(plan))


@pytest.mark.parametrize("engine", SETTINGS)
def test_every_kind_can_be_done(engine: str) -> None:
    """By the ground, in the pool, or by one of its workers; the ground's own actions come first."""
    kinds, actions = SETTINGS[engine].kinds, GROUNDS[engine].actions
    for name, kind in kinds.items():
        assert name in actions or name in (_IN_THE_POOL if kind.hits is Hits.POOL else _TO_A_WORKER)
    assert not actions.keys() & (_IN_THE_POOL.keys() | _TO_A_WORKER.keys())


def test_every_action_is_a_kind_of_some_engine() -> None:
    every = {name for setting in SETTINGS.values() for name in setting.kinds}
    actions = {name for ground in GROUNDS.values() for name in ground.actions}
    assert (actions | _IN_THE_POOL.keys() | _TO_A_WORKER.keys()) == every
