"""From the judgement to the term: the end of ``_judge``, ``Seat._draft``, ``reserve``, ``publish``."""

from __future__ import annotations

from collections.abc import Iterator

from .steps import do, ends_work, gives_up, is_current, step
from .world import LOST, RESIGNED, WORKING, Record, Rules, World


@step
def only_one(world: World, slot: int, rules: Rules) -> Iterator[tuple[str, World]]:
    """``DurableNumber.try_lock``: ``flock(LOCK_EX | LOCK_NB)`` on the number file."""
    if "alone" not in rules.on:
        yield "is no rival's", do(world, slot, "same_number")
    elif any(process.alone for process in world.processes):
        yield "is refused the flock on the number file", gives_up(world, slot)
    else:
        yield "gets the flock on the number file", do(world, slot, "same_number", alone=True)


@step
def same_number(world: World, slot: int, rules: Rules) -> Iterator[tuple[str, World]]:
    """``_judge``: ``self._number.read() == latest``."""
    if "same number" in rules.on and world.number != world.processes[slot].latest:
        yield "finds that a term has begun meanwhile", gives_up(world, slot)
    else:
        yield "finds the number unchanged", do(world, slot, "same_record", latest=0)


@step
def same_record(world: World, slot: int, rules: Rules) -> Iterator[tuple[str, World]]:
    """``_judge``: ``self.record_file.read() == found``."""
    if "same record" in rules.on and world.record != world.processes[slot].found:
        yield "finds that the record has changed", gives_up(world, slot)
    else:
        yield "finds the record unchanged", do(world, slot, "current", found=None)


@step
def current(world: World, slot: int, rules: Rules) -> Iterator[tuple[str, World]]:
    """``_judge``: ``or not self.lock.is_current()``."""
    if "current before" in rules.on and not is_current(world, world.processes[slot]):
        yield "finds leader.lock swapped before its term", gives_up(world, slot)
    else:
        yield "may lead", do(world, slot, "count")


@step
def count(world: World, slot: int, rules: Rules) -> Iterator[tuple[str, World]]:
    """``Seat._draft``: the number is derived from the number file, the record and the ledger."""
    previous = world.processes[slot].before
    latest = world.number if "number file" in rules.on else 0
    number = max(latest, previous.term if previous else 0, world.ledger) + 1
    yield f"works out term {number}", do(world, slot, "compare", number=number, before=None)


@step
def compare(world: World, slot: int, rules: Rules) -> Iterator[tuple[str, World]]:
    """``DurableNumber.write``: ``pread``, and the refusal."""
    number = world.processes[slot].number
    if "number grows" in rules.on and world.number >= number:
        yield f"is refused term {number}", gives_up(world, slot, at="open")
    else:
        yield "reads the number file", do(world, slot, "write_number")


@step
def write_number(world: World, slot: int, rules: Rules) -> Iterator[tuple[str, World]]:
    """``DurableNumber.write``: ``pwrite``."""
    number = world.processes[slot].number
    yield f"writes number {number}", do(world, slot, "write_record", world_too={"number": number})


@step
def write_record(world: World, slot: int, rules: Rules) -> Iterator[tuple[str, World]]:
    """``_write_first``: ``self.record_file.write(record)``."""
    process = world.processes[slot]
    record = Record(process.number, slot, process.fd)
    seen = record if "memory of oneself" in rules.on else process.seen
    yield "writes its record", do(world, slot, "confirm_seat", ours=record, seen=seen, world_too={"record": record})


@step
def confirm_seat(world: World, slot: int, rules: Rules) -> Iterator[tuple[str, World]]:
    """``_write_first``: ``if self.lock.is_current()``, and with it the term is won."""
    process = world.processes[slot]
    if "current after" in rules.on and not is_current(world, process):
        yield "finds leader.lock swapped", do(world, slot, "end", standing=LOST)
        return
    begun = process.number if 0 <= world.begun < process.number else -1
    at = "enter" if rules.ledger else "confirm"
    yield (
        f"LEADS term {process.number}",
        do(world, slot, at, work=WORKING, alone=False, world_too={"begun": begun}),
    )


@step
def enter(world: World, slot: int, rules: Rules) -> Iterator[tuple[str, World]]:
    """``TermScheduler.__aenter__``: the ledger begins the term, or refuses it (``StaleTermError``)."""
    number = world.processes[slot].number
    if world.ledger > number:
        yield "is refused by the ledger", ends_work(world, slot, RESIGNED, rules)
    else:
        yield "is in the ledger", do(world, slot, "confirm", world_too={"ledger": number})
