"""Violations planted into a clean history, which the judge must find, and legitimate changes, which it must accept.

``BREAKS`` names for each the promise that it breaks.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from election.core.term import Standing
from election.schedule.history import RunRow, SkipRow
from election.schedule.model import Outcome, SkipReason
from election.schedule.verify import Violation

from .facts import Fact, in_order
from .history import SECOND, History, Injected
from .making import FOUR, LENGTH, ONE, THREE, TWO, at, fact, injected, ns, run, sample
from .poller import Sample
from .standstills import Standstill

Break = Callable[[History], History]


def _facts(history: History, *more: Fact, without: Callable[[Fact], bool] = lambda _: False) -> History:
    return replace(history, facts=in_order([*(each for each in history.facts if not without(each)), *more]))


def _runs(history: History, change: Callable[[RunRow], RunRow | None]) -> History:
    return replace(history, runs=[changed for each in history.runs if (changed := change(each)) is not None])


def _samples(history: History, *more: Sample) -> History:
    return replace(history, samples=sorted([*history.samples, *more], key=lambda each: each.asked))


def _terms(history: History, number: int, **changes: object) -> History:
    terms = [replace(each, **changes) if each.term == number else each for each in history.terms]
    return replace(history, terms=terms)


def _of(job: str, due: float) -> Callable[[RunRow | Fact], bool]:
    return lambda each: (each.job_id if isinstance(each, RunRow) else each.job, each.due) == (job, at(due))


def _skip(due: float, reason: SkipReason) -> SkipRow:
    return SkipRow(1, "each_second", at(due), at(due), 1, reason, 1, at(due))


def _instead(due: float, reason: SkipReason) -> Break:
    """The tick is skipped with that reason, and not run."""

    def change(history: History) -> History:
        tick = _of("each_second", due)
        without = _facts(_runs(history, lambda each: None if tick(each) else each), without=tick)
        return replace(without, skips=[_skip(due, reason)])

    return change


def _outcome(job: str, due: float, outcome: Outcome | None) -> Break:
    tick = _of(job, due)
    return lambda history: _runs(history, lambda each: replace(each, outcome=outcome) if tick(each) else each)


def _quiet(since: float, until: float) -> Break:
    """Nothing runs for a while, and the ledger explains it all: only P6 is broken."""

    def change(history: History) -> History:
        def within(each: RunRow | Fact) -> bool:
            return each.due is not None and at(since) < each.due < at(until)

        jobs = sorted({each.job_id for each in history.runs})
        skips = [
            SkipRow(seq, job, at(since), at(until), None, SkipReason.COALESCED, 1, at(until))
            for seq, job in enumerate(jobs, 1)
        ]
        return replace(_facts(_runs(history, lambda each: None if within(each) else each), without=within), skips=skips)

    return change


def _slow_takeover(history: History, *, others: int) -> History:
    """The second term begins only after four seconds, in which ``others`` workers could have taken over."""
    history = _facts(_quiet(10.1, 14.5)(history), without=lambda each: each.term == TWO.number and each.at < ns(14))
    cut_off = _of("in_a_thread", 10)
    history = _runs(
        history,
        lambda each: run(each.seq, each.job_id, 10, 1, outcome=Outcome.INTERRUPTED) if cut_off(each) else each,
    )
    return replace(
        _terms(history, TWO.number, began_ns=ns(14)),
        samples=[each for each in history.samples if not ns(10) < each.asked < ns(14)],
        faults=[replace(each, others=others) if each.kind == "kill leader" else each for each in history.faults],
    )


def _of_nothing(history: History) -> History:
    """The first leader dies without having been killed."""
    return replace(history, faults=[each for each in history.faults if each.kind != "kill leader"])


def _frozen(history: History, since: float, until: float) -> History:
    return replace(history, faults=[*history.faults, Injected("freeze disk", ns(since), ns(until))])


EARLIER = sample(15.05, by=FOUR.pid, role="follower", leader=ONE.pid, term=ONE.number)

BREAKS: dict[str, tuple[str, Break]] = {
    "job code of the former term goes on": (
        "P1",
        lambda history: _facts(history, Fact("leading", ns(12), ONE.pid, ONE.number)),
    ),
    "two terms overlap by a millisecond": (
        "P1",
        lambda history: _terms(history, THREE.number, began_ns=ns(TWO.end) - SECOND // 1000),
    ),
    "a worker says that it leads in the middle of another's term": (
        "P1",
        lambda history: _samples(history, sample(15.05, by=ONE.pid, leader=None, term=None)),
    ),
    "a worker says that it leads, and its record names another": (
        "P1",
        lambda history: _samples(history, sample(15.05, by=ONE.pid)),
    ),
    "the former leader says again that it leads its term": (
        "P1",
        lambda history: _samples(history, sample(15.05, by=ONE.pid, leader=ONE.pid, term=ONE.number)),
    ),
    "two processes lead one term": ("P2", lambda history: _terms(history, 2, pid=999)),
    "a term number is used again": (
        "P2",
        lambda history: replace(history, terms=[*history.terms[:3], replace(history.terms[3], term=3)]),
    ),
    "an earlier term is told again": (
        "P2",
        lambda history: _samples(history, EARLIER),
    ),
    "an earlier term is told after the frozen disk has gone on": (
        "P2",
        lambda history: _frozen(_samples(history, EARLIER), 11, 13.5),
    ),
    "an earlier term is told long after the disk kept the worker waiting": (
        "P2",
        lambda history: _samples(
            history, replace(EARLIER, asked=ns(13.8), answered=ns(13.9), term=TWO.number), EARLIER
        ),
    ),
    "terms begin in the wrong order": ("P2", lambda history: _terms(history, 2, began_ns=ns(-2))),
    "a tick runs twice": (
        "P3",
        lambda history: _facts(history, fact("begin", "each_second", 5, 5.5, ONE)),
    ),
    "a tick runs again in the next term, unclaimed": (
        "P3",
        lambda history: _facts(history, fact("begin", "each_second", 9, 10.5, TWO)),
    ),
    "a tick is claimed twice": (
        "P3",
        lambda history: replace(history, runs=[*history.runs, run(9999, "each_second", 5, 1)]),
    ),
    "job code runs of which the ledger does not know": (
        "P3",
        lambda history: _facts(history, fact("begin", "each_second", 5.5, 5.5, ONE)),
    ),
    "a tick disappears": (
        "P4",
        lambda history: _facts(
            _runs(history, lambda each: None if _of("each_second", 5)(each) else each), without=_of("each_second", 5)
        ),
    ),
    "the last ticks are never looked at again": (
        "P4",
        lambda history: _runs(history, lambda each: None if each.due > at(LENGTH - 1) else each),
    ),
    "a tick is skipped as paused": ("P4", _instead(5, SkipReason.PAUSED)),
    "a run succeeded that nobody saw": (
        "P4",
        lambda history: _facts(history, without=_of("each_second", 5)),
    ),
    "a run succeeded that was not seen to end": (
        "P4",
        lambda history: _facts(history, without=lambda each: each.event == "end" and _of("each_second", 5)(each)),
    ),
    "a run ended that never began": (
        "P4",
        lambda history: _facts(history, without=lambda each: each.event == "begin" and _of("each_second", 5)(each)),
    ),
    "a run failed": ("P4", _outcome("each_second", 5, Outcome.FAILED)),
    "a run was left open": ("P4", _outcome("each_second", 5, None)),
    "the ledger's own judge found something": (
        "P4",
        lambda history: replace(history, verified=[Violation("P4", "neither run nor skipped")]),
    ),
    "a job never ran": (
        "P4",
        lambda history: _facts(history, without=lambda each: each.job == "in_a_thread"),
    ),
    "a drain cut off a run": ("P5", _outcome("each_second", 15, Outcome.INTERRUPTED)),
    "job code before the term": (
        "P5",
        lambda history: _facts(history, Fact("leading", ns(10.109), TWO.pid, TWO.number)),
    ),
    "job code after the end of the term": (
        "P5",
        lambda history: _facts(history, Fact("end", ns(20.11), TWO.pid, TWO.number, "each_second", at(20), 1)),
    ),
    "job code in a term that never began": (
        "P5",
        lambda history: _facts(history, Fact("leading", ns(31.5), FOUR.pid, 5)),
    ),
    "a long vacancy": ("P6", lambda history: _terms(history, 2, began_ns=ns(13), ended_ns=ns(20.1))),
    "a vacancy though there were others": ("P6", lambda history: _slow_takeover(history, others=3)),
    "nobody comes after": (
        "P6",
        lambda history: replace(
            history, faults=[*history.faults, replace(injected("kill leader"), at=ns(28), until=ns(28))]
        ),
    ),
    "a silence that nothing explains": ("P6", _quiet(3, 7)),
    "a silence longer than the fault explains": ("P6", _quiet(10.5, 19)),
    "a leader dies of nothing": ("P6", _of_nothing),
    "a leader dies after a standstill that was too short": (
        "P6",
        lambda history: replace(_of_nothing(history), standstills=[Standstill(ns(8.6), ns(10.09))]),
    ),
    "a leader dies long after a standstill": (
        "P6",
        lambda history: replace(_of_nothing(history), standstills=[Standstill(ns(2), ns(4.5))]),
    ),
    "a leader resigns for nothing": (
        "P6",
        lambda history: replace(history, faults=[each for each in history.faults if each.kind != "terminate leader"]),
    ),
    "a term is lost for nothing": (
        "P6",
        lambda history: replace(history, faults=[each for each in history.faults if each.kind != "remove lock"]),
    ),
    "a term is lost where its leader was killed": ("P6", lambda history: _terms(history, 1, standing=Standing.LOST)),
    "no leader ever answers": (
        "P8",
        lambda history: replace(history, samples=[replace(each, role="follower") for each in history.samples]),
    ),
    "the pool does not recover": ("P6", lambda history: replace(history, trouble=["not within 60 s: 6 workers"])),
    "a copy of the pool does not say that it is one": (
        "P8",
        lambda history: replace(history, unnoticed=["a worker on a copy of the pool did not say so"]),
    ),
    "a process is left": ("left", lambda history: replace(history, left=["psutil.Process(pid=1)"])),
    "a traceback in the log": ("log", lambda history: replace(history, tracebacks=1)),
}


HARMLESS: dict[str, Break] = {
    "a run that its leader's death cut off before the first line of its code": lambda history: _facts(
        _outcome("each_second", 10, Outcome.INTERRUPTED)(history), without=_of("each_second", 10)
    ),
    "a run that ended, and whose leader died before it could say so": _outcome("each_second", 10, Outcome.INTERRUPTED),
    "a tick that was coalesced": _instead(5, SkipReason.COALESCED),
    "a worker that answers from memory for as long as the disk is frozen": lambda history: _frozen(
        _samples(history, EARLIER), 13, 15.1
    ),
    "a question that was answered after the next leader had begun": lambda history: _samples(
        history,
        replace(sample(10.0), answered=ns(11)),
    ),
    "a silence while the leader was stopped": lambda history: replace(
        _quiet(3, 7)(history),
        faults=[Injected("stop leader", ns(3.1), ns(5.6), ONE.pid, ONE.number, 3), *history.faults],
    ),
    "a silence while the machine stood still": lambda history: replace(
        _quiet(3, 7)(history),
        standstills=[Standstill(ns(3.1), ns(7))],
    ),
    "a leader that its own switch ended when the machine went on": lambda history: replace(
        _of_nothing(history), standstills=[Standstill(ns(7.6), ns(10.09))]
    ),
    "an earlier term, told by a worker that the disk kept waiting": lambda history: _samples(
        history, replace(EARLIER, asked=ns(14.95), answered=EARLIER.asked), EARLIER
    ),
    "a vacancy without anybody to take over": lambda history: _slow_takeover(history, others=0),
    "a worker that does not answer": lambda history: _samples(history, Sample(ns(5.01), ns(6.01))),
    "a fault that came too late": lambda history: replace(
        history, faults=[*history.faults, Injected("kill leader", ns(28), ns(28), missed="too late")]
    ),
}
