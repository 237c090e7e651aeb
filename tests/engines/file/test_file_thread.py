"""The thread for files: the event loop runs while a disk stands still; the log and ``/leader`` report it (P8)."""

from __future__ import annotations

import asyncio
import os
import statistics
import threading
import time
from collections.abc import Callable, Iterator
from concurrent import futures
from pathlib import Path

import httpx2
import pytest
from fastapi import FastAPI

from election import Election
from election.engines.file import file_thread
from election.engines.file.file_thread import FileThread
from tests.support.logs import logged
from tests.support.waiting import until_async

pytestmark = pytest.mark.anyio


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


class Disk:
    """A disk that answers, or stands still."""

    def __init__(self) -> None:
        self._answers = threading.Event()
        self._answers.set()
        self.asked = threading.Event()

    def stand_still(self) -> None:
        self.asked.clear()
        self._answers.clear()

    def go_on(self) -> None:
        self._answers.set()

    def answer(self) -> None:
        self.asked.set()
        assert self._answers.wait(60)


@pytest.fixture
def disk() -> Iterator[Disk]:
    disk = Disk()
    yield disk
    disk.go_on()


async def test_what_must_reach_the_disk_does_so_though_its_caller_is_cancelled(disk: Disk) -> None:
    files = FileThread("/pool")
    disk.stand_still()
    task = asyncio.create_task(_awaited(files, disk.answer))
    await until_async(disk.asked.is_set)
    task.cancel()
    for _ in range(20):
        await asyncio.sleep(0)
    assert not task.done(), "it returned while the disk still worked"
    disk.go_on()
    with pytest.raises(asyncio.CancelledError):
        await task
    files.close()


async def _awaited(files: FileThread, function: Callable[[], None]) -> None:
    await files.run(function)


async def test_one_operation_after_the_other() -> None:
    files, seen = FileThread("/pool"), list[int]()
    await asyncio.gather(*(files.run(lambda number=number: seen.append(number)) for number in range(100)))
    assert seen == list(range(100))
    files.close()


async def test_a_disk_that_stands_still_is_told_until_it_answers(
    disk: Disk, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    files = FileThread("/pool")
    await files.run(disk.answer)
    assert files.problem is None
    monkeypatch.setattr(file_thread, "STALLED_AFTER_S", 0.05)
    disk.stand_still()
    waiting = [files.run(disk.answer) for _ in range(3)]
    await until_async(lambda: files.problem)
    assert files.problem is not None and "the disk of /pool has not answered for" in files.problem
    assert len(logged(caplog, "disk_stalled")) == 1
    disk.go_on()
    await asyncio.gather(*waiting)
    assert files.problem is None
    assert len(logged(caplog, "disk_answers")) == 1
    files.close()


async def test_a_loop_that_is_late_blames_no_disk_that_has_answered(
    disk: Disk, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(file_thread, "STALLED_AFTER_S", 0.05)
    files = FileThread("/pool")
    disk.stand_still()
    waiting = files.run(disk.answer)
    [work] = files._waiting
    disk.go_on()
    futures.wait([work], 60)
    time.sleep(0.1)  # the loop is blocked: its timer and the answer come in the same turn
    await waiting
    assert files.problem is None
    assert logged(caplog, "disk_stalled") == []
    files.close()


async def test_a_process_that_stood_still_gives_the_disk_its_time_again(
    disk: Disk, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    loop, real, ahead = asyncio.get_running_loop(), asyncio.get_running_loop().time, 0.0
    monkeypatch.setattr(file_thread, "STALLED_AFTER_S", 60.0)
    monkeypatch.setattr(loop, "time", lambda: real() + ahead)
    files = FileThread("/pool")
    disk.stand_still()
    waiting = files.run(disk.answer)
    ahead += 61.0
    for _ in range(5):
        await asyncio.sleep(0)
    assert files.problem is None
    while files.problem is None:
        ahead += 59.9  # the rest passes in punctual steps
        await asyncio.sleep(0.2)
    assert int(files.problem.partition("has not answered for ")[2].split()[0]) > 120, "from the beginning"
    assert len(logged(caplog, "disk_stalled")) == 1
    disk.go_on()
    await waiting
    assert len(logged(caplog, "disk_answers")) == 1
    files.close()


async def test_a_thread_that_was_ended_is_begun_anew() -> None:
    files = FileThread("/pool")
    first = await files.run(threading.current_thread)
    files.close()
    assert await files.run(threading.current_thread) is not first
    files.close()


@pytest.mark.parametrize("call", ["utime", "open", "stat"])
async def test_p8_pitfall_48_all_http_goes_on_while_a_disk_stands_still(
    tmp_path: Path, disk: Disk, call: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whichever file operation of a leader waits: answers come within milliseconds."""
    monkeypatch.setattr(file_thread, "STALLED_AFTER_S", 0.2)
    election = Election(str(tmp_path / "pool"), heartbeat=0.05, safety_poll=0.1)
    app = FastAPI(lifespan=election.lifespan)
    app.include_router(election.router)
    app.include_router(election.health)
    real = getattr(os, call)

    def slow(path: object, *args: object, **kwargs: object) -> object:
        if threading.current_thread().name.startswith("election-files"):
            disk.answer()
        elif str(path).startswith(str(tmp_path)) and not threading.current_thread().name.startswith("election"):
            raise AssertionError(f"os.{call} on {path} in {threading.current_thread().name}")
        return real(path, *args, **kwargs)

    transport = httpx2.ASGITransport(app)
    async with app.router.lifespan_context(app), httpx2.AsyncClient(transport=transport, base_url="http://test") as web:
        await until_async(lambda: election.is_leader)
        monkeypatch.setattr(os, call, slow)
        disk.stand_still()
        await until_async(disk.asked.is_set)
        seen, took = {}, list[float]()

        async def told() -> bool:
            nonlocal seen
            for path in ("/healthz", "/leader"):
                began = time.monotonic()
                answer = await web.get(path)
                took.append(time.monotonic() - began)
            seen = answer.json()
            return "has not answered for" in (seen["problem"] or "")

        try:
            await until_async(told)
        finally:
            disk.go_on()
        assert statistics.median(took) < 1.0, "the event loop stood still"
        assert seen["state"] == "led", "nothing says that this worker has lost its seat"
        await until_async(lambda: election.is_leader)
        monkeypatch.undo()


async def test_a_limit_of_threads_at_the_start_may_pass(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """It raised a RuntimeError, with which a server stops the deployment (docs/pitfalls.md#40)."""

    def refuse(_: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    election = Election(tmp_path / "pool", heartbeat=0.05, safety_poll=0.1)
    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", refuse)
        await election.__aenter__()
    try:
        await asyncio.wait_for(election.wait_until_leading(), 60)
    finally:
        with monkeypatch.context() as patch:
            patch.setattr(threading.Thread, "start", refuse)
            await election.__aexit__()
    assert logged(caplog, "pool_unchecked")
    async with election:
        await asyncio.wait_for(election.wait_until_leading(), 60)
