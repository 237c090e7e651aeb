"""Breadth-first search through every reachable state of the model; the first violation has the shortest history."""

from __future__ import annotations

import gc
import itertools
from collections.abc import Iterator
from dataclasses import dataclass

from . import begin, campaign, term  # noqa: F401  their steps enter themselves into STEPS
from .environment import environment
from .steps import STEPS
from .world import DRAINING, LOST, Rules, World, arranged, broken, leaders

UNHURRIED = 150
"""Steps within which an undisturbed pool has a leader."""


@dataclass(frozen=True)
class Found:
    """Result of a search. ``complete``: every state was visited. ``trace``: history of the first violation."""

    states: int
    depth: int
    complete: bool
    violation: str | None = None
    trace: tuple[str, ...] = ()


def explore(rules: Rules, *, depth: int | None = None, states: int | None = None, liveness: bool = True) -> Found:
    """Visit everything that ``rules`` allow, limited to ``depth`` steps or about ``states`` states.

    liveness: also check that from each state the undisturbed pool gets a leader.
    """
    collecting = gc.isenabled()
    gc.disable()  # millions of tuples, and no cycle among them
    try:
        return _search(rules, depth, states, liveness=liveness)
    finally:
        if collecting:
            gc.enable()


def _search(rules: Rules, depth: int | None, states: int | None, *, liveness: bool) -> Found:
    start, _ = arranged(rules.start())
    came_from: dict[World, World | None] = {start: None}
    hopeful: set[World] = set()
    frontier, level = [start], 0
    while frontier and (depth is None or level < depth) and (states is None or len(came_from) < states):
        level += 1
        reached = []
        for world in frontier:
            for _, after in _next(world, rules):
                found, _ = arranged(after)
                if found in came_from:
                    continue
                came_from[found] = world
                reached.append(found)
                wrong = broken(found)
                if wrong is None and liveness and not _can_be_led(found, rules, hopeful):
                    wrong = "P6: nobody can lead any more"
                if wrong is not None:
                    return Found(len(came_from), level, False, wrong, tuple(_history(found, came_from, rules)))
        frontier = reached
    return Found(len(came_from), level, not frontier)


def _next(world: World, rules: Rules) -> Iterator[tuple[str, World]]:
    for slot, process in enumerate(world.processes):
        for text, after in STEPS[process.at](world, slot, rules):
            yield f"P{slot} {text}", after
    yield from environment(world)


def _can_be_led(world: World, rules: Rules, hopeful: set[World]) -> bool:
    """Whether the undisturbed pool can get a leader that keeps leading.

    ``hopeful`` are worlds for which this is known.
    """
    world = world._replace(tampering=0, crashes=0, stops=0, resignations=0, begun=0)
    return any(_comes_to_a_leader(world, slot, rules, hopeful) for slot in range(len(world.processes)))


def _comes_to_a_leader(world: World, candidate: int, rules: Rules, hopeful: set[World]) -> bool:
    passed = []
    for _ in range(UNHURRIED):
        if world in hopeful or _is_led(world):
            hopeful.update(passed)
            return True
        passed.append(world)
        world = _one_step_on(world, candidate, rules)
    return False


def _is_led(world: World) -> bool:
    return any(
        world.processes[slot].at == "lead"
        and world.processes[slot].work not in {LOST, DRAINING}
        and world.lock == world.processes[slot].fd
        and world.record == world.processes[slot].ours
        for slot in leaders(world)
    )


def _one_step_on(world: World, candidate: int, rules: Rules) -> World:
    """One schedule of many: leaders first, until they have noticed every change; then campaigns in progress; then
    settling processes; then a new campaign of the candidate.
    """

    def urgency(slot: int) -> tuple[bool, bool, bool, int]:
        process = world.processes[slot]
        return not process.work, process.at in {"open", "look"}, process.at == "settle", slot != candidate

    for slot in sorted(range(len(world.processes)), key=urgency):
        outcomes = list(STEPS[world.processes[slot].at](world, slot, rules))
        if outcomes:
            return outcomes[-1][1]
    return world


# --- counter-examples ----------------------------------------------------------------------------------------------


def _history(last: World, came_from: dict[World, World | None], rules: Rules) -> list[str]:
    """The history, line by line, each process under one name from beginning to end."""
    path = [last]
    while (before := came_from[path[-1]]) is not None:
        path.append(before)
    path.reverse()
    names = tuple(range(len(last.processes)))
    lines = []
    for before, after in itertools.pairwise(path):
        text, moved = _what_happened(before, after, rules)
        lines.append(_named(text, names))
        names = tuple(names[slot] for slot in moved)
    return lines


def _what_happened(before: World, after: World, rules: Rules) -> tuple[str, tuple[int, ...]]:
    for text, outcome in _next(before, rules):
        found, moved = arranged(outcome)
        if found == after:
            return text, moved
    raise AssertionError("the model does not do the same thing twice")


def _named(text: str, names: tuple[int, ...]) -> str:
    if not text.startswith("P"):
        return text
    who, _, what = text.partition(" ")
    return f"P{names[int(who[1:])] + 1} {what}"
