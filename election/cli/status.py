"""``python -m election status``: leader, heartbeat, workers and jobs of a pool."""

from __future__ import annotations

import shlex
import sys
from argparse import Namespace
from collections.abc import Iterable

from election.core.errors import SeatError

from .open_pool import engine_of, reading
from .pool_status import JobStatus, PoolStatus, StatusReader, job_statuses
from .show import Progress, show_json, show_table, text


async def status(options: Namespace) -> int:
    """Print who leads; return 0 with a leader, 1 without.

    Raises ``SeatError`` if the leader cannot be read, ``PoolPathError`` without a pool.
    """
    reader = StatusReader(engine_of(options))
    try:
        async with Progress("waiting for a heartbeat of the leader"):
            await reader.wait_for_heartbeat()
        snapshot = await reader.look(options.tag)
    finally:
        await reader.close()
    if snapshot.record is None and snapshot.trouble is not None:
        raise SeatError(
            snapshot.trouble if snapshot.pool in snapshot.trouble else f"{snapshot.pool}: {snapshot.trouble}"
        )
    if options.json:
        show_json(snapshot.document())
    else:
        _show(snapshot)
    return 0 if snapshot.led else 1


def _show(snapshot: PoolStatus) -> None:
    record, holder = snapshot.record, None
    if record is not None and snapshot.led:
        holder = record.holder
        named = snapshot.named(holder)
        print(f"{snapshot.pool}: pid {named} leads term {record.term} since {text(record.elected_at)}")
        print(f"heartbeat: {heartbeat(snapshot)}")
        if record.queued:
            print(f"queued: {record.queued} runs wait for a thread (max_threads)")
    else:
        print(f"{snapshot.pool}: nobody leads")
    followers = [snapshot.named(worker.process) for worker in snapshot.workers if worker.process != holder]
    print(f"followers: {', '.join(followers) or 'none'}")
    if snapshot.trouble:
        print(f"problem: {snapshot.trouble}")
    if snapshot.unread:
        print(f"the ledger cannot be read: {snapshot.unread}")
    if snapshot.jobs:
        print()
        _show_jobs(snapshot.jobs)
    if snapshot.more_jobs != 0:
        count = "more jobs" if snapshot.more_jobs is None else f"{snapshot.more_jobs} more jobs"
        print(f"and {count}: python -m election jobs lists all")


async def jobs(options: Namespace) -> int:
    """Print a page of the jobs, by id."""
    async with reading(engine_of(options)) as ledger:
        limit = options.limit
        found = await ledger.search_jobs(text=options.search, tag=options.tag, after=options.after, limit=limit + 1)
        shown = await job_statuses(ledger, found[:limit])
    if len(found) > limit:
        print(f"there are more: --after {shlex.quote(found[limit - 1].id)}, or --limit", file=sys.stderr)
    if options.json:
        show_json(shown)
    else:
        _show_jobs(shown)
    return 0


def _show_jobs(jobs: Iterable[JobStatus]) -> None:
    heads = ("JOB", "STATE", "NEXT", "LAST DUE", "OUTCOME", "LATE ms", "TAGS", "NAME", "DESCRIPTION")
    show_table(heads, (_row(job) for job in jobs))


def heartbeat(snapshot: PoolStatus) -> str:
    """Describe the leader's heartbeat."""
    match snapshot.responsive:
        case True:
            return f"beats (seen {snapshot.silent_s:.1f} s ago)"
        case False:
            return f"has not moved for {snapshot.silent_s:.1f} s: the leader is stopped, blocked or overloaded"
    return "not seen to beat yet"


def _row(job: JobStatus) -> tuple[object, ...]:
    return (
        job.id, standing(job), job.next_run_time, job.last_due, job.last_outcome, job.last_late_ms,
        ",".join(job.tags) or None, job.name, job.description and job.description.partition("\n")[0],
    )  # fmt: skip


def standing(job: JobStatus) -> str:
    """The job's state, in words."""
    if job.removed:
        return "removed or finished: it has no further ticks"
    if job.retired:
        return "no longer in the code"
    if job.broken:
        return f"broken: {job.broken}"
    return "paused" if job.paused else "scheduled"
