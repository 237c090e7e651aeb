"""State of a pool in the model: a directory, its processes, and the budgets of faults. Values only.

``campaign.py``, ``begin.py`` and ``term.py`` define the steps of a process, ``environment.py`` the actions on it and on
its files.

There is no time. A process that is not scheduled is a stopped one, a blocked one or a slow one, so stop and continue
are in every interleaving. Only one place of the code relies on time: the settle, which assumes that a leader sends a
heartbeat within it. Here it ends once each leader that sends heartbeats has begun and finished one since the settle
began; an earlier end, because that leader stands still meanwhile, costs one of ``stops``.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import NamedTuple

NOBODY = 0
"""In place of an inode: there is none."""

DEAD = -1
"""In place of a holder: a dead process. A process started in its place is another one."""

LEADING, RESIGNED, LOST = "leading", "resigned", "lost"
WORKING, DRAINING, IDLE = "working", "draining", ""


class Record(NamedTuple):
    """The fields of ``LeaderRecord`` that the protocol uses. ``told``: ``confirm`` has added the milliseconds."""

    term: int
    holder: int
    seat: int
    standing: str = LEADING
    told: bool = False


class Process(NamedTuple):
    """One worker.

    at: its next step.
    fd: the inode that its descriptor of the lock file is open on; locked: whether it has the flock on that.
    alone: whether it has the flock on the number file, within which the record is written.
    latest: the number of the last term before it judged.
    found, before: the record as it was judged; ``before`` of ``_judge``.
    number: of the term that it begins or leads.
    ours: its last write. seen: ``RecordObserver.last_seen``.
    work: whether the work of a term may run, and its state.
    awaited: bits of the leaders that its settle still waits for; serves: of the settles that its heartbeat will count
    for.
    """

    at: str = "open"
    fd: int = NOBODY
    locked: bool = False
    alone: bool = False
    latest: int = 0
    found: Record | None = None
    before: Record | None = None
    number: int = 0
    ours: Record | None = None
    seen: Record | None = None
    work: str = IDLE
    standing: str = ""
    awaited: int = 0
    serves: int = 0


class World(NamedTuple):
    """The pool at one instant.

    lock, away: inodes of ``leader.lock`` and of the name it was renamed to.
    record, number, ledger: ``leader.json``, ``leader.term``, and the last term in the ledger.
    begun: the largest number of a term that was begun; -1 once a number was not larger (P2).
    tampering, crashes, stops, resignations: how many of these may still happen.
    """

    processes: tuple[Process, ...]
    lock: int = NOBODY
    away: int = NOBODY
    record: Record | None = None
    number: int = 0
    ledger: int = 0
    begun: int = 0
    tampering: int = 0
    crashes: int = 0
    stops: int = 0
    resignations: int = 0


GUARDS = {
    "linked": "filelock: a locked file without a name is given back (fstat: st_nlink)",
    "current when locked": "LockFile.acquire: the path still names the locked file",
    "settle": "_judge: who finds no record waits for two heartbeats",
    "settle in any case": "_judge: also if it remembers a record",
    "memory": "_judge: without a record, the last one seen counts",
    "memory of oneself": "publish: a worker that has led since need not remember the leader before",
    "rival": "_rival: winning is not yet leading",
    "same record": "_judge: the record is still what was judged",
    "current before": "_judge: the path still names the locked file, before a term begins",
    "same number": "_judge: no term has begun since the record was judged",
    "number file": "_draft: the number file counts, not only the record",
    "number grows": "DurableNumber.write: refuses to go backwards",
    "alone": "records and number change one process at a time",
    "current after": "_write_first: the path still names the locked file, after the record was written",
    "heartbeat lock": "renew: the path still names the locked file",
    "heartbeat record": "renew: the record is still ours",
    "warn off": "_keep_others_off: a leader that lost its seat puts its record back if that is gone",
    "warn off until the end": "the elector beats on while the work of a lost term ends",
    "warn off if absent": "_keep_others_off: never over another worker's record",
    "own words": "LeaderRecordFile.end: only over our own record, else only if there is none",
    "work first": "release: the work has ended before the seat is given up",
}
"""Guards of the promises, each named by its place in the code. Any of them can be switched off."""


@dataclass(frozen=True)
class Rules:
    """Rules of a search.

    off: guards that are switched off.
    processes, tampering, crashes, stops, resignations: their numbers.
    led: whether it begins with a leader, instead of with an empty directory. known: whether all have observed that
    leader.
    listed: whether ``/proc/locks`` lists flocks. ledger: whether the ledger can be read and written.
    """

    off: frozenset[str] = frozenset()
    processes: int = 3
    tampering: int = 1
    crashes: int = 1
    stops: int = 0
    resignations: int = 1
    led: bool = False
    known: bool = False
    listed: bool = True
    ledger: bool = False
    on: frozenset[str] = field(init=False)

    def __post_init__(self) -> None:
        assert self.off <= GUARDS.keys()
        object.__setattr__(self, "on", frozenset(GUARDS) - self.off)

    def start(self) -> World:
        """Workers that have just been started, and a directory that is empty, or that the last of them leads."""
        everybody = (Process(),) * self.processes
        world = World(everybody)
        if self.led:
            record = Record(1, self.processes - 1, 1, told=True)
            leader = Process("lead", fd=1, locked=True, number=1, ours=record, seen=record, work=WORKING)
            others = [other._replace(seen=record if self.known else None) for other in everybody[1:]]
            world = World((*others, leader), lock=1, record=record, number=1, ledger=int(self.ledger), begun=1)
        return world._replace(
            tampering=self.tampering,
            crashes=self.crashes,
            stops=self.stops,
            resignations=self.resignations,
        )


def leaders(world: World) -> list[int]:
    """Processes whose term was won and whose work may still run."""
    return [slot for slot, process in enumerate(world.processes) if process.work]


def broken(world: World) -> str | None:
    """The promise that this world breaks, if any."""
    if len(leaders(world)) > 1:
        return "P1: two processes lead"
    if world.begun < 0:
        return "P2: a term was begun whose number is not larger than all before it"
    return None


def fresh_inodes(world: World) -> Iterator[int]:
    """Numbers that a new file may get: one that was freed, though records may name it, and one never used."""
    used = {world.lock, world.away, *(process.fd for process in world.processes)}
    named = {record.seat for record in _records(world)}
    reused = next(number for number in range(1, 99) if number not in used)
    yield reused
    if reused in named:
        yield next(number for number in range(1, 99) if number not in used | named)


def _records(world: World) -> list[Record]:
    held = [
        record for process in world.processes for record in (process.found, process.before, process.ours, process.seen)
    ]
    return [record for record in (world.record, *held) if record is not None]


# --- which of the processes is which does not matter ---------------------------------------------------------------


def arranged(world: World) -> tuple[World, tuple[int, ...]]:
    """The same world with its processes in one order of the many, so that it is visited once; and the old place of
    each.
    """
    processes = world.processes
    order = tuple(sorted(range(len(processes)), key=lambda slot: _rank(processes[slot])))
    if order == tuple(range(len(order))):
        return world, order
    now = {DEAD: DEAD, **{slot: place for place, slot in enumerate(order)}}
    moved = tuple(_renamed(processes[slot], now) for slot in order)
    return world._replace(processes=moved, record=_of(world.record, now)), order


def bury(world: World, slot: int) -> World:
    """The process is gone, and no other process has its identity: its flocks are free, and records name a dead one."""
    now = {other: other for other in range(-1, len(world.processes))} | {slot: DEAD}
    processes = [
        process._replace(
            found=_of(process.found, now),
            before=_of(process.before, now),
            seen=_of(process.seen, now),
            awaited=process.awaited & ~(1 << slot),
            serves=process.serves & ~(1 << slot),
        )
        for process in world.processes
    ]
    processes[slot] = Process()
    return world._replace(processes=tuple(processes), record=_of(world.record, now))


def _rank(process: Process) -> tuple[object, ...]:
    return (process.at, process.fd, process.number, process.work, process.locked, process.alone)


def _renamed(process: Process, now: dict[int, int]) -> Process:
    return process._replace(
        found=_of(process.found, now),
        before=_of(process.before, now),
        ours=_of(process.ours, now),
        seen=_of(process.seen, now),
        awaited=_bits(process.awaited, now),
        serves=_bits(process.serves, now),
    )


def _of(record: Record | None, now: dict[int, int]) -> Record | None:
    return None if record is None else record._replace(holder=now[record.holder])


def _bits(bits: int, now: dict[int, int]) -> int:
    return sum(1 << place for slot, place in now.items() if slot >= 0 and bits >> slot & 1) if bits else 0
