"""The promises hold in every state of the model within the budgets of ``searches.SUITE``; and each guard is needed.

``python -m tests.model --full`` searches further.
"""

from __future__ import annotations

import inspect

import pytest

from election.core.elector import Elector
from election.core.seat import Seat
from election.engines.file import atomic_files, backend, leader_record, lock
from tests.model.explore import Found, explore
from tests.model.searches import LIMITS, PLANTED, PLANTED_DEEP, SPARE, SUITE
from tests.model.world import GUARDS

STATES = {
    "three workers, from an empty directory": 92_704,
    "two workers, files swapped twice": 74_903,
    "two workers, a leader that dies or stands still": 25_906,
}
"""Numbers of states. A change of the protocol changes them: review it, then write the new numbers."""


QUICK = "two workers, a leader that dies or stands still"
"""The smallest search; the others take three times as long, each."""

QUICK_GUARDS = {"rival", "number file", "heartbeat lock"}
"""One of each promise: P1, P2, P6."""


@pytest.mark.parametrize(
    "name", [name if name == QUICK else pytest.param(name, marks=pytest.mark.extended) for name in SUITE]
)
def test_p1_p2_and_p6_hold_in_every_state(name: str) -> None:
    found = explore(SUITE[name])
    assert found.violation is None, _told(found)
    assert found.complete
    assert found.states == STATES[name]


@pytest.mark.parametrize(
    "guard", [guard if guard in QUICK_GUARDS else pytest.param(guard, marks=pytest.mark.extended) for guard in PLANTED]
)
def test_a_guard_that_is_switched_off_is_missed(guard: str) -> None:
    promise = {"number file": "P2", "heartbeat lock": "P6", "heartbeat record": "P6"}.get(guard, "P1")
    found = explore(PLANTED[guard], liveness=promise == "P6")
    assert (found.violation or "").startswith(promise)
    assert found.trace


def test_winning_is_not_yet_leading() -> None:
    """Split brain in its shortest form: the lock file is removed, another worker wins the new one, and leads."""
    trace = explore(PLANTED["rival"]).trace
    assert trace[0] == "leader.lock is unlinked"
    assert trace[1:3] == ("P2 creates leader.lock", "P2 gets the flock")
    assert "P2 looks for no rival" in trace
    assert trace[-1] == "P2 LEADS term 2"


def test_what_is_not_promised() -> None:
    """A newcomer cannot notice a leader that stands still, if nothing but its process is left of it."""
    found = explore(LIMITS["a leader stands still for a settle while lock and record go, and a newcomer comes"])
    assert found.violation == "P1: two processes lead"
    assert {"leader.lock is unlinked", "leader.json is unlinked"} < set(found.trace)
    assert "P2 has settled while a leader stood still" in found.trace


def test_every_guard_is_either_missed_or_known_to_be_spare() -> None:
    switched_off = {guard for rules in (PLANTED | PLANTED_DEEP).values() for guard in rules.off}
    assert switched_off | SPARE.keys() == GUARDS.keys()


def test_the_guards_are_where_the_model_says() -> None:
    """A renamed function of the engine fails here, as a reminder to check that the model still mirrors it."""
    code = "\n".join(
        inspect.getsource(module) for module in (lock, backend, leader_record, atomic_files, Seat, Elector)
    )
    places = {text.split(":")[0].rpartition(".")[2] for text in GUARDS.values() if text[0] != " " and ":" in text}
    missing = {place for place in places - {"filelock"} if f"def {place}(" not in code}
    assert missing == set()


def _told(found: Found) -> str:
    return "\n".join([str(found.violation), *found.trace])
