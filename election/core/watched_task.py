"""Task whose unexpected end is told: an application that cancels every task of the loop cancels ours, too."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable, Coroutine
from typing import Any

from .errors import describe_error
from .events import named

log = logging.getLogger("election")


NOT_WATCHED = "is not watched any more, because its task in this worker was ended: restart the worker"
"""End of a problem text about a pool whose view does not run any more."""


class WatchedTask:
    """A task that runs until it is stopped, or returns by itself.

    Args:
        work: Coroutine to run.
        name: Name of the task.
        on_death: Called if it was cancelled by somebody else, or raised; None where a log line is all that can be done.
    """

    def __init__(
        self, work: Coroutine[Any, Any, None], *, name: str, on_death: Callable[[], object] | None = None
    ) -> None:
        self._on_death = on_death
        self.task = asyncio.create_task(work, name=name)
        self.task.add_done_callback(self._ended)

    def cancel(self) -> None:
        """Begin to end it."""
        self.task.remove_done_callback(self._ended)
        self.task.cancel()

    async def stop(self) -> None:
        """Cancel it, and return when it has ended."""
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
