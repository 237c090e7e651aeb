"""The commands that read a pool's history and coming ticks, and ``resign``, ``accept_time`` and ``adopt``."""

from __future__ import annotations

import sys
from argparse import Namespace
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from functools import partial
from typing import TypeVar

from election.core.errors import ElectionError
from election.schedule.history import RunRow, SkipRow
from election.schedule.ledger_reader import LedgerReader
from election.schedule.model import Action
from election.schedule.upcoming import ComingTick, PlannedJobs
from election.schedule.verify import describe_missing
from election.schedule.verify import verify as judge

from .open_pool import changing, engine_of, identity, reading, refuse_unknown, without_history
from .pool_status import late_ms
from .show import Progress, printable, show_json, show_table, text
from .show_run import show_log, show_run

_Row = TypeVar("_Row")

DEFAULT_LIMIT = 20
"""Entries of the history that are shown where neither a number nor a time is given."""

ROWS_PER_PAGE = 500
"""Entries that are read at once."""


async def runs(options: Namespace) -> int:
    """Print the runs, or one with its logs."""
    if options.id is not None:
        return await _run(options)
    async with reading(engine_of(options)) as ledger:
        rows = await _read_runs(ledger, options)
    return _show_page(
        options,
        rows,
        ("SEQ", "JOB", "DUE", "TERM", "ATTEMPT", "OUTCOME", "LATE ms", "ERROR"),
        lambda row: (
            row.seq,
            row.job_id,
            row.due,
            row.term,
            row.attempt,
            row.outcome or "running",
            late_ms(row),
            row.error,
        ),
    )


async def _read_runs(ledger: LedgerReader, options: Namespace) -> list[RunRow]:
    """Read the runs that the options choose. Raises ``ElectionError`` for an unknown job."""
    await refuse_unknown(ledger, options.job)
    read = partial(ledger.runs, job_id=options.job, tag=options.tag, outcome=options.outcome)
    return await _read_pages(options, read, lambda row: (row.seq, row.claimed_at))


async def _read_pages(
    options: Namespace, read: Callable[..., Awaitable[list[_Row]]], place: Callable[[_Row], tuple[int, datetime]]
) -> list[_Row]:
    """Read the entries since ``--since``, or the latest ``--limit`` of them; older ones that are left out are told.

    place: number and time of an entry.
    """
    limit = options.limit or (DEFAULT_LIMIT if options.since is None else None)
    found: list[_Row] = []
    before = options.before
    while True:
        asked = ROWS_PER_PAGE if limit is None else min(ROWS_PER_PAGE, limit + 1 - len(found))
        rows = await read(before=before, limit=asked)
        found += [row for row in rows if options.since is None or place(row)[1] >= options.since]
        if limit is not None and len(found) > limit:
            print(f"there are older ones: --before {place(found[limit - 1])[0]}, or --limit", file=sys.stderr)
            return found[:limit]
        if len(rows) < asked or (options.since is not None and place(rows[-1])[1] < options.since):
            return found
        before = place(rows[-1])[0]


def _show_page(
    options: Namespace, rows: Sequence[_Row], heads: Sequence[str], cells: Callable[[_Row], Sequence[object]]
) -> int:
    """Print the rows as JSON or as a table; returns the exit code."""
    if options.json:
        show_json(rows)
    else:
        show_table(heads, map(cells, rows))
    return 0


async def _run(options: Namespace) -> int:
    """Print one run with the logs of its attempts; 2 if there is none."""
    async with reading(engine_of(options)) as ledger:
        run = await ledger.run(options.id)
        if run is None:
            raise ElectionError(f"there is no run {options.id}, or it has been pruned")
        logs = await ledger.logs(run.seq)
    if options.json:
        show_json({**asdict(run), "logs": logs})
    else:
        show_run(run, logs)
    return 0


async def logs(options: Namespace) -> int:
    """Print the logs of the latest runs, the latest run last, as in a file; runs without a log are left out."""
    async with reading(engine_of(options)) as ledger:
        rows = await _read_runs(ledger, options)
        found = [(row, await ledger.logs(row.seq)) for row in reversed(rows)]
    found = [(run, logs) for run, logs in found if logs]
    if options.json:
        show_json([{**asdict(run), "logs": logs} for run, logs in found])
        return 0
    for place, (run, logs) in enumerate(found):
        if place:
            print()
        show_log(run, logs)
    return 0


async def coming(options: Namespace) -> int:
    """Print the coming ticks of all jobs."""
    async with reading(engine_of(options)) as ledger:
        await refuse_unknown(ledger, options.job)
        jobs = await ledger.due_soonest(options.limit, options.job)
    now = datetime.now(UTC)
    planned = PlannedJobs(jobs)
    ticks = planned.coming_ticks(now=now, until=options.until, limit=options.limit)
    unknown, noticed = planned.unknown_triggers(), planned.remarks(now)
    if options.json:
        show_json({"ticks": ticks, "unknown": unknown, "remarks": noticed})
        return 0
    show_table(
        ("DUE BY THE JOB'S CLOCK", "ZONE", "UTC", "JOB", "NOTE"),
        (
            (f"{tick.local:%Y-%m-%d %H:%M:%S}", tick.timezone or "UTC", f"{tick.due:%m-%d %H:%M:%S}", tick.job_id,
             _note(tick))
            for tick in ticks
        ),
    )  # fmt: skip
    for job_id in unknown:
        print(f"not shown: {job_id}: its trigger is a class of your own, whose ticks only the leader can compute")
    for remark in noticed:
        print(printable(remark))
    return 0


async def skips(options: Namespace) -> int:
    """Print the skips, with their reasons."""
    async with reading(engine_of(options)) as ledger:
        await refuse_unknown(ledger, options.job)
        read = partial(ledger.skips, job_id=options.job, tag=options.tag)
        rows = await _read_pages(options, read, lambda row: (row.seq, row.at))
    return _show_page(
        options,
        rows,
        ("SEQ", "JOB", "REASON", "TICKS", "FIRST DUE", "LAST DUE", "TERM"),
        lambda row: (row.seq, row.job_id, row.reason, count(row), row.first_due, row.last_due, row.term),
    )


async def changes(options: Namespace) -> int:
    """Print the changes and who made them."""
    async with reading(engine_of(options)) as ledger:
        await refuse_unknown(ledger, options.job)
        read = partial(ledger.audit_trail, job_id=options.job)
        rows = await _read_pages(options, read, lambda row: (row.seq, row.at))
    return _show_page(
        options,
        rows,
        ("SEQ", "AT", "BY", "ACTION", "JOB", "BEFORE", "AFTER", "REQUEST"),
        lambda row: (row.seq, row.at, row.by, row.action, row.job_id, row.before, row.after, row.request),
    )


async def terms(options: Namespace) -> int:
    """Print the terms."""
    async with reading(engine_of(options)) as ledger:
        rows = await _read_pages(options, ledger.terms, lambda row: (row.term, row.began_at))
    return _show_page(
        options,
        rows,
        ("TERM", "PID", "HOST", "BEGAN", "REASON", "FROM PID", "TAKEOVER ms", "ENDED", "HOW"),
        lambda row: (
            row.term,
            row.pid,
            row.host,
            row.began_at,
            row.reason,
            row.from_pid,
            row.takeover_ms,
            row.ended_at,
            row.standing,
        ),
    )


async def verify(options: Namespace) -> int:
    """Whether the history keeps the promises; 1 if one is broken."""
    async with reading(engine_of(options)) as ledger, Progress("reading terms and claims") as progress:
        report = await judge(
            ledger, now=datetime.now(UTC), progress=lambda job, seen: progress.update(f"{job}: {seen} ticks")
        )
    if options.json:
        show_json(asdict(report))
        return 1 if report.violations else 0
    for violation in report.violations:
        ticks = "".join(f"\n    {text(due)}" for due in violation.ticks[:20])
        more = f"\n    … and {len(violation.ticks) - 20} more" if len(violation.ticks) > 20 else ""
        job = f" {violation.job_id}" if violation.job_id else ""
        print(f"{violation.promise} broken:{job}: {violation.text}{ticks}{more}")
    for job_id in report.unchecked:
        print(
            f"not checked: {job_id}: its trigger is a class of your own, whose ticks cannot be computed here, or its"
            " ticks were counted by the rule of another version"
        )
    if report.missing_terms:
        print(f"not checked: {describe_missing(report.missing_terms)}")
    verdict = f"promises broken {len(report.violations)} times" if report.violations else "P1 to P4 held"
    print(f"{verdict}; looked at {report.ticks} ticks and {report.terms} terms")
    return 1 if report.violations else 0


async def resign(options: Namespace) -> int:
    """Request the resignation of the leader, which follows within a heartbeat."""
    engine = engine_of(options)
    await engine.look()
    seen = await engine.seat.observe()
    if not seen.led or seen.record is None:
        raise ElectionError(f"nobody leads {engine.pool}, so nobody can resign")
    ledger = engine.open_ledger()
    try:
        if not (await ledger.latest_terms()).begun and (text := await without_history(engine, ledger)) is not None:
            raise ElectionError(f"no leader would read the request: {text}")
        number = await ledger.request(Action.RESIGN, term=seen.record.term, by=identity(options))
    finally:
        await ledger.close()
    if options.json:
        show_json({"request": number, "term": seen.record.term, "pid": seen.record.holder.pid})
    else:
        print(f"requested: pid {seen.record.holder.pid} resigns from term {seen.record.term}")
    return 0


async def accept_time(options: Namespace) -> int:
    """Resume jobs from now on whose future ticks were settled by a clock that was ahead."""
    async with changing(engine_of(options)) as ledger:
        jobs = await ledger.accept_time(by=identity(options))
    if options.json:
        show_json({"jobs": jobs})
    else:
        told = f"these jobs go on from now: {', '.join(jobs)}" if jobs else "no job is settled beyond this time"
        print(printable(told))
    return 0


async def adopt(options: Namespace) -> int:
    """Mark a copied or restored ledger as the original."""
    async with changing(engine_of(options)) as ledger:
        adopted = await ledger.adopt(by=identity(options))
    if options.json:
        show_json({"adopted": adopted})
    else:
        print("this ledger is the original from now on" if adopted else "this ledger is not known to be a copy")
    return 0


def _note(tick: ComingTick) -> str:
    notes = []
    if tick.clock_change is not None and tick.clock_change_s is not None:
        turn = "forward" if tick.clock_change_s > 0 else "back"
        minutes = abs(tick.clock_change_s) / 60
        notes.append(f"clocks go {turn} by {minutes:g} min at {tick.clock_change:%m-%d %H:%M} UTC")
    if tick.jitter_s:
        notes.append(f"up to {tick.jitter_s:g} s later")
    return ", ".join(notes)


def count(row: SkipRow) -> object:
    """Number of ticks of a skip, for display."""
    return row.count if row.count is not None else "many"
