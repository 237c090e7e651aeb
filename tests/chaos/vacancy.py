"""P6 from outside: time from each fault to the next term, and the longest time without the begin of a job."""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import Any

from election.schedule.verify import Violation

from .history import SECOND, History, Injected
from .kinds import Ends, Hits

QUIET = 1.5
"""Seconds without the begin of any job that need no explanation: six ticks of the most frequent one."""


def vacancy(fault: Injected, history: History) -> float | None:
    """Seconds from the fault to the beginning of the term that follows the one it ended; from the end of that one
    for a fault that ends terms later, such as replacing one worker after the other.

    None if it ended none, or if another fault that may end one came before the pool had recovered: then that one is
    measured.
    """
    following = next((row for row in history.terms if row.began_ns > fault.at), None)
    if following is None or fault.term is None or following.term <= fault.term or not _may_have_ended(fault, history):
        return None
    between = (other for other in history.happened if fault.at < other.at < following.began_ns)
    if any(_may_have_ended(other, history) for other in between):
        return None
    ended = next((row.ended_ns for row in history.terms if row.term == fault.term), None)
    later = fault.of.hits is Hits.POOL and Ends.RESIGNED in fault.of.ends
    return (following.began_ns - (ended if later and ended is not None else fault.at)) / SECOND


def silence(fault: Injected, history: History) -> float:
    """Longest time without a begin of any job, from the fault until it was over or the next one came."""
    others = [other.at for other in history.happened if other.at > fault.at]
    end = min([*others, fault.until + int((QUIET + fault.allowance) * SECOND), history.until_ns])
    begins = [fact.at for fact in history.facts if fact.event == "begin"]
    before, after = bisect_left(begins, fault.at), bisect_left(begins, end)
    inside = begins[max(before - 1, 0) : after + 1]
    return max((later - earlier for earlier, later in pairwise(inside)), default=end - fault.at) / SECOND


def check_vacancies(history: History) -> Iterator[Violation]:
    """P6: the pool recovers from each fault within its limit, and no silence is longer than the faults around it
    allow.
    """
    for fault in history.happened:
        took = vacancy(fault, history)
        if fault.of.replaces and not any(row.began_ns > fault.at for row in history.terms):
            yield Violation("P6", f"after {fault.kind} at {_moment(fault.at, history)} no term began any more")
        elif took is not None and took > (allowed := _allowed(fault.at, fault.at + int(took * SECOND), history)):
            text = f"after {fault.kind} at {_moment(fault.at, history)} the next term began"
            yield Violation("P6", f"{text} only {took:.3f} s later; at most {allowed:.1f} s is expected")
    begins = [fact.at for fact in history.facts if fact.event == "begin" and fact.at < history.until_ns]
    for one, other in pairwise([history.since_ns, *(at for at in begins if at > history.since_ns), history.until_ns]):
        lasted = (other - one) / SECOND
        if lasted > QUIET and lasted > (allowed := QUIET + _allowed(one, other, history)):
            text = f"no job began for {lasted:.3f} s from {_moment(one, history)} on"
            yield Violation("P6", f"{text}; the faults explain {allowed:.1f} s")


def percentiles(history: History) -> dict[str, dict[str, Any]]:
    """For each kind of fault its count and, in milliseconds, its vacancies and silences."""
    found: dict[str, dict[str, Any]] = {}
    for kind in sorted({fault.kind for fault in history.happened}):
        faults = [fault for fault in history.happened if fault.kind == kind]
        vacancies = [took for fault in faults if (took := vacancy(fault, history)) is not None]
        found[kind] = {
            "times": len(faults),
            "vacancy_ms": _spread(vacancies),
            "silence_ms": _spread([silence(fault, history) for fault in faults]),
        }
    return found


def _spread(seconds: Sequence[float]) -> dict[str, float] | None:
    """p50, p90 and max in milliseconds, by the nearest rank; None without a value."""
    if not seconds:
        return None
    ordered = sorted(seconds)
    at = {"p50": math.ceil(0.5 * len(ordered)) - 1, "p90": math.ceil(0.9 * len(ordered)) - 1, "max": -1}
    return {"of": len(ordered), **{name: round(ordered[place] * 1000, 1) for name, place in at.items()}}


def _may_have_ended(fault: Injected, history: History) -> bool:
    """Whether the fault may have ended the term that was led when it came."""
    row = next((row for row in history.terms if row.term == fault.term), None)
    deadly = bool(fault.of.ends) or fault.may_be_fenced
    whom = row is None or fault.pid in {None, row.pid}
    return deadly and whom and (row is None or row.ended_ns is None or row.ended_ns > fault.at)


def _allowed(begin: int, end: int, history: History) -> float:
    """Seconds that the faults, and a machine that was late for everybody, explain between two times."""
    faults = sum(fault.allowance for fault in history.happened if fault.tells_within(begin, end))
    return faults + sum(each.within(begin, end) for each in history.standstills) / SECOND


def _moment(at: int, history: History) -> str:
    return f"{(at - history.since_ns) / SECOND:.2f} s"
