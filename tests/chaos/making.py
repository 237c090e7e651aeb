"""Factory of the history of a healthy pool, which tests then break."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from election.core.term import Reason, Standing
from election.schedule.history import RunRow, TermRow
from election.schedule.model import Outcome

from .facts import Fact, in_order
from .history import SECOND, History, Injected
from .kinds import JOBS
from .poller import Sample

START = datetime(2026, 11, 23, 4, tzinfo=UTC)
START_NS = 5000 * SECOND
LENGTH = 30
"""Seconds of the history."""


@dataclass(frozen=True)
class StoryTerm:
    """A term of the story: its leader, first and last second, and the way it ended; None: its leader died."""

    number: int
    pid: int
    begin: float
    end: float
    standing: Standing | None


TERMS = (
    StoryTerm(1, 101, -1.0, 10.1, None),
    StoryTerm(2, 102, 10.11, 20.1, Standing.RESIGNED),
    StoryTerm(3, 103, 20.12, 24.6, Standing.LOST),
    StoryTerm(4, 101 + 3, 24.62, LENGTH + 1.0, Standing.RESIGNED),
)

ONE, TWO, THREE, FOUR = TERMS

FAULTS = {"kill leader": (10.1, 101), "terminate leader": (19.9, 102), "remove lock": (24.2, None)}
"""Time of each, and the worker that it hit."""


def ns(seconds: float) -> int:
    return START_NS + round(seconds * SECOND)


def at(seconds: float) -> datetime:
    return START + timedelta(seconds=seconds)


def clean(**changes: Any) -> History:
    """Four terms of half a minute; the first leader was killed in the middle of a run."""
    facts: list[Fact] = []
    runs: list[RunRow] = []
    for job, step in JOBS.items():
        for number in range(int(LENGTH / step) + 1):
            _run(job, number * step, facts, runs)
    for told in TERMS:
        beats = range(int((told.end - told.begin) / 0.1))
        facts += [Fact("leading", ns(told.begin + 0.005 + beat * 0.1), told.pid, told.number) for beat in beats]
    values = {
        "facts": in_order(facts),
        "samples": [sample(moment / 10) for moment in range(-5, LENGTH * 10)],
        "faults": [injected(kind) for kind in FAULTS],
        "terms": [row(told) for told in TERMS],
        "runs": runs,
        "skips": [],
        "since": START,
        "until": at(LENGTH),
        "since_ns": START_NS,
        "until_ns": ns(LENGTH),
    }
    return History(**{**values, **changes})


def _run(job: str, due: float, facts: list[Fact], runs: list[RunRow]) -> None:
    """A tick that begins 2 ms after it was due, and the rerun of a run that the death cut off."""
    lasts = 0.4 if job == "in_a_thread" else 0.001
    told = leading(due + 0.002)
    facts.append(fact("begin", job, due, due + 0.002, told))
    attempt, attempts = 1, []
    if due + lasts > told.end:  # its leader died meanwhile
        attempts = [{"attempt": 1, "term": told.number, "ended_at": "", "outcome": "interrupted", "error": ""}]
        told, attempt = TERMS[told.number], 2
        due_again = told.begin + 0.01
        facts.append(fact("begin", job, due, due_again, told, attempt))
        facts.append(fact("end", job, due, due_again + lasts, told, attempt))
    else:
        facts.append(fact("end", job, due, due + 0.002 + lasts, told))
    runs.append(run(len(runs) + 1, job, due, told.number, attempt=attempt, attempts=attempts))


def leading(moment: float) -> StoryTerm:
    return next(told for told in reversed(TERMS) if told.begin <= moment)


def fact(event: str, job: str, due: float, moment: float, told: StoryTerm, attempt: int = 1) -> Fact:
    return Fact(event, ns(moment), told.pid, told.number, job, at(due), attempt)


def run(seq: int, job: str, due: float, term: int, **changes: Any) -> RunRow:
    values = {
        "request": 0,
        "attempt": 1,
        "claimed_at": at(due),
        "ended_at": at(due),
        "outcome": Outcome.SUCCEEDED,
        "error": None,
        "attempts": [],
    }
    return RunRow(seq=seq, job_id=job, due=at(due), term=term, **{**values, **changes})


def row(told: StoryTerm) -> TermRow:
    ended = told.standing is not None
    return TermRow(
        term=told.number,
        pid=told.pid,
        host="here",
        boot_id="this",
        began_at=at(told.begin),
        began_ns=ns(told.begin),
        reason=Reason.STARTED,
        from_pid=None,
        takeover_ms=1.0,
        ended_at=at(told.end) if ended else None,
        ended_ns=ns(told.end) if ended else None,
        standing=told.standing,
    )


def sample(moment: float, **changes: Any) -> Sample:
    """An answer of the leader itself, 3 ms after the question."""
    told = leading(moment)
    values = {"by": told.pid, "role": "leader", "leader": told.pid, "term": told.number, "workers": (told.pid,)}
    if told is not leading(moment + 0.003) or moment + 0.003 > told.end:
        values |= {"role": "follower", "leader": None, "term": None}
    return Sample(ns(moment), ns(moment + 0.003), **{**values, **changes})


def injected(kind: str) -> Injected:
    moment, pid = FAULTS[kind]
    return Injected(kind, ns(moment), ns(moment), pid, leading(moment - 0.001).number, others=3)
