"""The leader's own fence: a dead man's switch that its event loop resets at each heartbeat.

``faulthandler`` runs the timer in a thread outside of the interpreter: it works while the GIL is held, writes the
traceback of each thread, and ends the process, which frees the seat (docs/pitfalls.md#12).
"""

from __future__ import annotations

import asyncio
import contextlib
import faulthandler
import functools
import os
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

from election.core.events import named
from election.core.logs import log
from election.core.threads import run_in_daemon_thread

STDERR = 2


class DeadMansSwitch:
    """Dead man's switch, armed during a term.

    after: seconds without a heartbeat of the event loop until the process ends.
    every: seconds between two signs.
    hang_trace: the file for the tracebacks; standard error takes them if it cannot be opened, or if this is ``-``.

    All seconds are real time, even if other modules use another ``Clock``.
    """

    def __init__(self, after: float, *, every: float, hang_trace: str) -> None:
        self._after = after
        self._every = every
        self._hang_trace = hang_trace
        _Others.watch()

    @asynccontextmanager
    async def armed(self) -> AsyncIterator[None]:
        """Arm the switch within the scope, unless something else in this process uses faulthandler's only timer."""
        with contextlib.ExitStack() as scope:
            file = await self._opened()
            if file != STDERR:
                scope.callback(os.close, file)
            self._press(file)
            pressing = asyncio.create_task(self._keep_pressing(file), name="election switch")
            try:
                yield
            finally:
                pressing.cancel()
                await asyncio.gather(pressing, return_exceptions=True)
                if not _Others.use_it():
                    _Others.cancel()

    async def _keep_pressing(self, file: int) -> None:
        told: str | None = None
        while True:
            await asyncio.sleep(self._every)
            obstacle = self._press(file)
            if obstacle is not None and told is None:
                log.warning(
                    "%s: if this leader hangs, only its followers end it",
                    obstacle,
                    extra=named("watchdog_unavailable"),
                )
            told = obstacle

    def _press(self, file: int) -> str | None:
        """Set the timer anew. Returns why that cannot be done, or None."""
        if _Others.use_it():
            return "something else uses faulthandler's timer"
        try:
            _Others.arm(self._after, exit=True, file=file)
        except RuntimeError as error:  # at a limit of threads; each setting starts one
            return f"faulthandler's timer cannot be set ({error})"
        return None

    async def _opened(self) -> int:
        """Descriptor for the tracebacks, opened in a thread of its own: no other pool's work may delay a term."""
        if self._hang_trace == "-":
            return STDERR
        try:
            return await run_in_daemon_thread(self._open, "election-hang-trace")
        except RuntimeError:  # at a limit of threads
            return STDERR

    def _open(self) -> int:
        try:
            return os.open(self._hang_trace, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW, 0o600)
        except OSError as error:
            log.warning(
                "%s cannot be opened for the traceback of a hang: %s",
                self._hang_trace,
                error.strerror,
                extra=named("hang_trace_unavailable"),
            )
            return STDERR


class _Others:
    """Other users of faulthandler's only timer. It cannot be queried, so its callers are recorded."""

    arm: Callable[..., None] = faulthandler.dump_traceback_later
    cancel: Callable[[], None] = faulthandler.cancel_dump_traceback_later
    _in_use = False
    _watched = False

    @classmethod
    def use_it(cls) -> bool:
        return cls._in_use

    @classmethod
    def watch(cls) -> None:
        """Wrap faulthandler's functions, to record calls by other code."""
        if cls._watched:
            return
        cls._watched = True

        @functools.wraps(cls.arm)
        def arm(*args: Any, **kwargs: Any) -> None:
            cls.arm(*args, **kwargs)
            cls._in_use = True

        @functools.wraps(cls.cancel)
        def cancel() -> None:
            cls.cancel()
            cls._in_use = False

        faulthandler.dump_traceback_later = arm
        faulthandler.cancel_dump_traceback_later = cancel
