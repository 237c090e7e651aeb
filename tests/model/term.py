"""A term and its end, and the wait for the next: ``renew``, ``_keep_others_off``, ``release``, ``wait_for_vacancy``.

During a heartbeat its process does nothing else, because it never waits.
"""

from __future__ import annotations

from collections.abc import Iterator

from .steps import do, ends_work, gives_up, is_current, step
from .world import DRAINING, LOST, NOBODY, RESIGNED, WORKING, Rules, World


@step
def confirm(world: World, slot: int, rules: Rules) -> Iterator[tuple[str, World]]:
    """``Seat.confirm``: ``renew``, which beats, and then publishes a record that has changed."""
    if "heartbeat lock" not in rules.on or is_current(world, world.processes[slot]):
        yield "confirms: leader.lock is its own", do(world, slot, "first_beat", serves=settling(world, slot))
    else:
        yield "confirms: leader.lock is not its own", do(world, slot, "warn", serves=settling(world, slot))


@step
def first_beat(world: World, slot: int, rules: Rules) -> Iterator[tuple[str, World]]:
    """``LeaderRecordFile.beat``, as in ``beat``; then the record is rewritten."""
    if "heartbeat record" not in rules.on or world.record == world.processes[slot].ours:
        yield "confirms: the record is its own", has_beaten(world, slot, then="reread")
    else:
        yield "confirms: the record is not its own", do(world, slot, "warn")


@step
def reread(world: World, slot: int, rules: Rules) -> Iterator[tuple[str, World]]:
    """``_rewrite``: ``if self.record_file.is_ours()``. A problem of the leader is published the same way."""
    if world.record == world.processes[slot].ours:
        yield "reads its own record", do(world, slot, "retell")
    else:
        yield "finds that the record is not its own", do(world, slot, "lead")


@step
def retell(world: World, slot: int, rules: Rules) -> Iterator[tuple[str, World]]:
    """``_rewrite``: ``self.record_file.write(record)``."""
    ours = world.processes[slot].ours
    assert ours is not None
    ours = ours._replace(told=True)
    yield "says more in its record", do(world, slot, "lead", ours=ours, world_too={"record": ours})


@step
def lead(world: World, slot: int, rules: Rules) -> Iterator[tuple[str, World]]:
    """A term of ``Elector.run``: it sends heartbeats, resigns, or its work ends."""
    process = world.processes[slot]
    if process.work != LOST or "warn off until the end" in rules.on:
        if "heartbeat lock" not in rules.on or is_current(world, process):
            yield "beats: leader.lock is its own", do(world, slot, "beat", serves=settling(world, slot))
        else:
            yield "beats: leader.lock is not its own", do(world, slot, "warn", serves=settling(world, slot))
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
    """``LeaderRecordFile.beat``: the record is untouched, or else still ours."""
    if "heartbeat record" not in rules.on or world.record == world.processes[slot].ours:
        yield "beats: the record is its own", has_beaten(world, slot)
    else:
        yield "beats: the record is not its own", do(world, slot, "warn")


@step
def warn(world: World, slot: int, rules: Rules) -> Iterator[tuple[str, World]]:
    """``_keep_others_off``: ``write_if_absent``, or ``self.record_file.read() is None``."""
    if world.record is None and "warn off" in rules.on:
        yield "finds no record", do(world, slot, "put_back")
    else:
        yield "has LOST its seat", has_beaten(world, slot, work=LOST)


@step
def put_back(world: World, slot: int, rules: Rules) -> Iterator[tuple[str, World]]:
    """``_keep_others_off``: the record is written, if there is still none."""
    process = world.processes[slot]
    record = world.record if world.record and "warn off if absent" in rules.on else process.ours
    done = has_beaten(world, slot, work=LOST)._replace(record=record)
    yield "puts its record back; it has LOST its seat", done


def settling(world: World, slot: int) -> int:
    """Bits of the processes whose settle waits for a heartbeat of this leader."""
    return sum(1 << other for other, each in enumerate(world.processes) if each.awaited >> slot & 1)


def has_beaten(world: World, slot: int, work: str | None = None, then: str = "lead") -> World:
    """The settles that began before this heartbeat need not wait for this leader any longer."""
    process = world.processes[slot]
    if process.serves:
        done = 1 << slot
        world = world._replace(
            processes=tuple(
                each._replace(awaited=each.awaited & ~done) if process.serves >> other & 1 else each
                for other, each in enumerate(world.processes)
            )
        )
    return do(world, slot, then, serves=0, work=work or process.work)


# --- the end -------------------------------------------------------------------------------------------------------


@step
def end(world: World, slot: int, rules: Rules) -> Iterator[tuple[str, World]]:
    """``_write_last``: the flock on the number file; ``LeaderRecordFile.end``: ``if self.is_ours()``."""
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
    """``LeaderRecordFile.end``: ``self.write(over)``."""
    process = world.processes[slot]
    assert process.ours is not None
    record = process.ours._replace(standing=process.standing)
    yield f"writes that its term is {process.standing}", gives_up(world._replace(record=record), slot)


@step
def tell_end_if_absent(world: World, slot: int, rules: Rules) -> Iterator[tuple[str, World]]:
    """``LeaderRecordFile.end``: ``self.write_if_absent(over)``."""
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
    """Work that ends after the seat was released: only where ``work first`` is switched off."""
    yield "ends its work", do(ends_work(world, slot, LOST, rules), slot, "look", standing="")


@step
def look(world: World, slot: int, rules: Rules) -> Iterator[tuple[str, World]]:
    """``wait_for_vacancy``: ``RecordObserver.look`` caches the record; then the next campaign."""
    seen = world.record or world.processes[slot].seen
    yield "looks at the record", do(world, slot, "open", seen=seen if "memory" in rules.on else None)
