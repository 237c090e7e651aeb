"""Takeovers that are cut short, and many followers at once: with the engine's own workers, which are cheap."""

from __future__ import annotations

import pytest

from election.engines.file.vacancy import LISTENERS
from tests.engines.file.pool import Pool
from tests.support.processes import RemoteWorker
from tests.support.waiting import until


def test_killed_between_the_record_and_the_scheduler(pool: Pool) -> None:
    """The record names it, and no job has run: the next one takes over from it, and no number is used again."""
    leader = pool.led()
    (doomed,) = pool.followers(1, before=[("before_the_work", {})], safety_poll=60.0)
    (heir,) = pool.followers(1, safety_poll=60.0)
    heir.stop()  # so that the other one wins
    leader.kill()
    until(doomed.gone)
    heir.resume()
    assert pool.next_leader(after=1) is heir
    assert [fact.term for fact in pool.begun()] == [1, 3]


def one_after_the_other(pool: Pool, count: int) -> list[RemoteWorker]:
    """Followers in order of age."""
    return [pool.followers(1, safety_poll=60.0)[0] for _ in range(count)]


def test_only_the_oldest_listen_to_the_leader(pool: Pool) -> None:
    """P6: in a pool of that size, the others move up when one of these dies."""
    leader = pool.led(safety_poll=60.0)
    *oldest, youngest = one_after_the_other(pool, LISTENERS + 1)
    assert all(follower.ask("armed_for")[2:] == ["fifo", "pidfd"] for follower in oldest)
    assert youngest.ask("armed_for")[2:] == ["elder"]
    oldest[2].kill()  # not the one that the youngest watches
    oldest[0].kill()
    until(lambda: (youngest.ask("armed_for") or [])[2:] == ["fifo", "pidfd"], what="the youngest has moved up")
    leader.kill()
    assert pool.next_leader(after=1) in [oldest[1], *oldest[3:], youngest], "on a busy machine not always the oldest"


@pytest.mark.parametrize("first", ["leader", "followers"])
def test_a_leader_dies_with_all_that_listen_to_it(pool: Pool, first: str) -> None:
    """P6: another one leads within less than a safety poll."""
    leader = pool.led(safety_poll=60.0)
    *oldest, heir = one_after_the_other(pool, LISTENERS + 1)
    for follower in oldest:
        follower.stop()  # so that none of them takes over before it dies
    for worker in [leader, *oldest] if first == "leader" else [*oldest, leader]:
        worker.kill()
    assert pool.next_leader(after=1) is heir


def test_a_herd_of_sixty_four(pool: Pool) -> None:
    """P1, P2, P6: each death elects one of them, one term at a time."""
    leader = pool.led(heartbeat=0.5, safety_poll=30.0)
    pool.followers(63, heartbeat=0.5, safety_poll=30.0)
    for term in range(1, 6):
        assert pool.vacancy_after_kill(leader) < 10.0, "by an event, not by the poll"
        leader = pool.next_leader(after=term)
        assert pool.term() == term + 1
