"""The verdict on a run, from outside: facts, samples of ``/leader`` and the ledger against each other.

Pure functions over a ``History``. P1, P2, P3 and P5 are judged by ``tests.support.judge``, from the facts that
``facts_of`` makes of a history; the checks here need more: which worker answered, which faults there were, and the ends
of runs. Each reports only violations without a legitimate explanation: a sample counts for an unknown instant between
request and answer, a killed process leaves facts without an end, and a run that was cut off may have ended without a
record in its ledger. P6 is judged in ``vacancy.py``.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime, timedelta
from itertools import pairwise

from election.core.term import Standing
from election.schedule.history import RunRow, TermRow
from election.schedule.model import Outcome, SkipReason
from election.schedule.verify import Violation
from tests.support.judge import Fact as Known
from tests.support.judge import of_tick, spans, violations

from .history import SECOND, History, Injected
from .kinds import JOBS, Ends
from .vacancy import check_vacancies


def judge(history: History) -> list[Violation]:
    """Every broken promise that the history shows; empty if all were kept."""
    return [violation for check in CHECKS for violation in check(history)]


# --- P1 and P2: one leader, and terms that only grow -------------------------------------------------------------


def facts_of(history: History) -> Iterator[Known]:
    """Convert facts of workers, ledger and samples to those of the judge."""
    for fact in history.facts:
        attempt = 1 if fact.attempt is None else fact.attempt
        yield Known(fact.at, fact.pid, fact.event, fact.term or 0, fact.job, fact.due, attempt)
    for row in history.terms:
        yield Known(row.began_ns, row.pid, "term", row.term)
        if row.ended_ns is not None:
            yield Known(row.ended_ns, row.pid, "term over", row.term)
    for run in history.runs:
        yield Known(0, 0, "run", run.term, run.job_id, run.due, run.attempt)
        for attempt, term in _attempts(run):
            yield Known(0, 0, "claim", term, run.job_id, run.due, attempt)
    for sample in history.samples:
        if sample.term is not None and sample.leader is not None:
            yield Known(sample.asked, sample.leader, "named", sample.term)
            if sample.role == "leader" and sample.leader == sample.by:
                yield Known(sample.asked, sample.by, "leads", sample.term, until=sample.answered)


def check_facts(history: History) -> Iterator[Violation]:
    """P1, P2, P3, P5, except for terms that could not be recorded while the ledger was away."""

    def unrecorded(fact: Known) -> bool:
        at = int(fact.at)
        return fact.job is None and any(fault.tells_within(at, at) for fault in history.away)

    yield from violations(facts_of(history), unrecorded=unrecorded)


def check_who_says_that_it_leads(history: History) -> Iterator[Violation]:
    """P1, P8: an answer that its worker leads contradicts neither its own record nor another worker's certain time."""
    certain = spans(facts_of(history))
    pids = {row.term: row.pid for row in history.terms}
    for sample in history.samples:
        if sample.role != "leader":
            continue
        if sample.leader not in {None, sample.by}:
            yield Violation("P1", f"pid {sample.by} said that it leads while the record named pid {sample.leader}")
        for term, span in certain.items():
            within = span.begun < sample.asked and sample.answered < span.over
            if within and pids.get(term, sample.by) != sample.by:
                yield Violation("P1", f"pid {sample.by} said that it leads in the middle of term {term}")


def check_terms_grow(history: History) -> Iterator[Violation]:
    """P2: a request sent after an answer does not get an earlier term, unless the worker may lag behind, or may answer
    from memory because the disk keeps it waiting: one that waited answers at once until its read has ended, which
    on a frozen disk is when that goes on.
    """
    known, answers = 0, deque[tuple[int, int]]()
    waited: dict[int | None, int] = {}
    frozen = [(fault.at, fault.until + SECOND) for fault in history.happened if fault.kind == "freeze disk"]
    for sample in history.samples:
        while answers and answers[0][0] + history.setting.behind * SECOND <= sample.asked:
            known = max(known, answers.popleft()[1])
        if sample.term is None:
            continue
        if sample.answered - sample.asked >= history.setting.patience * SECOND:
            waited[sample.by] = sample.answered
        may_wait = any(since <= sample.asked <= until for since, until in frozen)
        if sample.term < known and not may_wait and sample.asked > waited.get(sample.by, -SECOND) + SECOND:
            yield Violation("P2", f"term {sample.term} was told after term {known}")
        answers.append((sample.answered, sample.term))
    for before, after in pairwise(history.terms):
        if after.term <= before.term:
            yield Violation("P2", f"the ledger lists term {after.term} after term {before.term}")


# --- P3 to P5: ticks, runs and terms -----------------------------------------------------------------------------


def check_nothing_disappears(history: History) -> Iterator[Violation]:
    """P4: every tick of the run's time is a run or within a skip, whatever the ledger itself counts as owed."""
    for job, step in JOBS.items():
        runs = {run.due for run in history.runs if run.job_id == job}
        skips = [(skip.first_due, skip.last_due) for skip in history.skips if skip.job_id == job]
        owed = list(_owed(min(runs, default=history.since), timedelta(seconds=step), history.since, history.until))
        missing = [due for due in owed if due not in runs and not any(one <= due <= last for one, last in skips)]
        if missing:
            yield Violation("P4", "neither run nor skipped", job, tuple(missing))
    for skip in history.skips:
        if skip.reason is SkipReason.PAUSED:
            yield of_tick("P4", "skipped as paused, and nobody had paused it", skip.job_id, skip.first_due)
    yield from history.verified


def _owed(anchor: datetime, step: timedelta, since: datetime, until: datetime) -> Iterator[datetime]:
    due = anchor - ((anchor - since) // step) * step
    while due <= until:
        if due >= since:
            yield due
        due += step


def check_outcomes(history: History) -> Iterator[Violation]:
    """P4: the ledger's end of a run equals the observed end."""
    seen = {(fact.event, fact.job, fact.due, fact.attempt) for fact in history.facts if fact.job}
    resigned = {row.term for row in history.terms if row.standing is Standing.RESIGNED}
    for run in history.runs:
        facts = {event for event in ("begin", "end") if (event, run.job_id, run.due, run.attempt) in seen}
        if run.outcome is Outcome.SUCCEEDED and facts != {"begin", "end"}:
            text = f"succeeded, by the ledger, with {' and '.join(sorted(facts)) or 'nothing'} among the facts"
            yield of_tick("P4", text, run.job_id, run.due)
        elif run.outcome is Outcome.FAILED:
            yield of_tick("P4", f"failed, which no job of this run does: {run.error}", run.job_id, run.due)
        elif run.outcome is None:
            yield of_tick("P4", f"the run of term {run.term} was never settled", run.job_id, run.due)
        elif run.outcome is Outcome.INTERRUPTED and run.term in resigned and not _untold(run, facts, history):
            yield of_tick("P5", f"cut off, though term {run.term} resigned in good order", run.job_id, run.due)
    for event, job, due, attempt in seen:
        if event == "end" and ("begin", job, due, attempt) not in seen:
            yield of_tick("P4", "ended and never began", job, due)


def _untold(run: RunRow, facts: set[str], history: History) -> bool:
    """Whether the run may have been complete, or have never begun, while the ledger was away."""
    whole = facts != {"begin"}
    claimed = history.since_ns + (run.claimed_at - history.since) // timedelta(microseconds=1) * 1000
    return whole and any(fault.tells_within(claimed - SECOND, claimed + SECOND) for fault in history.away)


# --- what is left ------------------------------------------------------------------------------------------------


def check_reasons(history: History) -> Iterator[Violation]:
    """P6: no term ends without a fault, or a standstill of the machine, that explains this kind of end. The last one
    ends with the pool.
    """
    for row, following in pairwise(history.terms):
        ended = {Standing.RESIGNED: Ends.RESIGNED, Standing.LOST: Ends.LOST}.get(row.standing, Ends.DIED)
        explained = any(_explains(fault, row, following, ended, history.away) for fault in history.happened)
        if not explained and not _stood_still(row, following, ended, history):
            yield Violation("P6", f"term {row.term} of pid {row.pid} {ended}, and no fault explains it")


def _explains(fault: Injected, row: TermRow, following: TermRow, ended: Ends, away: Sequence[Injected]) -> bool:
    end = row.ended_ns or following.began_ns
    untold = ended is Ends.DIED and fault.of.ends and any(each.tells_within(fault.at, end) for each in away)
    if not (fault.may_end(ended) or untold) or fault.at > end:
        return False
    if fault.pid is not None:
        return fault.pid == row.pid
    return fault.tells_within(row.began_ns - SECOND, end)


def _stood_still(row: TermRow, following: TermRow, ended: Ends, history: History) -> bool:
    """Whether the machine stood still until a moment before the end, for as long as gets a stopped leader fenced."""
    end = row.ended_ns or following.began_ns
    for still in history.standstills:
        stop = Injected("stop leader", still.begin, still.end, row.pid, row.term, others=1, engine=history.engine)
        if stop.may_be_fenced and stop.may_end(ended) and stop.tells_within(end, end):
            return True
    return False


def check_the_ground(history: History) -> Iterator[Violation]:
    """Nothing is left behind; and there are facts and answers, without which the rest would prove nothing."""
    for trouble in history.trouble:
        yield Violation("P6", f"the pool did not recover: {trouble}")
    for text in history.unnoticed:
        yield Violation("P8", text)
    for process in history.left:
        yield Violation("left", f"a process was left behind: {process}")
    if history.tracebacks:
        yield Violation("log", f"the log holds {history.tracebacks} tracebacks")
    for job in JOBS:
        if not any(fact.event == "end" and fact.job == job for fact in history.facts):
            yield Violation("P4", "was never run at all", job)
    if not any(sample.role == "leader" for sample in history.samples):
        yield Violation("P8", "no answer of /leader came from a leader")


CHECKS = (
    check_facts,
    check_who_says_that_it_leads,
    check_terms_grow,
    check_nothing_disappears,
    check_outcomes,
    check_vacancies,
    check_reasons,
    check_the_ground,
)


def _attempts(run: RunRow) -> Iterable[tuple[int, int]]:
    """Number and term of each attempt of a run, including earlier ones."""
    return [*((each["attempt"], each["term"]) for each in run.attempts), (run.attempt, run.term)]
