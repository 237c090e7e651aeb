"""A term's life and its end, and the wait for the next: ``confirm``, ``beat``, ``warn_off``, ``release``, ``vacancy``.

While a beat is under way its process does nothing else, because it never waits.
"""

from __future__ import annotations

from collections.abc import Iterator

from .steps import do, ends_work, gives_up, is_current, step
from .world import DRAINING, LOST, NOBODY, RESIGNED, WORKING, Rules, World


@step
def confirm(world: World, slot: int, rules: Rules) -> Iterator[tuple[str, World]]:
    """``say``: ``if self._records.is_ours()``. A problem that a heartbeat tells goes the same way."""
    if world.record == world.processes[slot].ours:
        yield "reads its own record", do(world, slot, "retell")
    else:
        yield "finds that the record is not its own", do(world, slot, "lead")


@step
def retell(world: World, slot: int, rules: Rules) -> Iterator[tuple[str, World]]:
    """``say``: ``self._records.write(record)``."""
    ours = world.processes[slot].ours
    assert ours is not None
    ours = ours._replace(told=True)
    yield "says more in its record", do(world, slot, "lead", ours=ours, world_too={"record": ours})


@step
def lead(world: World, slot: int, rules: Rules) -> Iterator[tuple[str, World]]:
    """``Elector._serve``: it beats, resigns, or its work ends."""
    process = world.processes[slot]
    if process.work != LOST or "warn off until the end" in rules.on:
        settling = sum(1 << other for other, each in enumerate(world.processes) if each.awaited >> slot & 1)
        if "heartbeat lock" not in rules.on or is_current(world, process):
            yield "beats: leader.lock is its own", do(world, slot, "beat", serves=settling)
        else:
            yield "beats: leader.lock is not its own", do(world, slot, "warn", serves=settling)
    if process.work == WORKING and world.resignations:
        resignations = world.resignations - 1
        yield "is asked to resign", do(world, slot, "lead", work=DRAINING, world_too={"resignations": resignations})
    elif process.work in {DRAINING, LOST}:
        standing = RESIGNED if process.work == DRAINING else LOST
        if "work first" in rules.on:
            yield "ends its work", ends_work(world, slot, standing, rules)
        else:
            yield "gives its seat up before its work ends", do(world, slot, "end", standing=standing)


@step
def beat(world: World, slot: int, rules: Rules) -> Iterator[tuple[str, World]]:
    """``LeaderRecords.beat``: the record is untouched, or else still ours."""
    if "heartbeat record" not in rules.on or world.record == world.processes[slot].ours:
        yield "beats: the record is its own", has_beaten(world, slot)
    else:
        yield "beats: the record is not its own", do(world, slot, "warn")


@step
def warn(world: World, slot: int, rules: Rules) -> Iterator[tuple[str, World]]:
    """``warn_off``: ``if self._records.read() is None``."""
    if world.record is None and "warn off" in rules.on:
        yield "finds no record", do(world, slot, "put_back")
    else:
        yield "has LOST its seat", has_beaten(world, slot, work=LOST)


@step
def put_back(world: World, slot: int, rules: Rules) -> Iterator[tuple[str, World]]:
    """``warn_off``: the record is written, if there still is none."""
    process = world.processes[slot]
    record = world.record if world.record and "warn off if absent" in rules.on else process.ours
    done = has_beaten(world, slot, work=LOST)._replace(record=record)
    yield "puts its record back; it has LOST its seat", done


def has_beaten(world: World, slot: int, work: str | None = None) -> World:
    """The settles that began before this beat need not wait for this leader any longer."""
    process = world.processes[slot]
    if process.serves:
        done = 1 << slot
        world = world._replace(
            processes=tuple(
                each._replace(awaited=each.awaited & ~done) if process.serves >> other & 1 else each
                for other, each in enumerate(world.processes)
            )
        )
    return do(world, slot, "lead", serves=0, work=work or process.work)


# --- the end -------------------------------------------------------------------------------------------------------


@step
def end(world: World, slot: int, rules: Rules) -> Iterator[tuple[str, World]]:
    """``Office.leave``: the flock on the number file; ``LeaderRecords.end``: ``if self.is_ours()``."""
    process = world.processes[slot]
    if not process.alone and "alone" in rules.on and any(each.alone for each in world.processes):
        yield "cannot tell its end, since somebody else is telling", gives_up(world, slot)
        return
    ours = "own words" not in rules.on or world.record == process.ours
    yield (
        "finds its own record" if ours else "finds a record that is not its own",
        do(world, slot, "tell_end" if ours else "tell_end_if_absent", alone="alone" in rules.on),
    )


@step
def tell_end(world: World, slot: int, rules: Rules) -> Iterator[tuple[str, World]]:
    """``LeaderRecords.end``: ``self.write(over)``."""
    process = world.processes[slot]
    assert process.ours is not None
    record = process.ours._replace(standing=process.standing)
    yield f"writes that its term is {process.standing}", gives_up(world._replace(record=record), slot)


@step
def tell_end_if_absent(world: World, slot: int, rules: Rules) -> Iterator[tuple[str, World]]:
    """``LeaderRecords.end``: ``self.write_if_absent(over)``."""
    if world.record is None:
        yield from tell_end(world, slot, rules)
    else:
        yield "leaves the other's record alone", gives_up(world, slot)


@step
def unlock_look(world: World, slot: int, rules: Rules) -> Iterator[tuple[str, World]]:
    """``_give_up``: ``LOCK_UN`` and ``close``; the elector waits for a vacancy."""
    yield from _unlock(world, slot, "look")


@step
def unlock_open(world: World, slot: int, rules: Rules) -> Iterator[tuple[str, World]]:
    """``_give_up`` after a ``SeatError``: the elector tries again."""
    yield from _unlock(world, slot, "open")


def _unlock(world: World, slot: int, then: str) -> Iterator[tuple[str, World]]:
    at = "outlive" if world.processes[slot].work else then
    yield "gives the flock up", do(world, slot, at, fd=NOBODY, locked=False)


@step
def outlive(world: World, slot: int, rules: Rules) -> Iterator[tuple[str, World]]:
    """Work that ends after the seat was given up: only where ``work first`` is switched off."""
    yield "ends its work", do(ends_work(world, slot, LOST, rules), slot, "look", standing="")


@step
def look(world: World, slot: int, rules: Rules) -> Iterator[tuple[str, World]]:
    """``FileSeat.vacancy``: ``Sight.look`` remembers the record; then the next campaign."""
    seen = world.record or world.processes[slot].seen
    yield "looks at the record", do(world, slot, "open", seen=seen if "memory" in rules.on else None)
