"""The commands about one job, or jobs with a tag: ``job``, ``run``, ``pause`` and ``resume``."""

from __future__ import annotations

import asyncio
from argparse import Namespace
from datetime import UTC, datetime

from election.core.errors import ElectionError
from election.schedule.history import RequestRow, RunRow
from election.schedule.ledger import Ledger
from election.schedule.model import Action, Outcome
from election.schedule.upcoming import PlannedJobs

from .commands import count
from .open_pool import changing, engine_of, identity, reading, refuse_unknown
from .pool_status import job_statuses, late_ms
from .show import Progress, printable, show_json, show_table, text
from .status import standing

SHOWN_RUNS = 10
"""Runs and skips that ``job`` shows."""

SHOWN_TICKS = 5
"""Coming ticks that ``job`` shows."""

POLL_S = 0.2
"""Seconds between two polls for the end of a run."""


async def show_job(options: Namespace) -> int:
    """Print one job: its state, its latest runs and skips, and its coming ticks."""
    async with reading(engine_of(options)) as ledger:
        found = await ledger.find_jobs([options.job])
        if not found:
            await refuse_unknown(ledger, options.job)
        (status,) = await job_statuses(ledger, found)
        runs = await ledger.runs(job_id=options.job, limit=SHOWN_RUNS)
        skips = await ledger.skips(job_id=options.job, limit=SHOWN_RUNS)
    ticks = PlannedJobs(found).coming_ticks(now=datetime.now(UTC), limit=SHOWN_TICKS)
    stored = found[0].stored
    if options.json:
        show_json({"job": status, "stored": stored, "runs": runs, "skips": skips, "next": ticks})
        return 0
    facts: list[tuple[str, object]] = [
        ("job", status.id),
        ("name", status.name),
        ("for", status.description),
        ("trigger", status.trigger),
        ("state", standing(status)),
        ("tags", ", ".join(status.tags) or None),
    ]
    if stored is not None:
        facts += [("calls", stored.func), ("kwargs", dict(stored.kwargs))]
    for name, value in facts:
        print(f"{name:<9}{text(value)}")
    print()
    moment = "%Y-%m-%d %H:%M:%S"
    local = ((tick.local.strftime(moment), tick.timezone or "UTC", tick.due.strftime(moment)) for tick in ticks)
    show_table(("NEXT", "ZONE", "UTC"), local)
    print()
    columns = ((run.seq, run.due, run.outcome or "running", late_ms(run), run.attempt, run.error) for run in runs)
    show_table(("RUN", "DUE", "OUTCOME", "LATE ms", "ATTEMPT", "ERROR"), columns)
    if skips:
        print()
        left_out = ((count(skip), skip.reason, skip.first_due, skip.last_due) for skip in skips)
        show_table(("SKIPPED", "REASON", "FIRST DUE", "LAST DUE"), left_out)
    return 0


async def run_now(options: Namespace) -> int:
    """Request a run; with ``--wait``, return 0 only if it succeeds."""
    async with changing(engine_of(options)) as ledger:
        await refuse_unknown(ledger, options.job)
        number = await ledger.request(Action.RUN, job_id=options.job, kwargs=options.kwargs, by=identity(options))
        request, run = None, None
        if options.wait is not None:
            async with Progress(f"waiting for {options.job}"):
                request, run = await _ended(ledger, number, options.wait)
    if options.json:
        show_json({"request": number, "outcome": request and request.outcome, "run": run})
    else:
        print(printable(_describe(options.job, number, request, run)))
    return 0 if options.wait is None or (run is not None and run.outcome is Outcome.SUCCEEDED) else 1


def _describe(job_id: str, number: int, request: RequestRow | None, run: RunRow | None) -> str:
    """Describe the state of a request. request: None without ``--wait``."""
    if request is None:
        return f"requested a run of {job_id}: request {number}"
    if run is not None:
        error = f": {run.error}" if run.error else ""
        return f"{job_id}, run {run.seq}: {run.outcome or 'still running'}{error}"
    if request.outcome is None:
        return f"{job_id} was not run yet: no leader has read request {number}"
    return f"{job_id} was not run: {request.outcome}, {request.reason}"


async def _ended(ledger: Ledger, number: int, wait_s: float) -> tuple[RequestRow | None, RunRow | None]:
    """The request, and its run if there is one, at the end of the run, or after ``wait_s`` seconds."""
    request, run = None, None
    try:
        async with asyncio.timeout(wait_s):
            while (request is None or request.outcome is None) or (run is not None and run.outcome is None):
                request = await ledger.request_row(number)
                if request is None:
                    raise ElectionError(f"request {number} has been pruned")
                run = None if request.run is None else await ledger.run(request.run)
                await asyncio.sleep(POLL_S)
    except TimeoutError:
        request = request or await ledger.request_row(number)  # not even the first question was answered in time
    return request, run


async def pause(options: Namespace) -> int:
    """Pause a job, or all jobs with a tag."""
    return await _set_paused(options, True)


async def resume(options: Namespace) -> int:
    """End the pause of a job, or of all jobs with a tag."""
    return await _set_paused(options, False)


async def _set_paused(options: Namespace, paused: bool) -> int:
    if (options.job is None) == (options.tag is None):
        raise ElectionError("name either one job or, with --tag, a tag of jobs")
    async with changing(engine_of(options)) as ledger:
        if options.tag is not None:
            jobs = await ledger.pause_tagged(options.tag, paused, by=identity(options))
        else:
            await refuse_unknown(ledger, options.job)
            await ledger.pause(options.job, paused, by=identity(options))
            jobs = [options.job]
    if options.json:
        named = {"job": options.job} if options.tag is None else {"jobs": jobs}
        show_json({**named, "paused": paused})
    else:
        for job in jobs:
            print(f"{printable(job)} {'is paused' if paused else 'goes on'}")
    return 0
