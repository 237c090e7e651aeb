"""Judges a pool's whole recorded history: ``violations(history) == []`` means that P1 to P4 held.

What each trigger owed is worked out anew from the schedules that the ledger remembers, tick by tick, and compared with
what was claimed and skipped. After hashicorp/raft's ``fuzzy/verifier.go``: the history is judged, not a moment.
Not judged: effects in other systems, ticks of trigger classes of the user's own, and history that was removed.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import accumulate, islice, pairwise

from election.core.errors import LedgerError

from .history import Accounts, Epoch, OddClaim, TermRow
from .ledger import LedgerReader
from .model import UNREADABLE, OpenRun
from .ticks import ticks, without_jitter
from .triggers import build, jitter_of

TICKS_PER_PAGE = 5000

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
    """Jobs whose ticks cannot be enumerated: their trigger is a class of the user's own, or cannot be built here."""


async def verify(ledger: LedgerReader, *, now: datetime, progress: Callable[[str, int], None] | None = None) -> Report:
    """Judge the history in ``ledger``, of a pool that is alive or not.

    progress: told the job and the number of its ticks seen so far. Raises ``LedgerError``.
    """
    open_runs, odd_claims = await ledger.open_runs(), await ledger.odd_claims()
    terms = await _all_terms(ledger)  # after the runs: on a live pool, each of these has a term by now
    found = [*check_terms(terms), *check_claims(odd_claims), *check_open_runs(open_runs, terms, now)]
    jobs = await ledger.jobs()
    if unreadable := [job.broken for job in jobs if job.trigger == UNREADABLE]:
        raise LedgerError(f"the ledger holds what no worker can have written: {unreadable[0]}")
    settled = {job.id: job.settled_until for job in jobs}
    pruned = await ledger.pruned_until()
    count, unchecked = 0, []
    for epoch in await ledger.epochs():
        until = min(epoch.until or now, settled.get(epoch.job_id, epoch.since))
        owed = owed_ticks(epoch, max(epoch.since, pruned), until)
        if owed is None:
            unchecked.append(epoch.job_id)
            continue
        jitter = jitter_of(epoch.trigger)
        seen = 0
        while some := _next_ticks(owed, unchecked, epoch.job_id):
            accounts = await ledger.accounts(epoch.job_id, some[0], some[-1] + jitter)
            if check_ticks(epoch.job_id, some, accounts, jitter):
                pruned = await ledger.pruned_until()  # a live pool may have removed them since
                found += check_ticks(epoch.job_id, [due for due in some if due > pruned], accounts, jitter)
            seen += len(some)
            if progress is not None:
                progress(epoch.job_id, seen)
        count += seen
    return Report(tuple(found), count, len(terms), tuple(dict.fromkeys(unchecked)))


def _next_ticks(owed: Iterator[datetime], unchecked: list[str], job_id: str) -> list[datetime]:
    """The next ticks of a trigger; none, and the job is noted as unchecked, if it raises."""
    try:
        return list(islice(owed, TICKS_PER_PAGE))
    except Exception:
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


def check_claims(odd: Iterable[OddClaim]) -> list[Violation]:
    """P3: a tick is claimed once, and not by a term that was over; P2: a term begins before it claims."""
    found = []
    for claim in odd:
        promise, text = {
            0: ("P2", f"claimed by term {claim.term}, which never began"),
            1: ("P3", f"claimed by term {claim.term} after a later term"),
        }.get(claim.times, ("P3", f"claimed {claim.times} times"))
        found.append(Violation(promise, text, claim.tick.job_id, (claim.tick.due,)))
    return found


def check_open_runs(runs: Iterable[OpenRun], terms: Sequence[TermRow], now: datetime) -> list[Violation]:
    """P4: what a leader left open is settled by the next one."""
    if not terms or now - terms[-1].began_at <= SETTLING:
        return []
    return [
        Violation("P4", f"the run of term {run.term} was never settled", run.tick.job_id, (run.tick.due,))
        for run in runs
        if run.term < terms[-1].term
    ]


def check_ticks(
    job_id: str, owed: Sequence[datetime], accounts: Accounts, jitter: timedelta = timedelta(0)
) -> list[Violation]:
    """P4: each tick that was owed has a run, or lies within a skip; with jitter, up to so much later."""
    skips = sorted(accounts.skips)
    begins = [first for first, _ in skips]
    ends = list(accumulate((last for _, last in skips), max))

    def skipped(due: datetime) -> bool:
        begun = bisect_right(begins, due + jitter)
        return begun > 0 and ends[begun - 1] >= due

    missing = [due for due in owed if not _any_within(accounts.runs, due, due + jitter) and not skipped(due)]
    return [Violation("P4", "neither run nor skipped", job_id, tuple(missing))] if missing else []


def owed_ticks(epoch: Epoch, after: datetime, until: datetime) -> Iterator[datetime] | None:
    """Return the ticks owed later than ``after`` up to ``until``; None if they cannot be enumerated."""
    trigger = build(epoch.trigger, epoch.anchor)
    return None if trigger is None else iter(ticks(without_jitter(trigger), after, until))


def _any_within(sorted_dues: Sequence[datetime], first: datetime, last: datetime) -> bool:
    at = bisect_left(sorted_dues, first)
    return at < len(sorted_dues) and sorted_dues[at] <= last


async def _all_terms(ledger: LedgerReader) -> list[TermRow]:
    terms: list[TermRow] = []
    while page := await ledger.terms(before=terms[-1].term if terms else None, limit=1000):
        terms += page
    return terms[::-1]
