"""The jobs of an application: registered with APScheduler's own arguments, checked by APScheduler itself."""

from __future__ import annotations

import hashlib
import inspect
import json
import logging
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta, tzinfo
from enum import StrEnum
from typing import Any

from apscheduler.schedulers.asyncio import AsyncIOScheduler
from apscheduler.triggers.base import BaseTrigger

from election.core.callables import is_coroutine_function
from election.core.clock import Clock, SystemClock
from election.core.errors import JobDefinitionError, describe_error
from election.core.events import named
from election.core.logs import log
from election.core.numbers import to_count, to_seconds

from .crontab import parse_crontab
from .functions import reference_to, refuse_what_cannot_run, same_code, same_function
from .job_info import make_job_info
from .model import JobInfo
from .run_log import shorten
from .triggers import JUST_NOW, UnstableTriggerError, build, describe, is_open, with_first_run
from .unsupported import CRONTAB_OPTIONS, check_arguments, check_trigger, to_misfire_grace_time

MISFIRE_GRACE_S = 30
"""Seconds. APScheduler's own default of 1 is its most frequent silent loss (apscheduler#146, #292, #296)."""

MAX_RERUNS = 3
"""Reruns of one tick whose run was interrupted, unless a job has another ``max_reruns``."""

MAX_ID_LENGTH = 255
"""Characters of a job's id: an index of every engine can hold so many."""


class Overlap(StrEnum):
    """Treatment of a tick that falls due while ``max_instances`` of its job run."""

    SKIP = "skip"
    QUEUE_ONE = "queue_one"
    CANCEL_RUNNING = "cancel_running"


_STARTS = {"interval": "start_date", "calendarinterval": "start_date", "date": "run_date"}

LATE_AFTER_S = 10.0
"""Seconds after which a run that has not begun is late, unless its job has another ``late_after``."""

FAILING_AFTER = 3
"""Failed runs in a row after which a job counts as failing, unless it has another ``failing_after``."""

_SILENT = logging.getLogger("election.argument-check")
_SILENT.disabled = True


@dataclass(frozen=True, slots=True)
class Job:
    """A function with a trigger. The id is stable across processes: ``module:qualname`` unless given.

    schedule: the trigger as the ledger stores it; see ``triggers.describe``.
    built: the trigger as every process builds it from ``schedule``, if that needs nothing else.
    name, description, tags: for people, and to find the job by.
    rerun_interrupted: whether a run that was cut short by the end of its term is tried again by the next leader.
    max_reruns: how often that is done for one tick, so that a run that kills its process does not kill all of them.
    retries: further attempts of a tick that failed. retry_backoff: seconds before the first, doubled for each.
    timeout: seconds after which an attempt fails: a coroutine is cancelled, for a thread it is only logged.
    keep_log: whether the lines that the job logs are kept with each run.
    at_start: whether it runs at the start of each term, too.
    overlap: treatment of a tick while ``max_instances`` run: skipped, or one waits, or one replaces the oldest run.
    late_after, expected: seconds after which a run that has not begun is late, and one that runs overlong; None for
    never. failing_after: failed runs in a row after which the job counts as failing.
    """

    id: str
    func: Callable[..., Any]
    trigger: BaseTrigger
    schedule: Mapping[str, Any]
    name: str
    description: str | None = None
    tags: tuple[str, ...] = ()
    args: tuple[Any, ...] = ()
    kwargs: Mapping[str, Any] = field(default_factory=dict)
    coalesce: bool = True
    max_instances: int = 1
    misfire_grace_time: int | None = MISFIRE_GRACE_S
    rerun_interrupted: bool = False
    max_reruns: int = MAX_RERUNS
    retries: int = 0
    retry_backoff: float = 1.0
    timeout: float | None = None
    keep_log: bool = True
    at_start: bool = False
    overlap: Overlap = Overlap.SKIP
    late_after: float | None = LATE_AFTER_S
    expected: float | None = None
    failing_after: int = FAILING_AFTER
    built: BaseTrigger | None = None
    is_coroutine: bool = field(init=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "is_coroutine", is_coroutine_function(self.func))  # once, not for each run

    @property
    def info(self) -> JobInfo:
        """Name, description and tags."""
        return JobInfo(self.name, self.description, self.tags)

    @property
    def max_open(self) -> int:
        """Runs that may be open at once: those that run, and one that waits for its turn."""
        return self.max_instances + (self.overlap is not Overlap.SKIP)


class JobRegistry:
    """The jobs of one Election, in the order of their registration.

    scheduler_options: options of each term's scheduler. clock: dates a registration. wrap: returns the function that is
    called in the place of a job's own.
    """

    def __init__(
        self,
        scheduler_options: Mapping[str, Any],
        clock: Clock | None = None,
        wrap: Callable[[Callable[..., Any]], Callable[..., Any]] = lambda func: func,
    ) -> None:
        self._options = scheduler_options
        self._job_defaults = scheduler_options.get("job_defaults", {})
        self._clock = clock or SystemClock()
        self._wrap = wrap
        self._jobs: dict[str, Job] = {}
        self._given: dict[str, tuple[Callable[..., Any], str]] = {}
        """By id, the function that was registered, without its wrapper, and the place of the registration."""
        self._former: set[str] = set()

    def __iter__(self) -> Iterator[Job]:
        return iter(self._jobs.values())

    def get(self, job_id: str) -> Job | None:
        """The job with this id; None if there is none."""
        return self._jobs.get(job_id)

    def __contains__(self, job_id: str) -> bool:
        return job_id in self._jobs

    def digest(self) -> str:
        """Digest of the ids: the same for workers whose code has the same jobs."""
        return hashlib.blake2b("\0".join(sorted(self._jobs)).encode(), digest_size=8).hexdigest()

    def add(self, func: Callable[..., Any], trigger: str | BaseTrigger, **arguments: Any) -> Job:
        """Register a job; the same registration again changes nothing.

        Raises ``JobDefinitionError`` as ``define`` does, and if another job has the id.
        """
        own_start = self._start_of_this_process(trigger, arguments)
        if own_start is not None:
            del arguments[own_start]
        job = self.define(func, trigger, **arguments)
        if own_start is not None:
            log.warning(
                "job %s: its %s is the moment of this registration, another one in each worker and at each start; it is"
                ' left out, and the job counts from when it was first seen; first_run="now" runs it then, too, and'
                " at_start=True at the start of each term",
                job.id,
                own_start,
                extra=named("start_left_out"),
            )
        before, place = self._jobs.get(job.id), _place_of_caller()
        if before is not None and not self._is_again(job, func, before):
            raise JobDefinitionError(
                f"there is a job {job.id!r} already, registered at {self._given[job.id][1]};"
                f" give this one, at {place}, an id of its own: id=…"
            )
        if before is None or job.id in self._former:
            self._jobs[job.id], self._given[job.id] = job, (func, place)
            self._former.discard(job.id)
        return self._jobs[job.id]

    def discard(self, job: Job) -> None:
        """Take a job out again."""
        if self._jobs.get(job.id) is job:
            del self._jobs[job.id]

    def expect_again(self) -> None:
        """Accept the registrations so far once more, by the same code in another start."""
        self._former = set(self._jobs)

    def _is_again(self, job: Job, func: Callable[..., Any], before: Job) -> bool:
        """Whether a job with this function is the one that is registered under its id."""
        same = same_function if job.id not in self._former else same_code
        like = replace(job, func=before.func, trigger=before.trigger, built=before.built)
        return like == before and same(func, self._given[job.id][0])

    def _start_of_this_process(self, trigger: object, arguments: Mapping[str, Any]) -> str | None:
        """Name of the argument that holds a start which was read from the clock just now; None if there is none."""
        name = _STARTS.get(trigger) if isinstance(trigger, str) else None
        start = arguments.get(name) if name is not None else None
        if not isinstance(start, datetime) or not start.microsecond:
            return None
        return name if timedelta(0) <= self._clock.now() - start.astimezone(UTC) < JUST_NOW else None

    def define(self, func: Callable[..., Any], trigger: str | BaseTrigger, **arguments: Any) -> Job:
        """A job, not registered yet; the arguments are those of APScheduler's ``add_job``, and those of ``Job``.

        expression: of a trigger ``"crontab"``, see ``parse_crontab``.
        first_run: ``"now"`` for a tick at the job's first registration, before those of the trigger.

        Raises ``JobDefinitionError`` if APScheduler refuses them, or for an argument that cannot work in a pool.
        """
        given = _STARTS[trigger] in arguments if isinstance(trigger, str) and trigger in _STARTS else None
        return self._define(func, trigger, given, **{**self._job_defaults, **arguments})

    def define_stored(self, func: Callable[..., Any], trigger: BaseTrigger, **arguments: Any) -> Job:
        """A job with a trigger that was built from its description: its start is no guess from the clock.

        Raises ``JobDefinitionError`` as ``define``.
        """
        return self._define(func, trigger, True, **{**self._job_defaults, **arguments})

    def _define(
        self,
        func: Callable[..., Any],
        trigger: str | BaseTrigger,
        given: bool | None,
        /,
        *,
        id: str | None = None,  # noqa: A002  APScheduler's own name for it
        args: Sequence[Any] | None = None,
        kwargs: Mapping[str, Any] | None = None,
        description: str | None = None,
        tags: Sequence[str] = (),
        rerun_interrupted: bool = False,
        max_reruns: int = MAX_RERUNS,
        retries: int = 0,
        retry_backoff: float = 1.0,
        timeout: float | None = None,
        keep_log: bool = True,
        first_run: str | None = None,
        at_start: bool = False,
        overlap: str = Overlap.SKIP,
        late_after: float | None = LATE_AFTER_S,
        expected: float | None = None,
        failing_after: int = FAILING_AFTER,
        expression: str | None = None,
        **arguments: Any,
    ) -> Job:
        """given: whether the trigger has a start of its own; None if that is to be guessed from the clock."""
        job_id = check_id(reference_to(func) if id is None else id)
        check_trigger(trigger, f"job {job_id!r}")
        defaults = {"misfire_grace_time": MISFIRE_GRACE_S, "coalesce": True, "max_instances": 1}
        arguments = {**defaults, **arguments}
        check_arguments(job_id, trigger, arguments, _ARGUMENTS)
        arguments["misfire_grace_time"] = to_misfire_grace_time(job_id, arguments["misfire_grace_time"])
        refuse_what_cannot_run(job_id, func)
        func = self._wrap(func)
        if overlap not in {*Overlap}:
            words = " or ".join(f'"{each}"' for each in Overlap)
            raise JobDefinitionError(f"job {job_id!r}: overlap is {words}, not {overlap!r}")
        try:
            arguments["max_instances"] = to_count(arguments["max_instances"], "max_instances")
            retries = to_count(retries, "retries", at_least=0)
            max_reruns = to_count(max_reruns, "max_reruns", at_least=0)
            retry_backoff = to_seconds(retry_backoff, "retry_backoff", at_least=0)
            timeout, late_after, expected = (
                None if value is None else to_seconds(value, name)
                for name, value in (("timeout", timeout), ("late_after", late_after), ("expected", expected))
            )
            failing_after = to_count(failing_after, "failing_after")
            # A scheduler that is never started, and only checks the arguments.
            scheduler = AsyncIOScheduler(**{**self._options, "logger": _SILENT})
            if trigger == "crontab" or expression is not None:
                trigger = _crontab(trigger, expression, arguments, scheduler.timezone)
            checked = scheduler.add_job(func, trigger, args=args, kwargs=kwargs, id=job_id, **arguments)
            made = checked.trigger
            schedule = describe(made, now := self._clock.now(), given)
            if first_run == "now":
                made, schedule = with_first_run(made, schedule, now)
            elif first_run is not None:
                raise ValueError(f'first_run is "now", not {first_run!r}')
            json.dumps(schedule, allow_nan=False)
            built = build(schedule, now)
            if schedule["type"] != "other" and built is None:
                raise UnstableTriggerError(f"{checked.trigger!r} cannot be written down so that it can be built again")
        except BaseException as error:  # APScheduler's, or that of a custom trigger
            raise JobDefinitionError(f"job {job_id!r}: {describe_error(error).strip(chr(34))}") from error
        told = make_job_info(job_id, func, checked.name, description, tags)
        return Job(
            id=job_id,
            func=func,
            trigger=made,
            schedule=schedule,
            name=told.name,
            description=told.description,
            tags=told.tags,
            args=tuple(checked.args),
            kwargs=dict(checked.kwargs),
            coalesce=checked.coalesce,
            max_instances=checked.max_instances,
            misfire_grace_time=checked.misfire_grace_time,
            rerun_interrupted=rerun_interrupted,
            max_reruns=max_reruns,
            retries=retries,
            retry_backoff=retry_backoff,
            timeout=timeout,
            keep_log=keep_log,
            at_start=at_start,
            overlap=Overlap(overlap),
            late_after=late_after,
            expected=expected,
            failing_after=failing_after,
            built=None if is_open(schedule) else built,
        )


_ARGUMENTS = frozenset(inspect.signature(JobRegistry._define).parameters) - {"given"}
"""Names of the arguments of a job, without those of its trigger."""


def _place_of_caller() -> str:
    """File and line of the code outside of this package that called."""
    package, frame = __name__.partition(".")[0], sys._getframe(1)
    while frame.f_back is not None and frame.f_globals.get("__name__", "").partition(".")[0] == package:
        frame = frame.f_back
    return sys.intern(f"{frame.f_code.co_filename}:{frame.f_lineno}")  # a loop may register thousands of jobs


def check_id(job_id: object) -> str:
    """Return the id as plain text: ``str()`` of a member of an enumeration of texts is another one.

    Raises ``JobDefinitionError`` for an id that some ledger or some answer cannot contain.
    """
    if not isinstance(job_id, str):
        raise JobDefinitionError(f"the id of a job is text, not {job_id!r}")
    if not 0 < len(job_id) <= MAX_ID_LENGTH or not job_id.isprintable() or job_id != job_id.strip():
        raise JobDefinitionError(
            f"{shorten(ascii(job_id), 80)} cannot be the id of a job: an id has 1 to {MAX_ID_LENGTH} characters"
            " that can be printed, and no space at its ends"
        )
    return str.__str__(job_id)


def _crontab(trigger: object, expression: str | None, arguments: dict[str, Any], timezone: tzinfo) -> BaseTrigger:
    """Return the trigger of a cron expression; takes its options out of ``arguments``. Raises ``ValueError``."""
    if trigger != "crontab":
        raise ValueError('only the trigger "crontab" takes an expression: scheduled_job("crontab", "0 9 * * mon")')
    if expression is None:
        raise ValueError('the trigger "crontab" needs an expression: scheduled_job("crontab", "0 9 * * mon")')
    options = {name: arguments.pop(name) for name in CRONTAB_OPTIONS & arguments.keys()}
    return parse_crontab(expression, **{"timezone": timezone, **options})


def check_call(job: Job, kwargs: Mapping[str, Any]) -> None:
    """Raise ``JobDefinitionError`` if a job's function does not take its arguments, overridden by ``kwargs``."""
    try:
        signature = inspect.signature(job.func)
    except (TypeError, ValueError):  # of a function that is not written in Python
        return
    try:
        signature.bind(*job.args, **{**job.kwargs, **kwargs})
    except TypeError as error:
        raise JobDefinitionError(f"job {job.id!r} cannot be called with these arguments: {error}") from None
