"""``while_leading``: coroutines that begin with a term and are cancelled at its end."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from election.core.callables import is_coroutine_function
from election.core.clock import Clock, is_cancelled
from election.core.errors import JobDefinitionError
from election.core.events import named
from election.core.logs import log

Task = Callable[[], Awaitable[None]]

MIN_RESTART_DELAY_S = 1.0
MAX_RESTART_DELAY_S = 60.0
"""Seconds before a task that raised is started again; doubled each time in a row."""


class TaskRegistry:
    """The ``while_leading`` tasks of one Election."""

    def __init__(self) -> None:
        self._tasks: list[Task] = []

    def add(self, task: Task) -> None:
        """Register a coroutine function. Raises ``JobDefinitionError`` for anything else."""
        if not is_coroutine_function(task):
            raise JobDefinitionError(
                f"while_leading needs a coroutine function, and {task!r} is none;"
                " nothing could stop a plain function at the end of a term"
            )
        self._tasks.append(task)

    def start(self, clock: Clock) -> RunningTasks:
        """Start all of them, for one term."""
        return RunningTasks(
            {asyncio.create_task(_keep_running(task, clock), name=_name(task)): _name(task) for task in self._tasks}
        )


class RunningTasks:
    """The tasks of one term."""

    def __init__(self, tasks: dict[asyncio.Task[None], str]) -> None:
        self._tasks = tasks

    def cancel(self) -> None:
        for task in self._tasks:
            task.cancel()

    def unfinished(self) -> list[str]:
        """The names of the tasks that still run."""
        return [name for task, name in self._tasks.items() if not task.done()]

    async def wait(self) -> None:
        """Return when all have ended."""
        if self._tasks:
            await asyncio.wait(self._tasks)


async def _keep_running(task: Task, clock: Clock) -> None:
    delay = MIN_RESTART_DELAY_S
    while True:
        began = clock.monotonic()
        try:
            await task()
            return
        except BaseException:
            if is_cancelled():
                raise  # its cancellation led to this error: no reason to start it again
            if clock.monotonic() - began > MAX_RESTART_DELAY_S:
                delay = MIN_RESTART_DELAY_S
            log.exception(
                "while_leading task %s failed; it starts again in %.0f s",
                _name(task),
                delay,
                extra=named("task_failed"),
            )
        await clock.sleep(delay)
        delay = min(delay * 2, MAX_RESTART_DELAY_S)


def _name(task: Task) -> str:
    return getattr(task, "__qualname__", repr(task))
