"""Registration with an Election before it starts: jobs, tasks and hooks."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from apscheduler.triggers.base import BaseTrigger

from .core.clock import Clock
from .core.errors import JobDefinitionError
from .core.hooks import Hook, Hooks
from .schedule.jobs import JobRegistry
from .schedule.options import Around
from .schedule.tasks import Task, TaskRegistry

_Function = TypeVar("_Function", bound=Callable[..., Any])
_Task = TypeVar("_Task", bound=Task)
_Hook = TypeVar("_Hook", bound=Hook)
_Around = TypeVar("_Around", bound=Around)


class Registration:
    """The decorators of an Election. scheduler_options: as given to it."""

    def __init__(self, scheduler_options: Mapping[str, Any], clock: Clock) -> None:
        self._clock = clock
        self._jobs = JobRegistry(scheduler_options, clock)
        self._tasks = TaskRegistry()
        self._hooks = Hooks(clock)
        self._around: list[Around] = []

    def scheduled_job(self, trigger: str | BaseTrigger, **arguments: Any) -> Callable[[_Function], _Function]:
        """Register the decorated function as a job; the arguments are those of APScheduler's ``scheduled_job``.

        ``misfire_grace_time`` is 30 s unless given. ``name``, ``description`` (by default the first line of the
        function's docstring) and ``tags`` (single words) tell people of the job, wherever it is shown. Raises
        ``JobDefinitionError`` for arguments that cannot work.
        """
        self._check_registration()

        def register(func: _Function) -> _Function:
            self._jobs.add(func, trigger, **arguments)
            return func

        return register

    def while_leading(self, task: _Task) -> _Task:
        """Register the decorated coroutine function to run from the start of each term to its end.

        It is cancelled when the term ends, and started again with back-off when it raises. Raises
        ``JobDefinitionError`` for a plain function.
        """
        self._check_registration()
        self._tasks.add(task)
        return task

    def on_event(self, hook: _Hook) -> _Hook:
        """Tell the decorated function of every event in this worker, as a frozen value (``election.events``).

        A plain function is called in a thread of its own, a coroutine function in a task of its own: one that raises
        or hangs hurts nothing.
        """
        self._hooks.add(hook)
        return hook

    def around_runs(self, around: _Around) -> _Around:
        """Enter the context manager ``around(run)`` around each attempt at a run, in the process that makes it.

        It is entered on the event loop, so it may not block. The job's code sees the context variables that it sets,
        and it sees what the code raises. What it raises itself fails the run.
        """
        self._check_registration()
        self._around.append(around)
        return around

    @property
    def _started(self) -> bool:
        """Whether it is too late for jobs and tasks; an Election knows."""
        raise NotImplementedError

    def _check_registration(self) -> None:
        if self._started:
            raise JobDefinitionError(
                "jobs and tasks are registered before the Election starts, in every worker alike:"
                " put them at module level"
            )
