"""An election, system call by system call: killed, stopped or failed at each of them, the pool stays whole.

The promises: P1 and P2 (asserted by the ``pool`` fixture for the workers, here for the rest).
"""

from __future__ import annotations

import asyncio
import errno
import gc
import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from election.core.backend import SeatTiming
from election.core.clock import SystemClock
from election.core.errors import SeatError
from election.core.seat import Seat
from election.core.term import Standing
from election.engines.file import FileBackend, PoolDirectory
from tests.engines.file.faults import Steps
from tests.engines.file.pool import Pool
from tests.support.waiting import until

HEARTBEAT = 0.002

NEVER_FAIL = ("fstat", "unlock")
"""Calls that cannot fail on an open local file."""


def seat_on(path: Path) -> Seat:
    clock = SystemClock()
    backend = FileBackend(PoolDirectory(str(path)), timing=SeatTiming(HEARTBEAT, 0.01), clock=clock)
    return Seat(backend, clock=clock, safety_poll=0.01)


async def one_term(seat: Seat) -> int | None:
    """Run from the campaign to the release; return the number of the term, None if there was none."""
    term = await seat.campaign()
    if term is None:
        return None
    try:
        await seat.beat()
        await seat.confirm(1.0)
        await seat.beat()
        await seat.observe()
    finally:
        await seat.release(Standing.RESIGNED)
    return term.number


def steps_of_a_term(path: Path) -> int:
    """Number of system calls on files in a term of a used pool."""
    seat = seat_on(path)
    asyncio.run(one_term(seat))
    with Steps(str(path), lambda *_: None).running() as steps:
        asyncio.run(one_term(seat))
    return steps.taken


@pytest.fixture
def frozen() -> Iterator[None]:
    """Takes the objects that live before the test from the garbage collector: a collection takes a millisecond."""
    gc.collect()
    gc.freeze()
    yield
    gc.unfreeze()


@pytest.mark.usefixtures("frozen")
@pytest.mark.parametrize("every", [4, pytest.param(1, marks=pytest.mark.extended)])
@pytest.mark.parametrize(
    "code", [errno.ENOSPC, pytest.param(errno.EMFILE, marks=pytest.mark.extended)], ids=errno.errorcode.get
)
@pytest.mark.parametrize("fresh", [True, pytest.param(False, marks=pytest.mark.extended)], ids=["fresh", "used"])
def test_row_22_each_system_call_of_a_term_fails_once(tmp_path: Path, code: int, fresh: bool, every: int) -> None:
    """No fault leaves the seat held, the record torn, a descriptor open or a number used twice; the next try wins."""
    last, step, reached = 0, 1 - every, True
    seat = seat_on(tmp_path / "pool")
    while reached:
        step += every
        if fresh:
            seat, last = seat_on(tmp_path / f"pool-{step}"), 0
        reached = False

        def fail(number: int, call: str, step: int = step) -> None:
            nonlocal reached
            if number == step:
                reached = True
                if not call.startswith(NEVER_FAIL):
                    raise OSError(code, os.strerror(code))

        gc.collect()  # objects of the last step close their descriptors
        descriptors = len(os.listdir("/proc/self/fd"))
        with Steps(seat.backend.directory.path, fail).running():
            try:
                number = asyncio.run(one_term(seat))
            except (SeatError, OSError, ValueError):
                number = None
        assert seat.held() is None
        assert len(os.listdir("/proc/self/fd")) == descriptors, step
        assert number is None or number > last

        other = seat_on(Path(seat.backend.directory.path))
        record = other.backend.record_file.read()
        after = asyncio.run(one_term(other))
        assert after is not None, f"step {step} keeps others from the seat"
        assert after > max(last, number or 0, record.term if record else 0)
        last = after
    assert step > 20


@pytest.mark.parametrize("every", [4, pytest.param(1, marks=pytest.mark.extended)])
def test_row_04_killed_at_each_step_of_an_election(pool: Pool, every: int) -> None:
    steps = range(1, steps_of_a_term(pool.path) + 1, every)
    survivor = seat_on(pool.path)
    last = asyncio.run(one_term(survivor))
    assert last is not None
    for step in steps:
        worker = pool.start(heartbeat=HEARTBEAT, safety_poll=0.01, before=[("at_step", {"number": step, "do": 9})])
        until(worker.gone)
        begun = [fact for fact in pool.begun() if fact.pid == worker.pid]
        if begun:
            assert begun[0].term > last
            pool.facts.write("killed", pid=worker.pid)
        number = asyncio.run(one_term(survivor))
        assert number is not None, f"{pool.told(what='step')[-1]} keeps others from the seat"
        assert number > max(last, begun[0].term if begun else 0)
        last = number
    assert len(pool.told(what="step")) == len(steps)


@pytest.mark.parametrize("every", [9, pytest.param(3, marks=pytest.mark.extended)])
def test_row_04_stopped_at_each_step_of_an_election_while_the_lock_file_is_swapped(pool: Pool, every: int) -> None:
    """A worker that is continued after another was elected on a new lock file does not lead, nor take a number back.

    At every third step, to save time; it passed at each of them.
    """
    steps = range(1, steps_of_a_term(pool.path) + 1, every)
    calm = {"heartbeat": 0.02, "safety_poll": 0.02}
    for step in steps:
        number = max(pool.term(), int(pool.number.read_text()))
        stopped = pool.start(**calm, before=[("at_step", {"number": step, "do": signal.SIGSTOP})])
        until(lambda stopped=stopped: stopped.stands_still() or stopped.gone())
        pool.lock.rename(pool.path / f"away-{step}")
        other = pool.start(**calm)
        until(lambda other=other: other.ask("look")["held"] or other.ask("look")["problem"], what="the other's verdict")
        stopped.resume()
        until(lambda number=number: pool.begun(number))
        both = (stopped, other)
        until(lambda both=both: [bool(each.ask("look")["held"]) for each in both].count(True) == 1)
        for worker in both:
            worker.kill()
            until(worker.gone)
    assert len(pool.told(what="step")) == len(steps)
