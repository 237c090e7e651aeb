"""P6, P10: a worker that is stopped within a transaction, whose locks it keeps, does not stop the pool."""

from __future__ import annotations

import asyncio
import json
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from datetime import datetime

import psutil
import pytest

from election import Election, current_run
from election.engines.file import stalled_writer
from election.fencing.switch import DeadMansSwitch
from tests.engines.conformance.pool import Pool
from tests.support.logs import logged
from tests.support.waiting import until_async

pytestmark = pytest.mark.anyio

WORKER = """
import asyncio, json, signal, sys, threading
import election.engines.redis.store as redis
import election.engines.sql.store as sql
from election import Election

is_armed = False

def stop(write):
    def stopping(*arguments, **options):
        global is_armed
        result = write(*arguments, **options)
        if is_armed:
            is_armed = False
            signal.pthread_kill(threading.get_ident(), signal.SIGSTOP)  # this thread stops here
        return result
    return stopping

writing = set()

def arm():
    global is_armed
    is_armed = True
    writing.add(asyncio.ensure_future(election.jobs.pause("spare")))

sql._note_changes = stop(sql._note_changes)  # at the end of each transaction
redis.RedisStore.write = stop(redis.RedisStore.write)

election = Election(sys.argv[1], **json.loads(sys.argv[2]))
election.scheduled_job("interval", seconds=0.2, id="job")(print)
election.scheduled_job("interval", hours=1, id="spare")(print)

@election.while_leading
async def lead():
    print("leads", flush=True)
    await asyncio.Event().wait()

async def main():
    asyncio.get_running_loop().add_signal_handler(signal.SIGUSR1, arm)
    async with election:
        print("takes part", flush=True)
        await asyncio.Event().wait()

asyncio.run(main())
"""

TIMING = {"heartbeat": 0.1, "safety_poll": 0.3, "stalled_after": 1.0}


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(autouse=True)
def no_switch(monkeypatch: pytest.MonkeyPatch) -> None:
    """Disarm the switch of this process's worker, which would end all tests if the machine stood still."""
    monkeypatch.setattr(DeadMansSwitch, "_press", lambda *_: None)


@pytest.fixture
def start(pool: Pool) -> Iterator[Callable[[bytes], subprocess.Popen[bytes]]]:
    """Starts a worker; returns it when it has said ``line``."""
    with ExitStack() as scope:

        def start(line: bytes) -> subprocess.Popen[bytes]:
            options = {**TIMING, **pool.options, **_fence(pool)}
            command = [sys.executable, "-W", "ignore", "-c", WORKER, pool.url, json.dumps(options)]
            process = scope.enter_context(subprocess.Popen(command, stdout=subprocess.PIPE))
            scope.callback(process.kill)
            assert process.stdout is not None
            while said := process.stdout.readline():
                if said == line:
                    return process
            raise AssertionError(f"it ended without {line!r}")

        yield start


def elect(pool: Pool) -> tuple[Election, list[datetime]]:
    """This process's worker, and the ticks of its runs."""
    election = Election(pool.url, **TIMING, **pool.options, **_fence(pool))
    ran: list[datetime] = []

    @election.scheduled_job("interval", seconds=0.2, id="job")
    async def job() -> None:
        ran.append(current_run().due)

    @election.scheduled_job("interval", hours=1, id="spare")
    async def spare() -> None:
        pass

    return election, ran


Start = Callable[[bytes], subprocess.Popen[bytes]]


def _fence(pool: Pool) -> dict[str, float]:
    return {} if pool.name.startswith("redis") else {"fence_after": 4.0}  # there a lease ends the term


async def test_p6_a_leader_that_is_stopped_within_a_transaction(pool: Pool, start: Start) -> None:
    leader = start(b"leads\n")
    election, _ = elect(pool)
    async with election:

        async def follows() -> bool:
            found = (await election._view.document()).leader
            return found is not None and found.pid == leader.pid

        await until_async(follows, what="this worker follows")
        leader.send_signal(signal.SIGUSR1)
        await until_async(lambda: election.is_leader, what="this worker leads")
        document = await election._view.document()
        assert document.last_takeover is not None
        if _fence(pool):
            assert document.last_takeover.reason == "fenced"
            assert await asyncio.to_thread(leader.wait, 30) == -signal.SIGKILL
        assert document.last_takeover.from_pid == leader.pid


async def test_p10_a_follower_that_is_stopped_within_a_transaction(
    pool: Pool, start: Start, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In a file it keeps everybody from writing, and is ended; a server ends its session, or has no such lock."""
    monkeypatch.setattr(stalled_writer, "MIN_WAIT_S", 2.0)
    election, ran = elect(pool)
    async with election:
        await until_async(lambda: ran, what="this worker leads, and its job runs")
        follower = await asyncio.to_thread(start, b"takes part\n")  # this worker's heart beats on
        follower.send_signal(signal.SIGUSR1)
        await until_async(lambda: _is_stopped(follower) or follower.poll() is not None, what="it stands still")
        seen = len(ran)
        await until_async(lambda: len(ran) > seen + 10, what="the job runs on")
        assert election.is_leader
        if pool.name.startswith("file"):
            assert await asyncio.to_thread(follower.wait, 30) == -signal.SIGKILL
            [said] = logged(caplog, "stalled_writer_killed")
            assert f"ending pid {follower.pid} (" in said.getMessage()
        else:
            assert _is_stopped(follower)


def _is_stopped(process: subprocess.Popen[bytes]) -> bool:
    return process.poll() is None and psutil.Process(process.pid).status() == psutil.STATUS_STOPPED
