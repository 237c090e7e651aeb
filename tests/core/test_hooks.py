"""Calls of hooks, and isolation of the elector from their failures."""

from __future__ import annotations

import asyncio
import threading
import time
from datetime import UTC, datetime
from typing import Any

import pytest

from election.core import hooks as hooks_module
from election.core.clock import SystemClock
from election.core.events import Elected, Event, TookOver
from election.core.hooks import Hooks
from election.core.term import Reason
from tests.support.logs import logged
from tests.support.waiting import until, until_async

pytestmark = pytest.mark.anyio

NOW = datetime(2026, 11, 23, tzinfo=UTC)


def elected(term: int) -> Event:
    return Elected(NOW, term, 4242)


@pytest.fixture
def hooks(monkeypatch: pytest.MonkeyPatch) -> Hooks:
    monkeypatch.setattr(hooks_module, "CLOSE_GRACE_S", 30.0)  # on a busy machine a thread may get no turn within one
    return Hooks(SystemClock())


async def test_each_kind_of_hook_is_told_in_order(hooks: Hooks) -> None:
    in_thread: list[Event] = []
    on_loop: list[Event] = []
    threads = set()

    def plain(event: Event) -> None:
        threads.add(threading.current_thread().name)
        in_thread.append(event)

    async def coroutine(event: Event) -> None:
        await asyncio.sleep(0)
        on_loop.append(event)

    hooks.add(plain)
    hooks.add(coroutine)
    events = [elected(term) for term in range(50)]
    for event in events:
        hooks.emit(event)
    await hooks.close()
    assert in_thread == on_loop == events
    assert threads == {"election-hook"}
    hooks.emit(elected(50))
    await hooks.close()
    assert len(in_thread) == len(on_loop) == 51, "after a restart they are told again"


class Abort(BaseException):
    """An exception whose ``__str__`` raises, as in some libraries."""


@pytest.mark.parametrize("error", [RuntimeError, SystemExit, KeyboardInterrupt, Abort, asyncio.CancelledError])
async def test_one_that_raises_is_logged_and_told_again(
    hooks: Hooks, caplog: pytest.LogCaptureFixture, error: type[BaseException]
) -> None:
    told: list[int] = []

    def plain(event: Event) -> None:
        told.append(event.term)
        raise error("plain")

    async def coroutine(event: Event) -> None:
        raise error("coroutine")

    hooks.add(plain)
    hooks.add(coroutine)
    hooks.emit(elected(1))
    hooks.emit(elected(2))
    await hooks.close()
    assert told == [1, 2]
    assert len(logged(caplog, "hook_failed")) == 4
    assert caplog.text.count(f"{error.__name__}: plain") == caplog.text.count(f"{error.__name__}: coroutine") == 2


@pytest.mark.parametrize("kind", ["plain", "coroutine"])
async def test_one_that_hangs_delays_nobody(
    hooks: Hooks, kind: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(hooks_module, "CLOSE_GRACE_S", 0.1)
    may_end, told = threading.Event(), []

    def plain(event: Event) -> None:
        may_end.wait(60)

    async def coroutine(event: Event) -> None:
        await asyncio.sleep(60)

    hooks.add(plain if kind == "plain" else coroutine)
    hooks.add(lambda event: told.append(event.term))
    for term in range(hooks_module.MAX_QUEUED_EVENTS + 10):
        hooks.emit(elected(term))
        if term % 100 == 0:
            await until_async(lambda term=term: len(told) > term)
    assert logged(caplog, "hook_events_dropped")
    began = time.monotonic()
    await hooks.close()
    assert time.monotonic() - began < 5
    may_end.set()


def test_one_that_outlasts_the_end_of_an_election_is_told_of_the_next(
    hooks: Hooks, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A hook's thread may outlive a restart; it takes no further events, and its loop is closed."""
    monkeypatch.setattr(hooks_module, "CLOSE_GRACE_S", 0.01)
    may_end, told, before = threading.Event(), [], set(threading.enumerate())

    def plain(event: Event) -> None:
        told.append(("begin", event.term))
        assert may_end.wait(60)
        told.append(("end", event.term))

    async def main(term: int) -> None:
        hooks.emit(elected(term))
        await until_async(lambda: told)
        await hooks.close()

    hooks.add(plain)
    for term in range(3):
        asyncio.run(main(term))
    assert told == [("begin", 0)]
    may_end.set()
    until(lambda: len(told) == 6, what=lambda: told)
    assert told == [(which, term) for term in range(3) for which in ("begin", "end")]
    until(lambda: not set(threading.enumerate()) - before, what="its threads have ended, none with a traceback")


async def test_nobody_is_told_from_a_thread_that_nobody_needs(hooks: Hooks) -> None:
    """P7: a follower without events has no thread."""
    before = set(threading.enumerate())
    hooks.add(lambda event: None)
    await hooks.close()
    assert set(threading.enumerate()) <= before


def test_an_event_as_plain_values() -> None:
    event = TookOver(NOW, 7, 2, 1, Reason.DIED, 4.1)
    assert event.name == "took_over"
    assert event.fields() == {
        "event": "took_over", "at": "2026-11-23T00:00:00+00:00", "term": 7, "pid": 2, "from_pid": 1,
        "reason": "died", "takeover_ms": 4.1,
    }  # fmt: skip


def test_an_election_tells_of_its_term_and_its_runs(tmp_path: Any) -> None:
    from election import Election
    from election.testing import always_leader

    election, told = Election(tmp_path / "pool"), []

    @election.scheduled_job("interval", seconds=0.02, id="good")
    async def good() -> None: ...

    @election.scheduled_job("interval", seconds=0.02, id="bad")
    def bad() -> None:
        raise ValueError("no")

    @election.on_event
    def hook(event: Event) -> None:
        told.append(event)

    async def main() -> None:
        async with election:
            await until_async(lambda: {"RunSucceeded", "RunFailed"} <= {type(event).__name__ for event in told})

    with always_leader(election):
        asyncio.run(main())
    until(lambda: any(event.name == "resigned" for event in told))
    names = [event.name for event in told]
    assert names.index("elected") < names.index("run_started") < names.index("run_succeeded")
    failed = next(event for event in told if event.name == "run_failed")
    assert (failed.job_id, failed.attempt, failed.error, failed.again_in_s) == ("bad", 1, "ValueError: no", None)
    assert failed.key.startswith("bad@")


async def test_at_a_limit_of_threads_events_are_dropped_and_nothing_else(
    hooks: Hooks, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Its first event ended each term in turn."""
    told: list[int] = []

    def refuse(_: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    hooks.add(lambda event: told.append(event.term))
    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", refuse)
        hooks.emit(elected(1))
    assert "no thread can be started for it (can't start new thread)" in caplog.text
    hooks.emit(elected(2))
    await until_async(lambda: told == [2])
    await hooks.close()
