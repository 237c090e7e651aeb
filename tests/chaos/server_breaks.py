"""Like ``breaks.py``, for pools on a server, which can be away, and whose workers answer from a cache."""

from __future__ import annotations

from dataclasses import replace

from election.core.term import Standing
from election.schedule.model import Outcome

from .breaks import Break
from .facts import Fact, in_order
from .history import History, Injected
from .making import FOUR, ONE, THREE, TWO, ns, sample


def _on_a_server(history: History) -> History:
    kinds = {"remove lock": "reset network"}
    faults = [replace(fault, engine="redis", kind=kinds.get(fault.kind, fault.kind)) for fault in history.faults]
    return replace(history, engine="redis", faults=faults)


def _away(history: History, since: float, until: float) -> History:
    fault = Injected("pause server", ns(since), ns(until), None, 2, 3, engine="redis")
    return replace(history, faults=sorted([*history.faults, fault], key=lambda each: each.at))


def _told(moment: float, term: int, pid: int) -> Break:
    """A follower answers with an earlier term."""

    def change(history: History) -> History:
        answer = sample(moment, by=FOUR.pid, role="follower", leader=pid, term=term)
        samples = [each for each in history.samples if each.asked != answer.asked]
        return _on_a_server(replace(history, samples=sorted([*samples, answer], key=lambda each: each.asked)))

    return change


def _interrupted(history: History, due: float, *, ended: bool) -> History:
    """The end of a run was never recorded, because its term resigned; its code has ended."""
    tick = ("each_second", ns(due))
    runs = [
        replace(run, outcome=Outcome.INTERRUPTED)
        if (run.job_id, ns((run.due - history.since).total_seconds())) == tick
        else run
        for run in history.runs
    ]
    facts = [
        fact
        for fact in history.facts
        if ended
        or fact.event != "end"
        or (fact.job, fact.due and ns((fact.due - history.since).total_seconds())) != tick
    ]
    return replace(_on_a_server(history), runs=runs, facts=facts)


def _led_unheard(history: History) -> History:
    """The work of a fifth term, which is not in the ledger."""
    return replace(
        _on_a_server(history), facts=in_order([*history.facts, Fact("leading", ns(31.5), FOUR.pid, FOUR.number + 1)])
    )


def _second_unsaid(history: History) -> History:
    """Records of the second term's leader, which resigned, that it could not write."""
    terms = [
        replace(row, standing=None, ended_at=None, ended_ns=None) if row.term == TWO.number else row
        for row in history.terms
    ]
    return replace(_on_a_server(history), terms=terms)


SERVER_BREAKS: dict[str, tuple[str, Break]] = {
    "an earlier term is told by a worker that is too far behind": ("P2", _told(14.05, ONE.number, ONE.pid)),
    "a drain cut off a run though the server was away": (
        "P5",
        lambda history: _away(_interrupted(history, 15, ended=False), 14, 16),
    ),
    "a drain did not say that a run had ended, and the server was there": (
        "P5",
        lambda history: _interrupted(history, 15, ended=True),
    ),
    "work in a term that never began, and the server was there": ("P5", _led_unheard),
    "job code in a term that never began, though the server was away": (
        "P5",
        lambda history: _away(
            replace(
                _on_a_server(history),
                facts=in_order([*history.facts, Fact("begin", ns(31.5), FOUR.pid, 5, "each_second", history.until, 1)]),
            ),
            29,
            30,
        ),
    ),
    "a resignation is told as a death, and the server was there": ("P6", _second_unsaid),
    "a term is lost though the server was there": (
        "P6",
        lambda history: replace(
            _on_a_server(history), faults=[fault for fault in history.faults if fault.kind != "remove lock"]
        ),
    ),
}

SERVER_HARMLESS: dict[str, Break] = {
    "a pool on a server": _on_a_server,
    "a worker that is a moment behind": _told(12.05, ONE.number, ONE.pid),
    "a run that ended while the server was away": lambda history: _away(_interrupted(history, 15, ended=True), 14, 16),
    "work in a term that began and ended while the server was away": lambda history: _away(
        _led_unheard(history), 29, 31
    ),
    "a resignation that could not be told": lambda history: _away(_second_unsaid(history), 19, 21),
    "a term that is lost while the server is away": lambda history: _away(
        replace(
            _on_a_server(history),
            faults=[fault for fault in _on_a_server(history).faults if fault.kind != "reset network"],
            terms=[replace(row, standing=Standing.LOST) if row.term == THREE.number else row for row in history.terms],
        ),
        22,
        24,
    ),
}
