"""``python -m election status``: who leads, whether its heart beats, which workers there are, what the jobs do."""

from __future__ import annotations

from argparse import Namespace

from election.core.errors import SeatError

from .glance import Glance, JobStatus, Looker
from .looking import engine_of
from .show import Busy, show_json, show_table, text


async def status(options: Namespace) -> int:
    """Print who leads; return 0 with a leader, 1 without.

    Raises ``SeatError`` if that cannot be read, ``PoolPathError`` without a pool.
    """
    looker = Looker(engine_of(options))
    try:
        async with Busy("waiting for a heartbeat of the leader"):
            await looker.wait_for_a_beat()
        glance = await looker.look(options.tag)
    finally:
        await looker.close()
    if glance.record is None and glance.trouble is not None:
        raise SeatError(glance.trouble if glance.pool in glance.trouble else f"{glance.pool}: {glance.trouble}")
    if options.json:
        show_json(glance.document())
    else:
        _show(glance)
    return 0 if glance.led else 1


def _show(glance: Glance) -> None:
    record, holder = glance.record, None
    if record is not None and glance.led:
        holder = record.holder
        print(f"{glance.pool}: pid {holder.pid} leads term {record.term} since {text(record.elected_at)}")
        print(f"heartbeat: {heartbeat(glance)}")
    else:
        print(f"{glance.pool}: nobody leads")
    followers = [str(worker.process.pid) for worker in glance.workers if worker.process != holder]
    print(f"followers: {', '.join(followers) or 'none'}")
    if glance.trouble:
        print(f"problem: {glance.trouble}")
    if glance.unread:
        print(f"the ledger cannot be read: {glance.unread}")
    if glance.jobs:
        print()
        heads = ("JOB", "STATE", "NEXT", "LAST DUE", "OUTCOME", "LATE ms", "TAGS", "NAME", "DESCRIPTION")
        show_table(heads, (_row(job) for job in glance.jobs))


def heartbeat(glance: Glance) -> str:
    """Describe the leader's heartbeat."""
    match glance.responsive:
        case True:
            return f"beats (seen {glance.silent_s:.1f} s ago)"
        case False:
            return f"has not moved for {glance.silent_s:.1f} s: the leader is stopped, blocked or overloaded"
    return "not seen to beat yet"


def _row(job: JobStatus) -> tuple[object, ...]:
    return (
        job.id, standing(job), job.next_run_time, job.last_due, job.last_outcome, job.last_late_ms,
        ",".join(job.tags) or None, job.name, job.description and job.description.partition("\n")[0],
    )  # fmt: skip


def standing(job: JobStatus) -> str:
    """The job's state, in words."""
    if job.broken:
        return f"broken: {job.broken}"
    if job.retired:
        return "no longer in the code"
    return "paused" if job.paused else "scheduled"
