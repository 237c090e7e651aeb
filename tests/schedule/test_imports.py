"""Modules of stored jobs are imported in threads: the leader's event loop goes on meanwhile."""

from __future__ import annotations

import sys
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest

from election.schedule.commands import Claim
from election.schedule.imports import MAX_IMPORT_S
from election.schedule.model import Tick
from election.schedule.stored import to_store
from tests.schedule.making import make_term, process
from tests.schedule.stored_functions import remember
from tests.schedule.term_bench import TermBench

pytestmark = pytest.mark.anyio

SLOW = """
from tests.schedule.test_imports import GATE
GATE.wait(60)
async def work(): ...
"""

GATE = threading.Event()


@asynccontextmanager
async def stored(bench: TermBench, folder: Path, source: str, **options: object) -> AsyncIterator[None]:
    """Store the job ``stored``, whose module has that source, and register ``job``; the module is there meanwhile."""
    (folder / "late_module.py").write_text(source)
    GATE.clear()
    bench.thread_waits = True
    sys.path.insert(0, str(folder))
    try:
        await bench.others.begin_term(make_term(1), process())
        description, job = to_store(bench.registry, remember, "interval", id="stored", seconds=1, **options)
        await bench.others.store_job("stored", description, replace(job, func="late_module:work"))
        bench.job(seconds=1, misfire_grace_time=None)
        yield
    finally:
        GATE.set()
        sys.path.remove(str(folder))
        sys.modules.pop("late_module", None)


async def broken(bench: TermBench) -> str | None:
    [found] = [job for job in await bench.others.jobs() if job.id == "stored"]
    return found.broken


async def test_a_slow_import_holds_nothing_up(bench: TermBench, tmp_path: Path) -> None:
    async with stored(bench, tmp_path, SLOW), bench.term(2):
        try:
            await bench.until(lambda: len(bench.ran) >= 3)
            assert await bench.runs(job_id="stored") == []
            assert await broken(bench) is None
        finally:
            GATE.set()
        await bench.until(lambda: bench.runs(job_id="stored"))
    await bench.agrees()


async def test_an_import_that_does_not_end_is_told_and_its_job_goes_on_when_it_does(
    bench: TermBench, tmp_path: Path
) -> None:
    async with stored(bench, tmp_path, SLOW), bench.term(2):
        try:
            await bench.clock.advance(MAX_IMPORT_S)
            await bench.until(lambda: broken(bench))
            told = await broken(bench)
            assert told is not None
            assert "its module is being imported since more than 10 s" in told
            ran = len(bench.ran)
            await bench.until(lambda: len(bench.ran) >= ran + 3)
        finally:
            GATE.set()

        async def is_healed() -> bool:
            return await broken(bench) is None

        await bench.until(is_healed, limit=2)
        await bench.until(lambda: bench.runs(job_id="stored"))
    await bench.agrees()


async def test_a_run_that_a_former_leader_left_open_waits_for_its_module(bench: TermBench, tmp_path: Path) -> None:
    """And is run again, as if the module had been there."""
    async with stored(bench, tmp_path, SLOW.replace("60", "0.2"), rerun_interrupted=True):
        due = bench.clock.now() + timedelta(seconds=1)
        await bench.others.record(1, [Claim(Tick("stored", due), due)])
        bench.clock.step_wall_clock(timedelta(seconds=1))
        bench.thread_waits = False
        async with bench.term(2):
            await bench.until(lambda: bench.runs(job_id="stored", outcome="succeeded"))
        first, *_ = await bench.runs(job_id="stored")
        assert (first.due, first.attempt, first.outcome) == (due, 2, "succeeded")


@pytest.mark.parametrize(
    ("source", "told"),
    [
        pytest.param("import signal; signal.signal(signal.SIGUSR1, signal.SIG_DFL)", None, id="main thread only"),
        pytest.param("import asyncio; asyncio.get_running_loop()", None, id="event loop only"),
        pytest.param("raise KeyboardInterrupt", "KeyboardInterrupt", id="raises"),
    ],
)
async def test_modules_that_mind_where_they_are_imported(
    bench: TermBench, tmp_path: Path, source: str, told: str | None
) -> None:
    async with stored(bench, tmp_path, f"{source}\nasync def work(): ..."), bench.term(2):
        bench.thread_waits = False
        if told is None:
            await bench.until(lambda: bench.runs(job_id="stored"))
        else:
            await bench.until(lambda: broken(bench))
            assert told in str(await broken(bench))
