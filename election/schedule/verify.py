"""Judges a pool's whole recorded history: no violations mean that P1 to P4 held, and each job's ``max_instances``.

Rows are read and judged here, without any check by the ledger that wrote them. The ticks that each trigger owed are
computed anew from the schedules in the ledger, and compared one by one with claims and skips. After hashicorp/raft's
``fuzzy/verifier.go``: the history is judged, not a moment.
Not judged: effects in other systems, ticks of custom trigger classes, and history that was removed.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Container, Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import groupby, islice, pairwise
from typing import Any

from election.core.clock import EPOCH
from election.core.errors import LedgerError

from .claim_history import ClaimHistory, Settlement
from .history import Epoch, TermRow
from .ledger_reader import LedgerReader
from .model import TICK_RULE, UNREADABLE, OpenRun
from .ticks import ticks, without_jitter
from .triggers import build, jitter_of

ROWS_PER_PAGE = 5000
"""Rows of the history that are read at once, and ticks that are judged at once."""

NOTHING_PRUNED = EPOCH
"""Time up to which history was removed, in a ledger from which none was."""

SETTLING = timedelta(seconds=10)
"""How long a new leader may take to settle the runs that the former one left open."""


@dataclass(frozen=True, slots=True)
class Violation:
    """A broken promise: which, where, and the ticks concerned."""

    promise: str
    text: str
    job_id: str | None = None
    ticks: tuple[datetime, ...] = ()


@dataclass(frozen=True, slots=True)
class Report:
    """Report of ``verify``: its extent, and the violations."""

    violations: tuple[Violation, ...]
    ticks: int
    terms: int
    unchecked: tuple[str, ...]
    """Jobs with a schedule whose ticks cannot be enumerated.

    Such a trigger is a custom class, cannot be built here, or was counted by another version of the rule.
    """
    missing_terms: int = 0
    """Number of the last term before those in the ledger, though none was removed for its age; 0 if none is missing."""


async def verify(ledger: LedgerReader, *, now: datetime, progress: Callable[[str, int], None] | None = None) -> Report:
    """Judge the history in ``ledger``, of a running or a stopped pool.

    Args:
        ledger: History to judge.
        now: Wall clock, UTC.
        progress: Called with a job and the number of its ticks judged so far.

    Raises:
        LedgerError: The ledger cannot be read, or a row cannot have been written by any worker.
    """
    jobs, open_runs, epochs = await ledger.jobs(removed=True), await ledger.open_runs(), await ledger.epochs()
    if unreadable := [job.broken for job in jobs if job.trigger == UNREADABLE]:
        raise LedgerError(f"the ledger has a row that no worker can have written: {unreadable[0]}")
    settled = {job.id: job.settled_until for job in jobs}
    claims = ClaimHistory()  # read after the jobs, so that the rows contain all that was settled before
    async for page in _pages(ledger.claims):
        for claim in page:
            claims.add(claim)
    skips: dict[str, list[tuple[datetime, datetime]]] = {}
    async for page in _pages(ledger.skips):  # after the claims, since a claim may become a skip
        for skip in page:
            if not skip.request:
                skips.setdefault(skip.job_id, []).append((skip.first_due, skip.last_due))
    terms = await _read_terms(ledger)
    found = [*check_terms(terms), *await _check_claims(ledger, claims, {term.term for term in terms})]
    found += check_open_runs(open_runs, terms, now)
    pruned = await ledger.pruned_until()  # a live pool may have removed rows while they were read
    count, unchecked = 0, []
    for job_id, its_epochs in groupby(epochs, key=lambda epoch: epoch.job_id):
        settlement = Settlement(claims.dues(job_id), skips.get(job_id, ()))
        for epoch in its_epochs:
            until = min(epoch.until or now, settled.get(job_id, epoch.since))
            owed = owed_ticks(epoch, max(epoch.since, pruned), until) if epoch.rule == TICK_RULE else None
            if owed is None:
                unchecked.append(job_id)
                continue
            seen = 0
            while some := _next_ticks(owed, unchecked, job_id):
                found += check_ticks(job_id, some, settlement, jitter_of(epoch.trigger))
                seen += len(some)
                if progress is not None:
                    progress(job_id, seen)
            count += seen
    return Report(tuple(found), count, len(terms), tuple(dict.fromkeys(unchecked)), _missing(terms, pruned))


def describe_missing(last: int) -> str:
    """Text about the terms up to ``last``, which are missing."""
    which = "term 1 is" if last == 1 else f"terms 1 to {last} are"
    return (
        f"{which} not in the ledger, which was lost, removed or replaced, or could not be reached then;"
        " nothing is known of the ticks that fell due in that time"
    )


async def find_missing_terms(ledger: LedgerReader) -> int:
    """See ``Report.missing_terms``. Raises ``LedgerError``."""
    return _missing(await _read_terms(ledger), await ledger.pruned_until())


async def _read_terms(ledger: LedgerReader) -> list[TermRow]:
    return [term async for page in _pages(ledger.terms, "term") for term in page][::-1]


def _missing(terms: Sequence[TermRow], pruned_until: datetime) -> int:
    return terms[0].term - 1 if terms and pruned_until == NOTHING_PRUNED else 0


async def _pages(read: Callable[..., Awaitable[list[Any]]], number: str = "seq") -> AsyncIterator[list[Any]]:
    """All rows in pages, latest first. number: attribute by which they are ordered."""
    before: int | None = None
    while rows := await read(before=before, limit=ROWS_PER_PAGE):
        yield rows
        before = getattr(rows[-1], number)


def _next_ticks(owed: Iterator[datetime], unchecked: list[str], job_id: str) -> list[datetime]:
    """The next ticks of a trigger; none, and the job is noted as unchecked, if it raises."""
    try:
        return list(islice(owed, ROWS_PER_PAGE))
    except BaseException:  # of the trigger
        unchecked.append(job_id)
        return []


def check_terms(terms: Sequence[TermRow]) -> list[Violation]:
    """P1 and P2 on terms in the order of their numbers: each begins after the one before it has ended."""
    found = []
    for one, other in pairwise(terms):
        if one.boot_id != other.boot_id:
            continue  # the clocks of two boots cannot be compared; nothing survives a boot
        if other.began_ns <= one.began_ns:
            found.append(Violation("P2", f"term {other.term} began before term {one.term}"))
        elif one.ended_ns is not None and one.ended_ns > other.began_ns:
            overlap = (one.ended_ns - other.began_ns) / 1e6
            found.append(Violation("P1", f"terms {one.term} and {other.term} overlap by {overlap:.3f} ms"))
    return found


async def _check_claims(ledger: LedgerReader, claims: ClaimHistory, begun: Container[int]) -> list[Violation]:
    """Check claims and executions.

    P2: a term begins before it claims. P3: a tick is claimed once, and by no term after a later one has claimed. P9:
    ``max_instances`` holds within a term.
    """
    late = [("P3", "claimed by term {0.first_term} after a later term", seq) for seq in claims.late()]
    homeless = [("P2", "claimed by term {0.term}, which never began", seq) for seq in claims.homeless(begun)]
    found = [
        Violation(promise, text.format(row), row.job_id, (row.due,))
        for promise, text, seq in (*late, *homeless)
        for row in await ledger.claims(before=seq + 1, limit=1)
        if row.seq == seq  # else it was removed meanwhile, and its term with it
    ]
    found += [Violation("P3", f"claimed {times} times", job_id, (due,)) for job_id, due, times in claims.repeated()]
    for job_id, term, most, limit in claims.overlaps():
        text = f"{most} runs at once in term {term}, where max_instances allows {limit}"
        found.append(Violation("P9", text, job_id))
    return found


def check_open_runs(runs: Iterable[OpenRun], terms: Sequence[TermRow], now: datetime) -> list[Violation]:
    """P4: runs that a leader left open are settled by the next one."""
    if not terms or now - terms[-1].began_at <= SETTLING:
        return []
    return [
        Violation("P4", f"the run of term {run.term} was never settled", run.tick.job_id, (run.tick.due,))
        for run in runs
        if run.term < terms[-1].term
    ]


def check_ticks(
    job_id: str, owed: Sequence[datetime], settlement: Settlement, jitter: timedelta = timedelta(0)
) -> list[Violation]:
    """P4: each tick that was owed has a run, or lies within a skip; with jitter, up to so much later."""
    missing = [due for due in owed if not settlement.covers(due, jitter)]
    return [Violation("P4", "neither run nor skipped", job_id, tuple(missing))] if missing else []


def owed_ticks(epoch: Epoch, after: datetime, until: datetime) -> Iterator[datetime] | None:
    """Return the ticks owed later than ``after`` up to ``until``; None if they cannot be enumerated."""
    trigger = build(epoch.trigger, epoch.anchor)
    return None if trigger is None else iter(ticks(without_jitter(trigger), after, until))
