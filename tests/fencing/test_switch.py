"""The dead man's switch, in separate processes, since it ends them."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

AFTER = 4.5
"""Seconds: longer than a busy machine delays a healthy loop."""

PROLOGUE = f"""
import asyncio, faulthandler, logging, os, sys, time
logging.basicConfig(stream=sys.stdout, format="%(message)s", force=True)
from election.fencing.switch import DeadMansSwitch

async def well(seconds):
    await asyncio.sleep(seconds)

async def hang():
    time.sleep(60)

switch = DeadMansSwitch({AFTER}, every={AFTER} / 4, hang_trace=sys.argv[1])

async def main():
    async with switch.armed():
        await within()
    await afterwards()

async def within(): await well({AFTER} * 2)
async def afterwards(): pass
"""

EPILOGUE = """
asyncio.run(main())
print("in good order")
"""


def run(path: Path, code: str) -> tuple[int, str]:
    """Exit code, and the hang trace or the output."""
    command = [sys.executable, "-c", PROLOGUE + code + EPILOGUE, str(path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.stderr == ""
    return done.returncode, done.stdout


@pytest.mark.extended
def test_a_loop_that_lives_presses_it(tmp_path: Path) -> None:
    path = tmp_path / "leader.stack"
    assert run(path, "") == (0, "in good order\n")
    assert path.read_bytes() == b""


def test_a_loop_that_hangs_ends_the_process_and_says_where(tmp_path: Path) -> None:
    path = tmp_path / "leader.stack"
    assert run(path, "within = hang") == (1, "")
    assert "in hang" in path.read_text()
    assert path.stat().st_mode & 0o777 == 0o600


@pytest.mark.extended
def test_what_was_said_before_is_gone(tmp_path: Path) -> None:
    path = tmp_path / "leader.stack"
    path.write_text("of an earlier term")
    run(path, "")
    assert path.read_bytes() == b""


@pytest.mark.extended
def test_after_a_term_nothing_is_armed(tmp_path: Path) -> None:
    """A follower may hang as long as it likes."""
    assert run(tmp_path / "stack", f"async def afterwards(): time.sleep({AFTER} * 2)") == (0, "in good order\n")


@pytest.mark.extended
def test_last_words_that_cannot_be_written_go_to_standard_error(tmp_path: Path) -> None:
    command = [sys.executable, "-c", PROLOGUE + "within = hang" + EPILOGUE, str(tmp_path / "nowhere" / "stack")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 1
    assert "in hang" in done.stderr
    assert "cannot be opened for the traceback of a hang" in done.stdout


@pytest.mark.extended
@pytest.mark.parametrize("when", ["before the term", "within the term"])
def test_it_gives_way_to_another_use_of_faulthandler(tmp_path: Path, when: str) -> None:
    """The only timer belongs to the code that requested it: its time is kept, and the end of the term does not
    cancel it.
    """
    others = "faulthandler.dump_traceback_later(60, file=2)"
    code = f"""
async def within():
    {others if when == "within the term" else "pass"}
    await well({AFTER} / 2)  # so that the next press is seen to be left out
    time.sleep({AFTER} * 1.5)
async def afterwards():
    faulthandler.cancel_dump_traceback_later()
{others if when == "before the term" else ""}
"""
    code, said = run(tmp_path / "stack", code)
    assert (code, said.splitlines()[-1]) == (0, "in good order")
    assert said.count("something else uses faulthandler's timer") == 1


@pytest.mark.extended
def test_it_takes_over_when_the_other_use_is_over(tmp_path: Path) -> None:
    code = f"""
async def within():
    faulthandler.dump_traceback_later(60, file=2)
    await well({AFTER} / 2)
    faulthandler.cancel_dump_traceback_later()
    await well({AFTER} / 2)
    await hang()
"""
    path = tmp_path / "stack"
    assert run(path, code)[0] == 1
    assert "in hang" in path.read_text()


@pytest.mark.extended
def test_at_a_limit_of_threads_it_is_armed_again_when_that_has_passed(tmp_path: Path) -> None:
    """Each setting of the timer starts a thread; one that failed was the last one of its term."""
    path = tmp_path / "leader.stack"
    code = """
from election.fencing import switch as module
arm, calls = module._Others.arm, []

def fails_once(*arguments, **more):
    calls.append(1)
    if len(calls) == 2:
        raise RuntimeError("unable to start watchdog thread")
    arm(*arguments, **more)

module._Others.arm = fails_once

async def within():
    while len(calls) < 4:
        await well(0.05)
    await hang()
"""
    timer = "faulthandler's timer cannot be set (unable to start watchdog thread)"
    said = f"{timer}: if this leader hangs, only its followers"
    assert run(path, code) == (1, f"{said} end it\n")
    assert "in hang" in path.read_text()
