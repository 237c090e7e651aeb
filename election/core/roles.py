"""The roles of a worker as a table, after h11's ``_state.py``: what is not in it cannot happen.

The leader's role is left only through RESIGNING or LOST, and so the seat is only given up after the work has ended.
"""

from __future__ import annotations

from enum import StrEnum


class Role(StrEnum):
    FOLLOWER = "follower"
    LEADER = "leader"
    RESIGNING = "resigning"  # no new ticks; what runs may end; the seat is still held
    LOST = "lost"  # what runs is cancelled; nobody else can lead before it has ended
    STOPPED = "stopped"


class Turn(StrEnum):
    WON = "won"
    RESIGN = "resign"
    LOSE = "lose"
    RELEASED = "released"
    STOP = "stop"


TRANSITIONS: dict[tuple[Role, Turn], Role] = {
    (Role.FOLLOWER, Turn.WON): Role.LEADER,
    (Role.FOLLOWER, Turn.STOP): Role.STOPPED,
    (Role.LEADER, Turn.RESIGN): Role.RESIGNING,
    (Role.LEADER, Turn.LOSE): Role.LOST,
    (Role.RESIGNING, Turn.LOSE): Role.LOST,
    (Role.RESIGNING, Turn.RELEASED): Role.FOLLOWER,
    (Role.LOST, Turn.RELEASED): Role.FOLLOWER,
}


def after(role: Role, turn: Turn) -> Role:
    """The role that ``turn`` leads to. Raises ``ValueError`` if it cannot happen in ``role``."""
    try:
        return TRANSITIONS[role, turn]
    except KeyError:
        raise ValueError(f"a worker that is {role} cannot see {turn!r}") from None
