"""Pool monitors of the servers: a read that began before this worker's own write does not replace it."""

from __future__ import annotations

import subprocess
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest

from election.core import process
from election.core.backend import SeatTiming
from election.core.process import current_process
from election.core.term import LeaderRecord, Reason, Standing, Takeover
from election.engines.postgres import monitor as postgres
from election.engines.postgres.address import parse
from election.engines.postgres.preflight import Preflight
from election.engines.redis import monitor as redis
from election.testing import ManualClock

NOW = datetime(2026, 7, 31, 22, 0, tzinfo=UTC)
OURS = current_process()
LEADING = LeaderRecord(7, OURS, "7:1", NOW, Takeover(7, None, OURS.pid, Reason.STARTED, NOW))
ENDED = replace(LEADING, standing=Standing.RESIGNED, ended_at=NOW)
TIMING = SeatTiming(heartbeat=1.0, safety_poll=1.0, fence_after=None)

pytestmark = pytest.mark.anyio


def _to_json(record: LeaderRecord) -> str:
    return redis.RECORD.dump_json(record).decode()


@pytest.mark.parametrize(("written", "expected"), [(None, LEADING), (ENDED, ENDED)], ids=["quiet", "resigning"])
async def test_postgres(monkeypatch: pytest.MonkeyPatch, written: LeaderRecord | None, expected: LeaderRecord) -> None:
    address = parse("postgresql://nobody@127.0.0.1:1/nowhere")
    monitor = postgres.PoolMonitor(
        address, Preflight(address), timing=TIMING, clock=ManualClock(), own_session=lambda: 0
    )

    async def execute(*_: object, **__: object) -> list[tuple[Any, ...]]:
        if written is not None:
            monitor.set_record(written)
        return [(_to_json(LEADING), 3, None, 0.1, True, [])]

    monkeypatch.setattr(postgres, "execute", execute)
    await monitor._read(object())  # type: ignore[arg-type]
    assert monitor.record == expected


async def test_who_reads_a_record_sees_its_leader_alive(monkeypatch: pytest.MonkeyPatch) -> None:
    """The next leader does not wait for the lease of a leader that is certainly dead."""
    address = parse("postgresql://nobody@127.0.0.1:1/nowhere")
    monitor = postgres.PoolMonitor(
        address, Preflight(address), timing=TIMING, clock=ManualClock(), own_session=lambda: 0
    )
    with subprocess.Popen(["sleep", "60"]) as child:
        born = process._start_time(child.pid)
        assert born is not None
        leader = replace(OURS, pid=child.pid, start_time=born)

        async def execute(*_: object, **__: object) -> list[tuple[Any, ...]]:
            return [(_to_json(replace(LEADING, holder=leader)), 3, None, 0.1, True, [])]

        monkeypatch.setattr(postgres, "execute", execute)
        await monitor._read(object())  # type: ignore[arg-type]
        child.kill()
    assert leader.is_surely_dead()


@pytest.mark.parametrize(("written", "expected"), [(None, LEADING), (ENDED, ENDED)], ids=["quiet", "resigning"])
async def test_redis(written: LeaderRecord | None, expected: LeaderRecord) -> None:
    class Client:
        async def run(self, *_: object) -> list[Any]:
            if written is not None:
                monitor.set_record(_to_json(written))
                monitor.set_lease("", 0, 0.0)
            return [LEADING.seat_id, 5000, _to_json(LEADING), []]

        async def read(self, *_: object) -> list[str]:
            return []

    monitor = redis.PoolMonitor(Client(), "pool:", ManualClock(), timing=TIMING, lease=5.0)  # type: ignore[arg-type]
    await monitor.refresh()
    assert monitor.record == expected
    assert monitor.led is (written is None)
