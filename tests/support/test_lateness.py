"""The measure of lateness: it grows with a round that is late, and stands still after its scope."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from .lateness import PAUSE_S, lateness
from .waiting import until


def test_it_grows_while_a_round_lasts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    name = "fdatasync" if hasattr(os, "fdatasync") else "fsync"
    late_s = 0.3
    monkeypatch.setattr(os, name, lambda _: time.sleep(late_s))
    with lateness(tmp_path) as late:
        until(lambda: late() >= late_s, what="the round that lasts is told")
    assert late() >= late_s


def test_it_stands_still_after_its_scope(tmp_path: Path) -> None:
    with lateness(tmp_path) as late:
        pass
    found, ended = late(), time.monotonic()
    until(lambda: time.monotonic() - ended > 2 * PAUSE_S + found, what="longer than a round that goes on")
    assert late() == found
