"""How a term writes: in groups, nothing forgotten, nothing granted that was not written (P3, P4)."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

import pytest

from election.core.errors import LedgerError, LedgerVersionError, StaleTermError
from election.schedule.ledger_writer import LedgerWriter
from election.schedule.model import Claim, Entry, FinishRun, Outcome, Retry, Skip, SkipReason, Tick
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


class Paper:
    """A ledger that keeps what is recorded, and fails as often as it is told."""

    def __init__(self) -> None:
        self.records: list[list[Entry]] = []
        self.faults: list[Exception] = []
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
        known = set(map(repr, self.written))
        self.records.append(list(entries))
        return [repr(entry) not in known for entry in entries]


class Desk:
    """Books over a ledger of paper, and what they told."""

    def __init__(self) -> None:
        self.ledger = Paper()
        self.trouble: list[Exception] = []
        self.stale: list[StaleTermError] = []
        ledger: Any = self.ledger
        self.holds = True
        self.books = LedgerWriter(
            ledger, TERM, holds=lambda: self.holds, on_trouble=self.trouble.append, on_stale=self.stale.append
        )


@pytest.fixture
async def desk() -> Desk:
    return Desk()


async def test_ticks_that_fall_due_together_are_claimed_together(desk: Desk) -> None:
    """A burst of a thousand jobs takes a handful of transactions."""
    answers = [desk.books.claim([claim(number)]) for number in range(1000)]
    assert await asyncio.gather(*answers) == [[True]] * 1000
    assert len(desk.ledger.records) == 1


async def test_what_comes_up_during_a_transaction_goes_into_the_next(desk: Desk) -> None:
    desk.ledger.gate.clear()
    first = desk.books.claim([claim(0)])
    await until(lambda: desk.ledger.tried)
    later = [desk.books.claim([claim(number)]) for number in range(1, 500)]
    desk.books.note(settle(-1))
    desk.ledger.gate.set()
    await asyncio.gather(first, *later)
    assert [len(entries) for entries in desk.ledger.records] == [1, 500]
    assert desk.ledger.records[1][0] == settle(-1), "what has happened stands before what is asked for"


async def test_each_group_gets_its_own_answers(desk: Desk) -> None:
    await desk.books.claim([claim(1)])
    skip = Skip("job", at(2), at(2), 1, SkipReason.OVERLAP, NOW)
    one, other = desk.books.claim([claim(1), skip]), desk.books.claim([claim(3)])
    assert await one == [False, True]
    assert await other == [True]


@pytest.mark.parametrize("fault", [LedgerError("disk full"), LedgerVersionError("too new"), RuntimeError("a bug")])
async def test_p3_a_claim_that_could_not_be_written_is_not_granted(desk: Desk, fault: Exception) -> None:
    """Whatever it was; and who waits for an answer gets one."""
    desk.ledger.faults = [fault]
    one, other = desk.books.claim([claim(1)]), desk.books.claim([claim(2)])
    for answer in (one, other):
        with pytest.raises(type(fault)):
            await answer
    assert desk.ledger.written == []
    assert desk.trouble == [fault]
    assert await desk.books.close() == 0


async def test_claims_that_come_up_during_a_failing_transaction_fail_with_it(desk: Desk) -> None:
    desk.ledger.gate.clear()
    desk.ledger.faults = [LedgerError("disk full")]
    first = desk.books.claim([claim(1)])
    await until(lambda: desk.ledger.tried)
    later = desk.books.claim([claim(2)])
    desk.ledger.gate.set()
    for answer in (first, later):
        with pytest.raises(LedgerError):
            await answer
    assert desk.ledger.tried == 1
    assert len(desk.trouble) == 1


@pytest.mark.parametrize("fault", [LedgerError("disk full"), LedgerVersionError("too new"), RuntimeError("a bug")])
async def test_p4_notes_are_kept_until_they_can_be_written_and_then_stand_first(desk: Desk, fault: Exception) -> None:
    desk.ledger.faults = [fault]
    desk.books.note(settle(1), settle(2))
    await until(lambda: desk.trouble)
    desk.ledger.faults = [fault]
    desk.books.note(settle(3))
    await until(lambda: len(desk.trouble) == 2)
    answer = desk.books.claim([claim(4)])
    assert await answer == [True]
    assert desk.ledger.written == [settle(1), settle(2), settle(3), claim(4)]


async def test_resume_writes_what_was_kept(desk: Desk) -> None:
    desk.ledger.faults = [LedgerError("disk full")]
    desk.books.note(settle(1))
    await until(lambda: desk.trouble)
    assert desk.ledger.written == []
    desk.books.resume()
    await until(lambda: desk.ledger.written == [settle(1)])
    assert await desk.books.close() == 0


async def test_p3_a_stale_term_writes_nothing_and_keeps_nothing(desk: Desk) -> None:
    fault = StaleTermError("term 7 is over: term 8 has begun")
    desk.ledger.faults = [fault]
    desk.books.note(settle(1))
    answer = desk.books.claim([claim(2)])
    with pytest.raises(StaleTermError):
        await answer
    assert desk.stale == [fault]
    assert desk.trouble == []
    assert await desk.books.close() == 0, "the next leader settles them; there is nothing left to write"
    assert desk.ledger.tried == 1


async def test_close_waits_for_what_is_under_way(desk: Desk) -> None:
    desk.ledger.gate.clear()
    desk.books.note(settle(1))
    closing = asyncio.ensure_future(desk.books.close())
    await until(lambda: desk.ledger.tried)
    desk.books.note(settle(2))
    assert not closing.done()
    desk.ledger.gate.set()
    assert await closing == 0
    assert desk.ledger.written == [settle(1), settle(2)]


async def test_close_tries_once_more_and_tells_what_is_left(desk: Desk) -> None:
    desk.ledger.faults = [LedgerError("disk full"), LedgerError("disk full")]
    desk.books.note(settle(1), settle(2))
    await until(lambda: desk.trouble)
    assert await desk.books.close() == 2
    assert await desk.books.close() == 0
    assert desk.ledger.written == [settle(1), settle(2)]


async def test_unwritten_names_the_runs_that_have_ended_without_the_ledgers_knowing(desk: Desk) -> None:
    """Else a leader that finds its ledger again would take them for runs that a dead one left open."""
    retry = Retry(Tick("job", at(2)), Outcome.FAILED, NOW)
    late = Skip("job", at(3), at(3), 1, SkipReason.MISFIRED, NOW, claimed=True)
    desk.ledger.gate.clear()
    desk.books.note(settle(1), retry, late)
    desk.books.claim([claim(4)])
    ended = {Tick("job", at(1)), Tick("job", at(3))}
    assert desk.books.unwritten() == ended
    await until(lambda: desk.ledger.tried)
    assert desk.books.unwritten() == ended, "not before it is written"
    desk.ledger.faults = [LedgerError("disk full")]
    desk.ledger.gate.set()
    await until(lambda: desk.trouble)
    assert desk.books.unwritten() == ended
    assert await desk.books.close() == 0
    assert desk.books.unwritten() == set()


async def test_an_answer_that_nobody_waits_for_any_more_harms_nobody(desk: Desk) -> None:
    gone, here = desk.books.claim([claim(1)]), desk.books.claim([claim(2)])
    gone.cancel()
    assert await here == [True]
    desk.ledger.faults = [LedgerError("disk full")]
    gone, here = desk.books.claim([claim(3)]), desk.books.claim([claim(4)])
    gone.cancel()
    with pytest.raises(LedgerError):
        await here


async def test_p1_nothing_is_claimed_once_the_seat_is_no_longer_held(desk: Desk) -> None:
    """A loop that was blocked comes back to ticks that are due before it comes to its heartbeat."""
    desk.holds = False
    granted = desk.books.claim([claim(1)])
    desk.books.note(settle(0))
    await desk.books.close()
    with pytest.raises(StaleTermError, match="no longer held"):
        granted.result()
    assert desk.ledger.written == [settle(0)], "what has happened is written all the same"
    assert len(desk.stale) == 1
