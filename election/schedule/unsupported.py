"""Arguments and methods of APScheduler that an Election lacks, each refused with the way out."""

from __future__ import annotations

import difflib
import inspect
from collections.abc import Collection, Mapping
from typing import Any

from apscheduler.schedulers.asyncio import AsyncIOScheduler
from apscheduler.triggers.base import BaseTrigger
from apscheduler.triggers.calendarinterval import CalendarIntervalTrigger
from apscheduler.triggers.cron import CronTrigger
from apscheduler.triggers.date import DateTrigger
from apscheduler.triggers.interval import IntervalTrigger

from election.core.errors import JobDefinitionError
from election.core.numbers import LONGEST_S

_ARGUMENTS = {
    "next_run_time": 'every worker would work out its own; first_run="now" runs the job once when it is first seen,'
    " at_start=True at the start of each term, await election.run_now(id) at any time; the job is paused, as with"
    " None, by await election.jobs.pause(id)",
    "jobstore": "leave it out; the pool's ledger keeps the jobs and their history",
    "executor": "leave it out; coroutines run on the event loop, plain functions in threads (max_threads of the"
    " Election); for processes, the job submits to a ProcessPoolExecutor of your own",
    "replace_existing": "leave it out; a job of the code takes its own place at each start, and one that is added at"
    ' run time takes that of another with add_job(…, if_exists="replace")',
}
"""Arguments of APScheduler's ``add_job`` that cannot be given, and the way out."""

_OF_ADD_JOB = frozenset(inspect.signature(AsyncIOScheduler.add_job).parameters)
"""Arguments of ``add_job``, which passes any other to the trigger, or drops it if there is a trigger already."""

CRONTAB_OPTIONS = frozenset({"timezone", "start_date", "end_date", "jitter"})
"""Arguments of the trigger ``"crontab"``, beside its expression."""

_TRIGGERS: Mapping[str, frozenset[str]] = {
    "crontab": CRONTAB_OPTIONS,
    **{
        name: frozenset(inspect.signature(made).parameters)
        for name, made in {
            "calendarinterval": CalendarIntervalTrigger,
            "cron": CronTrigger,
            "date": DateTrigger,
            "interval": IntervalTrigger,
        }.items()
    },
}
"""Arguments of each trigger that is known by name."""

_PAUSE = "pause each job: for job in await election.jobs.list(): await election.jobs.pause(job.id)"
_EVENTS = "decorate a function with @election.on_event; it is called with each event of election.events in its worker"
_LEDGER = "the pool's ledger keeps jobs and history: Election(pool) with a directory or the URL of a server"
_THREADS = "coroutines run on the event loop, plain functions in threads: Election(…, max_threads=…)"
_START = "FastAPI(lifespan=election.lifespan), or async with election"

_METHODS = {
    "add_executor": _THREADS,
    "add_jobstore": _LEDGER,
    "add_listener": _EVENTS,
    "configure": 'Election(…, scheduler_options={"timezone": …, "job_defaults": …})',
    "export_jobs": "python -m election migrate",
    "get_job": "await election.jobs.get(id)",
    "get_jobs": "await election.jobs.list()",
    "import_jobs": "python -m election migrate",
    "modify_job": "await election.jobs.modify(id, …)",
    "pause": _PAUSE,
    "pause_job": "await election.jobs.pause(id)",
    "print_jobs": "python -m election jobs",
    "remove_all_jobs": "for job in await election.jobs.list(): if job.stored: await election.jobs.remove(job.id)",
    "remove_executor": _THREADS,
    "remove_jobstore": _LEDGER,
    "remove_listener": "a hook stays: let it return at once if it has nothing to do",
    "reschedule_job": "await election.jobs.reschedule(id, …)",
    "resume": "resume each job: for job in await election.jobs.list(): await election.jobs.resume(job.id)",
    "resume_job": "await election.jobs.resume(id)",
    "running": "election.is_leader, of this worker",
    "shutdown": f"the end of the application's lifespan does it: {_START}",
    "start": f"the application's lifespan does it: {_START}",
    "wakeup": "nothing is needed: the leader reads what others write within a heartbeat",
}
"""Methods of APScheduler's schedulers that an Election lacks, and their counterpart."""


def describe_missing(name: str) -> str:
    """Return the message for an attribute that an Election lacks; for a method of APScheduler with its counterpart."""
    counterpart = _METHODS.get(name)
    return f"an Election has no attribute {name!r}" + (f"; instead: {counterpart}" if counterpart else "")


def check_trigger(trigger: object, whose: str = "a job") -> None:
    """Raise ``JobDefinitionError`` for an object in the place of a trigger, and for a cron expression."""
    if not isinstance(trigger, str | BaseTrigger):
        raise JobDefinitionError(
            f"{whose} needs a trigger, by name or as an object, not {trigger!r}:"
            ' @election.scheduled_job("interval", seconds=10); the trigger "date" without a run_date runs it once'
        )
    if isinstance(trigger, str) and len(trigger.split()) > 1:
        raise JobDefinitionError(
            f"{whose} needs a trigger, and {trigger!r} is no name of one; a cron expression is given as"
            f' "crontab", expression={trigger!r}'
        )


def refuse_unsupported(job_id: str, arguments: Collection[str]) -> None:
    """Raise ``JobDefinitionError`` for arguments of APScheduler's ``add_job`` that cannot be given."""
    for name in sorted(_ARGUMENTS.keys() & arguments):
        raise JobDefinitionError(f"job {job_id!r}: {name} cannot be given: {_ARGUMENTS[name]}")


def check_arguments(
    job_id: str, trigger: str | BaseTrigger, arguments: Collection[str], own: Collection[str] = ()
) -> None:
    """Raise ``JobDefinitionError`` for arguments that neither a job nor its trigger takes.

    Args:
        job_id: Id of the job.
        trigger: Its trigger.
        arguments: Names of the arguments that were given.
        own: Names of the arguments of a job that APScheduler lacks, to suggest.
    """
    refuse_unsupported(job_id, arguments)
    known = _TRIGGERS.get(trigger) if isinstance(trigger, str) else frozenset()
    if known is None:  # a trigger that another package brings
        return
    for name in sorted({*arguments} - _OF_ADD_JOB - known):
        made = f"the trigger {trigger!r}" if isinstance(trigger, str) else "a trigger that is made already"
        alike = difflib.get_close_matches(name, {*known, *_OF_ADD_JOB - _ARGUMENTS.keys(), *own} - {"self"}, n=1)
        raise JobDefinitionError(
            f"job {job_id!r}: {made} takes no {name}, and neither does a job"
            + (f"; did you mean {alike[0]}?" if alike else "")
        )


def to_misfire_grace_time(job_id: str, value: Any) -> int | None:
    """Return whole seconds, as APScheduler wants them. Raises ``JobDefinitionError`` for a value such as 0."""
    if value is not None and (not isinstance(value, int) or value <= 0):
        raise JobDefinitionError(
            f"job {job_id!r}: misfire_grace_time is a whole number of seconds, at least 1, or None to run however late,"
            f" not {value!r}"
        )
    return value if value is None else min(value, LONGEST_S)
