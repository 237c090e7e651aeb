"""Delivery of alerts: which events are alerts, and what a failing delivery leads to."""

from __future__ import annotations

import asyncio
import functools
import threading
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from election import ConfigurationError, Election, events
from election.core import hooks as hooks_module
from election.core.alerts import PAUSES_S, is_alert
from election.core.events import Event
from election.core.hooks import Hooks
from election.core.term import Reason
from election.testing import ManualClock
from tests.support.logs import logged
from tests.support.waiting import until, until_async

pytestmark = pytest.mark.anyio

NOW = datetime(2026, 11, 23, tzinfo=UTC)

EVENTS: list[tuple[Event, bool]] = [
    (events.Elected(NOW, 1, 7), False),
    (events.Resigned(NOW, 1, 7), False),
    (events.Deposed(NOW, 1, 7), False),
    (events.Fenced(NOW, 1, 7), True),
    *[(events.TookOver(NOW, 2, 7, 6, reason, 5.0), reason is not Reason.RESIGNED) for reason in Reason],
    (events.RunStarted(NOW, 1, "job", NOW, 1, "key"), False),
    (events.RunSucceeded(NOW, 1, "job", NOW, 1, "key", 0.1), False),
    (events.RunFailed(NOW, 1, "job", NOW, 1, "key", 0.1, "no", None), False),
    (events.RunInterrupted(NOW, 1, "job", NOW, 1, "key", "no"), False),
    (events.RunGivenUp(NOW, 1, "job", NOW, 1, "key", 3), True),
    (events.RunLate(NOW, 1, "job", NOW, 1, "key", 11.0), True),
    (events.RunOverlong(NOW, 1, "job", NOW, 1, "key", 60.0), True),
    (events.JobFailing(NOW, 1, "job", 3, "no"), True),
    (events.JobRecovered(NOW, 1, "job", 3), True),
    (events.TickSkipped(NOW, 1, "job", NOW, NOW, 1, "down"), False),
]


def failing(failures: int) -> Event:
    return events.JobFailing(NOW, 1, "report", failures, "ValueError: no luck")


class Receiver:
    """A function to notify that raises as often as it is told to, in each form in which Python has functions."""

    def __init__(self, failures: int = 0, error: type[BaseException] = OSError) -> None:
        self.failures = failures
        self.error = error
        self.calls: list[Event] = []
        self.threads: set[str] = set()

    def plain(self, event: Event) -> None:
        self.threads.add(threading.current_thread().name)
        self.calls.append(event)
        if len(self.calls) <= self.failures:
            raise self.error("the server is away")

    async def coroutine(self, event: Event) -> None:
        self.plain(event)


FORMS: dict[str, Callable[[Receiver], Callable[[Event], Any]]] = {
    "a function": lambda receiver: receiver.plain,
    "a coroutine function": lambda receiver: receiver.coroutine,
    "a partial": lambda receiver: functools.partial(receiver.coroutine),
    "a lambda that returns a coroutine": lambda receiver: lambda event, send=receiver.coroutine: send(event),
}


def test_every_event_is_an_alert_or_not() -> None:
    assert [is_alert(event) for event, _ in EVENTS] == [expected for _, expected in EVENTS]
    assert {getattr(events, name) for name in events.__all__} - {Event} == {type(event) for event, _ in EVENTS}


@pytest.mark.parametrize("form", FORMS)
async def test_alerts_and_nothing_else_are_delivered_in_order(form: str) -> None:
    receiver = Receiver()
    hooks = Hooks(ManualClock(), [FORMS[form](receiver)])
    for event, _ in EVENTS:
        hooks.emit(event)
    alerts = [event for event, expected in EVENTS if expected]
    await until_async(lambda: len(receiver.calls) >= len(alerts))
    await hooks.close()
    assert receiver.calls == alerts


@pytest.mark.parametrize("error", [OSError, SystemExit, StopIteration, asyncio.CancelledError])
@pytest.mark.parametrize("form", ["a function", "a coroutine function"])
async def test_a_delivery_that_fails_is_repeated_and_the_next_waits_for_it(
    form: str, error: type[BaseException], caplog: pytest.LogCaptureFixture
) -> None:
    clock, receiver = ManualClock(), Receiver(failures=len(PAUSES_S), error=error)
    hooks = Hooks(clock, [FORMS[form](receiver)])
    if form == "a coroutine function" and error is StopIteration:
        error = RuntimeError  # what Python makes of it
    hooks.emit(failing(1))
    hooks.emit(failing(2))
    for number, pause in enumerate(PAUSES_S, start=1):
        await until_async(lambda number=number: len(logged(caplog, "notify_failed")) == number)
        assert len(receiver.calls) == number
        await clock.advance(0.9 * pause)
        assert len(receiver.calls) == number, "not before its time"
        await clock.advance(0.2 * pause)
    await until_async(lambda: len(receiver.calls) == len(PAUSES_S) + 2)
    assert receiver.calls == [failing(1)] * (len(PAUSES_S) + 1) + [failing(2)]
    assert not logged(caplog, "alert_lost")
    assert f"{error.__name__}(" in caplog.text
    await hooks.close()


async def test_what_cannot_be_delivered_at_all_is_logged_whole(caplog: pytest.LogCaptureFixture) -> None:
    clock, receiver = ManualClock(), Receiver(failures=len(PAUSES_S) + 1)
    hooks = Hooks(clock, [receiver.plain])
    hooks.emit(failing(1))
    hooks.emit(failing(2))
    for number, pause in enumerate(PAUSES_S, start=1):
        await until_async(lambda number=number: len(logged(caplog, "notify_failed")) == number)
        await clock.advance(pause)
    await until_async(lambda: len(receiver.calls) == len(PAUSES_S) + 2)
    (record,) = logged(caplog, "alert_lost")
    assert record.levelname == "ERROR"
    assert record.exc_info is not None
    assert "'job_id': 'report', 'failures': 1" in record.getMessage()
    assert receiver.calls[-1] == failing(2), "and the next one is delivered"
    await hooks.close()


async def test_what_still_waits_at_the_end_is_logged_whole(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(hooks_module, "CLOSE_GRACE_S", 0.5)
    clock, receiver = ManualClock(), Receiver(failures=1)
    hooks = Hooks(clock, [receiver.plain])
    for failures in (1, 2, 3):
        hooks.emit(failing(failures))
    await until_async(lambda: len(logged(caplog, "notify_failed")) == 1)
    closing = asyncio.ensure_future(hooks.close())
    await clock.advance(hooks_module.CLOSE_GRACE_S)
    await closing
    lines = [record.getMessage() for record in logged(caplog, "alert_lost")]
    assert all("is lost, since this worker stops" in line for line in lines)
    assert sorted(line.partition("'failures': ")[2][0] for line in lines) == ["1", "2", "3"]
    assert receiver.calls == [failing(1)]


async def test_a_restart_after_a_delivery_that_was_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is delivered after the end, and what comes after a restart is."""
    monkeypatch.setattr(hooks_module, "CLOSE_GRACE_S", 1.0)
    clock, receiver = ManualClock(), Receiver(failures=2)
    hooks = Hooks(clock, [receiver.plain])
    hooks.emit(failing(1))
    await until_async(lambda: len(receiver.calls) == 1)
    closing = asyncio.ensure_future(hooks.close())
    await clock.advance(0.5)
    hooks.emit(failing(2))
    await clock.advance(0.5)
    await closing
    await until_async(lambda: failing(2) in receiver.calls)
    await clock.advance(200.0)
    await until_async(lambda: receiver.calls.count(failing(2)) == 2)
    assert receiver.calls.count(failing(1)) <= 2, "the end of the grace ended its repetition"
    await hooks.close()


async def test_one_that_hangs_keeps_neither_the_others_nor_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hooks_module, "CLOSE_GRACE_S", 1.0)
    clock, receiver, may_end = ManualClock(), Receiver(), threading.Event()
    before = set(threading.enumerate())
    hooks = Hooks(clock, [lambda event: may_end.wait(60), receiver.plain])
    hooks.emit(failing(1))
    await until_async(lambda: receiver.calls == [failing(1)])
    closing = asyncio.ensure_future(hooks.close())
    await until_async(lambda: not closing.done())
    await clock.advance(1.0)
    await closing
    assert all(thread.daemon for thread in set(threading.enumerate()) - before), "so that the process can end"
    may_end.set()
    await asyncio.to_thread(until, lambda: not [t for t in threading.enumerate() if t.name == "election-notify"])


@pytest.mark.parametrize(
    "notify", ["https://example.com/hook", ["https://example.com/hook"], [print, None], 42, Path("hook")]
)
def test_what_cannot_be_called_is_refused(notify: Any) -> None:
    with pytest.raises(ConfigurationError, match="is no function: give one that takes an event"):
        Election("pool", notify=notify)


async def test_an_election_notifies(tmp_path: Any) -> None:
    from election.testing import always_leader

    one, two = Receiver(), Receiver()
    election = Election(tmp_path / "pool", notify=[one.plain, two.coroutine])

    @election.scheduled_job("interval", seconds=0.02, id="bad", failing_after=1)
    def bad() -> None:
        raise ValueError("no")

    with always_leader(election):
        async with election:
            await until_async(lambda: one.calls and two.calls)
    assert one.calls == two.calls
    assert [(event.name, event.fields()["error"]) for event in one.calls] == [("job_failing", "ValueError: no")]
    assert one.threads == {"election-notify"}
