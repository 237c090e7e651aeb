"""Transitions between the roles of a worker as a table, after h11's ``_state.py``: no others can happen.

The leader's role is left only through RESIGNING or LOST, and so the seat is only given up after the work has ended.
"""

from __future__ import annotations

from enum import StrEnum


class Role(StrEnum):
    FOLLOWER = "follower"
    LEADER = "leader"
    RESIGNING = "resigning"  # no new ticks; runs may end; the seat is still held
    LOST = "lost"  # runs are cancelled; no other worker can lead before they have ended
    STOPPED = "stopped"


class Transition(StrEnum):
    WON = "won"
    RESIGN = "resign"
    LOSE = "lose"
    RELEASED = "released"
    STOP = "stop"


TRANSITIONS: dict[tuple[Role, Transition], Role] = {
    (Role.FOLLOWER, Transition.WON): Role.LEADER,
    (Role.FOLLOWER, Transition.STOP): Role.STOPPED,
    (Role.LEADER, Transition.RESIGN): Role.RESIGNING,
    (Role.LEADER, Transition.LOSE): Role.LOST,
    (Role.RESIGNING, Transition.LOSE): Role.LOST,
    (Role.RESIGNING, Transition.RELEASED): Role.FOLLOWER,
    (Role.LOST, Transition.RELEASED): Role.FOLLOWER,
}


def next_role(role: Role, transition: Transition) -> Role:
    """The role that ``transition`` leads to. Raises ``ValueError`` if it cannot happen in ``role``."""
    try:
        return TRANSITIONS[role, transition]
    except KeyError:
        raise ValueError(f"a worker that is {role} cannot see {transition!r}") from None
