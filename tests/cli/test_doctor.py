"""``python -m election doctor``: names the faults of a pool's ground, gives advice, and changes nothing."""

from __future__ import annotations

import dataclasses
import fcntl
import json
import os
import signal
import sqlite3
import stat
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import psutil
import pytest

from election.core.clock import SystemClock
from election.core.process import current_process
from election.core.seat import Worker
from election.core.term import LeaderRecord, Standing
from election.engines.file import directory as directory_module
from election.engines.file.leader_record import LeaderRecordFile
from election.engines.file.lock_holders import Holder, who_holds
from election.engines.file.presence import Presence
from tests.cli.conftest import Call, as_program
from tests.support.pool import WorkerPool
from tests.support.processes import identity_of
from tests.support.waiting import until

pytestmark = pytest.mark.skipif(not os.path.isdir("/proc/self/fdinfo"), reason="who holds a lock is read from /proc")


@pytest.fixture
def findings(ask: Callable[..., Any]) -> Callable[[Path, str], list[str]]:
    """Run ``doctor --json``; return the results of one severity, the advice after an arrow."""

    def run(pool: Path, grade: str) -> list[str]:
        found = ask("doctor", pool, code=1 if grade == "wrong" else 0)
        assert [list(each) for each in found] == [["grade", "text", "advice"]] * len(found)
        return [f"{each['text']} -> {each['advice']}" for each in found if each["grade"] == grade]

    return run


Findings = Callable[[Path, str], list[str]]


def test_a_living_pool_is_sound(living: WorkerPool, findings: Findings, call: Call) -> None:
    """Everything is examined, and good: the ground, the record, the holder of the lock, the FIFO, the ledger."""
    leader = living.leader()
    good = findings(living.path, "good")
    assert findings(living.path, "warning") == []
    for text in (
        f"{living.path} belongs to this user",
        "nobody else may enter it (mode 0700)",
        "flock works there",
        f"the record names a live leader: pid {leader.pid}",
        f"pid {leader.pid} holds the lock, and is the recorded leader",
        "the FIFO that signals resignations is there",
        "the ledger is whole: 2 jobs",
    ):
        assert [each for each in good if text in each], text
    code, out, _ = call("doctor", living.path)
    assert code == 0
    assert [line for line in out.splitlines() if not line.startswith("ok ")] == []


def test_an_ended_pool_is_sound(ended: Path, findings: Findings) -> None:
    """A pool without a leader is a warning, and no more."""
    (warning,) = findings(ended, "warning")
    assert "nobody leads: the last leader" in warning
    assert "resigned" in warning
    assert "no process that this user can see holds the lock -> None" in findings(ended, "good")


# --- who holds the lock ----------------------------------------------------------------------------------------------


def test_an_orphan_that_keeps_the_lock_is_named(orphaned: tuple[WorkerPool, int], call: Call) -> None:
    """docs/pitfalls.md#1: the leader is dead, a child of it keeps the flock, so that nobody can be elected: doctor
    names it by pid and command (``/proc/locks`` would name the dead one), and once it is ended as advised, a
    worker leads.
    """
    pair, orphan = orphaned
    done = as_program("doctor", "--pool", str(pair.path))
    assert done.returncode == 1
    assert f"WRONG    pid {orphan} (sleep 600) holds the lock and is no worker, so nobody can be elected" in done.stdout
    assert f"end it: kill {orphan}" in done.stdout
    assert "nobody leads: the last leader" in done.stdout
    assert "died" in done.stdout
    child = identity_of(orphan)
    os.kill(orphan, signal.SIGTERM)
    until(lambda: child.is_alive() is False, what="the orphan has ended")
    pair.start(1)
    assert pair.leader().document()["last_takeover"]["reason"] == "died"
    assert call("doctor", pair.path)[0] == 0


def test_a_child_that_shares_the_lock_of_a_living_leader_is_named(living: WorkerPool, findings: Findings) -> None:
    """docs/pitfalls.md#1, #3, before it does harm: the leader holds the lock, and so does a process that would keep
    it.
    """
    leader = living.leader()
    child = int(leader.request("POST", "/child").json())
    try:
        (warning,) = findings(living.path, "warning")
        assert f"pid {child} (sleep 600) shares the leader's lock" in warning
        assert f"end it: kill {child}" in warning
        assert [each for each in findings(living.path, "good") if f"pid {leader.pid} holds the lock" in each]
    finally:
        os.kill(child, signal.SIGKILL)
    until(lambda: findings(living.path, "warning") == [])


@contextmanager
def locked(path: Path) -> Any:
    with path.open() as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield file


def test_a_worker_that_is_about_to_lead_is_no_orphan(spoiled: Path, findings: Findings) -> None:
    """docs/pitfalls.md#15: between the flock and the record no process may be killed."""
    Presence(str(spoiled / "workers"), SystemClock()).enter(Worker(current_process(), datetime.now(UTC)))
    with locked(spoiled / "leader.lock"):
        warnings = findings(spoiled, "warning")
    assert [each for each in warnings if f"pid {os.getpid()} " in each and "about to lead" in each]
    assert not [each for each in warnings if "kill" in each]


def test_an_entry_of_a_dead_worker_with_the_same_pid_hides_no_holder(spoiled: Path, findings: Findings) -> None:
    """docs/pitfalls.md#10: a pid is reused, and entries of dead workers stay until a worker removes them."""
    former = dataclasses.replace(current_process(), start_time=1)
    Presence(str(spoiled / "workers"), SystemClock()).enter(Worker(former, datetime.now(UTC)))
    with locked(spoiled / "leader.lock"):
        (wrong,) = findings(spoiled, "wrong")
    assert f"pid {os.getpid()} (" in wrong
    assert "holds the lock and is no worker, so nobody can be elected" in wrong


def test_a_stranger_that_took_the_lock_itself_is_no_orphan(spoiled: Path, findings: Findings) -> None:
    """It inherited nothing from a leader and may have been started on purpose, so the advice is not to kill it."""
    with locked(spoiled / "leader.lock"):
        (wrong,) = findings(spoiled, "wrong")
    assert "it took the lock itself, so it is no orphan" in wrong
    assert "kill" not in wrong


def test_a_child_between_its_fork_and_its_exec_is_no_orphan(
    spoiled: Path, findings: Findings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each subprocess of a leader has all of its descriptors for a moment."""
    claim_to_lead(spoiled)
    with locked(spoiled / "leader.lock") as file, subprocess.Popen(["sleep", "60"], pass_fds=[file.fileno()]) as child:
        monkeypatch.setattr("time.sleep", lambda seconds: (child.kill(), child.wait()))
        assert findings(spoiled, "warning") == []
    assert child.returncode == -signal.SIGKILL, "the lock was not looked at twice"


def test_an_election_while_the_lock_is_looked_at_is_no_finding(
    spoiled: Path, findings: Findings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The record is read before the lock, and an election may come between the two."""
    elections = []

    def elect_and_look(device: int, inode: int) -> list[Holder]:
        if not elections:
            elections.append(claim_to_lead(spoiled))
        return list(who_holds(device, inode))

    monkeypatch.setattr(sys.modules["election.engines.file.diagnostics"], "who_holds", elect_and_look)
    with locked(spoiled / "leader.lock"):
        assert findings(spoiled, "warning") == []
        assert [each for each in findings(spoiled, "good") if f"pid {os.getpid()} holds the lock, and is" in each]


def test_a_leader_by_the_record_alone_is_told(spoiled: Path, findings: Findings) -> None:
    """docs/pitfalls.md#4, #10: the record describes, the lock decides."""
    claim_to_lead(spoiled)
    (wrong,) = findings(spoiled, "wrong")
    assert f"pid {os.getpid()} is the recorded leader, and does not hold" in wrong


def claim_to_lead(pool: Path) -> LeaderRecord:
    """Write a record that names this process as leader."""
    records = LeaderRecordFile(str(pool / "leader.json"))
    found = records.read()
    assert found is not None
    record = dataclasses.replace(found, holder=current_process(), standing=Standing.LEADING, ended_at=None)
    records.write(record)
    return record


def test_a_leader_that_gives_no_sign_of_life_is_told(living: WorkerPool, findings: Findings) -> None:
    """docs/pitfalls.md#11, #12: it is alive, it holds the lock, and it hangs."""
    leader = living.leader()
    process = psutil.Process(leader.pid)
    leader.signal(signal.SIGSTOP)
    try:
        until(lambda: process.status() == psutil.STATUS_STOPPED)
        os.utime(living.path / "leader.json", (0, time.time() - 60))
        (warning,) = findings(living.path, "warning")
        assert f"the leader (pid {leader.pid}, term " in warning
        assert "the last heartbeat of the leader" in warning
    finally:
        leader.signal(signal.SIGCONT)
    until(lambda: findings(living.path, "warning") == [], what="it is well again")


def test_a_missing_lock_file_is_told(spoiled: Path, findings: Findings) -> None:
    """docs/pitfalls.md#4: the lock file was removed; no new one is made."""
    (spoiled / "leader.lock").unlink()
    assert "there is no lock file -> the next campaign makes it" in findings(spoiled, "warning")
    claim_to_lead(spoiled)
    assert [each for each in findings(spoiled, "warning") if "no lock file" in each and "steps down" in each]
    assert not (spoiled / "leader.lock").exists()


# --- the other files -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("what", ["missing", "file"])
def test_a_fifo_that_is_none_is_told(what: str, spoiled: Path, findings: Findings) -> None:
    """A missing FIFO only makes the safety poll matter, so it is a warning."""
    (spoiled / "leader.alive").unlink()
    if what == "file":
        (spoiled / "leader.alive").touch(0o600)
    assert [each for each in findings(spoiled, "warning") if "leader.alive is missing, or no FIFO" in each]


@pytest.mark.parametrize("content", [None, b"", b"{", b'{"term": 7}'])
def test_a_record_that_is_none_is_told(content: bytes | None, spoiled: Path, findings: Findings) -> None:
    """docs/pitfalls.md#14, #15: an unknown leader is no leader."""
    (spoiled / "leader.json").unlink()
    if content is not None:
        (spoiled / "leader.json").write_bytes(content)
        (spoiled / "leader.json").chmod(0o600)
    told = "there is no leader record" if content is None else "leader.json cannot be parsed"
    assert [each for each in findings(spoiled, "warning") if told in each]


def damage_the_middle(ledger: Path) -> None:
    content = bytearray(ledger.read_bytes())
    content[4096 * 2 : 4096 * 6] = b"\xff" * 4096 * 4
    ledger.write_bytes(content)


def damage_the_head(ledger: Path) -> None:
    ledger.write_bytes(b"x" * 100 + ledger.read_bytes()[100:])


def cut(ledger: Path) -> None:
    ledger.write_bytes(ledger.read_bytes()[:4096])


@pytest.mark.parametrize("damage", [damage_the_middle, damage_the_head, cut], ids=lambda each: str(each.__name__))
def test_a_damaged_ledger_is_told_and_left_as_it_is(
    damage: Callable[[Path], None], spoiled: Path, findings: Findings
) -> None:
    """The advice tells how to set it aside; that is up to the leader, not to doctor."""
    ledger = spoiled / "ledger.db"
    damage(ledger)
    content = ledger.read_bytes()
    (wrong,) = findings(spoiled, "wrong")
    assert "the ledger" in wrong
    assert "copy" in wrong
    assert ledger.read_bytes() == content
    assert not list(spoiled.glob("*corrupt*"))


def write_into(pool: Path, statement: str) -> None:
    with sqlite3.connect(pool / "ledger.db") as connection:
        connection.execute(statement)
    connection.close()


@pytest.mark.parametrize("statement", ["UPDATE jobs SET trigger = '{'", "UPDATE jobs SET func = 'x:y'"])
def test_a_ledger_that_makes_no_sense_is_told(statement: str, spoiled: Path, findings: Findings, call: Call) -> None:
    """A valid database can hold garbage: doctor survives it, and no command reports it as a broken promise."""
    write_into(spoiled, statement)
    (wrong,) = findings(spoiled, "wrong")
    assert "the ledger has a row that no worker can have written" in wrong
    code, _, err = call("verify", spoiled)
    assert (code, "cannot be read" in err, "Traceback" in err) == (2, True, False)


def test_a_lost_or_newer_ledger_is_told(spoiled: Path, findings: Findings) -> None:
    """A pool that was led has a ledger; one with a newer schema needs newer code."""
    write_into(spoiled, "PRAGMA user_version = 99")
    (wrong,) = findings(spoiled, "wrong")
    assert "upgrade election in every worker" in wrong
    (spoiled / "ledger.db").unlink()
    (wrong,) = findings(spoiled, "wrong")
    assert "a leader begins a new ledger" in wrong


def test_a_broken_job_is_told(spoiled: Path, findings: Findings) -> None:
    """Nothing else suffers, so it is a warning, with a remedy."""
    write_into(spoiled, "UPDATE jobs SET broken = 'x:y cannot be imported' WHERE id = 'good'")
    assert [
        each
        for each in findings(spoiled, "warning")
        if "job 'good': x:y cannot be imported -> see that its trigger works, or put the function back" in each
    ]


# --- the ground ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("mode", "why"), [(0o755, "others may enter it"), (0o500, "its owner may not use it")])
def test_wrong_permissions_are_told_and_left_as_they_are(
    mode: int, why: str, spoiled: Path, findings: Findings
) -> None:
    """docs/pitfalls.md#20: any user who can read the lock file can hold it."""
    spoiled.chmod(mode)
    wrong = findings(spoiled, "wrong")[0]
    assert f"has mode {mode:04o}: {why}" in wrong
    assert f"chmod 700 {spoiled}" in wrong
    assert stat.S_IMODE(spoiled.stat().st_mode) == mode
    spoiled.chmod(0o700)


def test_a_file_that_its_owner_cannot_write_is_told(spoiled: Path, findings: Findings) -> None:
    """docs/pitfalls.md#22: a ledger that cannot be written stops every job, so it is reported first."""
    (spoiled / "ledger.db").chmod(0o400)
    (wrong,) = findings(spoiled, "wrong")
    assert f"chmod u+rw {spoiled / 'ledger.db'}" in wrong


def test_a_pool_of_another_user_is_told(spoiled: Path, findings: Findings, monkeypatch: pytest.MonkeyPatch) -> None:
    """docs/pitfalls.md#20: workers of this user could not use it, or its owner could lead in their place."""
    monkeypatch.setattr(os, "geteuid", lambda: 4711)
    (wrong,) = findings(spoiled, "wrong")
    assert f"belongs to uid {os.getuid()}, and this process runs as uid 4711" in wrong


@pytest.mark.usefixtures("as_root")
def test_root_looks_at_the_pools_of_others(spoiled: Path, findings: Findings) -> None:
    """``sudo python -m election doctor`` is no reason for an alarm; a file of root's among the owner's is."""
    for path in (spoiled, *spoiled.iterdir()):
        os.chown(path, 4711, 4711)
    assert [each for each in findings(spoiled, "good") if "belongs to uid 4711, as which the workers must run" in each]
    os.chown(spoiled / "ledger.db", 0, 0)
    (wrong,) = findings(spoiled, "wrong")
    assert f"ledger.db belongs to uid 0, not to 4711 -> chown 4711 {spoiled / 'ledger.db'}" in wrong


def test_a_symbolic_link_is_told(spoiled: Path, findings: Findings, tmp_path: Path) -> None:
    """docs/pitfalls.md#20: another user could redirect it, so workers refuse it."""
    (tmp_path / "link").symlink_to(spoiled)
    (wrong,) = findings(tmp_path / "link", "wrong")
    assert "is a symbolic link" in wrong
    assert f"name the directory itself: {spoiled}" in wrong


def test_a_network_filesystem_is_told(spoiled: Path, findings: Findings, monkeypatch: pytest.MonkeyPatch) -> None:
    """docs/pitfalls.md#6: flock may not exclude other hosts there."""
    monkeypatch.setattr(directory_module, "filesystem_type", lambda _: "nfs4")
    (wrong,) = findings(spoiled, "wrong")
    assert "is on nfs4, where flock may exclude nobody" in wrong


def test_a_directory_that_is_no_pool_is_left_alone(tmp_path: Path, call: Call) -> None:
    """Running it on a wrong directory changes nothing there."""
    (tmp_path / "letter").write_text("dear")
    tmp_path.chmod(0o755)
    code, out, _ = call("doctor", tmp_path, "--json")
    assert code == 1
    assert "others may enter it" in json.loads(out)[1]["text"]
    assert [path.name for path in tmp_path.iterdir()] == ["letter"]
    assert stat.S_IMODE(tmp_path.stat().st_mode) == 0o755
