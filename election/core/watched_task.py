"""Task whose unexpected end is logged: an application that cancels every task of the loop cancels ours, too."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Coroutine
from typing import Any

from .errors import describe_error
from .events import named
from .logs import log

NOT_WATCHED = "is not watched any more, because its task in this worker was ended: restart the worker"
"""End of a problem text about a pool whose view does not run any more."""


class WatchedTask:
    """A task that runs until it is stopped, or returns by itself.

    Args:
        work: Coroutine to run.
        name: Name of the task.
        on_death: Called if the task was cancelled by other code, or raised; None where a log line is enough.
    """

    def __init__(
        self, work: Coroutine[Any, Any, None], *, name: str, on_death: Callable[[], object] | None = None
    ) -> None:
        self._on_death = on_death
        self.task = asyncio.create_task(work, name=name)
        self.task.add_done_callback(self._ended)

    def cancel(self) -> None:
        """Begin to end the task."""
        self.task.remove_done_callback(self._ended)
        self.task.cancel()

    async def stop(self) -> None:
        """Cancel the task, and return when it has ended."""
        self.cancel()
        await asyncio.gather(self.task, return_exceptions=True)

    def _ended(self, task: asyncio.Task[None]) -> None:
        error: BaseException | None = None
        with contextlib.suppress(asyncio.CancelledError):
            error = task.exception()
            if error is None:
                return
        how = "was cancelled by something else in this process" if error is None else f"failed: {describe_error(error)}"
        log.error("the task %r %s", task.get_name(), how, exc_info=error, extra=named("task_ended"))
        if self._on_death is not None:
            self._on_death()
