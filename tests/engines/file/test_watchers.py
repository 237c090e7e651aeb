"""Detection of a vacancy by followers (P6), with each of the three ways missing in turn.

Where an event must be the source, the safety poll is half a minute, so that it cannot have been the poll.
"""

from __future__ import annotations

import errno
import os
import signal
from typing import Any

import pytest

from tests.engines.file.pool import Pool
from tests.support.waiting import until

EVENT = 20.0
"""Seconds within which an event has its effect on a busy machine; it takes milliseconds on an idle one, and the poll of
half a minute at least 24 s.
"""

Before = list[tuple[str, dict[str, Any]]]

NO_PIDFD: Before = [("without", {"name": "pidfd_open"})]
REFUSED_PIDFD: Before = [("refuse", {"name": "pidfd_open", "code": errno.ENOSYS})]
NO_FIFO: Before = [("without", {"name": "mkfifo"})]
REFUSED_FIFO: Before = [("refuse", {"name": "mkfifo", "code": errno.EPERM})]
ALL: Before = []

by_event = pytest.mark.parametrize(
    ("before", "armed"),
    [
        pytest.param(ALL, ["fifo", "pidfd"], id="all"),
        pytest.param(NO_PIDFD, ["fifo"], id="no pidfd"),
        pytest.param(REFUSED_PIDFD, ["fifo"], id="pidfd refused"),
        pytest.param(NO_FIFO, ["pidfd"], id="no fifo"),
        pytest.param(REFUSED_FIFO, ["pidfd"], id="fifo refused"),
    ],
)
by_poll = pytest.mark.parametrize("before", [NO_PIDFD + NO_FIFO, REFUSED_PIDFD + REFUSED_FIFO], ids=["none", "refused"])


@by_event
def test_a_leader_is_killed(pool: Pool, before: Before, armed: list[str]) -> None:
    leader = pool.led(before=before)
    for found in pool.armed_followers(3, before=before, safety_poll=30.0).values():
        assert found == [1, "leading", *armed]
    for term in range(1, 4):
        assert pool.vacancy_after_kill(leader) < EVENT
        leader = pool.next_leader(after=term)


@by_poll
def test_a_leader_is_killed_and_only_the_poll_is_left(pool: Pool, before: Before) -> None:
    leader = pool.led(before=before)
    for found in pool.armed_followers(2, before=before).values():
        assert found == [1, "leading"]
    pool.vacancy_after_kill(leader)


@by_event
def test_a_leader_resigns(pool: Pool, before: Before, armed: list[str]) -> None:
    """Without a FIFO, a resignation is noticed by the poll."""
    safety_poll = 30.0 if "fifo" in armed else 0.2
    leader = pool.led(before=before, safety_poll=30.0)
    pool.followers(3, before=before, safety_poll=safety_poll)
    for term in range(1, 4):
        assert leader.ask("resign") is True
        successor = pool.next_leader(after=term)
        ended = next(fact.at for fact in pool.facts.read() if fact.event == "end" and fact.term == term)
        assert pool.begun(term)[0].at - ended < EVENT
        assert successor is not leader or "fifo" not in armed, "whoever resigns leaves the others their turn"
        leader = successor


def test_who_resigns_and_is_alone_leads_again(pool: Pool) -> None:
    leader = pool.led()
    assert leader.ask("resign") is True
    assert pool.next_leader(after=1) is leader


def test_a_leader_is_killed_right_after_the_first_election(pool: Pool) -> None:
    """Followers that came before there was a record are armed as soon as there is one."""
    workers = [pool.start(safety_poll=30.0) for _ in range(3)]
    leader = pool.next_leader()
    for worker in workers:
        if worker is not leader:
            until(lambda worker=worker: worker.ask("armed_for"), EVENT)
    assert pool.vacancy_after_kill(leader) < EVENT


@pytest.mark.parametrize("what", ["file", "directory", "symlink"])
def test_something_else_lies_where_the_fifo_should_be(pool: Pool, what: str) -> None:
    """A file there is replaced; a directory is reported, and the pidfd works alone."""
    pool.path.mkdir(mode=0o700)
    elsewhere = pool.path.parent / "elsewhere"
    elsewhere.write_text("precious")
    if what == "file":
        pool.fifo.touch()
    elif what == "directory":
        pool.fifo.mkdir()
    else:
        pool.fifo.symlink_to(elsewhere)
    leader = pool.led()
    (follower,) = pool.followers(1, safety_poll=30.0)
    armed = ["pidfd"] if what == "directory" else ["fifo", "pidfd"]
    assert follower.ask("armed_for") == [1, "leading", *armed]
    assert bool(pool.told("resignations are noticed more slowly")) == (what == "directory")
    assert pool.vacancy_after_kill(leader) < EVENT
    assert elsewhere.read_text() == "precious"


def test_an_event_without_a_vacancy_wakes_nobody_for_long(pool: Pool) -> None:
    """Another process opens the FIFO and hangs up: a campaign or two, and the watcher is armed as before."""
    leader = pool.led()
    follower = pool.followers(1, before=[("count_flocks", {})], safety_poll=30.0)[0]
    for _ in range(20):
        os.close(os.open(pool.fifo, os.O_WRONLY | os.O_NONBLOCK))
    until(lambda: follower.ask("look_often", times=100) == 0, what="it asks for no flock any more")
    assert pool.vacancy_after_kill(leader) < EVENT


def test_a_follower_without_descriptors_goes_on_watching(pool: Pool) -> None:
    leader = pool.led()
    (follower,) = pool.followers(1)
    follower.ask("use_up_descriptors")
    until(lambda: "Too many open files" in (follower.ask("look")["problem"] or follower.ask("look")["trouble"] or ""))
    leader.kill()
    until(leader.gone)
    assert pool.term() == 1
    follower.ask("give_descriptors_back")
    assert pool.next_leader(after=1) is follower


@pytest.mark.parametrize("sign", [signal.SIGKILL, signal.SIGTERM])
def test_sixteen_followers(pool: Pool, sign: int) -> None:
    leader = pool.led()
    pool.followers(16, safety_poll=30.0)
    for term in range(1, 6):
        if sign == signal.SIGKILL:
            leader.kill()
        else:
            leader.send(sign)
        leader = pool.next_leader(after=term)
    assert [fact.term for fact in pool.begun()] == [1, 2, 3, 4, 5, 6]
