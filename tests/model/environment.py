"""Actions on a pool from outside, at any point: deaths, and changes of its files. Each has a budget in ``World``.

A fence is a death too: a leader that stands still is killed. A stop is no action; see ``world.py``.
"""

from __future__ import annotations

from collections.abc import Iterator

from .world import NOBODY, Process, World, bury, fresh_inodes


def environment(world: World) -> Iterator[tuple[str, World]]:
    """Every action possible in this world, described, with the resulting world."""
    if world.crashes:
        fewer = world._replace(crashes=world.crashes - 1)
        for slot, process in enumerate(world.processes):
            if process != Process():
                yield f"P{slot} is killed, and another is started", bury(fewer, slot)
    if not world.tampering:
        return
    fewer = world._replace(tampering=world.tampering - 1)
    if world.lock != NOBODY:
        yield "leader.lock is unlinked", fewer._replace(lock=NOBODY)
        yield "leader.lock is renamed", fewer._replace(lock=NOBODY, away=world.lock)
        for inode in fresh_inodes(world):
            yield "leader.lock is replaced", fewer._replace(lock=inode)
    if world.away != NOBODY:
        yield "the former leader.lock is renamed back", fewer._replace(lock=world.away, away=NOBODY)
    if world.record is not None:
        yield "leader.json is unlinked", fewer._replace(record=None)
