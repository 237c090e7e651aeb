"""Steps of the seat in this process: the order of a release, a campaign that is cancelled."""

from __future__ import annotations

import asyncio
import os
import select
import subprocess
import threading
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from election import Election, PoolInUseError
from election.core.backend import SeatTiming
from election.core.clock import SystemClock
from election.core.seat import Seat
from election.core.term import LeaderRecord, Reason, Standing, Takeover
from election.engines.file import FileBackend, PoolDirectory, atomic_files
from election.engines.file.vacancy import AliveFifo
from tests.engines.file.faults import Steps
from tests.support.processes import identity_of
from tests.support.waiting import until_async

NOW = datetime(2026, 11, 23, 4, tzinfo=UTC)


def seat_on(path: Path) -> Seat:
    clock = SystemClock()
    backend = FileBackend(PoolDirectory(str(path)), timing=SeatTiming(0.001, 1.0), clock=clock)
    return Seat(backend, clock=clock, safety_poll=1.0)


@pytest.mark.parametrize("standing", [Standing.RESIGNED, Standing.LOST])
def test_a_release_tells_the_record_then_lets_go_of_the_flock_then_wakes_the_others(
    tmp_path: Path, standing: Standing
) -> None:
    seat = seat_on(tmp_path)
    seen: list[tuple[Standing, bool, bool]] = []

    async def main() -> None:
        assert await seat.campaign()
        ear = AliveFifo(str(tmp_path / "leader.alive")).listen()
        assert ear is not None
        poll = select.poll()
        poll.register(ear, select.POLLIN)

        def look(_: int, call: str) -> None:
            if call.startswith("unlock"):
                record = seat.backend.record_file.read()
                assert record is not None
                seen.append((record.standing, seat.held() is not None, bool(poll.poll(0))))

        with Steps(str(tmp_path / "leader.lock"), look).running():
            await seat.release(standing)
        assert poll.poll(0), "nobody was woken"
        os.close(ear)

    asyncio.run(main())
    assert seen == [(standing, False, False)], "the record ended, nothing held any more, nobody woken yet"


@pytest.mark.parametrize("slow", ["number", "record"])
def test_a_campaign_that_is_cancelled_while_it_writes_takes_its_words_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, slow: str
) -> None:
    """Its record may be on the disk already, and nobody else could lead while that names a leader."""
    writing, may_go_on = threading.Event(), threading.Event()
    seat, other = seat_on(tmp_path), seat_on(tmp_path)
    write_record = seat.backend.record_file.write

    def slow_disk(_: int) -> None:
        writing.set()
        assert may_go_on.wait(30)

    def slow_record(record: LeaderRecord) -> None:
        write_record(record)
        slow_disk(0)

    if slow == "number":
        monkeypatch.setattr(atomic_files, "_DATASYNC", slow_disk)
    else:
        monkeypatch.setattr(seat.backend.record_file, "write", slow_record)

    async def main() -> None:
        campaign = asyncio.create_task(seat.campaign())
        while not writing.is_set():
            await asyncio.sleep(0.001)
        campaign.cancel()
        await asyncio.sleep(0)
        assert await other.campaign() is None, "the flock was let go while the disk still worked"
        may_go_on.set()
        with pytest.raises(asyncio.CancelledError):
            await campaign

        async def is_taken_back() -> bool:
            record = (await other.observe()).record
            if slow == "number":
                return record is None
            return record is not None and (record.term, record.standing) == (1, Standing.RESIGNED)

        await until_async(is_taken_back, what="the other one reads what is left of it")
        term = await other.campaign()
        assert term is not None
        assert term.number == 2
        await other.release(Standing.RESIGNED)

    asyncio.run(main())


def test_a_leader_that_ends_while_it_is_looked_for_is_not_taken_for_dead(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between reading the record and reading the flocks, a leader on a swapped lock file may end in order."""
    seat = seat_on(tmp_path)
    seat.backend.directory.prepare()
    with subprocess.Popen(["sleep", "60"]) as leader:
        holder = identity_of(leader.pid)
        leading = LeaderRecord(6, holder, "1:1", NOW, Takeover(6, None, leader.pid, Reason.STARTED, NOW))
        seat.backend.record_file.write(leading)

        def ends_meanwhile(*_: Any) -> bool:
            over = replace(leading, standing=Standing.LOST, ended_at=NOW)
            elsewhere = threading.Thread(target=seat.backend.record_file.write, args=(over,))
            elsewhere.start()
            while elsewhere.is_alive():  # join() would be a call that blocks the loop
                pass
            return False

        monkeypatch.setattr("election.engines.file.backend.is_flocked", ends_meanwhile)

        async def main() -> None:
            assert await seat.campaign() is None
            term = await seat.campaign()
            assert term is not None
            assert (term.number, term.takeover.reason) == (7, Reason.LOST)
            await seat.release(Standing.RESIGNED)

        seat._has_followed = True
        asyncio.run(main())
        leader.kill()


@pytest.mark.anyio
async def test_a_check_beside_a_running_election_opens_no_ledger(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Closing any descriptor of the file drops the locks of this process on it, also those of SQLite
    (docs/pitfalls.md#7): the next process that closes the ledger would take itself for the last one, and remove its log
    under the leader.
    """

    def refuse(path: str) -> None:
        raise AssertionError(f"{path} was opened")

    async with Election(tmp_path / "pool") as election:
        monkeypatch.setattr("election.engines.file.ledger.stored_version", refuse)
        await asyncio.to_thread(election.check)
        with pytest.raises(PoolInUseError):
            await Election(tmp_path / "pool").__aenter__()
