"""Hooks: functions of the application that receive events; one that raises or hangs affects nothing else.

Each hook has its own queue, and a thread (for a coroutine function: a task) that begins with its first event: a
follower without events has neither thread nor task.
"""

from __future__ import annotations

import asyncio
import contextlib
import inspect
import queue
import threading
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable, Iterable
from typing import Any

from .alerts import Delivery, is_alert
from .callables import is_coroutine_function, name_of
from .clock import Clock, first, is_cancelled
from .events import Event, named
from .logs import log

MAX_QUEUED_EVENTS = 1000
"""Queue limit per hook; further events are dropped."""

CLOSE_GRACE_S = 1.0
"""Time at a shutdown in which the hooks may finish their queues."""

Hook = Callable[[Event], Any]


class Hooks:
    """The hooks of one Election."""

    def __init__(self, clock: Clock, notify: Iterable[Hook] = ()) -> None:
        """notify: functions that get the alerts only, see ``Delivery``."""
        self._clock = clock
        self._queues: list[_HookQueue] = []
        deliveries = [Delivery(each, clock) for each in notify]
        self._alerts: list[_HookQueue] = [_OnLoop(each, on_lost=each.lost) for each in deliveries]

    def add(self, hook: Hook) -> None:
        """Call ``hook`` with every event from now on."""
        self._queues.append(_OnLoop(hook) if is_coroutine_function(hook) else _InThread(hook))

    def emit(self, event: Event) -> None:
        """Hand an event over to all hooks; returns at once, and never raises."""
        for each in [*self._queues, *self._alerts] if is_alert(event) else self._queues:
            each.put(event)

    async def close(self) -> None:
        """Let the hooks finish their queues, for ``CLOSE_GRACE_S`` at most."""
        if queues := [*self._queues, *self._alerts]:
            finishing = [asyncio.ensure_future(each.finish()) for each in queues]
            await first(asyncio.wait(finishing), self._clock.sleep(CLOSE_GRACE_S))
            for each in finishing:
                each.cancel()  # each then ends what it waits for
            await asyncio.wait(finishing)


class _HookQueue(ABC):
    """Queue of one hook."""

    def __init__(self, hook: Hook) -> None:
        self._hook = hook
        self._dropped = 0

    @abstractmethod
    def put(self, event: Event) -> None:
        """Queue an event."""

    @abstractmethod
    async def finish(self) -> None:
        """Return when all queued events have been handled."""

    def _drop(self, why: str = "it is too slow") -> None:
        self._dropped += 1
        if self._dropped == 1 or self._dropped % MAX_QUEUED_EVENTS == 0:
            log.error(
                "%d events for the hook %s were dropped: %s",
                self._dropped,
                name_of(self._hook),
                why,
                extra=named("hook_events_dropped"),
            )

    def _failed(self) -> None:
        log.exception("the hook %s failed", name_of(self._hook), extra=named("hook_failed"))


class _InThread(_HookQueue):
    def __init__(self, hook: Hook) -> None:
        super().__init__(hook)
        self._waiting: queue.Queue[Event | Callable[[], object]] = queue.Queue(MAX_QUEUED_EVENTS)
        self._thread: threading.Thread | None = None
        self._former: threading.Thread | None = None
        self._loop: asyncio.AbstractEventLoop

    def put(self, event: Event) -> None:
        if self._thread is None or not self._thread.is_alive():  # the first event, also of a restart or a forked child
            self._loop = asyncio.get_running_loop()
            thread = threading.Thread(target=self._work, args=[self._former], name="election-hook", daemon=True)
            try:
                thread.start()
            except RuntimeError as error:  # at a limit of threads; the next event tries again
                self._drop(f"no thread can be started for it ({error})")
                return
            self._thread = thread
        try:
            self._waiting.put_nowait(event)
        except queue.Full:
            self._drop()

    def _work(self, former: threading.Thread | None) -> None:
        if former is not None:
            former.join()  # a hook gets one event at a time
        while isinstance(event := self._waiting.get(), Event):
            try:
                result = self._hook(event)
                if inspect.isawaitable(result):  # a lambda hands a coroutine on
                    asyncio.run_coroutine_threadsafe(_result_of(result), self._loop).result()
            except BaseException:  # in the hook's own thread, nothing else would report it
                self._failed()
        event()

    async def finish(self) -> None:
        if self._thread is None or not self._thread.is_alive():
            return
        loop, done = asyncio.get_running_loop(), asyncio.Event()

        def report() -> None:
            with contextlib.suppress(RuntimeError):  # the loop is closed: the grace has passed long ago
                loop.call_soon_threadsafe(done.set)

        try:
            self._waiting.put_nowait(report)
        except queue.Full:
            return
        self._thread, self._former = None, self._thread  # it may live a moment longer, but takes no further event
        await done.wait()


async def _result_of(work: Awaitable[Any]) -> Any:
    return await work


class _OnLoop(_HookQueue):
    """on_lost: called with each event that is left when the queue is given up."""

    def __init__(self, hook: Hook, on_lost: Callable[[Event], object] = lambda _: None) -> None:
        super().__init__(hook)
        self._on_lost = on_lost
        self._waiting: asyncio.Queue[Event | None] | None = None
        self._task: asyncio.Task[None] | None = None

    def put(self, event: Event) -> None:
        if self._task is None or self._task.done():
            self._waiting = asyncio.Queue(MAX_QUEUED_EVENTS)
            self._task = asyncio.get_running_loop().create_task(self._work(self._waiting), name="election hook")
        assert self._waiting is not None
        try:
            self._waiting.put_nowait(event)
        except asyncio.QueueFull:
            self._drop()

    async def _work(self, waiting: asyncio.Queue[Event | None]) -> None:
        while (event := await waiting.get()) is not None:
            try:
                await self._hook(event)
            except BaseException:
                if is_cancelled():
                    raise
                self._failed()

    async def finish(self) -> None:
        if self._task is None or self._waiting is None:
            return
        task, self._task = self._task, None  # it takes no further event
        waiting = self._waiting
        try:
            waiting.put_nowait(None)
            await asyncio.wait([task])
        except asyncio.QueueFull:
            pass
        finally:
            task.cancel()
            while not waiting.empty():
                if (event := waiting.get_nowait()) is not None:
                    self._on_lost(event)
            waiting.put_nowait(None)  # for a hook that ignores its cancellation
