"""Every promise in the docstrings of ``Seat``, on every engine."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import pytest

from election.core.term import Reason, Standing
from tests.engines.conformance.pool import Pool, RemoteSeat
from tests.schedule.making import make_term, process
from tests.support.waiting import until


def led(pool: Pool, **options: Any) -> tuple[RemoteSeat, RemoteSeat]:
    """A leader and a follower that knows it."""
    leader, follower = pool.worker(**options), pool.worker(**options)
    term = leader.wins()
    leader.confirm(1.0)
    leader.beats()
    assert follower.campaign() is None
    follower.sees(term.number)
    return leader, follower


def test_before_anybody_has_led(pool: Pool) -> None:
    worker = pool.worker()
    seen = worker.observe()
    assert (seen.record, seen.led, seen.heartbeat_age_s) == (None, False, None)
    assert worker.held() is None


def test_p1_one_wins_and_the_others_get_no_error(pool: Pool) -> None:
    workers = [pool.worker() for _ in range(4)]

    def winners() -> list[RemoteSeat]:
        return [worker for worker in workers if worker.campaign() is not None and worker.beats() is None]

    won = until(winners, what="the server is old enough to elect, and one of them wins")
    assert len(won) == 1
    assert [worker.campaign() for worker in workers if worker not in won] == [None] * 3
    assert [worker.held() is not None for worker in workers] == [worker in won for worker in workers]


def test_a_term_can_be_read_of_by_all_once_it_is_won(pool: Pool) -> None:
    leader, follower = pool.worker(), pool.worker()
    term = leader.wins()
    leader.beats()
    assert (term.number, term.takeover.reason, term.takeover.from_pid) == (1, Reason.STARTED, None)
    assert (term.takeover.to_pid, term.takeover.takeover_ms) == (leader.pid, None)
    assert leader.held() == term
    for worker in (leader, follower):
        record = worker.sees(1).record
        assert record is not None
        assert (record.holder.pid, record.standing, record.ended_at) == (leader.pid, Standing.LEADING, None)
        assert (record.elected_at, record.takeover) == (term.elected_at, term.takeover)
        assert record.seat_id


def test_what_the_takeover_took_is_told_to_all(pool: Pool) -> None:
    leader, follower = pool.worker(), pool.worker()
    leader.wins()
    leader.confirm(3.14159)
    leader.beats()
    for worker in (leader, follower):

        def told(worker: RemoteSeat = worker) -> bool:
            record = worker.observe().record
            return record is not None and record.takeover.takeover_ms == 3.14

        until(told, what=f"{worker} knows what the takeover took")


def test_the_heartbeat_is_seen_to_move_and_to_stand_still(pool: Pool) -> None:
    leader, follower = led(pool)
    assert follower.held() is None

    def age() -> float:
        return follower.observe().heartbeat_age_s or 0.0

    time.sleep(0.6)
    assert min(age() for _ in range(20) if time.sleep(0.02) is None) < 0.5
    leader.process.stop()
    stopped = time.monotonic()
    try:
        before = age()
        until(lambda: age() > before + 0.6, what="the heart is seen to stand still")
        assert time.monotonic() - stopped > 0.3
    finally:
        leader.process.resume()
    until(lambda: age() < 0.5, what="the heart is seen to beat again")


def test_a_problem_is_told_to_all_and_taken_back(pool: Pool) -> None:
    leader, follower = pool.worker(), pool.worker()
    leader.wins()

    def told(worker: RemoteSeat, problem: str | None) -> bool:
        leader.beat(problem)
        seen = worker.observe()
        return seen.led and seen.problem == problem

    until(lambda: told(follower, "no ledger"), what="the problem is told")
    until(lambda: told(leader, "no ledger"), what="the leader sees it, too")
    until(lambda: told(follower, None), what="the problem is over")


@pytest.mark.parametrize("standing", [Standing.RESIGNED, Standing.LOST])
def test_p2_p6_a_release_wakes_a_follower_and_the_next_term_says_how_the_last_one_ended(
    pool: Pool, standing: Standing
) -> None:
    leader, follower = led(pool)
    follower.waits()
    began = time.monotonic()
    leader.release(standing)
    assert leader.held() is None
    until(follower.woken, what="the follower is woken")
    term = follower.wins()
    assert (term.number, term.takeover.reason) == (2, Reason(standing.value))
    assert (term.takeover.from_pid, term.takeover.to_pid) == (leader.pid, follower.pid)
    assert term.takeover.vacant_s is not None
    took = time.monotonic() - began
    assert term.takeover.vacant_s < min(20.0, took + 0.1), "PostgreSQL's queue would be asked again after 24 s"


def test_the_record_says_how_a_term_ended(pool: Pool) -> None:
    leader, follower = led(pool)
    leader.release(Standing.RESIGNED)

    def ended() -> bool:
        record = follower.observe().record
        return record is not None and record.standing is Standing.RESIGNED and record.ended_at is not None

    until(ended, what="the record tells of the end")
    for worker in (leader, follower):
        until(lambda worker=worker: not worker.observe().led, what=f"{worker} sees the end")


def test_p1_p6_a_leader_that_is_killed_has_a_successor(pool: Pool) -> None:
    leader, follower = led(pool)
    follower.waits()
    leader.kill()
    until(follower.woken, what="the follower is woken")
    term = follower.wins()
    assert (term.number, term.takeover.reason, term.takeover.from_pid) == (2, Reason.DIED, leader.pid)


def test_a_pool_that_was_stopped_starts_and_does_not_take_over(pool: Pool) -> None:
    first = pool.worker()
    first.wins()
    first.release(Standing.RESIGNED)
    first.close()
    second = pool.worker()
    term = second.wins()
    assert (term.number, term.takeover.reason) == (2, Reason.STARTED)


def test_a_worker_may_lead_again(pool: Pool) -> None:
    worker = pool.worker()
    for number in (1, 2, 3):
        assert worker.wins().number == number
        worker.release(Standing.RESIGNED)
        assert worker.held() is None


def test_a_leader_whose_fence_was_noted_was_fenced(pool: Pool) -> None:
    leader, follower = led(pool)

    async def note() -> None:
        ledger = pool.ledger()
        await ledger.fence(1, pid=leader.pid, by_pid=1, silent=3.0, every=1.0)
        await ledger.close()

    asyncio.run(note())
    leader.kill()
    assert follower.wins().takeover.reason is Reason.FENCED


def test_p2_a_number_is_larger_than_any_that_the_ledger_knows(pool: Pool) -> None:
    async def lead_before() -> None:
        ledger = pool.engine().ledger
        await ledger.begin_term(make_term(41), process())
        await ledger.close()

    asyncio.run(lead_before())
    assert pool.worker(patient=False).wins().number == 42, "it may wait for a lease, without a record"


def test_p7_a_vacancy_is_not_cried_while_somebody_leads(pool: Pool) -> None:
    """A wake-up may be early; campaigning all the time is not allowed."""
    _, follower = led(pool)
    follower.vacancies(0.2)
    assert follower.vacancies(1.0) <= 10


def test_a_wait_for_a_vacancy_that_is_cut_short_can_begin_again(pool: Pool) -> None:
    leader, follower = led(pool)
    follower.vacancies(0.05)
    follower.waits()
    leader.release(Standing.RESIGNED)
    until(follower.woken, what="the follower is woken")
    assert follower.wins().number == 2


def test_workers_are_listed_oldest_first_until_they_are_gone(pool: Pool) -> None:
    workers = []
    for count in range(1, 4):
        workers.append(pool.worker())
        until(lambda count=count: len(workers[0].workers()) == count, what="the newcomer is listed")
    pids = [worker.pid for worker in workers]
    for worker in workers:
        until(lambda worker=worker: [seen.process.pid for seen in worker.workers()] == pids, what="the same for all")
    workers[1].close()
    until(lambda: [seen.process.pid for seen in workers[0].workers()] == [pids[0], pids[2]], what="who closed is gone")
    workers[2].kill()
    until(lambda: [seen.process.pid for seen in workers[0].workers()] == [pids[0]], what="who was killed is gone")


def test_a_process_takes_part_in_a_pool_once(pool: Pool) -> None:
    worker = pool.worker()
    with pytest.raises(AssertionError, match="PoolInUseError"):
        worker.process.ask("open_another")
    assert worker.wins().number == 1


def test_p5_a_seat_that_is_not_released_stays_held_until_the_process_is_gone(pool: Pool) -> None:
    leader, follower = led(pool)
    leader.close()
    assert follower.campaign() is None
    follower.vacancies(0.5)
    assert follower.campaign() is None
    leader.kill()
    assert follower.wins().number == 2


def test_pitfalls_1_2_a_forked_child_holds_nothing_and_frees_nothing(pool: Pool) -> None:
    leader, follower = led(pool)
    assert leader.held(in_child=True) is None
    leader.release(Standing.RESIGNED, in_child=True)
    assert leader.held() is not None
    leader.beat()
    assert follower.campaign() is None
    assert follower.sees(1).led


def test_two_pools_do_not_disturb_each_other(pool: Pool, another_pool: Pool) -> None:
    here, there = pool.worker(), another_pool.worker()
    for worker in (here, there):
        assert worker.wins().number == 1
        worker.beats()
    assert [seen.process.pid for seen in here.workers()] == [here.pid]
    here.release(Standing.RESIGNED)
    assert there.held() is not None
