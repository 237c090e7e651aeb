"""Writes of a term: in batches, none forgotten, and nothing granted before it is written (P3, P4)."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

import pytest

from election.core.errors import LedgerError, LedgerVersionError, StaleTermError
from election.schedule.commands import Claim, Entry, FinishRun, Retry, Skip
from election.schedule.ledger_writer import MAX_WAIT_S, LedgerWriter
from election.schedule.model import Outcome, SkipReason, Tick
from election.testing import ManualClock
from tests.schedule.making import NOW, at, until

pytestmark = pytest.mark.anyio

TERM = 7


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


def claim(second: float) -> Claim:
    return Claim(Tick("job", at(second)), NOW)


def settle(second: float) -> FinishRun:
    return FinishRun(Tick("job", at(second)), Outcome.SUCCEEDED, NOW)


class FakeLedger:
    """A ledger that keeps its records in memory, and fails a given number of times."""

    def __init__(self) -> None:
        self.records: list[list[Entry]] = []
        self.faults: list[Exception] = []
        self.unwritable: tuple[Entry, Exception] | None = None
        """An entry that it cannot hold, and the error of each try."""
        self.tried = 0
        self.gate = asyncio.Event()
        self.gate.set()

    @property
    def written(self) -> list[Entry]:
        return [entry for entries in self.records for entry in entries]

    async def record(self, term: int, entries: Sequence[Entry]) -> list[bool]:
        assert term == TERM
        self.tried += 1
        await self.gate.wait()
        if self.faults:
            raise self.faults.pop(0)
        if self.unwritable is not None and self.unwritable[0] in entries:
            raise self.unwritable[1]
        known = set(map(repr, self.written))
        self.records.append(list(entries))
        return [repr(entry) not in known for entry in entries]


class WriterBench:
    """A writer over a fake ledger, and the errors that it reported."""

    def __init__(self) -> None:
        self.ledger = FakeLedger()
        self.failures: list[Exception] = []
        self.stale: list[StaleTermError] = []
        ledger: Any = self.ledger
        self.is_held = True
        self.writer = LedgerWriter(
            ledger, TERM, is_held=lambda: self.is_held, on_failure=self.failures.append, on_stale=self.stale.append
        )


@pytest.fixture
async def bench() -> WriterBench:
    return WriterBench()


async def test_ticks_that_fall_due_together_are_claimed_together(bench: WriterBench) -> None:
    """A burst of a thousand jobs takes a handful of transactions."""
    answers = [bench.writer.claim([claim(number)]) for number in range(1000)]
    assert await asyncio.gather(*answers) == [[True]] * 1000
    assert len(bench.ledger.records) == 1


async def test_what_comes_up_during_a_transaction_goes_into_the_next(bench: WriterBench) -> None:
    bench.ledger.gate.clear()
    first = bench.writer.claim([claim(0)])
    await until(lambda: bench.ledger.tried)
    later = [bench.writer.claim([claim(number)]) for number in range(1, 500)]
    bench.writer.append(settle(-1))
    bench.ledger.gate.set()
    await asyncio.gather(first, *later)
    assert [len(entries) for entries in bench.ledger.records] == [1, 500]
    assert bench.ledger.records[1][0] == settle(-1), "what has happened stands before what is asked for"


async def test_other_work_gives_way_to_claims_but_not_for_ever(bench: WriterBench) -> None:
    """Results do not hurry: their runs have ended."""
    clock = ManualClock()
    bench.ledger.gate.clear()
    bench.writer.append(settle(-1))
    await until(lambda: bench.ledger.tried)
    await bench.writer.wait_for_claims(clock)
    answer = bench.writer.claim([claim(0)])
    waiting = asyncio.ensure_future(bench.writer.wait_for_claims(clock))
    await clock.advance(0.9 * MAX_WAIT_S)
    assert not waiting.done()
    await clock.advance(0.2 * MAX_WAIT_S)
    assert waiting.done()
    waiting = asyncio.ensure_future(bench.writer.wait_for_claims(clock))
    await clock.settle()
    assert not waiting.done()
    bench.ledger.gate.set()
    await answer
    await until(waiting.done)  # without more time


async def test_other_work_goes_on_when_claims_are_refused(bench: WriterBench) -> None:
    for fault in (LedgerError("busy"), None):
        bench.ledger.faults = [fault] if fault else []
        bench.is_held = fault is not None
        answer = bench.writer.claim([claim(0)])
        waiting = asyncio.ensure_future(bench.writer.wait_for_claims(ManualClock()))
        with pytest.raises(LedgerError if fault else StaleTermError):
            await answer
        await until(waiting.done)


async def test_each_group_gets_its_own_answers(bench: WriterBench) -> None:
    await bench.writer.claim([claim(1)])
    skip = Skip("job", at(2), at(2), 1, SkipReason.OVERLAP, NOW)
    one, other = bench.writer.claim([claim(1), skip]), bench.writer.claim([claim(3)])
    assert await one == [False, True]
    assert await other == [True]


@pytest.mark.parametrize("fault", [LedgerError("disk full"), LedgerVersionError("too new"), RuntimeError("a bug")])
async def test_p3_a_claim_that_could_not_be_written_is_not_granted(bench: WriterBench, fault: Exception) -> None:
    """After any error; and a caller that waits for an answer gets one."""
    bench.ledger.faults = [fault]
    one, other = bench.writer.claim([claim(1)]), bench.writer.claim([claim(2)])
    for answer in (one, other):
        with pytest.raises(type(fault)):
            await answer
    assert bench.ledger.written == []
    assert bench.failures == [fault]
    assert await bench.writer.close() == 0


async def test_claims_that_come_up_during_a_failing_transaction_fail_with_it(bench: WriterBench) -> None:
    bench.ledger.gate.clear()
    bench.ledger.faults = [LedgerError("disk full")]
    first = bench.writer.claim([claim(1)])
    await until(lambda: bench.ledger.tried)
    later = bench.writer.claim([claim(2)])
    bench.ledger.gate.set()
    for answer in (first, later):
        with pytest.raises(LedgerError):
            await answer
    assert bench.ledger.tried == 1
    assert len(bench.failures) == 1


@pytest.mark.parametrize("fault", [LedgerError("disk full"), LedgerVersionError("too new"), RuntimeError("a bug")])
async def test_p4_results_are_kept_until_they_can_be_written_and_stand_first(
    bench: WriterBench, fault: Exception
) -> None:
    bench.ledger.faults = [fault]
    bench.writer.append(settle(1), settle(2))
    await until(lambda: bench.failures)
    bench.ledger.faults = [fault]
    bench.writer.append(settle(3))
    await until(lambda: len(bench.failures) == 2)
    answer = bench.writer.claim([claim(4)])
    assert await answer == [True]
    assert bench.ledger.written == [settle(1), settle(2), settle(3), claim(4)]


async def test_resume_writes_what_was_kept(bench: WriterBench) -> None:
    bench.ledger.faults = [LedgerError("disk full")]
    bench.writer.append(settle(1))
    await until(lambda: bench.failures)
    assert bench.ledger.written == []
    bench.writer.resume()
    await until(lambda: bench.ledger.written == [settle(1)])
    assert await bench.writer.close() == 0


async def test_p3_a_stale_term_writes_nothing_and_keeps_nothing(bench: WriterBench) -> None:
    fault = StaleTermError("term 7 is over: term 8 has begun")
    bench.ledger.faults = [fault]
    bench.writer.append(settle(1))
    answer = bench.writer.claim([claim(2)])
    with pytest.raises(StaleTermError):
        await answer
    assert bench.stale == [fault]
    assert bench.failures == []
    assert await bench.writer.close() == 0, "the next leader settles them; there is nothing left to write"
    assert bench.ledger.tried == 1


async def test_close_waits_for_what_is_under_way(bench: WriterBench) -> None:
    bench.ledger.gate.clear()
    bench.writer.append(settle(1))
    closing = asyncio.ensure_future(bench.writer.close())
    await until(lambda: bench.ledger.tried)
    bench.writer.append(settle(2))
    assert not closing.done()
    bench.ledger.gate.set()
    assert await closing == 0
    assert bench.ledger.written == [settle(1), settle(2)]


async def test_close_tries_once_more_and_tells_what_is_left(bench: WriterBench) -> None:
    bench.ledger.faults = [LedgerError("disk full"), LedgerError("disk full")]
    bench.writer.append(settle(1), settle(2))
    await until(lambda: bench.failures)
    assert await bench.writer.close() == 2
    assert await bench.writer.close() == 0
    assert bench.ledger.written == [settle(1), settle(2)]


async def test_unwritten_names_the_runs_that_have_ended_without_the_ledgers_knowing(bench: WriterBench) -> None:
    """Otherwise a leader that reaches its ledger again would treat them as open runs of a dead leader."""
    retry = Retry(Tick("job", at(2)), Outcome.FAILED, NOW)
    late = Skip("job", at(3), at(3), 1, SkipReason.MISFIRED, NOW, claimed=True)
    bench.ledger.gate.clear()
    bench.writer.append(settle(1), retry, late)
    bench.writer.claim([claim(4)])
    ended = {Tick("job", at(1)), Tick("job", at(3))}
    assert bench.writer.unwritten() == ended
    await until(lambda: bench.ledger.tried)
    assert bench.writer.unwritten() == ended, "not before it is written"
    bench.ledger.faults = [LedgerError("disk full")]
    bench.ledger.gate.set()
    await until(lambda: bench.failures)
    assert bench.writer.unwritten() == ended
    assert await bench.writer.close() == 0
    assert bench.writer.unwritten() == set()


async def test_an_answer_that_nobody_waits_for_any_more_harms_nobody(bench: WriterBench) -> None:
    gone, here = bench.writer.claim([claim(1)]), bench.writer.claim([claim(2)])
    gone.cancel()
    assert await here == [True]
    bench.ledger.faults = [LedgerError("disk full")]
    gone, here = bench.writer.claim([claim(3)]), bench.writer.claim([claim(4)])
    gone.cancel()
    with pytest.raises(LedgerError):
        await here


async def test_p1_nothing_is_claimed_once_the_seat_is_no_longer_held(bench: WriterBench) -> None:
    """After a blocked loop, due ticks run before the next heartbeat."""
    bench.is_held = False
    granted = bench.writer.claim([claim(1)])
    bench.writer.append(settle(0))
    await bench.writer.close()
    with pytest.raises(StaleTermError, match="no longer held"):
        granted.result()
    assert bench.ledger.written == [settle(0)], "what has happened is written all the same"
    assert len(bench.stale) == 1


@pytest.mark.parametrize("fault", [None, StaleTermError("term 8 has begun")])
async def test_p4_no_later_tick_is_claimed_once_a_claim_was_refused(
    bench: WriterBench, fault: StaleTermError | None
) -> None:
    """A loop that was blocked finds the seat held again at its next heartbeat: the session is alive (PostgreSQL). The
    claim of the later tick, granted in the last moments of the term, left the earlier one without a run.
    """
    bench.is_held = fault is not None
    bench.ledger.faults = [] if fault is None else [fault]
    first = bench.writer.claim([claim(1)])
    await until(first.done)
    bench.is_held = True
    later = bench.writer.claim([claim(2)])
    await until(later.done)
    for refused in (first, later):
        with pytest.raises(StaleTermError):
            refused.result()
    assert bench.ledger.written == []
    assert len(bench.stale) == 1


async def test_an_entry_that_no_ledger_can_hold_takes_no_other_along(
    bench: WriterBench, caplog: pytest.LogCaptureFixture
) -> None:
    """It was tried again with each claim of the term, which failed with it (docs/pitfalls.md#63)."""
    bench.ledger.unwritable = settle(2), TypeError("Object of type Level is not JSON serializable")
    bench.writer.append(*map(settle, range(5)))
    with pytest.raises(TypeError):
        await bench.writer.claim([claim(9)])
    bench.writer.resume()
    assert await asyncio.wait_for(bench.writer.claim([claim(9)]), 10) == [True]
    assert bench.ledger.written == [*(settle(number) for number in range(5) if number != 2), claim(9)]
    assert len(bench.failures) == 1
    assert [record.args[0] for record in caplog.records if "is left out" in record.msg] == [str(settle(2))[:300]]  # type: ignore[index]
    bench.writer.append(settle(10), settle(11))
    await until(lambda: settle(11) in bench.ledger.written)
    assert bench.ledger.records[-1] == [settle(10), settle(11)], "together again"


async def test_the_end_of_a_term_waits_for_results_that_are_written_one_by_one(bench: WriterBench) -> None:
    """The rest was settled as interrupted by the next leader, though it had succeeded."""
    bench.ledger.faults = [TypeError("Object of type Level is not JSON serializable")]
    bench.writer.append(*map(settle, range(5)))
    await until(lambda: bench.failures)

    def record_at_once(term: int, entries: Sequence[Entry]) -> asyncio.Future[list[bool]]:
        written: asyncio.Future[list[bool]] = asyncio.get_running_loop().create_future()
        bench.ledger.records.append(list(entries))
        written.set_result([True for _ in entries])
        return written

    bench.ledger.record = record_at_once  # type: ignore[method-assign, assignment]
    assert await bench.writer.close() == 0
    assert bench.ledger.records == [[settle(number)] for number in range(5)]


async def test_a_claim_that_no_ledger_can_hold_takes_no_other_along(bench: WriterBench) -> None:
    """Both were refused at each try, without end."""
    bench.ledger.unwritable = claim(2), OverflowError("Python int too large to convert to SQLite INTEGER")
    good, bad = bench.writer.claim([claim(1)]), bench.writer.claim([claim(2)])
    await until(lambda: good.done() and bad.done())
    assert len(bench.failures) == 1
    again = [bench.writer.claim([claim(number)]) for number in (1, 2, 3)]
    await until(lambda: all(each.done() for each in again))
    assert [again[0].result(), again[2].result()] == [[True], [True]]
    with pytest.raises(OverflowError):
        again[1].result()
    assert len(bench.failures) == 1, "the term goes on"
