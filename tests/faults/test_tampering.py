"""Files in the pool directory are removed, replaced, renamed or damaged while the pool is led.

Each kind in turn, in one pool: the leader notices within a heartbeat and ends its term in order, one leader emerges,
and there are never two at the same time.
"""

from __future__ import annotations

import os
import sqlite3
import time
from collections.abc import Callable
from contextlib import closing
from datetime import datetime
from pathlib import Path

import pytest

from tests.pool.test_failover import check_that_no_second_was_lost
from tests.pool.test_ticks import ledger_runs
from tests.support.lateness import lateness
from tests.support.pool import Pool
from tests.support.waiting import remove_in_use, until

NOTICED = 0.5 + 1.5
"""Seconds from the action to the end of the term: a heartbeat, and slack for a busy machine."""

WITHIN = 6.0
"""Seconds from the action to the next term's first tick: a heartbeat, a settling pause, a poll, a tick, and slack."""


def remove(path: Path) -> None:
    path.unlink()


def rename(path: Path) -> None:
    path.rename(path.with_suffix(".away"))


def replace_by_another(path: Path) -> None:
    other = path.with_suffix(".other")
    other.touch(0o600)
    other.replace(path)


def empty(path: Path) -> None:
    path.write_bytes(b"")


def fill_with_garbage(path: Path) -> None:
    path.write_bytes(b"\x00{ not a record")


def replace_by_an_old_copy(path: Path) -> None:
    copy = path.with_suffix(".copy")
    copy.write_bytes(path.read_bytes().replace(b'"leading"', b'"resigned"'))
    copy.replace(path)


TAMPERINGS: list[tuple[str, Callable[[Path], None]]] = [
    ("leader.lock", remove),
    ("leader.lock", rename),
    ("leader.lock", replace_by_another),
    ("leader.json", remove),
    ("leader.json", rename),
    ("leader.json", empty),
    ("leader.json", fill_with_garbage),
    ("leader.json", replace_by_an_old_copy),
]


@pytest.mark.timeout(180)
@pytest.mark.extended
def test_lock_and_record(new_pool: Callable[..., Pool]) -> None:
    """P1, P2: a term ends within a heartbeat and a larger one begins, whatever the damage."""
    pool = new_pool(workers=3).start()
    actions: dict[int, tuple[str, float, float]] = {}
    for name, action in TAMPERINGS:
        before = pool.settled()["leader"]["term"]
        what = f"{action.__name__} {name}"
        with lateness(pool.facts_path.parent) as late:
            at = time.time()
            action(pool.path / name)
            done = time.monotonic()
            first = until(lambda before=before: first_of_a_later_term(pool, before), what=what)
        actions[before] = what, at, 3 * late()
        assert first - done < WITHIN + 3 * late(), what
        assert pool.facts().overlaps() == [], what
    pool.settled()
    pool.stop()
    check_ends(pool, actions)
    code, said = pool.verify()
    assert code == 0, said


def check_ends(pool: Pool, actions: dict[int, tuple[str, float, float]]) -> None:
    """Each damaged term ended as lost, by its leader itself, within a heartbeat.

    actions: for each term, what was done when, and the seconds by which the machine may have been late with it.
    """
    with closing(sqlite3.connect(pool.path / "ledger.db")) as connection:
        ends = {term: (how, at) for term, how, at in connection.execute("SELECT term, standing, ended_at FROM terms")}
    for term, (what, at, late_s) in actions.items():
        how, ended_at = ends[term]
        assert how == "lost", what
        assert ended_at / 1e6 - at < NOTICED + late_s, what
    print(f"\nnoticed within {max(ends[term][1] / 1e6 - at for term, (_, at, _) in actions.items()):.2f} s")


@pytest.mark.extended
@pytest.mark.timeout(180)
def test_the_log_of_the_ledger(new_pool: Callable[..., Pool]) -> None:
    """P3, P4: the leader saves it at its next poll, so that the next leader has the claims."""
    pool = new_pool(workers=2).start()
    until(lambda: len(pool.facts().of("begin")) > 1)
    (pool.path / "ledger.db-wal").unlink()
    until((pool.path / "ledger.db-wal").exists, what="a log with a name")
    before = pool.settled()["leader"]
    os.kill(before["pid"], 9)
    after = pool.leader(but=before["pid"])["leader"]
    until(lambda: [fact for fact in pool.facts().of("begin") if fact["term"] == after["term"]])
    check_that_no_second_was_lost(pool)
    pool.stop()
    begun = {datetime.fromisoformat(fact["due"]) for fact in pool.facts().of("begin")}
    assert begun <= set(ledger_runs(pool)["tick"]), "claims were lost with the log"
    code, said = pool.verify()
    assert code == 0, said


@pytest.mark.extended
@pytest.mark.timeout(180)
def test_what_is_only_a_help(new_pool: Callable[..., Pool]) -> None:
    """FIFO, term number, the entries of the workers: no term ends for them, and they are made again."""
    pool = new_pool(workers=3).start()
    before = pool.settled()["leader"]
    (pool.path / "leader.alive").unlink()
    (pool.path / "leader.term").unlink()
    remove_in_use(pool.path / "workers")
    until(lambda: len(list((pool.path / "workers").glob("*.json"))) == 3)
    assert pool.settled()["leader"]["term"] == before["term"]
    os.kill(before["pid"], 9)
    after = pool.leader(but=before["pid"])
    assert after["leader"]["term"] == before["term"] + 1, "the record and the ledger remember what the file forgot"
    assert (pool.path / "leader.alive").is_fifo()

    (pool.path / "leader.alive").unlink()
    (pool.path / "leader.alive").write_text("no FIFO")
    os.kill(after["leader"]["pid"], 9)
    again = pool.leader(but=after["leader"]["pid"])
    assert again["leader"]["term"] == before["term"] + 2
    assert (pool.path / "leader.alive").is_fifo()
    assert pool.facts().overlaps() == []


@pytest.mark.extended
@pytest.mark.timeout(180)
@pytest.mark.parametrize("how", ["removed", "moved away"])
def test_the_whole_directory(new_pool: Callable[..., Pool], how: str) -> None:
    """With it go the record, the number and the ledger: the pool elects again, in a new directory.

    Earlier terms are lost except in the memory of the leader and its followers; the promises begin anew.
    """
    pool = new_pool(workers=3).start()
    until(lambda: pool.facts().of("begin"))
    with lateness(pool.facts_path.parent) as late:
        if how == "removed":
            remove_in_use(pool.path)
        else:
            pool.path.rename(pool.path.with_name("elsewhere"))
        done = time.monotonic()
        first = until(lambda: first_of_a_later_term(pool, 1), what="a term after the first")
    assert first - done < WITHIN + 3 * late()
    assert pool.facts().overlaps() == []
    assert pool.facts().run_twice("tick") == []
    assert pool.path.stat().st_mode & 0o777 == 0o700
    pool.settled()


@pytest.mark.extended
@pytest.mark.timeout(180)
@pytest.mark.parametrize("how", ["removed", "replaced by garbage"])
def test_the_ledger(new_pool: Callable[..., Pool], how: str) -> None:
    """Its history is gone; the term continues, and no tick that this leader has cached runs twice."""
    pool = new_pool(workers=3).start()
    until(lambda: len(pool.facts().of("begin")) > 1)
    for path in pool.path.glob("ledger.db*"):
        path.unlink()
    if how == "replaced by garbage":
        (pool.path / "ledger.db").write_bytes(b"no database" * 1000)
    ticks = len(pool.facts().of("begin"))
    until(lambda: len(pool.facts().of("begin")) > ticks + 2)
    before = pool.leader()["leader"]
    os.kill(before["pid"], 9)
    assert pool.leader(but=before["pid"])["leader"]["term"] == before["term"] + 1
    ticks = len(pool.facts().of("begin"))
    until(lambda: len(pool.facts().of("begin")) > ticks)
    assert pool.facts().overlaps() == []
    assert pool.facts().run_twice("tick") == []
    pool.stop()
    code, said = pool.verify()
    assert code == 0, said


@pytest.mark.extended
@pytest.mark.timeout(180)
def test_permissions(new_pool: Callable[..., Pool]) -> None:
    """Other users may enter for a moment: the mode is restored, and no term ends for it.

    A directory that the owner cannot open is in ``test_permissions.py``.
    """
    pool = new_pool(workers=2).start()
    term = pool.settled()["leader"]["term"]
    pool.path.chmod(0o755)
    until(lambda: pool.path.stat().st_mode & 0o777 == 0o700, what="a follower that campaigns shuts it")
    assert pool.settled()["leader"]["term"] == term


def first_of_a_later_term(pool: Pool, term: int) -> float | None:
    """Time at which the first tick of a term after ``term`` began; None if none has."""
    return min((fact["at"] for fact in pool.facts().of("begin") if fact["term"] > term), default=None)
