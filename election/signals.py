"""Detection of a stop signal before the server ends the lifespan."""

from __future__ import annotations

import asyncio
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from types import FrameType
from typing import Any

from .core.elector import Elector

STOP_SIGNALS = (signal.SIGTERM, signal.SIGINT)


@contextmanager
def on_stop_signal(notify: Callable[[], object]) -> Iterator[None]:
    """Call ``notify`` when a stop signal arrives, and then the handler that the server had installed.

    Nothing is changed where no server handles the signal (its default ends the process anyway), nor outside of the
    main thread, where Python handles no signals. ``notify`` runs as a signal handler.
    """
    replaced: dict[signal.Signals, tuple[Any, Any]] = {}
    notified = [notify]  # empty after the scope: another one may have kept the handler, and put it back
    if threading.current_thread() is threading.main_thread():
        for number in STOP_SIGNALS:
            before = signal.getsignal(number)
            if callable(before) and before is not signal.default_int_handler:
                ours = _chain(notified, before)
                signal.signal(number, ours)
                replaced[number] = (ours, before)
    try:
        yield
    finally:
        notified.clear()
        for number, (ours, before) in replaced.items():
            if signal.getsignal(number) is ours:
                signal.signal(number, before)


@contextmanager
def stopping_with_the_pool(elector: Elector) -> Iterator[None]:
    """Pass a stop signal to ``elector`` at once, also an earlier one; to be entered on the elector's event loop."""
    if _is_stopping():
        elector.stop()
    loop = asyncio.get_running_loop()
    stopping: list[asyncio.Task[None]] = []

    def begin() -> None:
        stopping.append(loop.create_task(elector.stop_with_the_pool(), name="election stop"))

    with on_stop_signal(lambda: loop.call_soon_threadsafe(begin)):
        try:
            yield
        finally:
            for task in stopping:
                task.cancel()


def _is_stopping() -> bool:
    """Whether a signal came while the application was starting: Uvicorn's server handles the signal by setting
    ``should_exit``, and lets the application start all the same."""
    server = getattr(signal.getsignal(signal.SIGTERM), "__self__", None)
    return bool(getattr(server, "should_exit", False))


def _chain(notified: Sequence[Callable[[], object]], before: Callable[[int, FrameType | None], Any]) -> Any:
    def handle(number: int, frame: FrameType | None) -> None:
        for notify in notified:
            notify()
        before(number, frame)

    return handle
