"""Frames of ``watch``: they fit the terminal whatever the content, and mark left-out parts."""

from __future__ import annotations

import io
import re
from datetime import UTC, datetime, timedelta

import pytest
from rich.console import Console

from election.cli.frame import duration, frame
from election.cli.pool_status import JobStatus, PoolStatus, RecentHistory
from election.core.term import LeaderRecord, Reason, Standing, Takeover
from election.schedule.history import RunRow, SkipRow, TermRow
from election.schedule.model import Outcome, SkipReason
from tests.schedule.making import NOW, at, process

RECORD = LeaderRecord(7, process(), "8:1", NOW, Takeover(7, 99, 100, Reason.DIED, NOW, 4.1))


def job(number: int, **known: object) -> JobStatus:
    values = {
        "id": f"app.jobs.of.a.long.module:job_{number}", "name": f"job {number}",
        "description": "What it is for.\nMore.",
        "tags": ("billing", "nightly"), "trigger": "cron", "next_run_time": at(60), "paused": False, "retired": False,
        "removed": False,
        "broken": None, "last_due": NOW, "last_outcome": "succeeded", "last_late_ms": 1.5,
        "running": 0, "running_since": None,
    }  # fmt: skip
    return JobStatus(**{**values, **known})  # type: ignore[arg-type]


def glance(jobs: int, trouble: str | None = None) -> PoolStatus:
    found = tuple(job(number) for number in range(jobs))
    return PoolStatus("file", "/srv/app/var/pool", RECORD, True, 0.1, True, (), found, trouble, None)


def past(entries: int) -> RecentHistory:
    return RecentHistory(
        tuple(
            RunRow(n, "job", at(n), 0, 7, 1, at(n), None, Outcome.FAILED, "ValueError: " + "x" * 200, [])
            for n in range(entries, 0, -1)
        ),
        tuple(SkipRow(n, "job", at(n), at(n), 3, SkipReason.OVERLAP, 7, at(n + 0.5)) for n in range(entries, 0, -1)),
        tuple(
            TermRow(n, 100, "vm", "boot", at(n), n, Reason.DIED, 99, 4.1, at(n + 1), n + 1, Standing.RESIGNED)
            for n in range(entries, 0, -1)
        ),
    )


def drawn(glance: PoolStatus, past: RecentHistory, width: int, height: int | None) -> list[str]:
    console = Console(file=io.StringIO(), width=width, color_system=None)
    console.print(frame(glance, past, width, height))
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue().splitlines()


@pytest.mark.parametrize("height", [18, 24, 50])
@pytest.mark.parametrize("jobs", [0, 1, 5, 6, 30, 200])
@pytest.mark.parametrize("entries", [0, 1, 20])
@pytest.mark.parametrize("trouble", [None, "the ledger is full; free some space\non its disk"])
def test_it_fits_and_says_what_was_left_out(height: int, jobs: int, entries: int, trouble: str | None) -> None:
    lines = drawn(glance(jobs, trouble), past(entries), 80, height)
    assert len(lines) <= height
    assert max(len(line.rstrip()) for line in lines) <= 80
    shown = sum("app.j" in line for line in lines)
    left_out = [line for line in lines if "more jobs" in line]
    assert left_out == ([] if shown == jobs else [f"… and {jobs - shown} more jobs"])
    assert not entries or any("ValueError" in line or "skipped: overlap x3" in line for line in lines)
    assert not entries or any("died" in line for line in lines)


@pytest.mark.parametrize("width", [40, 60, 80, 109, 110, 200])
def test_the_width_is_shared_so_that_times_are_whole(width: int) -> None:
    """Content that people can guess is shortened first."""
    text = "\n".join(drawn(glance(3), past(2), width, None))
    assert max(len(line.rstrip()) for line in text.splitlines()) <= max(width, 59)
    assert width < 60 or "succeeded" in text
    assert ("What it is for." in text) == (width >= 110)


@pytest.mark.parametrize(
    ("known", "words"),
    [
        ({"paused": True}, "paused"),
        ({"broken": "no module"}, "broken"),
        ({"retired": True, "broken": "not in this code"}, "gone"),
        ({"removed": True}, "gone"),
        ({"next_run_time": at(-60)}, "owed"),
        ({"next_run_time": None}, "-"),
    ],
)
def test_a_job_that_does_not_run_next_says_why(known: dict[str, object], words: str) -> None:
    seen = PoolStatus("file", "/p", None, False, None, False, (), (job(1, **known),), None, None)
    [line] = [line for line in drawn(seen, RecentHistory(), 80, None) if "app.j" in line]
    assert words in line.split()


@pytest.mark.parametrize(
    ("ago", "shown"),
    [(timedelta(hours=23, minutes=59), "%H:%M:%S"), (timedelta(hours=24, minutes=1), "%m-%d %H:%M")],
    ids=["a_day", "longer"],
)
def test_midnight_takes_no_second_from_a_time(ago: timedelta, shown: str) -> None:
    """A time of the last 24 hours is told without the day, also when the day is another by now."""
    began = datetime.now(UTC) - ago
    term = TermRow(7, 100, "vm", "boot", began, 1, Reason.DIED, 99, 4.1, None, None, None)
    [line] = [line for line in drawn(glance(0), RecentHistory((), (), (term,)), 80, None) if " 99 " in line]
    assert re.split(r" {2,}", line.strip())[:2] == ["7", f"{began.astimezone():{shown}}"]


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(-1, "0 s"), (0.9, "0 s"), (59, "59 s"), (61, "1 min 1 s"), (7260, "2 h 1 min"), (90_000, "1 d 1 h")],
)
def test_a_time_is_told_in_two_units(seconds: float, words: str) -> None:
    assert duration(timedelta(seconds=seconds)) == words
