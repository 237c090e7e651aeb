"""The jobs of an application: registered with APScheduler's own arguments, checked by APScheduler itself."""

from __future__ import annotations

import functools
import inspect
import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from apscheduler.schedulers.asyncio import AsyncIOScheduler
from apscheduler.triggers.base import BaseTrigger

from election.core.errors import JobDefinitionError

MISFIRE_GRACE_TIME = 30
"""Seconds. APScheduler's own default of 1 is its most frequent silent loss (apscheduler#146, #292, #296)."""

_REFUSED = {
    "next_run_time": "every worker would work out its own; give the trigger a start_date",
    "jobstore": "the jobs are those of the code; the pool keeps their history itself",
    "executor": "an Election brings its own, which knows what runs and waits for it",
    "replace_existing": "the id of a job is its own",
}

_SILENT = logging.getLogger("election.argument-check")
_SILENT.disabled = True


@dataclass(frozen=True, slots=True)
class Job:
    """A function with a trigger. The id is stable across processes: ``module:qualname`` unless given."""

    id: str
    func: Callable[..., Any]
    trigger: BaseTrigger
    name: str
    args: tuple[Any, ...] = ()
    kwargs: Mapping[str, Any] = field(default_factory=dict)
    coalesce: bool = True
    max_instances: int = 1
    misfire_grace_time: int | None = MISFIRE_GRACE_TIME

    @property
    def is_coroutine(self) -> bool:
        return is_coroutine_function(self.func)


class JobRegistry:
    """The jobs of one Election, in the order of their registration.

    scheduler_options: what the schedulers of the terms are made with.
    """

    def __init__(self, scheduler_options: Mapping[str, Any]) -> None:
        self._options = scheduler_options
        self._jobs: dict[str, Job] = {}

    def __iter__(self) -> Iterator[Job]:
        return iter(self._jobs.values())

    def add(
        self,
        func: Callable[..., Any],
        trigger: str | BaseTrigger,
        *,
        id: str | None = None,  # noqa: A002  APScheduler's own name for it
        args: Sequence[Any] | None = None,
        kwargs: Mapping[str, Any] | None = None,
        **arguments: Any,
    ) -> Job:
        """Register a job; the arguments are those of APScheduler's ``add_job``.

        Raises ``JobDefinitionError`` if APScheduler refuses them, if the id is taken, or for an argument that cannot
        work in a pool.
        """
        job_id = id or _id_of(func)
        for name in _REFUSED.keys() & arguments.keys():
            raise JobDefinitionError(f"job {job_id!r}: {name} cannot be given: {_REFUSED[name]}")
        if job_id in self._jobs:
            raise JobDefinitionError(f"there is a job {job_id!r} already; give this one an id of its own: id=…")
        defaults = {"misfire_grace_time": MISFIRE_GRACE_TIME, "coalesce": True, "max_instances": 1}
        defaults |= self._options.get("job_defaults", {})
        try:
            # A scheduler that is never started: it lends its check of the arguments, and holds nothing.
            checked = AsyncIOScheduler(**{**self._options, "logger": _SILENT}).add_job(
                func, trigger, args=args, kwargs=kwargs, id=job_id, **{**defaults, **arguments}
            )
        except (LookupError, TypeError, ValueError, AttributeError) as error:
            raise JobDefinitionError(f"job {job_id!r}: {str(error).strip(chr(34))}") from error
        job = Job(
            id=job_id,
            func=func,
            trigger=checked.trigger,
            name=checked.name,
            args=tuple(checked.args),
            kwargs=dict(checked.kwargs),
            coalesce=checked.coalesce,
            max_instances=checked.max_instances,
            misfire_grace_time=checked.misfire_grace_time,
        )
        self._jobs[job_id] = job
        return job


def is_coroutine_function(func: Callable[..., Any]) -> bool:
    """Whether calling ``func`` gives a coroutine; sees through ``functools.partial`` and callable objects."""
    while isinstance(func, functools.partial):
        func = func.func
    return inspect.iscoroutinefunction(func) or inspect.iscoroutinefunction(getattr(func, "__call__", None))  # noqa: B004


def _id_of(func: Callable[..., Any]) -> str:
    named = func
    while isinstance(named, functools.partial):
        named = named.func
    try:
        return f"{named.__module__}:{named.__qualname__}"
    except AttributeError:
        raise JobDefinitionError(f"{func!r} has no name that other processes would know; give it one: id=…") from None
