"""Jobs that are added at run time, by any worker, and run by the leader: a reference and JSON, never pickle.

This solves the oldest problem of APScheduler under several workers: an endpoint that adds a job reaches only its own
process.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from apscheduler.triggers.base import BaseTrigger
from apscheduler.util import ref_to_obj

from election.core.errors import JobDefinitionError, describe_error, to_storable, what_went_wrong
from election.core.events import named
from election.core.logs import log

from .commands import MarkBroken, RescheduleJob
from .functions import reference_to, refuse_what_cannot_be_stored
from .jobs import Job, JobRegistry, check_call, check_id
from .ledger import IfExists
from .model import UNREADABLE, JobState, NewJob, State, StoredJob
from .triggers import build, is_open
from .unsupported import refuse_unsupported

MAX_ARGUMENTS_LENGTH = 65536
"""Characters of JSON that the arguments of a job may have: each process that plans the job reads them."""

OPTIONS = (
    "name",
    "description",
    "tags",
    "coalesce",
    "max_instances",
    "misfire_grace_time",
    "rerun_interrupted",
    "max_reruns",
    "retries",
    "retry_backoff",
    "timeout",
    "keep_log",
    "at_start",
    "overlap",
    "late_after",
    "expected",
    "failing_after",
)


def to_store(
    registry: JobRegistry,
    func: Callable[..., Any] | str,
    trigger: str | BaseTrigger,
    is_stored: bool = False,
    /,
    *,
    id: str,  # noqa: A002  APScheduler's own name for it
    kwargs: Mapping[str, Any] | None = None,
    **arguments: Any,
) -> tuple[Mapping[str, Any], StoredJob]:
    """Return the stored form of a job: its trigger's description, and the rest.

    is_stored: whether the trigger was built from the description of a stored job.

    Raises ``JobDefinitionError`` if another process could not import the function, or could not read the arguments.
    """
    id = check_id(id)  # noqa: A001
    if not isinstance(func, str):
        refuse_what_cannot_be_stored(id, func)
    reference = func if isinstance(func, str) else reference_to(func)
    if reference.partition(":")[0] in {"__main__", "__mp_main__"}:
        raise JobDefinitionError(f"job {id!r}: {reference} is something else in every process; put it into a module")
    _refuse_args(id, arguments)
    found = import_function(reference, id)
    if not isinstance(func, str) and found != func:  # a classmethod is made anew each time
        raise JobDefinitionError(f"job {id!r}: {reference} is something else than the function that was given")
    if id in registry:
        raise JobDefinitionError(f"there is a job {id!r} in the code already; choose another id")
    define = registry.define_stored if is_stored else registry.define
    job = define(found, trigger, id=id, kwargs=kwargs, **arguments)
    if job.schedule["type"] == "other":
        raise JobDefinitionError(f"job {id!r}: a trigger class of your own cannot be stored; register it in the code")
    options = {name: arguments[name] for name in OPTIONS if name in arguments}
    if "tags" in options:
        options["tags"] = list(job.tags)  # JSON has lists only
    stored = StoredJob(reference, dict(kwargs or {}), options, job.info)
    _check_json(id, [stored.kwargs, stored.options])
    return job.schedule, stored


def _reschedule(
    registry: JobRegistry, job_id: str, trigger: str | BaseTrigger | None, changes: Mapping[str, Any]
) -> RescheduleJob:
    if trigger is None or (fixed := changes.keys() & {"func", "args", "kwargs", "first_run", *OPTIONS}):
        named = ", ".join(sorted(changes if trigger is None else fixed)) or "nothing"
        raise JobDefinitionError(
            f"job {job_id!r} is in the code: only its trigger can be changed at run time, and all else in the code;"
            f" given: {named}"
        )
    job = registry.define(_nothing, trigger, id=job_id, **changes)
    if job.schedule["type"] == "other":
        raise JobDefinitionError(f"job {job_id!r}: a trigger class of your own cannot be stored; put it into the code")
    return RescheduleJob(job_id, job.schedule)


def _nothing() -> None:
    """Placeholder of a function that this process may not have."""


def reset(found: JobState) -> RescheduleJob:
    """Give a job of the code its own trigger again. Raises ``JobDefinitionError`` for one added at run time."""
    if found.stored is not None:
        raise JobDefinitionError(f"job {found.id!r} was added at run time: no code has a trigger for it")
    return RescheduleJob(found.id, None)


def check_run(registry: JobRegistry, job_id: str, kwargs: Mapping[str, Any]) -> bool:
    """Check the arguments of a run by request.

    Args:
        registry: Jobs of the code.
        job_id: Id of the job to run.
        kwargs: Arguments of the run, in place of the job's own arguments with these names.

    Returns:
        Whether the code has the job.

    Raises:
        JobDefinitionError: They cannot be stored, or the job of the code does not take them.
    """
    _check_json(job_id, kwargs)
    job = registry.get(job_id)
    if job is not None:
        check_call(job, kwargs)
    return job is not None


def _refuse_args(job_id: str, arguments: Mapping[str, Any]) -> None:
    if arguments.get("args"):
        raise JobDefinitionError(f"job {job_id!r}: args cannot be stored; pass them by name: kwargs={{…}}")


def _check_json(job_id: str, value: object) -> None:
    """Raise ``JobDefinitionError`` for arguments that storage in the ledger would change."""
    try:
        text = json.dumps(value)
        if json.loads(text) != value:
            raise TypeError("a value would be changed by JSON")
    except (TypeError, ValueError, RecursionError) as error:
        raise JobDefinitionError(f"job {job_id!r}: its kwargs must be JSON: {error}") from error
    if len(text) > MAX_ARGUMENTS_LENGTH:
        raise JobDefinitionError(
            f"job {job_id!r}: its kwargs have {len(text):,} characters of JSON, and a job has at most"
            f" {MAX_ARGUMENTS_LENGTH:,}: store the data elsewhere, and pass the job a reference to them"
        )


def parse_if_exists(given: str) -> IfExists:
    """Value of the argument ``if_exists``. Raises ``JobDefinitionError``."""
    try:
        return IfExists(given)
    except ValueError:
        raise JobDefinitionError(f'if_exists is "error", "keep" or "replace", not {given!r}') from None


def to_new_job(
    registry: JobRegistry,
    func: Callable[..., Any] | str,
    trigger: str | BaseTrigger,
    *,
    id: str | None,  # noqa: A002
    **arguments: Any,
) -> NewJob:
    """``to_store`` with the id, which is needed to find the job again. Raises ``JobDefinitionError``."""
    if id is None:
        raise JobDefinitionError("a job that is added at run time needs an id, by which it is found again: id=…")
    return NewJob(id, *to_store(registry, func, trigger, id=id, **arguments))


def modified(
    registry: JobRegistry, found: JobState, trigger: str | BaseTrigger | None, changes: Mapping[str, Any]
) -> NewJob | RescheduleJob:
    """Return a changed job; arguments that are not given stay. Of a job of the code only the trigger can be changed.

    Args:
        registry: Jobs of the code.
        found: The job as it is stored.
        trigger: Its new trigger; None keeps the one that it has.
        changes: Arguments of ``to_store``.

    Raises:
        JobDefinitionError: The changes cannot work.
    """
    stored, job_id = found.stored, found.id
    if stored is None:
        return _reschedule(registry, job_id, trigger, changes)
    others = changes.keys() - {"func", "kwargs", *OPTIONS}
    refuse_unsupported(job_id, others)
    _refuse_args(job_id, changes)
    if trigger is None and others:
        raise JobDefinitionError(
            f"job {job_id!r}: {', '.join(sorted(others))} cannot be changed without a trigger; name it, too:"
            ' modify(id, "interval", seconds=10)'
        )
    func = changes.get("func", stored.func)
    arguments = {"kwargs": stored.kwargs, **stored.options, **changes}
    arguments.pop("func", None)
    kept = trigger is None
    if trigger is None:
        trigger = build(found.trigger, found.scheduled_since)
    if trigger is None:
        raise JobDefinitionError(f"job {job_id!r}: its trigger cannot be built again; name another one")
    schedule, changed = to_store(registry, func, trigger, kept, id=job_id, **arguments)
    return NewJob(job_id, found.trigger if kept else schedule, changed)


class StoredJobLoader:
    """Builds stored jobs. Jobs that differ only in id, schedule and values are checked once for all.

    Args:
        registry: Defines the jobs.
        check_import: Raises the reason why the function of a reference cannot be imported now, if there is one.
    """

    def __init__(self, registry: JobRegistry, check_import: Callable[[str], object] = lambda _: None) -> None:
        self._registry = registry
        self._check_import = check_import
        self._checked: dict[tuple[str, str], Job] = {}

    def load(self, state: JobState) -> Job:
        """Build a job. Raises ``JobDefinitionError`` if it is broken: for example, its function cannot be imported."""
        stored = state.stored
        assert stored is not None
        check_id(state.id)
        trigger = build(state.trigger, state.scheduled_since)
        if trigger is None and state.trigger == UNREADABLE:
            raise JobDefinitionError(state.broken or f"the row of job {state.id!r} cannot be read")
        if trigger is None:
            raise JobDefinitionError(f"job {state.id!r}: its trigger cannot be built again")
        kind = stored.func, json.dumps([sorted(stored.kwargs), stored.options], sort_keys=True)
        alike = self._checked.get(kind)
        if alike is None:
            func = import_function(stored.func, state.id, self._check_import)
            alike = self._registry.define_stored(func, trigger, id=state.id, kwargs=stored.kwargs, **stored.options)
            self._checked[kind] = alike
        own = replace(alike, id=state.id, kwargs=dict(stored.kwargs))
        return _with_schedule(own, state.trigger, trigger)


def _with_schedule(job: Job, schedule: Mapping[str, Any], trigger: BaseTrigger) -> Job:
    """Return the job with its stored schedule: a new description would fix a start that was left open."""
    return replace(job, trigger=trigger, schedule=schedule, built=None if is_open(schedule) else trigger)


def _as_rescheduled(job: Job, found: JobState | None) -> Job:
    """A job of the code with the trigger that it was given at run time, unless that in the code has changed since."""
    if found is None or found.new_trigger is None or found.code_trigger != job.schedule:
        return job
    trigger = build(found.new_trigger, found.scheduled_since)
    return job if trigger is None else _with_schedule(job, found.new_trigger, trigger)


def load_jobs(
    registry: JobRegistry, state: State, check_import: Callable[[str], object] = lambda _: None
) -> tuple[dict[str, Job], dict[str, str]]:
    """Return the jobs of the code and those that were added at run time, by id; and why some of these cannot be loaded.

    For a change, only the jobs that it covers. ``check_import`` is that of ``StoredJobLoader``.
    """
    about, broken = state.about, {}
    known = {found.id: found for found in state.jobs}
    of_code = registry if about is None else filter(None, map(registry.get, sorted(about)))
    jobs = {job.id: _as_rescheduled(job, known.get(job.id)) for job in of_code}
    loader = StoredJobLoader(registry, check_import)
    for found in state.jobs:
        if found.stored is None or found.removed or found.id in jobs:
            continue
        try:
            jobs[found.id] = loader.load(found)
        except JobDefinitionError as reason:
            broken[found.id] = to_storable(str(reason))
        except BaseException as reason:  # of a row that another version wrote, or of an exception in a job's module
            broken[found.id] = to_storable(f"job {found.id!r}: it cannot be loaded: {what_went_wrong(reason)}")
    return jobs, broken


def mark_broken(broken: Mapping[str, str], state: State) -> list[MarkBroken]:
    """Return the commands that record why jobs cannot be loaded, where the ledger lacks that; and log the reasons.

    A job that loads again is planned, see ``make_plan``.
    """
    known = {found.id: found.broken for found in state.jobs}
    marks = [MarkBroken(job_id, error) for job_id, error in broken.items() if error != known[job_id]]
    for mark in marks:
        log.error("broken: %s", mark.error, extra=named("job_broken"))
    return marks


def import_function(
    reference: str, job_id: str, check_import: Callable[[str], object] = lambda _: None
) -> Callable[..., Any]:
    """Return the function that a stored job refers to. Raises ``JobDefinitionError``.

    check_import: see ``StoredJobLoader``.
    """
    try:
        check_import(reference)
        found = ref_to_obj(reference)
    except BaseException as error:  # the module may raise anything when it is imported
        raise JobDefinitionError(
            f"job {job_id!r}: {reference} cannot be imported: {describe_error(error.__cause__ or error)};"
            " a stored job needs a function at module level, named as 'package.module:function'"
        ) from error
    if not callable(found):
        raise JobDefinitionError(f"job {job_id!r}: {reference} is no function")
    return found  # type: ignore[no-any-return]
