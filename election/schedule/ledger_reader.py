"""Reads of a ledger, by any worker and by the command line. Times are UTC."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from election.core.backend import LatestTerms
from election.core.errors import ConfigurationError
from election.core.numbers import to_count

from .history import (
    MAX_LOGS,
    MAX_SHOWN,
    AuditRow,
    ClaimRow,
    Epoch,
    JobOverview,
    RequestRow,
    RunRow,
    SkipRow,
    TermRow,
    Totals,
    Window,
)
from .model import JobInfo, JobState, OpenRun, Outcome, RunLog, Tick
from .store import Filter, Kind, LedgerStore

MAX_INTEGER = 2**63 - 1
"""Largest number that a query of a ledger accepts."""

OUTCOMES = ["running", *Outcome]
"""Outcomes of a run by which runs can be searched."""

JOBS_PER_SEARCH = 250
"""Jobs that are read at once to search them: the leader's writes wait that long."""


class LedgerReader:
    """Reads of a ledger, for any worker and the command line.

    Every method raises ``LedgerError`` if the ledger cannot be used at the moment.

    Args:
        store: Storage of the ledger.
    """

    def __init__(self, store: LedgerStore) -> None:
        self.store = store

    async def jobs(self, *, removed: bool = False) -> list[JobState]:
        """Every job, by id, also one that has left the code.

        removed: with those that were added at run time, and have been removed or have no further ticks.
        """
        return await self.store.jobs(removed=removed)

    async def find_jobs(self, job_ids: Sequence[str]) -> list[JobState]:
        """Jobs with these ids, in any order; one that was never seen is left out."""
        return await self.store.find_jobs([job_id for job_id in job_ids if _can_be_held(job_id)])

    async def overview(self, limit: int = MAX_SHOWN) -> JobOverview:
        """Up to ``limit`` jobs of the code and as many that were added at run time, and how many there are in all."""
        return await self.store.overview(limit)

    async def due_soonest(self, limit: int, job_id: str | None = None) -> list[JobState]:
        """Every job of the code, and the ``limit`` jobs added at run time that are due soonest by the leader's plan.

        job_id: only this job, if there is one.
        """
        if job_id is not None:
            return [job for job in await self.find_jobs([job_id]) if not job.removed]
        found = await self.overview(max(limit, MAX_SHOWN))
        known = {job.id for job in found.code}
        more = await self.find_jobs([job_id for job_id in found.code_ids if job_id not in known])
        return [*found.code, *more, *found.stored]

    async def search_jobs(
        self, *, text: str = "", tag: str | None = None, after: str = "", limit: int = 100
    ) -> list[JobState]:
        """Jobs by id.

        Args:
            text: Only jobs whose id or name contains this, in upper or lower case.
            tag: Only jobs that have this tag.
            after: Only jobs with larger ids.
            limit: How many at most.
        """
        found: list[JobState] = []
        step = JOBS_PER_SEARCH if text or tag is not None else min(limit, JOBS_PER_SEARCH)
        while len(found) < limit and (some := await self.store.jobs_after(after, step)):
            if some[-1].id == after:  # its row has another id, which is no text, and would be read for ever
                break
            found += [job for job in some if not job.removed and fits(job.id, job.info, text, tag)]
            after = some[-1].id
        return found[:limit]

    async def last_outcomes(self, job_ids: Sequence[str]) -> dict[str, RunRow]:
        """The latest run of each of these jobs, by job id."""
        return await self.store.latest_runs(job_ids)

    async def runs(
        self,
        *,
        job_id: str | None = None,
        tag: str | None = None,
        outcome: str | None = None,
        before: int | None = None,
        limit: int = 100,
    ) -> list[RunRow]:
        """Runs, latest first. tag: only those of jobs that have it now. outcome: ``running`` is one, too.

        before: only those with a smaller ``seq``.
        """
        if outcome is not None and outcome not in OUTCOMES:
            raise ConfigurationError(f"outcome is one of {', '.join(OUTCOMES)}, not {outcome!r}")
        return await self._page(Kind.RUN, Filter(job_id, tag, outcome), before, limit)

    async def run(self, seq: int) -> RunRow | None:
        """The run of that number; None if there is none any more."""
        rows: list[RunRow] = await self._before(Kind.RUN, seq + 1)
        return next((row for row in rows if row.seq == seq), None)

    async def logs(self, run: int) -> list[RunLog]:
        """Logs of a run's attempts that were kept, first attempt first."""
        return (await self.store.page(Kind.LOG, Filter(run=run), None, MAX_LOGS))[::-1]

    async def request_row(self, number: int) -> RequestRow | None:
        """The request of that number, with its outcome; None if there is none any more."""
        rows: list[RequestRow] = await self._before(Kind.REQUEST, number + 1)
        return next((row for row in rows if row.id == number), None)

    async def _before(self, kind: Kind, number: int) -> list[Any]:
        """The row with the largest number before ``number``, if there is one."""
        return await self._page(kind, Filter(), number, 1)

    async def _page(self, kind: Kind, where: Filter, before: int | None, limit: int) -> list[Any]:
        """Rows, latest first. Raises ``ConfigurationError`` for a limit that is no number, or less than 0."""
        limit = to_count(limit, "limit", at_least=0)
        if not all(_can_be_held(text) for text in (where.job_id, where.tag) if text is not None):
            return []
        if before is not None:
            before = max(-MAX_INTEGER, min(before, MAX_INTEGER))
        return await self.store.page(kind, where, before, limit)

    async def skips(
        self, *, job_id: str | None = None, tag: str | None = None, before: int | None = None, limit: int = 100
    ) -> list[SkipRow]:
        """Skips, latest first; filtered as runs are."""
        return await self._page(Kind.SKIP, Filter(job_id, tag), before, limit)

    async def claims(self, *, before: int | None = None, limit: int = 100) -> list[ClaimRow]:
        """Claims, latest first. ``before``: only those with a smaller ``seq``."""
        return await self._page(Kind.CLAIM, Filter(), before, limit)

    async def audit_trail(
        self, *, job_id: str | None = None, before: int | None = None, limit: int = 100
    ) -> list[AuditRow]:
        """Changes and who made them, latest first. ``before``: only those with a smaller ``seq``."""
        return await self._page(Kind.AUDIT, Filter(job_id), before, limit)

    async def terms(self, *, before: int | None = None, limit: int = 100) -> list[TermRow]:
        """Terms, latest first. ``before``: only those with a smaller number."""
        return await self._page(Kind.TERM, Filter(), before, limit)

    async def window(self, since: datetime, until: datetime, limit: int) -> Window:
        """History from ``since`` to ``until``: about ``limit`` runs and as many skips and terms at most.

        Runs that were claimed or ended in that range, and all that run now. For pictures: where the wall clock was set
        back, some may be left out.
        """
        return await self.store.window(since, until, limit)

    async def epochs(self) -> list[Epoch]:
        """Schedules of all jobs with their time ranges, oldest first."""
        return await self.store.epochs()

    async def open_runs(self) -> list[OpenRun]:
        """Runs that are claimed and not settled, oldest first."""
        runs = await self.runs(outcome="running", limit=MAX_INTEGER)
        return [
            OpenRun(Tick(run.job_id, run.due, run.request), run.term, run.attempt, run.interruptions)
            for run in reversed(runs)
        ]

    async def totals(self) -> Totals:
        """Counters since the ledger was begun; takes no longer when there is more history."""
        return await self.store.totals()

    async def pruned_until(self) -> datetime:
        """History up to here may have been removed."""
        return await self.store.pruned_until()

    async def latest_terms(self) -> LatestTerms:
        """Numbers of the last term that was begun, and of the last one with an intent to fence its leader."""
        return await self.store.latest_terms()

    async def is_moved(self) -> bool:
        """Whether the ledger was copied or restored since it was last led, and nobody has adopted it."""
        return await self.store.is_moved()

    async def integrity(self) -> list[str]:
        """Descriptions of damage in the ledger's own storage; empty if there is none."""
        return await self.store.integrity()

    async def close(self) -> None:
        """Close the ledger; using it again opens it again."""
        await self.store.close()


def _can_be_held(text: str) -> bool:
    """Whether every ledger can hold a text, and so look it up."""
    if not isinstance(text, str):
        return False
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return "\0" not in text


def fits(job_id: str, info: JobInfo | None, text: str, tag: str | None) -> bool:
    """Whether a job contains a text in its id or name, in upper or lower case, and has a tag; None is any."""
    names = [job_id] if info is None else [job_id, info.name]
    tags = () if info is None else info.tags
    return any(text.casefold() in name.casefold() for name in names) and (tag is None or tag in tags)
