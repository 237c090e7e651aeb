"""Alerts: the events that somebody should hear of, and their delivery, which is repeated until it succeeds."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

from .callables import is_coroutine_function, name_of
from .clock import Clock, is_cancelled
from .events import Event, Fenced, JobFailing, JobRecovered, RunGivenUp, RunLate, RunOverlong, TookOver, named
from .logs import log
from .term import Reason
from .threads import run_in_daemon_thread

PAUSES_S = (1.0, 5.0, 30.0, 120.0)
"""Seconds before each further attempt at a delivery; an alert is lost when the last one fails."""


def is_alert(event: Event) -> bool:
    """Whether somebody should hear of ``event``; not of a new leader after one that resigned, as in a deploy."""
    if isinstance(event, TookOver):
        return event.reason is not Reason.RESIGNED
    return isinstance(event, Fenced | JobFailing | JobRecovered | RunGivenUp | RunLate | RunOverlong)


class Delivery:
    """Delivers alerts to ``notify``, a function of the application, one after the other."""

    def __init__(self, notify: Callable[[Event], Any], clock: Clock) -> None:
        self._notify = notify
        self._clock = clock
        self.__qualname__ = name_of(notify)

    async def __call__(self, alert: Event) -> None:
        """Deliver ``alert``: a call that raises is repeated after ``PAUSES_S``; an alert that is lost is logged."""
        try:
            await self._deliver(alert)
        except BaseException:
            if is_cancelled():
                self.lost(alert)
            raise

    def lost(self, alert: Event, why: str = "this worker stops", error: BaseException | None = None) -> None:
        """Log that an alert will not be delivered."""
        log.error(
            "the alert %s for %s is lost, since %s: %s",
            alert.name, self.__qualname__, why, alert.fields(), exc_info=error, extra=named("alert_lost"),
        )  # fmt: skip

    async def _deliver(self, alert: Event) -> None:
        for pause in PAUSES_S:
            error = await self._attempt(alert)
            if error is None:
                return
            log.warning(
                "%s(%s) failed, and is called again in %g s: %r",
                self.__qualname__, alert.name, pause, error, extra=named("notify_failed"),
            )  # fmt: skip
            await self._clock.sleep(pause)
        if (error := await self._attempt(alert)) is not None:
            self.lost(alert, f"it failed {len(PAUSES_S) + 1} times", error)

    async def _attempt(self, alert: Event) -> BaseException | None:
        """Call ``notify``, a plain function in a thread; return what it raised."""
        try:
            if is_coroutine_function(self._notify):
                await self._notify(alert)
            else:
                result, error = await run_in_daemon_thread(lambda: _call(self._notify, alert), "election-notify")
                if inspect.isawaitable(result):  # a lambda hands a coroutine on
                    await result
                return error
        except BaseException as error:
            if is_cancelled():
                raise
            return error
        return None


def _call(notify: Callable[[Event], Any], alert: Event) -> tuple[Any, BaseException | None]:
    """Return what ``notify`` returned and raised: a future cannot hold every exception."""
    try:
        return notify(alert), None
    except BaseException as error:
        return None, error
