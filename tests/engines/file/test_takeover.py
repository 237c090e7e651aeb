"""Takeovers that are cut off, and a herd: with the engine's own workers, which cost little."""

from __future__ import annotations

import pytest

from tests.engines.file.pool import Pool
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


@pytest.mark.timeout(120)
def test_a_herd_of_sixty_four(pool: Pool) -> None:
    """P1, P2, P6: each death elects one of them, one term at a time."""
    leader = pool.led(heartbeat=0.5, safety_poll=1.0)
    pool.followers(63, heartbeat=0.5, safety_poll=1.0)
    for term in range(1, 6):
        assert pool.vacancy_after_kill(leader) < 2.0
        leader = pool.next_leader(after=term)
        assert pool.term() == term + 1
