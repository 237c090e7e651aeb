"""Real pools under Uvicorn on a real server: leaders killed, the server killed and started again."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.pool.test_failover import check_that_no_second_was_lost, kill_leaders
from tests.support.pool import Pool, pools
from tests.support.redis_server import Server
from tests.support.waiting import until


@pytest.fixture
def served(tmp_path: Path) -> Iterator[Callable[..., Pool]]:
    """Makes pools, not started yet; afterwards they are reaped, and their logs must hold no traceback."""
    with pools(tmp_path / "served") as make:
        yield make
    for log in (tmp_path / "served").glob("*/log"):
        text = log.read_text()
        assert "Traceback" not in text, text[-4000:]


@pytest.mark.timeout(300)
def test_twenty_kills(served: Callable[..., Pool], steady: Server) -> None:
    """P1, P2, P4, P6: no second lost, none doubled, never two leaders; on one host nobody waits for the lease."""
    pool = served(pool=f"{steady.url}?pool=kills", workers=3, jobs="tick,while_leading").start()
    took = kill_leaders(pool, 20)
    check_that_no_second_was_lost(pool)
    code, said = pool.verify()
    assert code == 0, said
    print(f"\n20 kills, 3 workers: takeover median {statistics.median(took):.1f} ms, worst {max(took):.1f} ms")
    assert statistics.median(took) < 100


@pytest.mark.timeout(300)
def test_the_server_is_killed_and_comes_back(served: Callable[..., Pool], server: Server) -> None:
    """P2, P3, P4: for less than a lease, the term goes on; for more, nobody leads, and ``/leader`` says why."""
    pool = served(pool=server.url, workers=3, jobs="tick,while_leading").start()
    for away in (0.0, 0.5, 0.0, 4.0, 0.0):
        before = pool.settled()["leader"]["term"]
        server.kill()
        if away > 3.0:
            until(lambda: _says_why(pool), what="/leader says that the server is away")
        time.sleep(away)
        server.start()
        after = pool.settled()["leader"]["term"]
        assert after == before + (away > 3.0)
        until(lambda: pool.settled()["problem"] is None, what="nothing is wrong any more")
    facts = pool.facts()
    assert (facts.run_twice("tick"), facts.overlaps()) == ([], [])
    code, said = pool.verify()
    assert code == 0, said
    assert pool.stop() == 0


def _says_why(pool: Pool) -> bool:
    answer = pool.ask()
    return answer is not None and answer.status_code == 503 and "redis://" in answer.text
