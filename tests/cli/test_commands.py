"""``python -m election status|runs|skips|terms|resign``: their reports on a pool's history, and their exit codes."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import importlib
import json
import os
import pwd
import re
import signal
import socket
import sqlite3
import subprocess
import sys
import tomllib
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from election.cli import main, pool_status, show
from election.engines.file import file_thread
from election.schedule.triggers import build
from tests.cli.conftest import Call, as_program
from tests.schedule.making import NOW, make_job, state_of
from tests.support.past import write_past
from tests.support.pool import ROOT, WorkerPool
from tests.support.waiting import until

COMMANDS = (
    "status", "watch", "jobs", "runs", "logs", "next", "skips", "terms", "verify", "doctor", "resign", "accept-time",
    "adopt",
)  # fmt: skip
Ask = Callable[..., Any]


# --- as a program ----------------------------------------------------------------------------------------------------


def test_a_living_pool_is_shown_and_left_in_peace(living: WorkerPool) -> None:
    """P8, docs/pitfalls.md#16: status names the pool's own leader, exits 0, and causes no election."""
    leader, follower = living.leader(), living.follower()
    done = as_program("status", "--pool", str(living.path))
    assert (done.returncode, done.stderr) == (0, "")
    term = leader.document()["leader"]["term"]
    assert f"pid {leader.pid} leads term {term}" in done.stdout
    assert f"followers: {follower.pid}\n" in done.stdout
    assert "now and/then  scheduled" in done.stdout
    assert leader.document()["leader"]["term"] == term


def test_an_ended_pool_is_shown(ended: Path, call: Call) -> None:
    """Exit code 1: nobody leads; its jobs and their last runs are shown all the same."""
    code, out, err = call("status", ended)
    assert (code, err) == (1, "")
    assert "nobody leads" in out
    assert "bad   scheduled" in out


def test_no_pool_is_an_error(tmp_path: Path) -> None:
    """Exit code 2 and one line with a remedy; a command never creates a pool by looking for one."""
    done = as_program("status", "--pool", str(tmp_path / "none"))
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.count("\n") == 1
    assert f"there is no pool at {tmp_path / 'none'}" in done.stderr
    assert list(tmp_path.iterdir()) == []


def test_a_reader_that_goes_away_is_no_reason_to_complain(ended: Path) -> None:
    """``python -m election runs | head -1`` ends quietly."""
    readable, writable = os.pipe()
    os.close(readable)
    done = as_program("runs", "--pool", str(ended), stdout=writable)
    os.close(writable)
    assert (done.returncode, done.stderr) == (0, "")


def test_a_verdict_that_nobody_reads_is_none(ended: Path) -> None:
    readable, writable = os.pipe()
    os.close(readable)
    done = as_program("verify", "--pool", str(ended), stdout=writable)
    os.close(writable)
    assert (done.returncode, done.stderr) == (2, "")


def test_help_names_every_command(capsys: pytest.CaptureFixture[str]) -> None:
    """With examples and the meaning of the exit codes."""
    with pytest.raises(SystemExit) as ended:
        main(["--help"])
    out = capsys.readouterr().out
    assert ended.value.code == 0
    assert [name for name in (*COMMANDS, "completion") if not re.search(rf"^    {name}\s", out, re.MULTILINE)] == []
    assert "exit codes: 0" in out


@pytest.mark.parametrize("command", COMMANDS)
def test_each_command_explains_itself(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Its purpose, and each of its options."""
    with pytest.raises(SystemExit) as ended:
        main([command, "--help"])
    out = capsys.readouterr().out
    assert ended.value.code == 0
    assert "--pool POOL" in out
    assert "--json" in out
    assert f"examples:\n  python -m election {command} --pool var/pool" in out
    assert ("--limit" in out) == (command in {"jobs", "runs", "logs", "next", "skips", "terms"})


# --- what is refused -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.parametrize("form", ["{}/none", "file://{}/none", "nosuch://{}/none"])
def test_an_unknown_pool_is_refused_by_all(command: str, form: str, call: Call, tmp_path: Path) -> None:
    """Exit code 2, a line that names it, nothing on stdout, and nothing created."""
    code, out, err = call(command, form.format(tmp_path))
    assert (code, out) == (2, "")
    assert "none" in err or "no engine supports nosuch://" in err
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("command", COMMANDS)
def test_a_file_is_no_pool(command: str, call: Call, tmp_path: Path) -> None:
    """docs/pitfalls.md#21: a path that cannot be a pool is named with its kind."""
    (tmp_path / "file").touch()
    code, out, err = call(command, tmp_path / "file")
    assert (code, out) == (2, "")
    assert "it is a file" in err


@pytest.mark.parametrize(("command", "code"), [("status", 1), ("runs", 2), ("verify", 2), ("resign", 2), ("doctor", 0)])
def test_a_directory_that_nobody_has_led(command: str, code: int, call: Call, tmp_path: Path) -> None:
    """It may become a pool; the message names the missing part, and nothing is created."""
    tmp_path.chmod(0o700)
    found, out, err = call(command, tmp_path)
    assert found == code, (out, err)
    told = {"status": "never been led", "doctor": "normal before the first election", "resign": "nobody leads"}
    assert told.get(command, "never been led") in out + err
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "arguments",
    [
        ["runs"], ["runs", "--pool", "x", "--limit", "0"], ["runs", "--pool", "x", "--before", "-1"],
        ["runs", "--pool", "x", "--limit", "many"], ["runs", "--pool", "x", "--outcome", "lost"],
        ["runs", "--pool", "x", "--before", "9223372036854775808"], ["terms", "--pool", "x", "--job", "j"],
        ["watch-me", "--pool", "x"], [],
    ],
    ids=" ".join,
)  # fmt: skip
def test_what_a_command_does_not_know_is_refused(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    """Exit code 2, and the usage."""
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    assert ended.value.code == 2
    assert "usage:" in capsys.readouterr().err


# --- status ----------------------------------------------------------------------------------------------------------


def test_status_for_machines(living: WorkerPool, ask: Ask) -> None:
    """The fields of ``GET /leader``, whose names do not change, so that a script may use both alike."""

    def told() -> list[dict[str, Any]] | None:
        """Both documents, once the leader is responsive in both: its pulse changes from one request to the next."""
        both = [ask("status", living.path), living.follower().document()]
        return both if all(each["leader"] and each["leader"]["responsive"] for each in both) else None

    said, asked = until(told, what="the leader responds")
    assert list(said) == ["pool", "engine", "state", "leader", "workers", "jobs", "jobs_total", "problem"]
    for name in ("pool", "engine", "state", "workers", "jobs_total", "problem"):
        assert said[name] == asked[name]
    assert list(said["leader"]) == list(asked["leader"])
    for name in ("pid", "host", "term", "elected_at", "responsive", "queued"):
        assert said["leader"][name] == asked["leader"][name]
    jobs = {job["id"]: job for job in said["jobs"]}
    rarely = jobs["now and/then"]
    # A worker caches its reads of the ledger for half a second.
    until(lambda: (job := living.follower().job("now and/then")) and job == {name: rarely[name] for name in job})
    assert list(jobs["often"]) == [
        "id", "name", "description", "tags", "trigger", "next_run_time", "paused", "retired", "removed", "broken",
        "last_due", "last_outcome", "last_late_ms", "running", "running_since", "timezone",
    ]  # fmt: skip


def test_status_of_an_ended_pool_for_machines(ended: Path, ask: Ask) -> None:
    """No leader, no workers; exit code 1."""
    said = ask("status", ended, code=1)
    assert (said["state"], said["leader"], said["workers"], said["problem"]) == ("electing", None, [], None)
    assert [(job["id"], job["last_outcome"]) for job in said["jobs"]] == [("bad", "failed"), ("good", "succeeded")]


def test_status_tells_what_is_wrong_with_the_ledger(spoiled: Path, call: Call, ask: Ask) -> None:
    """P8: the leader is shown without it; the problem is reported beside."""
    (spoiled / "ledger.db").write_bytes(b"nothing of the kind" * 1000)
    code, out, _ = call("status", spoiled)
    assert code == 1
    assert "the ledger cannot be read" in out
    assert "not a database" in ask("status", spoiled, code=1)["problem"]


def test_a_leader_that_hangs_leads_and_is_said_not_to_live(
    living: WorkerPool, call: Call, ask: Ask, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Exit code 0, since the seat is held; the missing heartbeat is reported beside."""
    monkeypatch.setattr(pool_status, "STALLED_AFTER_S", 0.5)
    leader = living.leader()
    leader.signal(signal.SIGSTOP)
    try:
        code, out, _ = call("status", living.path)
        said = ask("status", living.path)["leader"]
    finally:
        leader.signal(signal.SIGCONT)
    assert code == 0
    silent = re.search(r"heartbeat: has not moved for (\d+\.\d) s: the leader is stopped", out)
    assert silent is not None and float(silent[1]) >= 0.5, out
    assert (said["pid"], said["responsive"]) == (leader.pid, False)
    until(lambda: "heartbeat: beats (seen 0." in call("status", living.path)[1], what="it lives again")
    living.leader()


def test_a_disk_that_answers_slowly_is_waited_for(
    living: WorkerPool, ask: Ask, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A worker also has to answer HTTP; a command has no other work."""
    monkeypatch.setattr(file_thread, "MAX_WAIT_S", 0.0)
    leader = living.leader()
    assert ask("status", living.path)["leader"]["pid"] == leader.pid


def test_a_record_that_cannot_be_read_is_no_vacancy(spoiled: Path, call: Call, monkeypatch: pytest.MonkeyPatch) -> None:
    """Exit code 2: a script that reacts to a vacancy must not react to this."""

    def refuse(path: str) -> bytes | None:
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), path)

    monkeypatch.setattr("election.engines.file.leader_record.read_file", refuse)  # modes do not bind root
    code, out, err = call("status", spoiled)
    assert (code, out) == (2, "")
    assert "the leader record cannot be read: Permission denied" in err


def test_a_pool_of_somebody_else_is_no_vacancy(ended: Path, call: Call, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its record would seem to be missing, and its history too; only doctor reports on such a pool."""
    monkeypatch.setattr(os, "access", lambda path, mode: False)
    for command in COMMANDS:
        code, out, err = call(command, ended)
        if command != "doctor":
            assert (code, out) == (2, ""), command
            assert "run this command as the user of the workers" in err


def test_jobs_say_what_they_are_for_and_are_found_by_tag(ended: Path, call: Call, ask: Ask) -> None:
    """The description is that of the function, the tags are those of the last leader's code."""
    jobs = {job["id"]: job for job in ask("status", ended, code=1)["jobs"]}
    assert (jobs["bad"]["name"], jobs["bad"]["description"], jobs["bad"]["tags"]) == ("bad", "A job that fails.", [])
    assert jobs["good"]["tags"] == ["fine", "small"]
    assert jobs["good"]["last_late_ms"] >= 0
    assert [job["id"] for job in ask("status", ended, "--tag", "fine", code=1)["jobs"]] == ["good"]
    assert "fine,small  good  A job that succeeds." in call("status", ended)[1]
    assert {row["job_id"] for row in ask("runs", ended, "--tag", "fine", "--limit", "1000")} == {"good"}
    assert {row["job_id"] for row in ask("skips", ended, "--tag", "small")} == {"good"}
    assert ask("runs", ended, "--tag", "fin") == []
    assert [job["id"] for job in ask("jobs", ended, "--tag", "fine")] == ["good"]


def test_jobs_in_pages(ended: Path, call: Call, ask: Ask) -> None:
    """Each with its entry in ``status``."""

    def listed(*more: str) -> list[str]:
        return [job["id"] for job in ask("jobs", ended, *more)]

    shown = ask("status", ended, code=1)["jobs"]
    assert [job.keys() for job in ask("jobs", ended)] == [job.keys() for job in shown]
    assert listed() == [job["id"] for job in shown] == ["bad", "good"]
    assert listed("--limit", "1") == ["bad"]
    assert listed("--after", "bad") == listed("--search", "GOO") == ["good"]
    assert "A job that fails." in call("jobs", ended)[1]


# --- the history -----------------------------------------------------------------------------------------------------


def test_runs_for_machines(ended: Path, ask: Ask) -> None:
    """Names that do not change; P4: each run with its outcome."""
    rows = ask("runs", ended, "--limit", "1000")
    assert list(rows[0]) == [
        "seq", "job_id", "due", "request", "term", "attempt", "claimed_at", "ended_at", "outcome", "error", "attempts",
        "started_at",
    ]  # fmt: skip
    assert [row["seq"] for row in rows] == list(range(len(rows), 0, -1))
    assert {(row["job_id"], row["outcome"]) for row in rows} == {("good", "succeeded"), ("bad", "failed")}
    assert datetime.fromisoformat(rows[0]["due"]).utcoffset() is not None


def test_a_run_with_its_log(ended: Path, ask: Ask, call: Call) -> None:
    [bad] = ask("runs", ended, "--outcome", "failed", "--limit", "1")
    found = ask("runs", ended, "--id", str(bad["seq"]))
    assert found == {**bad, "logs": found["logs"]}
    [log] = found["logs"]
    assert log["traceback"].startswith("Traceback (most recent call last):")
    assert log["traceback"].endswith(bad["error"])
    printed = call("runs", ended, "--id", str(bad["seq"]))[1]
    assert f"job      {bad['job_id']}\n" in printed
    assert "attempt 1\n  Traceback (most recent call last):\n" in printed
    [good] = ask("runs", ended, "--outcome", "succeeded", "--limit", "1")
    assert "no log is kept" in call("runs", ended, "--id", str(good["seq"]))[1]
    code, _, error = call("runs", ended, "--id", "999999")
    assert (code, "there is no run 999999" in error) == (2, True)


def test_the_logs_of_the_latest_runs(ended: Path, ask: Ask, call: Call) -> None:
    """Those of the job that fails, the latest last; the other one logs nothing."""
    kept = ask("logs", ended, "--limit", "1000")
    assert {run["job_id"] for run in kept} == {"bad"}
    assert [run["seq"] for run in kept] == sorted(run["seq"] for run in kept)
    (latest,) = ask("logs", ended, "--job", "bad", "--limit", "1")
    assert latest == kept[-1] == ask("runs", ended, "--id", str(latest["seq"]))
    printed = call("logs", ended, "--job", "bad", "--outcome", "failed", "--limit", "2")[1]
    heads = [line.split() for line in printed.splitlines() if line.startswith("run ")]
    assert [head[1] for head in heads] == [str(run["seq"]) for run in kept[-2:]]
    assert {(head[-2], head[-1]) for head in heads} == {("bad", "failed")}
    assert printed.count("  Traceback (most recent call last):\n") == 2
    assert call("logs", ended, "--job", "good") == (0, "", "")
    assert ask("logs", ended, "--since", "2100-01-01T00:00Z") == []
    assert call("logs", ended, "--job", "unheard of")[0] == 2


def test_filters_and_pages(ended: Path, ask: Ask) -> None:
    """``--before`` walks the whole history exactly once; filters choose."""
    everything = [row["seq"] for row in ask("runs", ended, "--limit", "1000")]
    walked: list[int] = []
    while page := ask("runs", ended, "--limit", "4", *(["--before", str(walked[-1])] if walked else [])):
        walked += [row["seq"] for row in page]
    assert walked == everything
    assert {row["job_id"] for row in ask("runs", ended, "--job", "bad")} == {"bad"}
    assert {row["outcome"] for row in ask("runs", ended, "--outcome", "failed")} == {"failed"}
    assert ask("runs", ended, "--job", "good", "--outcome", "failed") == []
    assert ask("runs", ended, "--outcome", "running") == []
    assert [row["term"] for row in ask("terms", ended, "--limit", "1")] == [2]
    assert [row["term"] for row in ask("terms", ended, "--before", "2")] == [1]
    assert {row["job_id"] for row in ask("skips", ended, "--job", "bad")} <= {"bad"}  # some, on a busy machine


def test_no_page_is_cut_without_a_word(ended: Path, call: Call, ask: Ask) -> None:
    """Since a time, all are shown; otherwise it is said that there are older ones, and how to get them."""
    everything = ask("runs", ended, "--limit", "1000")
    assert len(everything) > 5
    assert call("runs", ended, "--limit", "1000")[2] == ""
    assert (
        call("runs", ended, "--limit", "3")[2] == f"there are older ones: --before {everything[2]['seq']}, or --limit\n"
    )
    assert ask("runs", ended, "--since", "2020-01-01") == everything
    oldest = everything[-1]["claimed_at"]
    assert len(ask("runs", ended, "--since", oldest, "--limit", "3")) == 3
    latest = max(row["claimed_at"] for row in everything)
    assert [row["claimed_at"] for row in ask("runs", ended, "--since", latest)] == [latest]
    assert call("jobs", ended, "--limit", "1")[2] == "there are more: --after bad, or --limit\n"
    assert call("jobs", ended, "--limit", "2")[2] == ""


def test_what_comes_next(ended: Path, ask: Ask, call: Call) -> None:
    """Both jobs every 0.1 s, in order; for one alone; up to a time; and for people."""
    found = ask("next", ended, "-n", "6")
    dues = [tick["due"] for tick in found["ticks"]]
    assert (dues, len(dues)) == (sorted(dues), 6)
    assert {tick["job_id"] for tick in found["ticks"]} == {"bad", "good"}
    assert (found["unknown"], found["remarks"]) == ([], [])
    assert {tick["job_id"] for tick in ask("next", ended, "--job", "bad")["ticks"]} == {"bad"}
    assert ask("next", ended, "--until", "2020-01-01")["ticks"] == []
    code, out, _ = call("next", ended)
    assert (code, len(out.splitlines())) == (0, 11)
    assert call("next", ended, "--job", "none") == (
        2,
        "",
        "election: there is no job 'none' in this pool; python -m election jobs lists all\n",
    )


def test_skips_and_terms_for_machines(ended: Path, ask: Ask) -> None:
    """P4: the pause explains its ticks. P2: the terms follow each other."""
    skip = next(row for row in ask("skips", ended, "--job", "good") if row["reason"] == "paused")
    assert list(skip) == ["seq", "job_id", "first_due", "last_due", "count", "reason", "term", "at", "request"]
    assert skip["count"] >= 1
    latest, first = ask("terms", ended)
    assert (latest["term"], first["term"]) == (2, 1)
    assert (latest["standing"], first["standing"]) == ("resigned", "resigned")
    assert (first["pid"], first["reason"]) == (os.getpid(), "started")
    assert list(first) == [
        "term", "pid", "host", "boot_id", "began_at", "began_ns", "reason", "from_pid", "takeover_ms", "ended_at",
        "ended_ns", "standing",
    ]  # fmt: skip


@pytest.mark.parametrize(("command", "heads"), [("runs", "SEQ  JOB"), ("skips", "SEQ  JOB"), ("terms", "TERM  PID")])
def test_tables_have_a_line_for_each_entry(command: str, heads: str, ended: Path, call: Call, ask: Ask) -> None:
    """A job's error is a cell of a table, and no control sequence, whatever it contains."""
    code, out, err = call(command, ended, "--limit", "1000")
    lines = out.splitlines()
    assert (code, err) == (0, "")
    assert lines[0].startswith(heads)
    assert len(lines) == 1 + len(ask(command, ended, "--limit", "1000"))
    assert "\x1b" not in out
    assert command != "runs" or "ValueError: no such  [31mluck" in out


def test_looking_does_not_change_an_ended_pool(ended: Path, call: Call) -> None:
    """All commands together leave its files unchanged, byte for byte."""

    def files() -> dict[str, bytes]:
        found = (path for path in ended.rglob("*") if path.is_file() and not path.name.endswith(("-shm", "-wal")))
        return {path.name: path.read_bytes() for path in found}

    before = files()
    for command in COMMANDS:
        call(command, ended, *(["--once"] if command == "watch" else []))
    assert files() == before


# --- resign ----------------------------------------------------------------------------------------------------------


def test_resign_begins_another_term(living: WorkerPool, call: Call, ask: Ask) -> None:
    """P2, P6: the request goes through the ledger, and the leader steps down within a heartbeat."""
    leader = living.leader()
    term = leader.document()["leader"]["term"]
    code, out, _ = call("resign", living.path)
    assert (code, out) == (0, f"requested: pid {leader.pid} resigns from term {term}\n")
    living.leader(after=term)
    latest, former, *_ = until(lambda: ask("terms", living.path))
    assert (latest["term"], latest["from_pid"], latest["reason"]) == (term + 1, leader.pid, "resigned")
    assert (former["term"], former["standing"]) == (term, "resigned")
    said = ask("resign", living.path)
    assert (said["term"], said["pid"]) == (term + 1, latest["pid"])
    living.leader(after=term + 1)


def test_nobody_can_be_asked_to_resign_in_an_ended_pool(ended: Path, call: Call) -> None:
    """Exit code 2, and no request is left for the next leader."""
    code, out, err = call("resign", ended)
    assert (code, out) == (2, "")
    assert "nobody leads" in err


# --- what takes long -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("command", "words"), [("doctor", "checking the ledger"), ("verify", "ticks")])
def test_long_work_says_how_far_it_has_come(
    command: str, words: str, ended: Path, call: Call, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On a terminal, in a line that is erased at the end; elsewhere nothing."""
    assert call(command, ended)[2] == ""
    monkeypatch.setattr("sys.stderr.isatty", lambda: True)
    monkeypatch.setattr(show, "QUIET_S", 0)
    _, _, err = call(command, ended)
    assert re.search(rf"{words} \(\d+ s\) …", err), err
    assert err.endswith("\r\x1b[K")


def test_the_package_is_a_command_too(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """The name in pyproject.toml; its help uses it too."""
    scripts = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["scripts"]
    module, name = scripts["election"].split(":")
    monkeypatch.setattr("sys.argv", ["election", "status", "--help"])
    with pytest.raises(SystemExit):
        getattr(importlib.import_module(module), name)()
    assert "  election status --pool var/pool\n" in capsys.readouterr().out


# --- accept-time -----------------------------------------------------------------------------------------------------


def test_a_clock_that_was_ahead_is_a_finding_and_can_be_accepted(spoiled: Path, call: Call, ask: Ask) -> None:
    """docs/pitfalls.md#71."""
    assert call("accept-time", spoiled) == (0, "no job is settled beyond this time\n", "")
    with contextlib.closing(sqlite3.connect(spoiled / "ledger.db")) as connection, connection:
        connection.execute("UPDATE jobs SET settled_until = settled_until + 31536000000000")
    code, out, _ = call("doctor", spoiled)
    assert code == 1
    assert "jobs do not run until " in out
    assert call("accept-time", spoiled) == (0, "these jobs go on from now: bad, good\n", "")
    assert call("doctor", spoiled)[0] == 0
    assert {row["job_id"] for row in ask("skips", spoiled) if row["reason"] == "clock"} == {"bad", "good"}


# --- adopt -----------------------------------------------------------------------------------------------------------


def test_a_copy_is_a_finding_and_can_be_adopted(spoiled: Path, tmp_path: Path, call: Call) -> None:
    """docs/pitfalls.md#49."""
    assert call("adopt", spoiled) == (0, "this ledger is not known to be a copy\n", "")
    copy = tmp_path / "restored"
    subprocess.run(["cp", "-a", spoiled, copy], check=True)
    assert "the ledger was copied or restored" in call("doctor", copy)[1]
    assert "was copied" not in call("doctor", spoiled)[1]
    assert call("adopt", copy) == (0, "this ledger is the original from now on\n", "")
    assert "was copied" not in call("doctor", copy)[1]


# --- one job ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("command", ["job", "run", "pause", "resume"])
def test_a_command_about_a_job_explains_itself(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main([command, "--help"])
    out = capsys.readouterr().out
    assert f"examples:\n  python -m election {command} --pool var/pool app.jobs:report" in out
    assert "the job's id" in out


def test_one_job_with_its_runs_and_ticks(ended: Path, call: Call, ask: Ask) -> None:
    code, out, _ = call("job", ended, "bad")
    assert code == 0
    assert out.startswith("job      bad\n")
    assert out.count("ValueError: no such  [31mluck") >= 3, "what it raised, without what a terminal would obey"
    found = ask("job", ended, "good")
    assert found["job"]["tags"] == ["fine", "small"]
    assert {run["job_id"] for run in found["runs"]} == {"good"}
    assert len(found["next"]) == 5


@pytest.mark.parametrize(
    "command", ["runs --job", "skips --job", "changes --job", "next --job", "job", "run", "pause", "resume"]
)
def test_an_unknown_job_is_an_error(command: str, spoiled: Path, call: Call) -> None:
    name, *option = command.split()
    code, out, err = call(name, spoiled, *option, "nobody")
    assert (code, out) == (2, "")
    assert "there is no job 'nobody' in this pool" in err
    assert "election jobs lists all" in err


def test_all_jobs_with_a_tag_are_paused_and_resumed(spoiled: Path, call: Call, ask: Ask) -> None:
    assert call("pause", spoiled, "--tag", "fine")[:2] == (0, "good is paused\n")
    assert [job["id"] for job in ask("status", spoiled, code=1)["jobs"] if job["paused"]] == ["good"]
    assert ask("resume", spoiled, "--tag", "fine") == {"jobs": ["good"], "paused": False}
    code, _, err = call("pause", spoiled, "--tag", "unheard-of")
    assert (code, err) == (2, "election: no job in this pool has the tag 'unheard-of'\n")
    for arguments in ((), ("good", "--tag", "fine")):
        code, _, err = call("pause", spoiled, *arguments)
        assert (code, "name either one job or, with --tag, a tag of jobs" in err) == (2, True)


def test_changes_name_who_made_them(spoiled: Path, call: Call, ask: Ask, monkeypatch: pytest.MonkeyPatch) -> None:
    """The user of the operating system on this host, with who called sudo, unless ``--by`` names somebody."""
    monkeypatch.delenv("SUDO_USER", raising=False)
    call("pause", spoiled, "bad")
    call("resume", spoiled, "--tag", "fine", "--by", "ann")
    call("run", spoiled, "good", "--by", "ben")
    us = f"{pwd.getpwuid(os.getuid()).pw_name}@{socket.gethostname()}"
    rows = ask("changes", spoiled, "--limit", "3")
    assert [(row["by"], row["action"], row["job_id"], row["after"]) for row in rows] == [
        ("ben", "run", "good", None),
        ("ann", "resume", "good", "all tagged fine"),
        (us, "pause", "bad", None),
    ]
    assert rows[0]["request"] is not None
    assert [row["seq"] for row in ask("changes", spoiled, "--job", "bad")] == [rows[2]["seq"]]
    assert ask("changes", spoiled, "--since", "2999-01-01") == []
    heads, first, *_ = call("changes", spoiled)[1].splitlines()
    assert heads.split() == ["SEQ", "AT", "BY", "ACTION", "JOB", "BEFORE", "AFTER", "REQUEST"]
    assert first.split()[3:6] == ["ben", "run", "good"]
    monkeypatch.setenv("SUDO_USER", "eve")
    call("resume", spoiled, "bad")
    assert ask("changes", spoiled, "--limit", "1")[0]["by"] == f"eve as {us}"
    code, _, err = call("pause", spoiled, "bad", "--by", " ")
    assert (code, "cannot be recorded as who makes a change" in err) == (2, True)


def test_a_job_is_paused_and_resumed(spoiled: Path, call: Call, ask: Ask) -> None:
    assert call("pause", spoiled, "bad")[:2] == (0, "bad is paused\n")
    assert ask("job", spoiled, "bad")["job"]["paused"] is True
    assert ask("resume", spoiled, "bad") == {"job": "bad", "paused": False}


def test_a_run_is_asked_for_and_waited_for(living: WorkerPool, call: Call, ask: Ask) -> None:
    job = ask("jobs", living.path)[0]["id"]
    code, out, _ = call("run", living.path, job, "--wait", "60")
    assert code == 0
    assert re.fullmatch(rf"{job}, run \d+: succeeded\n", out)
    assert ask("run", living.path, job)["request"] > 0


@pytest.mark.parametrize("seconds", ["0.1", "0"])
def test_a_run_that_nobody_reads(spoiled: Path, call: Call, seconds: str) -> None:
    """The request is told even if there was no time for a single look."""
    code, out, _ = call("run", spoiled, "good", "--wait", seconds)
    assert (code, out.startswith("good was not run yet: no leader has read request ")) == (1, True)


@pytest.mark.parametrize("given", ["{", "[1]", "1"])
def test_arguments_are_a_json_object(given: str, spoiled: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["run", "--pool", str(spoiled), "good", "--kwargs", given])
    assert "is no JSON" in capsys.readouterr().err


def test_since_a_time(ended: Path, ask: Ask) -> None:
    every = ask("runs", ended, "--limit", "1000")
    since = every[len(every) // 2]["claimed_at"]
    assert ask("runs", ended, "--limit", "1000", "--since", since) == [
        run for run in every if run["claimed_at"] >= since
    ]
    assert ask("skips", ended, "--since", "2100-01-01T00:00Z") == []
    assert ask("terms", ended, "--since", "2100-01-01T00:00Z") == []


def test_the_environment_names_the_pool(
    ended: Path, ask: Ask, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    found = ask("terms", ended)
    monkeypatch.setenv("ELECTION_POOL", str(ended))
    capsys.readouterr()
    assert main(["terms", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == found


def test_the_version_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as done:
        main(["--version"])
    assert done.value.code == 0
    assert capsys.readouterr().out.startswith("fastapi-election ")


def test_a_job_in_a_zone_that_this_machine_does_not_have_is_shown() -> None:
    trigger = dict(make_job("cron", hour=9, timezone="Europe/Berlin").schedule) | {"timezone": "Nowhere/Atlantis"}
    found = state_of(replace(make_job("cron", hour=9), schedule=trigger))
    assert (build(trigger, NOW), pool_status._job_status(found, None, ()).trigger) == (None, "cron")


def test_letters_that_the_terminal_lacks_are_replaced(tmp_path: Path) -> None:
    """A monitor that runs the command in the locale C gets a verdict, not a traceback."""
    directory = tmp_path / "pool"
    asyncio.run(write_past(directory, "tické", NOW, []))
    command = [sys.executable, "-m", "election", "jobs", "--pool", str(directory)]
    environment = {**os.environ, "PYTHONIOENCODING": "ascii", "PYTHONPATH": str(ROOT)}
    found = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60, check=False)
    assert (found.returncode, found.stderr) == (0, "")
    assert "tick?" in found.stdout
