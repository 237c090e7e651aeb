"""``python -m election watch``: in a terminal of 80 by 24, through deaths of leaders and of whole pools."""

from __future__ import annotations

import asyncio
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from election import Election
from election.cli import main
from tests.cli.conftest import Call, as_program, good
from tests.cli.terminal import COLUMNS, LINES, Terminal
from tests.support.pool import ROOT, WorkerPool
from tests.support.waiting import until, until_async

COLOUR = re.compile(r"\x1b\[[0-9;]*3[0-7]")


# --- on a terminal ---------------------------------------------------------------------------------------------------


@pytest.mark.extended
def test_it_lives_through_deaths_and_through_a_pool_that_goes_and_comes(pair: WorkerPool) -> None:
    """P6 as shown to people: the leader, the vacancy, the next leader; each frame fits the terminal."""
    pair.start(2)
    with Terminal("watch", "--pool", str(pair.path)) as terminal:
        leader, follower = pair.leader(), pair.follower()
        until(lambda: terminal.shows(f"pid {leader.pid} leads term 1 since"), what=terminal.written)
        until(lambda: terminal.shows("heartbeat: beats (seen 0."), what=terminal.written)
        until(lambda: terminal.shows(f"workers: 2: {leader.pid} (leader), {follower.pid}"), what=terminal.written)
        until(lambda: terminal.shows("succeeded"), what=terminal.written)

        pair.kill_leader()
        until(lambda: terminal.shows(f"pid {follower.pid} leads term 2 since"), what=terminal.written)
        died = rf"2  [\d:]+ +{follower.pid}  died +{leader.pid} +[\d.]+"
        until(lambda: re.search(died, "\n".join(terminal.pictures()[-1])), what=terminal.written)

        pair.kill_leader()
        gone = f"nobody leads; pid {follower.pid}, the leader of term 2, died"
        until(lambda: terminal.shows(gone) and terminal.shows("workers: 0"), what=terminal.written)

        pair.start(1)
        until(lambda: terminal.shows(f"pid {pair.leader().pid} leads term 3 since"), what=terminal.written)
        pictures = terminal.pictures()
        assert max(len(picture) for picture in pictures) <= LINES
        assert max(len(line.rstrip()) for picture in pictures for line in picture) <= COLUMNS
        assert "Traceback" not in terminal.written()

        terminal.press(b"q")
        assert terminal.ended() == 0
        assert terminal.is_as_before()


@pytest.mark.extended
def test_a_hung_leader_is_called_that(living: WorkerPool) -> None:
    """P8: a leader that holds the seat without heartbeats is not shown as healthy."""
    leader = living.leader()
    with Terminal("watch", "--pool", str(living.path)) as terminal:
        until(lambda: terminal.shows("heartbeat: beats"), what=terminal.written)
        leader.signal(signal.SIGSTOP)
        try:
            until(lambda: terminal.shows("heartbeat: has not moved for"), what=terminal.written)
        finally:
            leader.signal(signal.SIGCONT)
        until(lambda: terminal.shows("heartbeat: beats"), what=terminal.written)


def test_a_directory_that_goes_away_is_told_and_its_return_noticed(spoiled: Path) -> None:
    """For example removed and restored by a deployment."""
    with Terminal("watch", "--pool", str(spoiled)) as terminal:
        until(lambda: terminal.shows("the leader of term 2, resigned"), what=terminal.written)
        until(lambda: terminal.shows("ValueError: no such"), what=terminal.written)
        os.rename(spoiled, f"{spoiled}-aside")
        until(lambda: terminal.shows("there is no pool at"), what=terminal.written)
        shutil.copytree(f"{spoiled}-aside", spoiled, ignore=shutil.ignore_patterns("leader.alive", "*-shm", "*-wal"))
        until(lambda: terminal.shows("ValueError: no such") and not terminal.shows("problem:"), what=terminal.written)


@pytest.mark.parametrize("number", [signal.SIGINT, pytest.param(signal.SIGTERM, marks=pytest.mark.extended)])
def test_ctrl_c_ends_it_in_good_order(ended: Path, number: signal.Signals) -> None:
    """Exit code 0, no traceback, and the terminal restored."""
    with Terminal("watch", "--pool", str(ended)) as terminal:
        until(lambda: terminal.shows("nobody leads"), what=terminal.written)
        terminal.signal(number)
        assert terminal.ended() == 0
        assert terminal.is_as_before()
        assert "\x1b[?1049l" in terminal.written(), "what was on the screen before is back"
        assert "Traceback" not in terminal.written()


@pytest.mark.parametrize(
    ("environment", "coloured"), [({}, True), ({"NO_COLOR": "1"}, False), ({"TERM": "dumb"}, False)], ids=str
)
def test_colours_are_for_those_who_want_them(ended: Path, environment: dict[str, str], coloured: bool) -> None:
    with Terminal("watch", "--once", "--pool", str(ended), **environment) as terminal:
        assert terminal.ended() == 0
        assert "nobody leads" in terminal.written()
        assert bool(COLOUR.search(terminal.written())) is coloured


@pytest.mark.skipif(not os.path.isdir("/proc/self/fdinfo"), reason="what a process has open is read from /proc")
def test_it_holds_no_lock_and_has_nothing_open_for_writing(living: WorkerPool) -> None:
    """docs/pitfalls.md#16: a reader takes no part in the pool. Readers share the files that SQLite keeps beside the
    ledger.
    """
    with Terminal("watch", "--pool", str(living.path)) as terminal:
        until(lambda: terminal.shows("leads term"), what=terminal.written)
        open_for_writing = set()
        for _ in range(20):
            open_for_writing |= {
                path.name for path in written_by(terminal.process.pid) if path.is_relative_to(living.path)
            }
            time.sleep(0.02)
        assert open_for_writing <= {"ledger.db-shm", "ledger.db-wal"}
        held = [line.split() for line in Path("/proc/locks").read_text().splitlines()]
        assert [line for line in held if line[1] == "FLOCK" and line[4] == str(terminal.process.pid)] == []


def written_by(pid: int) -> set[Path]:
    """Files that a process has open for writing at this moment."""
    place, found = Path(f"/proc/{pid}"), set()
    for descriptor in os.listdir(place / "fd"):
        with suppress(FileNotFoundError):  # closed meanwhile
            path = Path(os.readlink(place / "fd" / descriptor))
            flags = int(re.findall(r"flags:\s+(\d+)", (place / "fdinfo" / descriptor).read_text())[0], 8)
            if flags & os.O_ACCMODE != os.O_RDONLY:
                found.add(path)
    return found


# --- elsewhere -------------------------------------------------------------------------------------------------------


def test_one_picture_for_a_script(ended: Path) -> None:
    """Exit code 0, no control sequence, and the whole status."""
    done = as_program("watch", "--once", "--pool", str(ended))
    assert (done.returncode, done.stderr) == (0, "")
    assert "\x1b" not in done.stdout
    for words in (
        "nobody leads; pid",
        "workers: 0",
        "JOB ",
        "bad ",
        "succeeded",
        "ValueError: no such  [31mluck",
        "TOOK ms",
    ):
        assert words in done.stdout, words


@pytest.mark.parametrize(
    ("environment", "whole"), [({}, True), ({"FORCE_COLOR": "1"}, True), ({"COLUMNS": "80"}, False)], ids=str
)
def test_what_a_script_reads_is_cut_only_on_request(tmp_path: Path, environment: dict[str, str], whole: bool) -> None:
    """A file has no width: a job's id of 100 characters, for example, can be found in it."""
    name = "a" * 100
    asyncio.run(a_term_with(name, tmp_path / "pool"))
    done = as_program("watch", "--once", "--pool", str(tmp_path / "pool"), environment=environment)
    assert (done.returncode, done.stderr) == (0, "")
    assert (name in done.stdout) is whole
    assert "aaaa" in done.stdout
    assert whole or max(len(line) for line in done.stdout.splitlines()) <= 80


async def a_term_with(job_id: str, pool: Path) -> None:
    """A term of a pool that knows a job by this id."""
    election = Election(pool, heartbeat=0.02)
    election.scheduled_job("interval", hours=1, id=job_id)(good)
    async with election:
        await until_async(lambda: election.is_leader)


@pytest.mark.extended
def test_only_jobs_with_a_tag(ended: Path) -> None:
    done = as_program("watch", "--once", "--pool", str(ended), "--tag", "fine")
    assert "good" in done.stdout
    assert "bad" not in done.stdout


@pytest.mark.extended
def test_a_line_for_each_change(pair: WorkerPool) -> None:
    """The documents of ``status --json``, one per line, until the reader ends."""
    pair.start(2)
    leader = pair.leader()
    with subprocess.Popen(
        [sys.executable, "-W", "error", "-m", "election", "watch", "--json", "--pool", str(pair.path)],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            assert process.stdout is not None
            first = json.loads(process.stdout.readline())
            assert (first["state"], first["leader"]["pid"]) == ("led", leader.pid)
            pair.kill_leader()
            said = _until_line(process.stdout, lambda said: said["leader"] and said["leader"]["pid"] != leader.pid)
            assert said["leader"]["term"] == 2
            assert list(said) == list(first)
        finally:
            process.send_signal(signal.SIGTERM)
        process.stdout.close()
        assert process.wait(30) == 0


def _until_line(lines: Any, fact: Any) -> dict[str, Any]:
    """The first document for which ``fact`` is true; each run is a change, so it arrives soon or never."""
    for line in lines:
        said: dict[str, Any] = json.loads(line)
        if fact(said):
            return said
    raise AssertionError("it has ended")


def test_without_rich_it_says_what_to_install(ended: Path, call: Call, monkeypatch: pytest.MonkeyPatch) -> None:
    """Exit code 2; ``--json`` does not need rich."""
    monkeypatch.setitem(sys.modules, "rich.console", None)
    code, out, err = call("watch", ended, "--once")
    assert (code, out) == (2, "")
    assert "pip install 'fastapi-election[cli]'" in err
    assert call("watch", ended, "--once", "--json")[0] == 0


# --- completion ------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def script(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The script for bash."""
    path = tmp_path_factory.mktemp("completion") / "election.bash"
    done = as_program("completion", "bash")
    assert (done.returncode, done.stderr) == (0, "")
    path.write_text(done.stdout)
    return path


@pytest.mark.skipif(shutil.which("bash") is None, reason="needs bash")
@pytest.mark.parametrize(
    ("typed", "offered"),
    [
        ("st", {"status"}),
        ("completion ", {"bash", "zsh", "fish"}),
        ("runs --outcome f", {"failed"}),
        ("watch --o", {"--once"}),
        ("skips --t", {"--tag"}),
        ("status --pool po", {"pool", "pond"}),
    ],
)
def test_bash_completes_commands_options_and_directories(
    script: Path, tmp_path: Path, typed: str, offered: set[str]
) -> None:
    """Completions of bash after TAB; ``--pool`` is a directory, and no file is completed for it."""
    for name in ("pool", "pond"):
        (tmp_path / name).mkdir()
    (tmp_path / "poem").touch()
    asking = """
        source "$1"; shift
        function=$(complete -p election | sed 's/.*-F \\([^ ]*\\).*/\\1/')
        COMP_WORDS=(election "$@"); COMP_CWORD=$#; COMP_LINE="${COMP_WORDS[*]}"; COMP_POINT=${#COMP_LINE}
        $function election "${COMP_WORDS[COMP_CWORD]}" "${COMP_WORDS[COMP_CWORD-1]}"
        printf '%s\\n' "${COMPREPLY[@]}"
    """
    done = subprocess.run(
        ["bash", "-c", asking, "bash", str(script), *typed.split(" ")],
        cwd=tmp_path, capture_output=True, text=True, check=True, timeout=30,
    )  # fmt: skip
    assert set(done.stdout.split()) == offered


@pytest.mark.parametrize("shell", ["zsh", "fish"])
def test_other_shells_have_a_script_too(shell: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["completion", shell]) == 0
    out = capsys.readouterr().out
    for command in ("status", "watch", "doctor", "--pool", "--tag"):
        assert command.lstrip("-") in out


def test_without_shtab_it_says_what_to_install(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "shtab", None)
    assert main(["completion", "bash"]) == 2
    assert "pip install 'fastapi-election[cli]'" in capsys.readouterr().err
