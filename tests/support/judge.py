"""The judge of P1, P2, P3 and P5: one pure function over the facts that the workers of a pool wrote.

``violations(facts) == []`` means that the facts contradict none of the four promises. Each check uses only the facts
that it needs, so that simulated pools, processes and served pools share the judge: a history without claims is not
judged by claims. After hashicorp/raft's ``fuzzy/verifier.go``.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from election.schedule.verify import Violation


@dataclass(frozen=True, slots=True)
class Fact:
    """Something that happened in a pool, at ``at`` on a clock that all of its processes share.

    until: the fact is true of some instant from ``at`` until then; None if the instant is known.

    | event | said by | |
    | --- | --- | --- |
    | ``won``, ``released`` | the seat | every term has them, or none |
    | ``begin``, ``tick``, ``end`` without a job | the work of a term | |
    | ``begin``, ``end`` with a job, its due time and the attempt | job code | |
    | ``crashed`` | the seat | no fact of that worker may follow |
    | ``killed`` | the test, just before | facts of that process may follow until the next term begins |
    | ``term``, ``term over`` | the ledger, of a term's beginning and end | |
    | ``run`` | the ledger | once for each tick that it let run |
    | ``claim`` | the ledger | once for each attempt of a run |
    | ``named`` | any process | that this pid leads the term |
    | any other, with a term | a process that leads | it holds the seat at that time |
    """

    at: float
    pid: int
    event: str
    term: int = 0
    job: str | None = None
    due: Any = None
    attempt: int = 1
    until: float | None = None
    text: str = ""


Excuse = Callable[[Fact], bool]


def violations(facts: Iterable[Fact], *, unrecorded: Excuse | None = None) -> list[Violation]:
    """Return every promise that the facts show to be broken.

    unrecorded: given if the facts include everything in the ledger; returns whether a fact may belong to a term that
    could not be written to it.
    """
    ordered = in_order(facts)
    found = [violation for check in CHECKS for violation in check(ordered)]
    if unrecorded is not None:
        found += [*check_claimed(ordered), *check_recorded_terms(ordered, unrecorded)]
    return found


def in_order(facts: Iterable[Fact]) -> list[Fact]:
    """Oldest first; facts of the same instant keep their order."""
    return sorted(facts, key=lambda fact: fact.at)


# --- the time of a term ----------------------------------------------------------------------------------------------

HEARSAY = {"killed", "named", "run", "claim"}
"""Events that do not prove that the term was led at that time."""


@dataclass(slots=True)
class Span:
    """Certain time of a term in the seat: held at or before ``begun``, and at or after ``over``.

    A single fact between two instants gives ``begun`` later than ``over``: the seat was held at some time between them.
    """

    begun: float
    over: float


def spans(facts: Iterable[Fact]) -> dict[int, Span]:
    """Certain time of each term, in the order of the terms."""
    found: dict[int, Span] = {}
    for fact in facts:
        if fact.term and fact.event not in HEARSAY:
            latest = fact.at if fact.until is None else fact.until
            span = found.setdefault(fact.term, Span(latest, fact.at))
            span.begun, span.over = min(span.begun, latest), max(span.over, fact.at)
    return dict(sorted(found.items()))


def check_one_leader(facts: Sequence[Fact]) -> Iterator[Violation]:
    """P1, P2: the certain time of each term ends before that of the next begins."""
    latest: tuple[int, float] | None = None
    for term, span in spans(facts).items():
        if latest is not None and latest[1] > span.begun:
            yield Violation("P1", f"term {latest[0]} was led until {latest[1]}, and term {term} from {span.begun}")
        if latest is None or span.over > latest[1]:
            latest = term, span.over


def check_one_pid_a_term(facts: Sequence[Fact]) -> Iterator[Violation]:
    """P2: no two processes use the same number."""
    pids: dict[int, set[int]] = {}
    for fact in facts:
        if fact.term and fact.event not in {"killed", "run", "claim"}:
            pids.setdefault(fact.term, set()).add(fact.pid)
    for term, leaders in pids.items():
        if len(leaders) > 1:
            yield Violation("P2", f"term {term} was led by pids {', '.join(map(str, sorted(leaders)))}")


# --- the seat and the work, event by event ---------------------------------------------------------------------------


def check_seat(facts: Sequence[Fact]) -> Iterator[Violation]:
    """P1, P2, P5: the seat is won when it is free, by growing numbers, and released when the work has ended.

    A worker whose release failed may win the seat again that it never released.
    """
    holder: tuple[int, int] | None = None  # pid, term
    working: set[int] = set()
    last = 0
    if not any(fact.event == "won" for fact in facts):
        return
    for fact in facts:
        this = (fact.pid, fact.term)
        match fact.event:
            case "won":
                if holder is not None and (holder[0] != fact.pid or working):
                    yield Violation("P1", f"{this} won while {holder} held the seat, at {fact.at}")
                if fact.term <= last:
                    yield Violation("P2", f"{this} won after term {last}, at {fact.at}")
                holder, last = this, max(last, fact.term)
            case "released":
                if working or holder != this:
                    yield Violation("P5", f"{this} released while {holder} held and {working} worked, at {fact.at}")
                holder = None
            case "begin" if fact.job is None:
                if holder != this:
                    yield Violation("P5", f"work of {this} began while {holder} held the seat, at {fact.at}")
                working.add(fact.pid)
            case "end" if fact.job is None:
                working.discard(fact.pid)
            case "crashed" | "killed":
                working.discard(fact.pid)
                if holder is not None and holder[0] == fact.pid:
                    holder = None


def check_work(facts: Sequence[Fact]) -> Iterator[Violation]:
    """P1, P2, P5: one term works at a time, by growing numbers, and no work happens outside of a term."""
    working: dict[int, int] = {}  # pid, term
    dying: dict[int, int] = {}
    last = 0
    for fact in facts:
        if fact.job is not None:
            continue
        if fact.event == "begin":
            if working:
                yield Violation("P1", f"term {fact.term} of {fact.pid} began while {working} worked, at {fact.at}")
            if fact.term <= last:
                yield Violation("P2", f"work of term {fact.term} began after term {last}, at {fact.at}")
            working[fact.pid], last = fact.term, max(last, fact.term)
            dying.clear()  # killed processes are dead now
        elif fact.event in {"tick", "end"} and fact.term not in {working.get(fact.pid), dying.get(fact.pid)}:
            text = f"{fact.event} of term {fact.term} in {fact.pid} while {working} worked, at {fact.at}"
            yield Violation("P5", text)
        if fact.event == "end":
            working.pop(fact.pid, None)
        elif fact.event == "killed" and fact.pid in working:
            dying[fact.pid] = working.pop(fact.pid)
        elif fact.event == "crashed":
            working.pop(fact.pid, None)


# --- job code --------------------------------------------------------------------------------------------------------


def check_once(facts: Sequence[Fact]) -> Iterator[Violation]:
    """P3: job code begins once for each attempt of a tick, and the ledger lets each tick run once."""
    begins = [fact for fact in facts if fact.event == "begin" and fact.job is not None]
    for (job, due, attempt), times in Counter((fact.job, fact.due, fact.attempt) for fact in begins).items():
        if times > 1:
            yield of_tick("P3", f"attempt {attempt} began {times} times", job, due)
    for (job, due), times in Counter((fact.job, fact.due) for fact in facts if fact.event == "run").items():
        if times > 1:
            yield of_tick("P3", f"claimed {times} times", job, due)


def check_claimed(facts: Sequence[Fact]) -> Iterator[Violation]:
    """P3: job code begins only with a claim of its attempt in its term."""
    claims = {(fact.job, fact.due, fact.attempt, fact.term) for fact in facts if fact.event == "claim"}
    for fact in facts:
        this = (fact.job, fact.due, fact.attempt, fact.term)
        if fact.event == "begin" and fact.job is not None and this not in claims:
            text = f"attempt {fact.attempt} of term {fact.term} began, and the ledger does not know of it"
            yield of_tick("P3", text, fact.job, fact.due)


# --- the ledger's terms ----------------------------------------------------------------------------------------------


def check_recorded_order(facts: Sequence[Fact]) -> Iterator[Violation]:
    """P2: a term with a larger number begins later."""
    recorded = sorted((fact for fact in facts if fact.event == "term"), key=lambda fact: fact.term)
    for before, after in pairwise(recorded):
        if after.term == before.term or after.at <= before.at:
            yield Violation("P2", f"term {after.term} began before term {before.term}, or as the same")


def check_recorded_terms(facts: Sequence[Fact], unrecorded: Excuse) -> Iterator[Violation]:
    """P5: code runs only between the beginning and the end of its term in the ledger."""
    begun = {fact.term: fact.at for fact in facts if fact.event == "term"}
    ended = {fact.term: fact.at for fact in facts if fact.event == "term over"}
    for fact in facts:
        if not fact.term or fact.until is not None or fact.event in {*HEARSAY, "term", "term over"}:
            continue
        if fact.term not in begun:
            if not unrecorded(fact):
                yield of_tick("P5", f"{fact.event} in term {fact.term}, which never began", fact.job, fact.due)
        elif fact.at < begun[fact.term]:
            yield of_tick("P5", f"{fact.event} before term {fact.term} began", fact.job, fact.due)
        elif fact.at > ended.get(fact.term, float("inf")):
            yield of_tick("P5", f"{fact.event} after term {fact.term} had ended", fact.job, fact.due)


CHECKS = (check_one_leader, check_one_pid_a_term, check_seat, check_work, check_once, check_recorded_order)


def of_tick(promise: str, text: str, job: str | None, due: Any) -> Violation:
    """Describe a violation, with the tick concerned if there is one."""
    return Violation(promise, text, job, () if due is None else (due,))
