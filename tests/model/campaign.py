"""From the wait to the judgement: ``FileBackend.try_acquire``, ``LockFile.acquire``, ``_judge`` and ``_rival``."""

from __future__ import annotations

from collections.abc import Iterator

from .steps import beating, do, flocked, gives_up, is_current, step
from .world import DEAD, LEADING, NOBODY, Rules, World, fresh_inodes


@step
def _open(world: World, slot: int, rules: Rules) -> Iterator[tuple[str, World]]:
    """``LockFile.acquire``, in filelock: ``open(O_CREAT)``."""
    if world.lock != NOBODY:
        yield "opens leader.lock", do(world, slot, "flock", fd=world.lock)
        return
    for inode in fresh_inodes(world):
        yield "creates leader.lock", do(world, slot, "flock", fd=inode, world_too={"lock": inode})


@step
def flock(world: World, slot: int, rules: Rules) -> Iterator[tuple[str, World]]:
    """``LockFile.acquire``, in filelock: ``flock(LOCK_EX | LOCK_NB)``."""
    if flocked(world, world.processes[slot].fd):
        yield "is refused the flock", do(world, slot, "look", fd=NOBODY)
    else:
        yield "gets the flock", do(world, slot, "linked", locked=True)


@step
def linked(world: World, slot: int, rules: Rules) -> Iterator[tuple[str, World]]:
    """filelock: ``fstat`` shows whether the locked file has a name."""
    if "linked" in rules.on and world.processes[slot].fd not in {world.lock, world.away}:
        yield "has locked a file without a name", gives_up(world, slot)
    else:
        yield "has locked a file with a name", do(world, slot, "stat")


@step
def stat(world: World, slot: int, rules: Rules) -> Iterator[tuple[str, World]]:
    """``LockFile.acquire``: ``if self.is_current()``."""
    if "current when locked" in rules.on and not is_current(world, world.processes[slot]):
        yield "has locked a file that is not leader.lock any more", gives_up(world, slot)
    else:
        yield "finds that it has locked leader.lock", do(world, slot, "latest")


@step
def latest(world: World, slot: int, rules: Rules) -> Iterator[tuple[str, World]]:
    """``_judge``: ``latest = self._number.read()``."""
    yield "reads the number file", do(world, slot, "first_look", latest=world.number)


@step
def first_look(world: World, slot: int, rules: Rules) -> Iterator[tuple[str, World]]:
    """``_judge``: ``found = self.record_file.read()``; without one it settles."""
    remembers = world.processes[slot].seen is not None and "settle in any case" not in rules.on
    if world.record is None and not remembers and "settle" in rules.on:
        yield "finds no record, and settles", do(world, slot, "settle", awaited=beating(world, slot, rules))
    else:
        yield "reads the record", judging(world, slot, rules)


@step
def settle(world: World, slot: int, rules: Rules) -> Iterator[tuple[str, World]]:
    """``_judge``: the sleep. See ``world.py`` for the meaning of its end."""
    late = world.processes[slot].awaited.bit_count()
    if late == 0:
        yield "has settled", do(world, slot, "second_look")
    elif late <= world.stops:
        stops = world.stops - late
        yield (
            "has settled while a leader stood still",
            do(world, slot, "second_look", awaited=0, world_too={"stops": stops}),
        )


@step
def second_look(world: World, slot: int, rules: Rules) -> Iterator[tuple[str, World]]:
    """``_judge``: ``found = self.record_file.read()`` after the settle."""
    yield "reads the record", judging(world, slot, rules)


def judging(world: World, slot: int, rules: Rules) -> World:
    """``_rival``, cases without a system call."""
    process = world.processes[slot]
    previous = world.record or (process.seen if "memory" in rules.on else None)
    judged = do(world, slot, "only_one", found=world.record, before=previous)
    if previous is None or previous.seat == process.fd or previous.holder == slot or previous.standing != LEADING:
        return judged
    return do(judged, slot, "alive")


@step
def alive(world: World, slot: int, rules: Rules) -> Iterator[tuple[str, World]]:
    """``_rival``: ``previous.holder.is_alive()``, from ``/proc/<pid>/stat``."""
    previous = world.processes[slot].before
    assert previous is not None
    if "rival" not in rules.on:
        yield "looks for no rival", do(world, slot, "only_one")
    elif previous.holder == DEAD:
        yield "finds the recorded leader dead", do(world, slot, "only_one")
    elif rules.listed:
        yield "finds the recorded leader alive", do(world, slot, "listed")
    else:
        yield "finds the recorded leader alive, a rival", gives_up(world, slot)


@step
def listed(world: World, slot: int, rules: Rules) -> Iterator[tuple[str, World]]:
    """``_rival``: ``is_flocked``, from ``/proc/locks``; then ``is_rival``."""
    previous = world.processes[slot].before
    assert previous is not None
    if flocked(world, previous.seat):
        yield "finds the former lock file flocked: a rival", gives_up(world, slot)
    else:
        yield "finds the former lock file free", do(world, slot, "only_one")
