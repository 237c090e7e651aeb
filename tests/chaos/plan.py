"""Schedule of faults, drawn wholly from a seed before anything runs, so that the same seed plans the same faults.

The target of a fault is a role and an index, because pids are unknown in advance.
"""

from __future__ import annotations

import random
from collections.abc import Mapping
from dataclasses import dataclass

from .kinds import Kind

FIRST_AT = 1.0
CALM = 4.0
"""Seconds at the end without a fault, so that owed ticks are caught up with."""

AT_ONCE = 0.2
"""Share of faults that follow the one before within a tenth of a second: they hit a takeover in progress."""

AS_A_RULE = 0.8
"""Share of faults that are followed by as much time as they need, so that their cost can be measured."""

APART = 5.0
"""Seconds between a lost lock file and a lost record. Without both, a hanging leader and a worker that has never
seen the record cannot notice each other; P1 covers a lost lock file only (the record then names the leader).
"""


@dataclass(frozen=True, slots=True)
class Fault:
    """at: seconds from the start, as planned. index: among the candidates. seconds: duration, if it lasts."""

    at: float
    kind: str
    index: int
    seconds: float


def draw(seed: int, seconds: float, kinds: Mapping[str, Kind]) -> list[Fault]:
    """Faults of a run of so many seconds, in the order of their times."""
    chance = random.Random(seed)
    plan: list[Fault] = []
    at = FIRST_AT
    while at < seconds - CALM:
        kind = _pick(chance, kinds, plan, at)
        lasts = kinds[kind].lasts
        for_seconds = round(chance.uniform(*lasts), 2) if lasts else 0.0
        fault = Fault(round(at, 3), kind, chance.randrange(1000), for_seconds)
        if fault.at + for_seconds < seconds - CALM + 1:
            plan.append(fault)
        if chance.random() < AS_A_RULE:
            at += kinds[kind].alone
        at += chance.uniform(0, 0.1) if chance.random() < AT_ONCE else chance.uniform(0.4, 2.2)
    return plan


def _pick(chance: random.Random, kinds: Mapping[str, Kind], plan: list[Fault], at: float) -> str:
    names = list(kinds)
    while True:
        (name,) = chance.choices(names, [kinds[each].weight for each in names])
        if not any(_too_near(kinds, name, fault, at) for fault in plan):
            return name


def _too_near(kinds: Mapping[str, Kind], name: str, before: Fault, at: float) -> bool:
    if before.kind == name and at - before.at < kinds[name].rests:
        return True
    spoilt = {kinds[name].spoils, kinds[before.kind].spoils}
    return spoilt == {"lock", "record"} and at - before.at < APART
