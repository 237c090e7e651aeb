"""``python -m election verify``: passes on a real history, fails on each kind of break, on a live and on a stopped
pool.
"""

from __future__ import annotations

import asyncio
import json
import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.cli.conftest import Call, as_program, live
from tests.support.pool import WorkerPool
from tests.support.waiting import until

Ask = Callable[..., Any]

IN_THE_MIDDLE = "(SELECT seq FROM runs WHERE job_id = 'bad' ORDER BY seq LIMIT 1 OFFSET 2)"

BREAKS = {
    "two terms at once": (
        "P1",
        ["UPDATE terms SET ended_ns = (SELECT began_ns + 1000000 FROM terms WHERE term = 2) WHERE term = 1"],
    ),
    "a term out of order": ("P2", ["UPDATE terms SET began_ns = 1 WHERE term = 2"]),
    "a tick claimed twice": (
        "P3",
        [
            "DROP INDEX one_claim_per_tick",
            "INSERT INTO runs (job_id, due, request, term, claimed_at, ended_at, outcome) SELECT"
            f" job_id, due, request, 2, claimed_at, ended_at, outcome FROM runs WHERE seq = {IN_THE_MIDDLE}",
        ],
    ),
    "a claim by a term that was over": ("P3", ["UPDATE runs SET term = 1 WHERE seq = (SELECT max(seq) FROM runs)"]),
    "a run that vanished": ("P4", [f"DELETE FROM runs WHERE seq = {IN_THE_MIDDLE}"]),
    "a skip that vanished": ("P4", ["DELETE FROM skips WHERE reason = 'paused'"]),
    "a run that was never settled": (
        "P4",
        [
            f"UPDATE runs SET outcome = NULL, ended_at = NULL WHERE seq = {IN_THE_MIDDLE}",
            "UPDATE terms SET began_at = began_at - 60000000",
        ],
    ),
}
"""Damage of a ledger, and the promise that it breaks."""


def spoil(pool: Path, statements: list[str]) -> None:
    connection = sqlite3.connect(pool / "ledger.db")
    for statement in statements:
        assert connection.execute(statement).rowcount, statement
    connection.commit()
    connection.close()


def test_an_ended_pool_is_green(ended: Path, call: Call) -> None:
    """P1-P4 on the whole history."""
    code, out, err = call("verify", ended)
    assert (code, err) == (0, "")
    assert out.startswith("P1 to P4 held; looked at")


def test_green_for_machines(ended: Path, ask: Ask) -> None:
    """Names that do not change; each tick was examined."""
    said = ask("verify", ended)
    assert list(said) == ["violations", "ticks", "terms", "unchecked", "missing_terms"]
    assert (said["violations"], said["terms"], said["unchecked"]) == ([], 2, [])
    assert said["ticks"] >= len(ask("runs", ended, "--limit", "1000"))


def test_terms_of_a_lost_ledger_are_named(spoiled: Path, call: Call) -> None:
    """The next leader begins a new ledger; what is not in it is neither green nor broken."""
    for path in spoiled.glob("ledger.db*"):
        path.unlink()
    asyncio.run(live(spoiled, pause=False))
    code, out, err = call("verify", spoiled)
    assert (code, err) == (0, "")
    assert out.startswith("not checked: terms 1 to 2 are not in the ledger, which was lost, removed or replaced")
    code, out, err = call("doctor", spoiled)
    assert "terms 1 to 2 are not in the ledger" in out


def test_a_living_pool_is_green_at_any_moment(living: WorkerPool, call: Call) -> None:
    """P4: while ticks are claimed and settled, nothing is missing."""
    until(lambda: living.facts("often"), what="it runs")
    for _ in range(5):
        code, out, err = call("verify", living.path)
        assert (code, err) == (0, ""), out


def test_a_pool_whose_leader_was_killed_is_green(orphaned: tuple[WorkerPool, int], call: Call) -> None:
    """P4: its open runs are not settled yet, which is no violation."""
    code, out, err = call("verify", orphaned[0].path)
    assert (code, err) == (0, ""), out


@pytest.mark.parametrize("kind", BREAKS)
def test_each_break_is_red(kind: str, spoiled: Path, call: Call, ask: Ask) -> None:
    """Exit code 1, the promise by its number, and the tick concerned."""
    promise, statements = BREAKS[kind]
    spoil(spoiled, statements)
    code, out, err = call("verify", spoiled)
    assert (code, err) == (1, ""), out
    assert f"{promise} broken:" in out
    said = ask("verify", spoiled, code=1)
    assert {each["promise"] for each in said["violations"]} == {promise}
    assert list(said["violations"][0]) == ["promise", "text", "job_id", "ticks"]
    if promise in {"P3", "P4"}:
        assert said["violations"][0]["job_id"] in {"good", "bad"}
        assert said["violations"][0]["ticks"]


def test_red_as_a_program(spoiled: Path) -> None:
    """Exit code 1, so that ``verify && deploy`` does not deploy."""
    spoil(spoiled, BREAKS["a run that vanished"][1])
    done = as_program("verify", "--json", "--pool", str(spoiled))
    assert (done.returncode, done.stderr) == (1, "")
    assert len(json.loads(done.stdout)["violations"]) == 1


def test_what_cannot_be_judged_is_an_error(spoiled: Path, call: Call) -> None:
    """Exit code 2 is neither pass nor fail: a ledger that cannot be read, or that is newer than the code."""
    spoil(spoiled, ["PRAGMA user_version = 99"])
    code, out, err = call("verify", spoiled)
    assert (code, out) == (2, "")
    assert "upgrade election" in err
    (spoiled / "ledger.db").write_bytes(b"no database" * 1000)
    code, out, err = call("verify", spoiled)
    assert (code, out) == (2, "")
    assert "corrupt" in err
    assert (spoiled / "ledger.db").read_bytes().startswith(b"no database"), "to look sets nothing aside"
