"""P6: a takeover needs no thread of the application, so it is as quick while all of them are taken."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from tests.chaos.facts import Fact, now_ns
from tests.chaos.orders import NotObeyedError, give
from tests.support.pool import Pool
from tests.support.waiting import until

TAKEOVERS = 5
"""Of each kind, in turns, so that both meet the same machine."""

BUSY_S = 60
"""Seconds for which the threads are taken: longer than any takeover here."""

EVERY_THREAD = 40
"""Threads of FastAPI; the loop's executor has some more."""

LIMIT = 3
"""Times the quickest takeover of an idle pool: what a busy machine adds to some of either kind is not compared."""

NOISE_MS = 15.0
"""Milliseconds that a busy machine may add to the quickest of either kind."""


@pytest.mark.extended
@pytest.mark.timeout(600)
def test_p6_pitfall_47_a_takeover_while_all_threads_of_the_application_are_taken(
    new_pool: Callable[..., Pool], tmp_path: Path
) -> None:
    orders = tmp_path / "orders"
    orders.mkdir()
    environment = {
        "ELECTION_TEST_APPLICATION": "tests.chaos.app", "ELECTION_FENCE_AFTER": "15",
        "ORDERS": str(orders), "CLOCK": str(tmp_path / "clock"),
    }  # fmt: skip
    pool = new_pool(environment=environment).start()

    def obeyed(pid: int) -> bool:
        """Whether it did so; an order that was withdrawn, because the machine stood still, can be given again."""
        try:
            give(orders, pid, f"threads {BUSY_S}", hopeless=lambda: False)
        except NotObeyedError:
            return False
        return True

    def takeover(*, busy: bool) -> float:
        """Milliseconds from the kill of the leader to the first line of its successor's own code."""
        found = pool.settled()
        leader = found["leader"]
        if busy:
            for worker in found["workers"]:
                process = psutil.Process(worker["pid"])
                until(lambda process=process: obeyed(process.pid), what="it carries out the order")
                until(lambda process=process: process.num_threads() > EVERY_THREAD, what="its threads are taken")
        at = now_ns()
        os.kill(leader["pid"], signal.SIGKILL)

        def begun() -> Fact | None:
            facts = Fact.read(pool.facts_path)
            return next((each for each in facts if each.event == "leading" and (each.term or 0) > leader["term"]), None)

        took = (until(begun, what="the next leader works").at - at) / 1e6
        if busy:  # those whose threads are taken would be so in the next round as well
            for worker in pool.settled()["workers"]:
                os.kill(worker["pid"], signal.SIGKILL)
        return took

    idle, busy = [], []
    for _ in range(TAKEOVERS):
        idle.append(takeover(busy=False))
        busy.append(takeover(busy=True))
    assert min(busy) <= LIMIT * min(idle) + NOISE_MS, (idle, busy)
    print("ms, idle and busy:", idle, busy)
