"""Result of a run: a document for machines, and text for people."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from typing import Any

from election.schedule.verify import Violation

from .history import SECOND, History
from .vacancy import percentiles

TOLD = 12
"""Maximum number of ticks listed per violation."""


def report(history: History, violations: Sequence[Violation], **info: Any) -> dict[str, Any]:
    """about: seed, seconds and workers."""
    answers = sorted((each.answered - each.asked) / 1e6 for each in history.samples if each.by is not None)
    return {
        **info,
        "verdict": "red" if violations else "green",
        "violations": [_without_objects(violation) for violation in violations],
        "faults": [
            {**asdict(fault), "at": _moment(fault.at, history), "until": _moment(fault.until, history)}
            for fault in history.faults
        ],
        "kinds": percentiles(history),
        "terms": len(history.terms),
        "runs": dict(Counter(str(run.outcome) for run in history.runs)),
        "skips": dict(Counter(str(skip.reason) for skip in history.skips)),
        "facts": len(history.facts),
        "answers": len(answers),
        "unanswered": len(history.samples) - len(answers),
        "answer_ms": {
            name: round(answers[min(int(share * len(answers)), len(answers) - 1)], 1)
            for name, share in (("p50", 0.5), ("p99", 0.99), ("max", 1.0))
            if answers
        },
    }


def words(found: dict[str, Any]) -> Iterator[str]:
    """The report in lines: the faults by kind with their percentiles, then the checked data, then the verdict."""
    yield f"{'fault':24} {'times':>5}   vacancy ms: p50     p90     max   longest silence ms"
    for kind, numbers in found["kinds"].items():
        vacancy, silence = numbers["vacancy_ms"], numbers["silence_ms"]
        spread = "".join(f"{vacancy[name]:8.1f}" for name in ("p50", "p90", "max")) if vacancy else f"{'-':>8}" * 3
        yield f"{kind:24} {numbers['times']:5}   {'':8}{spread}   {silence['max']:18.1f}"
    missed = sum(1 for fault in found["faults"] if fault["missed"])
    yield (
        f"{len(found['faults']) - missed} faults ({missed} missed), {found['terms']} terms, runs {found['runs']},"
        f" skips {found['skips']}, {found['facts']} facts, {found['answers']} answers of /leader"
        f" ({found['unanswered']} times none) in {found['answer_ms']} ms"
    )
    for violation in found["violations"]:
        job = f" {violation['job_id']}:" if violation["job_id"] else ""
        more = f" and {len(violation['ticks']) - TOLD} more" if len(violation["ticks"]) > TOLD else ""
        ticks = f" ({', '.join(violation['ticks'][:TOLD])}{more})" if violation["ticks"] else ""
        yield f"{violation['promise']} broken:{job} {violation['text']}{ticks}"
    count = len(found["violations"])
    yield f"RED: {count} violations" if count else "GREEN: P1 to P6 held, and no process was left behind"


def _without_objects(violation: Violation) -> dict[str, Any]:
    return {**asdict(violation), "ticks": [due.isoformat() for due in violation.ticks]}


def _moment(at: int, history: History) -> float:
    return round((at - history.since_ns) / SECOND, 3)
