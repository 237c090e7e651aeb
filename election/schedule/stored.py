"""Jobs that are added at run time, by any worker, and run by whoever leads: a reference and JSON, never pickle.

This answers the oldest complaint about APScheduler under several workers: an endpoint that adds a job reaches only its
own process.
"""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Callable, Coroutine, Generator, Mapping
from concurrent.futures import Future
from dataclasses import replace
from typing import Any

from apscheduler.triggers.base import BaseTrigger
from apscheduler.util import ref_to_obj

from election.core.errors import JobDefinitionError, describe_error
from election.core.events import named

from .jobs import Job, JobRegistry, check_id, reference_to
from .ledger import IfExists
from .model import UNREADABLE, JobState, MarkBroken, State, StoredJob
from .triggers import build, is_open

log = logging.getLogger("election")

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
)


def to_store(
    registry: JobRegistry,
    func: Callable[..., Any] | str,
    trigger: str | BaseTrigger,
    *,
    id: str,  # noqa: A002  APScheduler's own name for it
    kwargs: Mapping[str, Any] | None = None,
    **arguments: Any,
) -> tuple[Mapping[str, Any], StoredJob]:
    """A job in the form in which it is stored: its trigger's description, and the rest.

    Raises ``JobDefinitionError`` if another process could not import the function, or could not read the arguments.
    """
    check_id(id)
    reference = func if isinstance(func, str) else reference_to(func)
    if reference.partition(":")[0] in {"__main__", "__mp_main__"}:
        raise JobDefinitionError(f"job {id!r}: {reference} is something else in every process; put it into a module")
    if arguments.get("args"):
        raise JobDefinitionError(f"job {id!r}: args cannot be stored; pass them by name: kwargs=…")
    found = import_function(reference, id)
    if not isinstance(func, str) and found is not func:
        raise JobDefinitionError(f"job {id!r}: {reference} is something else than the function that was given")
    if id in registry:
        raise JobDefinitionError(f"there is a job {id!r} in the code already; choose another id")
    job = registry.define(found, trigger, id=id, kwargs=kwargs, **arguments)
    if job.schedule["type"] == "other":
        raise JobDefinitionError(f"job {id!r}: a trigger class of your own cannot be stored; register it in the code")
    options = {name: arguments[name] for name in OPTIONS if name in arguments}
    if "tags" in options:
        options["tags"] = list(job.tags)  # whatever they were given as, JSON has lists
    stored = StoredJob(reference, dict(kwargs or {}), options)
    try:
        if json.loads(json.dumps([stored.kwargs, stored.options])) != [stored.kwargs, stored.options]:
            raise TypeError("it would not come back as it went")
    except (TypeError, ValueError) as error:
        raise JobDefinitionError(f"job {id!r}: its kwargs must be JSON: {error}") from error
    return job.schedule, stored


def parse_if_exists(given: str) -> IfExists:
    """Value of the argument ``if_exists``. Raises ``JobDefinitionError``."""
    try:
        return IfExists(given)
    except ValueError:
        raise JobDefinitionError(f'if_exists is "error", "keep" or "replace", not {given!r}') from None


class JobAddition(Coroutine[Any, Any, None]):
    """Job that is being added. It is added whether this is awaited or not.

    Args:
        adding: Result of an addition that is under way in the event loop of the Election, or a function that begins
            one when this is awaited.
    """

    def __init__(self, adding: Future[None] | Callable[[], Coroutine[Any, Any, None]]) -> None:
        self._adding = adding
        self._begun: Coroutine[Any, Any, None] | None = None
        self._is_seen = False

    def __await__(self) -> Generator[Any, Any, None]:
        return self._begin().__await__()

    def send(self, value: Any) -> Any:
        return self._begin().send(value)

    def throw(self, *error: Any) -> Any:
        return self._begin().throw(*error)

    def close(self) -> None:
        if self._begun is not None:
            self._begun.close()

    def result(self, timeout: float | None = None) -> None:
        """Wait until the job has been added, where nothing can be awaited: in a thread, or in a plain script.

        Args:
            timeout: Seconds that a thread waits; None for as long as it takes.

        Raises:
            JobDefinitionError: The id is taken, or an event loop runs in this thread.
            LedgerError: The job cannot be stored.
            TimeoutError: It has not been added within ``timeout``; it may be later.
        """
        if asyncio._get_running_loop() is not None:
            raise JobDefinitionError(
                "an event loop runs in this thread and would stand still: await election.add_job(…)"
            )
        self._is_seen = True
        if isinstance(self._adding, Future):
            self._adding.result(timeout)
        else:
            asyncio.run(self)

    def _begin(self) -> Coroutine[Any, Any, None]:
        self._is_seen = True
        if self._begun is None:
            self._begun = _wait(self._adding) if isinstance(self._adding, Future) else self._adding()
        return self._begun

    def __del__(self) -> None:
        if isinstance(self._adding, Future) and not self._is_seen:
            self._adding.add_done_callback(_log_failure)


async def _wait(adding: Future[None]) -> None:
    await asyncio.wrap_future(adding)


def _log_failure(adding: Future[None]) -> None:
    """Log why a job was not added, since nobody has awaited it."""
    if not adding.cancelled() and (error := adding.exception()) is not None:
        log.error("a job was not added: %s", describe_error(error), extra=named("job_not_added"))


class StoredJobLoader:
    """Makes jobs of what is stored. Those that differ in id, schedule and values alone are checked once for all.

    Args:
        registry: Defines the jobs.
    """

    def __init__(self, registry: JobRegistry) -> None:
        self._registry = registry
        self._checked: dict[tuple[str, str], Job] = {}

    def load(self, state: JobState) -> Job:
        """The job again. Raises ``JobDefinitionError`` with what is broken: its function does not import any more."""
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
            func = import_function(stored.func, state.id)
            alike = self._registry.define(func, trigger, id=state.id, kwargs=stored.kwargs, **stored.options)
            self._checked[kind] = alike
        return replace(  # with the schedule as it was stored: anew would close what is open
            alike,
            id=state.id,
            kwargs=dict(stored.kwargs),
            trigger=trigger,
            schedule=state.trigger,
            built=None if is_open(state.trigger) else trigger,
        )


def load_jobs(registry: JobRegistry, state: State) -> tuple[dict[str, Job], dict[str, str]]:
    """The jobs of the code and those that were added at run time, by id; and why some of these cannot be loaded.

    Of a change, those that it is about.
    """
    about, broken = state.about, {}
    jobs = {job.id: job for job in registry if about is None or job.id in about}
    loader = StoredJobLoader(registry)
    for found in state.jobs:
        if found.stored is None or found.removed or found.id in jobs:
            continue
        try:
            jobs[found.id] = loader.load(found)
        except JobDefinitionError as reason:
            broken[found.id] = str(reason)
        except Exception as reason:  # of a row that another version wrote
            broken[found.id] = f"job {found.id!r}: it cannot be loaded: {describe_error(reason)}"
    return jobs, broken


def mark_broken(broken: Mapping[str, str], state: State) -> list[MarkBroken]:
    """Return the commands that say why jobs cannot be loaded, where the ledger does not know; and log the reasons.

    One that loads again is planned, see ``make_plan``.
    """
    known = {found.id: found.broken for found in state.jobs}
    marks = [MarkBroken(job_id, error) for job_id, error in broken.items() if error != known[job_id]]
    for mark in marks:
        log.error("broken: %s", mark.error, extra=named("job_broken"))
    return marks


def import_function(reference: str, job_id: str) -> Callable[..., Any]:
    try:
        found = ref_to_obj(reference)
    except (Exception, SystemExit) as error:  # whatever the module does when it is imported
        raise JobDefinitionError(
            f"job {job_id!r}: {reference} cannot be imported: {error.__cause__ or error};"
            " a stored job needs a function at module level, named as 'package.module:function'"
        ) from error
    if not callable(found):
        raise JobDefinitionError(f"job {job_id!r}: {reference} is no function")
    return found  # type: ignore[no-any-return]
