"""The walks of docs/architecture.md equal those of the code: its functions, in the order of the page."""

from __future__ import annotations

import asyncio
import re
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

import pytest

from election import Election
from tests.support.pool import ROOT
from tests.support.waiting import until_async

pytestmark = pytest.mark.anyio

PAGE = (ROOT / "docs/architecture.md").read_text()


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


def walk(title: str) -> list[str]:
    """Names of the functions in the list under this heading."""
    section = PAGE.partition(f"## {title}\n")[2].partition("\n## ")[0]
    return re.findall(r"^\d+\. `([\w.]+)`", section, re.MULTILINE)


@contextmanager
def calls() -> Iterator[list[str]]:
    """Functions of election that are called within the scope, in any thread that starts in it, in order."""
    found: list[str] = []

    def note(frame: FrameType, event: str, _: object) -> None:
        module = frame.f_globals.get("__name__", "")
        if event == "call" and module.startswith("election."):
            found.append(f"{module.removeprefix('election.')}.{frame.f_code.co_qualname}")

    former: Callable[..., object] | None = sys.getprofile()
    threading.setprofile(note)
    sys.setprofile(note)
    try:
        yield found
    finally:
        sys.setprofile(former)
        threading.setprofile(None)


def check_walk(wanted: list[str], found: list[str]) -> None:
    """Each function is called for the first time after the one before it."""
    assert len(wanted) > 10
    assert [name for name in wanted if name not in found] == [], "never called"
    places = {name: found.index(name) for name in wanted}
    assert sorted(wanted, key=places.__getitem__) == wanted


async def test_a_takeover_and_a_tick(tmp_path: Path) -> None:
    election = Election(tmp_path / "pool", heartbeat=0.1)
    runs: list[None] = []

    @election.scheduled_job("interval", seconds=1, id="job")
    async def job() -> None:
        runs.append(None)

    timer = "schedule.scheduler_adapter._Scheduler._look"
    with calls() as takeover:
        async with election:
            await until_async(lambda: "core.elector.Elector._announce" in takeover)
            await until_async(lambda: timer in takeover, what="a tick's timer has fired")
            first = takeover.index(timer)
            await until_async(lambda: "schedule.reporting.RunReporter.succeeded" in takeover[first:])
            await asyncio.sleep(0)
    check_walk(walk("A takeover"), takeover)
    check_walk(walk("A tick"), takeover[first:])


def test_a_walk_that_is_wrong_is_noticed() -> None:
    wanted = walk("A tick")
    check_walk(wanted, wanted)
    with pytest.raises(AssertionError):
        check_walk(wanted, wanted[:-1])
    with pytest.raises(AssertionError):
        check_walk([wanted[1], wanted[0], *wanted[2:]], wanted)
