"""Stop signals of a process with several pools, which may end in any order."""

from __future__ import annotations

import os
import signal

import pytest

from election.signals import on_stop_signal
from tests.support.waiting import until


@pytest.mark.parametrize("first_to_end", [0, 1])
def test_a_pool_that_has_ended_gets_no_signal_and_keeps_none_from_the_server(first_to_end: int) -> None:
    told: list[str] = []
    before = signal.signal(signal.SIGTERM, lambda *_: told.append("server"))
    try:
        scopes = [on_stop_signal(lambda name=name: told.append(name)) for name in ("first", "second")]
        for scope in scopes:
            scope.__enter__()
        scopes.pop(first_to_end).__exit__(None, None, None)
        os.kill(os.getpid(), signal.SIGTERM)
        until(lambda: "server" in told)
        assert told == [("second", "first")[first_to_end], "server"]
        scopes.pop().__exit__(None, None, None)
        told.clear()
        os.kill(os.getpid(), signal.SIGTERM)
        until(lambda: "server" in told)
        assert told == ["server"]
    finally:
        signal.signal(signal.SIGTERM, before)
