"""Calls in threads: what is reported as not begun never begins."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from election.core.threads import submit


def test_a_call_whose_thread_cannot_be_started_is_never_made(monkeypatch: pytest.MonkeyPatch) -> None:
    """``ThreadPoolExecutor.submit`` queues it first, so the next free thread made it, after it was reported failed."""
    made: list[str] = []
    entered, may_end = threading.Event(), threading.Event()

    def first() -> None:
        entered.set()
        may_end.wait(60)

    def refuse(_: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    with ThreadPoolExecutor(2) as executor:
        running = submit(executor, first)
        assert entered.wait(60)
        with monkeypatch.context() as patch:
            patch.setattr(threading.Thread, "start", refuse)
            with pytest.raises(RuntimeError, match="can't start new thread"):
                submit(executor, made.append, "refused")
        may_end.set()
        running.result(60)
        submit(executor, made.append, "later").result(60)
    assert made == ["later"]


def test_a_result_and_an_exception_arrive() -> None:
    with ThreadPoolExecutor(1) as executor:
        assert submit(executor, divmod, 7, 2).result(60) == (3, 1)
        with pytest.raises(ZeroDivisionError):
            submit(executor, divmod, 7, 0).result(60)
