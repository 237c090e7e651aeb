"""Elements of steps: the next step of a process, and the end of a campaign.

A step is a function from a world to the possible next worlds after one system call of one process in
``election/engines/file``; each names the call that it mirrors. ``campaign.py``, ``begin.py`` and ``term.py`` have them,
in the order of a term.

Two calls are one step where no process can tell the difference: a ``stat`` of the own descriptor, ``LOCK_UN`` and
``close``, writing beside a file and renaming over it.

Left out: errors of the disk (``tests/engines/file/test_steps.py`` has those, call by call, on real processes), forked
children, other containers, and requests that read the record meanwhile.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from .world import DRAINING, IDLE, LOST, WORKING, Process, Rules, World

Step = Callable[[World, int, Rules], Iterator[tuple[str, World]]]
"""From a world to the possible results of one process's next step, each described."""

STEPS: dict[str, Step] = {}


def step(function: Callable[..., Iterator[tuple[str, World]]]) -> Step:
    STEPS[function.__name__.strip("_")] = function
    return function


def do(world: World, slot: int, at: str, *, world_too: dict[str, Any] | None = None, **changes: Any) -> World:
    """The process continues at step ``at`` with changes; the directory may change too."""
    processes = list(world.processes)
    processes[slot] = processes[slot]._replace(at=at, **changes)
    if world_too:
        return world._replace(processes=tuple(processes), **world_too)
    return World(tuple(processes), *world[1:])


def is_current(world: World, process: Process) -> bool:
    """``LockFile.is_current``: one ``stat`` of the path, since the own descriptor is unchanged."""
    return world.lock == process.fd


def flocked(world: World, inode: int) -> bool:
    return any(process.locked and process.fd == inode for process in world.processes)


def beating(world: World, slot: int, rules: Rules) -> int:
    """Bits of the leaders other than ``slot`` that send heartbeats."""
    beats = {WORKING, DRAINING, *([LOST] if "warn off until the end" in rules.on else [])}
    return sum(1 << other for other, process in enumerate(world.processes) if other != slot and process.work in beats)


def ends_work(world: World, slot: int, standing: str, rules: Rules) -> World:
    """No work runs any more, so no settle needs to wait for this process."""
    processes = [process._replace(awaited=process.awaited & ~(1 << slot)) for process in world.processes]
    world = world._replace(processes=tuple(processes))
    return do(world, slot, "end", work=IDLE, standing=standing, serves=0)


def gives_up(world: World, slot: int, at: str = "look") -> World:
    """``_give_up`` is the next step, after which the process waits again, or tries again at once (``SeatError``)."""
    return do(
        world, slot, "unlock_" + at, before=None, latest=0, found=None, number=0, ours=None, standing="", alone=False
    )
