"""The table of roles."""

from __future__ import annotations

from itertools import product

import pytest

from election.core.elector import Elector
from election.core.roles import TRANSITIONS, Role, Turn, after
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


@pytest.mark.parametrize(("role", "turn", "next_role"), LEGAL)
def test_what_can_happen(role: str, turn: str, next_role: str) -> None:
    """P5: the table as it was agreed upon; a change in it is a change of what the elector promises."""
    assert after(Role(role), Turn(turn)) is Role(next_role)


@pytest.mark.parametrize(
    ("role", "turn"),
    [pair for pair in product(Role, Turn) if (*pair,) not in {(Role(role), Turn(turn)) for role, turn, _ in LEGAL}],
)
def test_what_cannot_happen_raises_and_changes_nothing(role: Role, turn: Turn) -> None:
    """P5: an elector that is told the impossible stays what it is."""
    clock = ManualClock()
    elector: Elector = SimulatedWorker(MemoryPool(clock), clock).elector
    elector.role = role
    with pytest.raises(ValueError, match=f"a worker that is {role} cannot see"):
        elector._turn(turn)
    assert elector.role is role


def test_leader_is_left_only_through_resigning_or_lost() -> None:
    """P5: and from there only by the release, so that the work has ended before the seat is given up."""
    assert {to for (role, _), to in TRANSITIONS.items() if role is Role.LEADER} == {Role.RESIGNING, Role.LOST}
    left = {(turn, to) for (role, turn), to in TRANSITIONS.items() if role in {Role.RESIGNING, Role.LOST}}
    assert left == {(Turn.LOSE, Role.LOST), (Turn.RELEASED, Role.FOLLOWER)}


def test_only_a_follower_wins_or_stops_and_stopped_is_for_good() -> None:
    """P1 and docs/pitfalls.md#34: nobody campaigns from any other role, and who has stopped never does again."""
    assert {role for (role, turn) in TRANSITIONS if turn in {Turn.WON, Turn.STOP}} == {Role.FOLLOWER}
    assert not [role for role, _ in TRANSITIONS if role is Role.STOPPED]
