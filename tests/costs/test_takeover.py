"""P6: steps between a leader's death and its successor's work, as counts."""

from __future__ import annotations

import asyncio
import json
import re
import signal
import subprocess
import sys
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from unittest import mock

import pytest

from election.core.term import Term
from tests.costs.conftest import Start, opened
from tests.costs.counting import system_calls
from tests.costs.worker import build
from tests.support.tools import needs
from tests.support.waiting import until, until_async

pytestmark = [
    pytest.mark.extended,
    pytest.mark.skipif(sys.platform != "linux", reason="a pidfd wakes the follower"),
]

WITH_ALL_THREADS = 400
"""System calls of a successor, including those of SQLite, from the death to the end of the takeover; about 355 were
measured.

Without those by which its threads wait for one another: their number depends on the speed of each under strace.
"""


REPLACES_THE_RECORD = re.compile(r'rename\w*\(.*leader\.json"')
"""Matches a line of strace: at the beginning of a term, and again at the end of the takeover, with its time."""

WITHOUT_ROUTINE = {"heartbeat": 30.0, "safety_poll": 60.0, "stalled_after": 90.0}
"""Options of a worker whose heartbeats and polls come after the test."""


@pytest.mark.anyio
async def test_from_the_death_to_the_work(
    pool: Path, leader: subprocess.Popen[bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    """From the beginning of the winning campaign; the follower would sleep for a minute without an event."""
    monkeypatch.setattr("election.fencing.warden.MAX_POLL_INTERVAL_S", 60.0)
    election = build(pool, **WITHOUT_ROUTINE)
    seat, began = election._engine.seat, asyncio.Event()
    calls: Counter[str] = Counter()

    async def work() -> None:
        calls.update(asked, trips=trips.call_count)  # now: later calls do not delay the beginning of the work
        began.set()
        await asyncio.Event().wait()

    election.while_leading(work)
    async with election:
        await until_async(lambda: "pidfd" in seat.backend.watcher.sources, what="it watches the leader")
        with (
            system_calls() as asked,
            mock.patch.object(
                ThreadPoolExecutor, "submit", autospec=True, side_effect=ThreadPoolExecutor.submit
            ) as trips,
        ):
            campaign = seat.campaign

            async def counted_anew() -> Term | None:
                asked.clear()
                trips.reset_mock()
                return await campaign()

            monkeypatch.setattr(seat, "campaign", counted_anew)
            leader.kill()
            await asyncio.wait_for(began.wait(), 30)
    in_threads = calls.pop("trips")
    assert 0 < in_threads <= 6, "the lock, the number beside two questions to the ledger, the record, the term"
    assert calls.total() <= 90, calls


@needs("strace")
def test_what_the_system_sees(pool: Path, leader: subprocess.Popen[bytes], start: Start, tmp_path: Path) -> None:
    """One wait for the disk for the number, and one beside the work for the ledger's log and its name; SQLite does
    not wait, and no process is started.
    """
    successor, calls = start(**WITHOUT_ROUTINE).pid, tmp_path / "calls"
    until(lambda: "pidfd" in opened(successor), what="it watches the leader")
    strace = subprocess.Popen(["strace", "-f", "-qq", "-o", calls, "-p", str(successor)], stderr=subprocess.PIPE)
    threads = Path(f"/proc/{successor}/task")
    traced = f"TracerPid:\t{strace.pid}"
    until(lambda: all(traced in (each / "status").read_text() for each in threads.iterdir()), what="it is traced")
    leader.kill()

    def took_over() -> bool:
        record = json.loads((pool / "leader.json").read_bytes())
        return bool(record["term"] == 2 and record["takeover"]["takeover_ms"])

    until(took_over)
    strace.send_signal(signal.SIGINT)
    strace.communicate(timeout=30)
    lines = [line.split(None, 1)[1] for line in calls.read_text().splitlines()]
    confirmed = [number for number, line in enumerate(lines) if REPLACES_THE_RECORD.match(line)][1]
    lines = lines[: confirmed + 1]  # later calls, as those of a checkpoint after a second, are not part of a takeover
    made = Counter(line.partition("(")[0] for line in lines if "(" in line and "resumed" not in line)
    assert made["fdatasync"] <= 2, made
    assert made["fsync"] <= 1, made
    assert made["execve"] == made["fork"] == made["vfork"] == 0, made
    assert made.total() - made["futex"] - made["epoll_wait"] <= WITH_ALL_THREADS, made
