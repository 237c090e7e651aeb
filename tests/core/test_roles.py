"""The table of roles."""

from __future__ import annotations

from itertools import product

import pytest

from election.core.elector import Elector
from election.core.roles import TRANSITIONS, Role, Transition, next_role
from election.testing import ManualClock, MemoryPool
from tests.support.simulated import SimulatedWorker

LEGAL = [
    ("follower", "won", "leader"),
    ("follower", "stop", "stopped"),
    ("leader", "resign", "resigning"),
    ("leader", "lose", "lost"),
    ("resigning", "lose", "lost"),
    ("resigning", "released", "follower"),
    ("lost", "released", "follower"),
]


@pytest.mark.parametrize(("role", "turn", "expected"), LEGAL)
def test_what_can_happen(role: str, turn: str, expected: str) -> None:
    """P5: the table as agreed; a change in it changes what the elector promises."""
    assert next_role(Role(role), Transition(turn)) is Role(expected)


@pytest.mark.parametrize(
    ("role", "turn"),
    [
        pair
        for pair in product(Role, Transition)
        if (*pair,) not in {(Role(role), Transition(turn)) for role, turn, _ in LEGAL}
    ],
)
def test_what_cannot_happen_raises_and_changes_nothing(role: Role, turn: Transition) -> None:
    """P5: an invalid event leaves the role unchanged."""
    clock = ManualClock()
    elector: Elector = SimulatedWorker(MemoryPool(clock), clock).elector
    elector.role = role
    with pytest.raises(ValueError, match=f"a worker that is {role} cannot see"):
        elector._transition(turn)
    assert elector.role is role


def test_leader_is_left_only_through_resigning_or_lost() -> None:
    """P5: and only the release leaves it, so that the work has ended before the seat is released."""
    assert {to for (role, _), to in TRANSITIONS.items() if role is Role.LEADER} == {Role.RESIGNING, Role.LOST}
    left = {(turn, to) for (role, turn), to in TRANSITIONS.items() if role in {Role.RESIGNING, Role.LOST}}
    assert left == {(Transition.LOSE, Role.LOST), (Transition.RELEASED, Role.FOLLOWER)}


def test_only_a_follower_wins_or_stops_and_stopped_is_for_good() -> None:
    """P1 and docs/pitfalls.md#34: no other role campaigns, and a stopped elector never campaigns again."""
    assert {role for (role, turn) in TRANSITIONS if turn in {Transition.WON, Transition.STOP}} == {Role.FOLLOWER}
    assert not [role for role, _ in TRANSITIONS if role is Role.STOPPED]
