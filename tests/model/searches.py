"""Searches: their budgets, the guards switched off in each, and the cases beyond the promises."""

from __future__ import annotations

from .world import Rules

_PAIR = {"processes": 2, "tampering": 2, "crashes": 0, "resignations": 0}

SUITE = {
    "three workers, from an empty directory": Rules(tampering=1, crashes=0, resignations=0),
    "two workers, files swapped twice": Rules(**_PAIR, led=True),
    "two workers, a leader that dies or stands still": Rules(
        processes=2, tampering=1, crashes=1, stops=1, resignations=0, led=True
    ),
}
"""Few enough states for each run of the tests: all possible events, to the end."""

FULL = {
    "two workers that have seen their leader, and that one stands still": Rules(
        **_PAIR | {"stops": 1}, led=True, known=True
    ),
    "two workers, from an empty directory, files swapped twice": Rules(**_PAIR),
    "the same without the kernel's list of locks": Rules(**_PAIR, listed=False),
    "the same with the ledger": Rules(**_PAIR, ledger=True),
    "two workers that resign, files swapped twice": Rules(**_PAIR | {"resignations": 1}, led=True),
    "the same without /proc/locks": Rules(**_PAIR | {"resignations": 1}, led=True, listed=False),
    "two workers that die, files swapped twice": Rules(**_PAIR | {"crashes": 1}, led=True),
    "three workers that die and resign": Rules(tampering=1, crashes=1, resignations=1, led=True),
    "three workers, files swapped twice": Rules(**_PAIR | {"processes": 3}, led=True),
}
"""Up to five minutes each. ``__main__`` stops the three that die and resign at two million states."""


def _without(*guards: str, **changes: object) -> Rules:
    return Rules(off=frozenset(guards), **_PAIR | {"led": True} | changes)  # type: ignore[arg-type]


PLANTED = {
    "rival": _without("rival"),
    "settle": _without("settle"),
    "memory": _without("memory", stops=1, known=True),
    "same record": _without("same record", led=False),
    "alone": _without("alone", led=False),
    "number file": _without("number file", "number grows", tampering=1, crashes=1),
    "current after": _without("current after", led=False),
    "heartbeat lock": _without("heartbeat lock"),
    "heartbeat record": _without("heartbeat record"),
    "warn off": _without("warn off"),
    "warn off until the end": _without("warn off until the end"),
    "work first": _without("work first"),
}
"""A guard that is switched off is a bug, and a search finds its consequence."""

PLANTED_DEEP = {
    "settle in any case": _without("settle in any case", resignations=1),
    "memory of oneself": _without("memory of oneself", resignations=1, listed=False),
}
"""The same, where the search takes longer."""

SPARE = {
    "linked": "the look at the path right after it sees the same",
    "current when locked": "the look at the path before the term sees the same",
    "current before": "the look at the path after the record sees the same; this one saves a number",
    "same number": "within the budgets, a term that begins meanwhile has changed the record as well",
    "number grows": "while the number is worked out from the file; it stands for a damaged one",
    "own words": "within the budgets, nobody's record is replaced while its author is about to end it",
    "warn off if absent": "likewise",
}
"""Guards whose absence no search has revealed while the others stand, and possible reasons. They cost next to
nothing, and fail earlier or under more tampering than is searched.
"""

LIMITS = {
    "a leader stands still for a settle while lock and record go, and a newcomer comes": _without(stops=1),
    "lock renamed, renamed back and record removed in the middle of an election": _without(tampering=3, led=False),
}
"""Cases that the file engine does not promise: the search finds two leaders, and how."""
