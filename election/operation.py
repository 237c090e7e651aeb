"""Operations on a pool's ledger, from coroutines, threads and scripts alike."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Generator
from concurrent.futures import Future
from typing import Any, Generic, TypeVar

from .core.clock import Clock, first
from .core.errors import ElectionError, describe_error
from .core.events import named
from .core.logs import log
from .schedule.ledger import Ledger

_T = TypeVar("_T")

CLOSE_GRACE_S = 0.2
"""Time that operations get to end when the Election is left."""


class Operation(Coroutine[Any, Any, _T], Generic[_T]):
    """Operation on the ledger: awaited in a coroutine, or waited for with ``result`` in a thread or a plain script.

    Once the Election has started, the operation is carried out even if nothing waits for it.

    Args:
        work: Result of an operation that is under way, or a function that begins one when this is awaited.
        name: The call, for messages: ``jobs.pause('report')``.
        optional: Whether it is no error if the operation never begins.
    """

    def __init__(
        self, work: Future[_T] | Callable[[], Coroutine[Any, Any, _T]], name: str, *, optional: bool = False
    ) -> None:
        self._work = work
        self._name = name
        self._begun: Coroutine[Any, Any, _T] | None = None
        self._is_seen = optional and not isinstance(work, Future)

    def __await__(self) -> Generator[Any, Any, _T]:
        return self._begin().__await__()

    def send(self, value: Any) -> Any:
        return self._begin().send(value)

    def throw(self, *error: Any) -> Any:
        return self._begin().throw(*error)

    def close(self) -> None:
        if self._begun is not None:
            self._begun.close()

    def result(self, timeout: float | None = None) -> _T:
        """Wait for the result where ``await`` is not possible: in a thread, or in a plain script.

        Args:
            timeout: Seconds that a thread waits; None for as long as it takes.

        Returns:
            The result that ``await`` would return.

        Raises:
            ElectionError: An event loop runs in this thread; or the error that ``await`` would raise.
            TimeoutError: The operation has not ended within ``timeout``, and goes on.
        """
        if asyncio._get_running_loop() is not None:
            raise ElectionError(f"an event loop runs in this thread and would stand still: await election.{self._name}")
        self._is_seen = True
        if isinstance(self._work, Future):
            return self._work.result(timeout)
        return asyncio.run(self)

    def _begin(self) -> Coroutine[Any, Any, _T]:
        self._is_seen = True
        if self._begun is None:
            self._begun = _wait(self._work) if isinstance(self._work, Future) else self._work()
        return self._begun

    def __del__(self) -> None:
        if getattr(self, "_is_seen", True):
            return
        if isinstance(self._work, Future):
            self._work.add_done_callback(lambda work: _log_failure(work, self._name))
        else:
            log.error(
                "election.%s did nothing: it was neither awaited nor waited for (.result()), and the Election has not"
                " been started",
                self._name,
                extra=named("call_forgotten"),
            )


class LedgerAccess:
    """Access of this process to the ledger: shared with the Election while it is started, separate before and after.

    Args:
        clock: Time of waits.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._loop: asyncio.AbstractEventLoop | None = None
        self._running: set[asyncio.Task[Any]] = set()

    def use(self, shared: Ledger, open_ledger: Callable[[], Ledger]) -> None:
        """Use the ledger ``shared`` while the Election is started, and open another for each operation otherwise."""
        self._shared = shared
        self._open_ledger = open_ledger

    def start(self) -> None:
        """Carry operations out in the running event loop."""
        self._loop = asyncio.get_running_loop()

    async def close(self) -> None:
        """Let operations end shortly, and cancel the others: the ledger is about to be closed."""
        self._loop = None
        if self._running:
            await first(asyncio.wait(self._running), self._clock.sleep(CLOSE_GRACE_S))
        for task in self._running:
            task.cancel()
        if self._running:
            await asyncio.wait(self._running)

    def perform(
        self, work: Callable[[Ledger], Coroutine[Any, Any, _T]], name: str, *, optional: bool = False
    ) -> Operation[_T]:
        """Operation that does ``work`` with the ledger; see ``Operation``."""

        async def alone() -> _T:
            ledger = self._open_ledger()
            try:
                return await work(ledger)
            finally:
                await ledger.close()

        if self._loop is None:
            return Operation(alone, name, optional=optional)
        return Operation(asyncio.run_coroutine_threadsafe(self._counted(work), self._loop), name)

    async def _counted(self, work: Callable[[Ledger], Coroutine[Any, Any, _T]]) -> _T:
        task = asyncio.current_task()
        assert task is not None
        self._running.add(task)
        try:
            return await work(self._shared)
        finally:
            self._running.discard(task)


async def _wait(work: Future[_T]) -> _T:
    return await asyncio.wrap_future(work)


def _log_failure(work: Future[Any], name: str) -> None:
    """Log the failure of an operation whose result is not awaited."""
    if not work.cancelled() and (error := work.exception()) is not None:
        log.error("election.%s failed: %s", name, describe_error(error), extra=named("call_failed"))
