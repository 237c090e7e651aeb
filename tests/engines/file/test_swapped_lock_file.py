"""A flock on a new lock file does not mean leading: the file is swapped, removed or moved while its holder leads
(docs/pitfalls.md#4).

The ``pool`` fixture asserts P1 of each test; the tests here assert that the conflict is reported, and that it ends.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
from collections.abc import Callable
from typing import Any

import pytest

from election.core.process import current_process
from tests.engines.file.pool import Pool
from tests.support.processes import RemoteWorker
from tests.support.waiting import until

HOW: dict[str, Callable[[Pool], Any]] = {
    "lock file renamed": lambda pool: pool.lock.rename(pool.path / "away"),
    "lock file and record removed": lambda pool: (pool.lock.unlink(), pool.record.unlink()),
    "lock file removed, garbage in the record": lambda pool: (pool.lock.unlink(), pool.record.write_text("{")),
    "directory moved away": lambda pool: pool.path.rename(pool.path.with_name("away")),
    "directory removed": lambda pool: shutil.rmtree(pool.path.rename(pool.path.with_name("away")), ignore_errors=True),
}


def stand_off(worker: RemoteWorker) -> Any:
    """Reason why this worker, which has the flock on the new file, does not lead."""

    def told() -> str:
        problem = worker.ask("look")["problem"] or ""
        assert "was replaced while" in problem
        return str(problem)

    return until(told, what=f"{worker} tells why it does not lead")


@pytest.mark.parametrize("known", [True, False], ids=["known leader", "newcomer"])
@pytest.mark.parametrize("how", HOW)
def test_nobody_else_leads_before_the_work_of_the_old_leader_has_ended(pool: Pool, how: str, known: bool) -> None:
    """Neither a follower that observed it lead, nor a newcomer without any trace of it."""
    leader = pool.led()
    leader.ask("hold_the_drain")
    if known:
        (other,) = pool.followers(1)
        HOW[how](pool)
    else:
        HOW[how](pool)
        other = pool.start(heartbeat=0.5)  # it gives the leader two of its heartbeats
    problem = stand_off(other)
    assert f"leader.lock was replaced while pid {leader.pid} leads term 1" in problem
    assert "no other worker can lead before that term has ended" in problem
    until(lambda: leader.ask("look")["role"] == "lost")
    assert leader.ask("look")["held"] is None
    assert not pool.told(what="end")

    leader.ask("end_the_drain")
    pool.next_leader(after=1)
    assert pool.term() == 2
    until(lambda: not other.ask("look")["problem"])


@pytest.mark.parametrize("then", [signal.SIGCONT, signal.SIGKILL])
def test_a_leader_is_stopped_while_the_lock_file_is_replaced(pool: Pool, then: int) -> None:
    leader = pool.led()
    other, third = pool.followers(2)
    leader.stop()
    pool.lock.rename(pool.path / "away")
    stand_off(other)
    stand_off(third)
    assert pool.term() == 1
    if then == signal.SIGKILL:
        leader.kill()
        assert pool.next_leader(after=1).ask("look")["reason"] == "died"
    else:
        leader.resume()
        assert pool.next_leader(after=1).ask("look")["reason"] == "lost"
    assert pool.term() == 2
    for worker in (other, third):
        until(lambda worker=worker: worker.ask("look")["led"] and not worker.ask("look")["problem"])


def test_a_leader_is_stopped_while_every_trace_of_it_is_removed(pool: Pool) -> None:
    """Every worker that observed it lead has it cached."""
    leader = pool.led()
    (other,) = pool.followers(1)
    leader.stop()
    pool.lock.unlink()
    pool.record.unlink()
    stand_off(other)
    leader.resume()
    pool.next_leader(after=1)
    assert pool.term() == 2


def test_a_leader_that_dies_on_the_old_lock_file_is_followed_at_once(pool: Pool) -> None:
    """The conflict does not disable the watcher."""
    leader = pool.led()
    leader.ask("hold_the_drain")
    pool.lock.rename(pool.path / "away")
    stand_off(pool.start(safety_poll=30.0))
    assert pool.vacancy_after_kill(leader) < 20.0, "the poll comes after 24 s at the earliest"


def test_a_lock_file_is_swapped_between_the_flock_and_the_record(pool: Pool) -> None:
    """The winner of the old file notices before its work begins."""
    leader = pool.led()
    pool.followers(1, before=[("before_the_record", {"do": "swap"})])
    leader.kill()
    until(lambda: pool.told("", what="swapped"))
    until(lambda: pool.begun(2), what="a term on the new lock file")
    assert pool.term() == 3, "the number of the election that failed is not used again"
    assert json.loads(pool.record.read_text())["takeover"]["reason"] == "lost"


@pytest.mark.parametrize("flocks", ["listed", "not listed"])
def test_an_election_that_was_won_on_a_swapped_file_and_lost_at_once_blocks_nobody(pool: Pool, flocks: str) -> None:
    """A worker whose end could not be written is no rival of itself."""
    hide = [("hide_proc_locks", {})] if flocks == "not listed" else []
    leader = pool.led(before=hide)
    leader.ask("fail", name="replace", code=28, path="/leader.json")
    pool.lock.rename(pool.path / "away")
    until(lambda: leader.ask("look")["trouble"], what="it cannot say that its term ended")
    leader.ask("fail_no_more")
    assert pool.next_leader(after=1) is leader


def foreign_record(pool: Pool) -> None:
    """Make the record that of a leader in another container, on another lock file."""
    record = json.loads(pool.record.read_text())
    record["holder"]["pid_namespace"] = "pid:[1]"
    record["seat_id"] = "1:1"
    record["standing"] = "leading"
    pool.record.write_text(json.dumps(record))


def test_a_leader_in_another_container_leads_as_long_as_its_heart_beats(pool: Pool) -> None:
    """Its pid cannot be examined, and the kernel does not list its flocks here."""
    leader = pool.led()
    leader.send(signal.SIGTERM)
    until(leader.gone)
    foreign_record(pool)
    other = pool.start(heartbeat=0.25)

    def beaten() -> bool:
        os.utime(pool.record)
        return "no other worker can lead" in (other.ask("look")["problem"] or "")

    until(beaten, what="it tells why it does not lead")
    assert pool.term() == 1
    assert pool.next_leader(after=1) is other, "the heart stopped"


GARBAGE = ["", "nonsense", "1:", "1:2:3", "-1:99999999999999999999999"]


@pytest.mark.parametrize("seat_id", GARBAGE)
def test_a_record_whose_lock_cannot_exist_blocks_nobody(pool: Pool, seat_id: str) -> None:
    leader = pool.led()
    leader.send(signal.SIGTERM)
    until(leader.gone)
    record = json.loads(pool.record.read_text())
    us = current_process()
    record |= {"seat_id": seat_id, "standing": "leading", "holder": {**record["holder"], "pid": us.pid}}
    record["holder"]["start_time"] = us.start_time
    pool.record.write_text(json.dumps(record))
    assert pool.led_again(after=1).ask("look")["term"] == 2
