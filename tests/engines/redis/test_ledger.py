"""Faults of a ledger in Redis only: lost answers, forgotten scripts, tampered keys, and a ledger elsewhere."""

from __future__ import annotations

import asyncio
import contextlib
import select
import socket
from collections.abc import AsyncIterator
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from election.core.backend import SeatTiming
from election.core.clock import SystemClock
from election.core.errors import LedgerError
from election.core.term import Standing
from election.engines import Engine, open_engine
from election.engines.file.ledger import SqliteLedger
from election.engines.redis import RedisLedger, redis_engine
from election.engines.redis.address import address_of
from election.schedule.commands import Claim, FinishRun, RegisterJob, Retry
from election.schedule.ledger import IfExists
from election.schedule.model import NewJob, OpenRun, Outcome, StoredJob, Tick
from election.schedule.verify import verify
from tests.schedule.making import at, make_job, make_term, process
from tests.support.postgres_server import RunningPostgres
from tests.support.redis_server import Server
from tests.support.switch import Switch

pytestmark = pytest.mark.anyio

JOB = make_job("interval", seconds=1, start_date=at(-100))
TICK = Tick("job", at(1))


@pytest.fixture
async def ledger(steady: Server) -> AsyncIterator[RedisLedger]:
    ledger = RedisLedger(address_of(steady.patient_url))
    await ledger.begin_term(make_term(1), process())
    await ledger.record(1, [RegisterJob("job", JOB.schedule, at=at(0), since=at(0))])
    yield ledger
    await ledger.close()


class MuteSwitch(Switch):
    """Switch that can hold back everything that the server sends, until the connection is reset."""

    is_mute = False

    def _join(self, client: socket.socket, server: socket.socket) -> None:
        with client, server, contextlib.suppress(OSError):
            while True:
                ends = [client] if self.is_mute else [client, server]
                readable, _, _ = select.select(ends, [], [], 0.01)
                for end in readable:
                    data = end.recv(65536)
                    if not data or end not in self._ends:
                        return
                    if end is client or not self.is_mute:
                        (server if end is client else client).sendall(data)


async def test_p3_a_claim_whose_answer_was_lost_is_open_when_stock_is_taken(
    ledger: RedisLedger, steady: Server
) -> None:
    """It is not sent again: the second time it would be refused, and the tick would have no run."""
    switch = MuteSwitch(steady.port)
    other = RedisLedger(address_of(f"redis://127.0.0.1:{switch.port}/0?socket_timeout=30"))
    try:
        assert (await other.latest_terms()).begun == 1
        switch.is_mute = True
        claim = asyncio.create_task(other.record(1, [Claim(TICK, at(1))]))
        while steady.ask("ZCARD", "election:{election}:runs") == 0:
            await asyncio.sleep(0.01)
        await asyncio.to_thread(switch.turn, steady.port)
        with pytest.raises(LedgerError):
            await claim
        assert (await ledger.begin_term(make_term(1), process())).open_runs == [OpenRun(TICK, 1, 1)]
    finally:
        await other.close()
        await asyncio.to_thread(switch.close)


async def test_a_server_that_has_forgotten_the_scripts_is_sent_them_again(ledger: RedisLedger, steady: Server) -> None:
    steady.ask("SCRIPT", "FLUSH")
    assert await ledger.record(1, [Claim(TICK, at(1))]) == [True]
    steady.ask("SCRIPT", "FLUSH")
    state = await ledger.begin_term(make_term(1), process())
    assert [run.tick for run in state.open_runs] == [TICK]
    assert len(await ledger.terms()) == 1


async def test_any_text_of_an_error_comes_back_as_it_was(ledger: RedisLedger) -> None:
    for second, text in enumerate(["", "half a \ud800 character", "two\nlines\u2028three", "\x00"], 1):
        tick = Tick("job", at(second))
        await ledger.record(1, [Claim(tick, at(second)), Retry(tick, Outcome.FAILED, at(second), text)])
        await ledger.record(1, [FinishRun(tick, Outcome.FAILED, at(second), text)])
        [run] = await ledger.runs(limit=1)
        assert (run.error, [attempt["error"] for attempt in run.attempts]) == (text, [text])


@pytest.mark.parametrize("commands", [
    [["COPY", b"job:job", b"job:a\xffb"], ["SADD", b"jobs", b"a\xffb"]],
    [["HSET", b"job:odd", b"trigger", b"{}", b"func", b"\xff"], ["SADD", b"jobs", b"odd"]],
    [["COPY", b"job:job", b"job:odd"], ["HSET", b"job:odd", b"info", b"\xff"], ["SADD", b"jobs", b"odd"]],
], ids=["id", "function", "info"])  # fmt: skip
async def test_pitfall_63_a_job_with_bytes_that_are_no_text_is_broken(
    ledger: RedisLedger, steady: Server, commands: list[list[Any]]
) -> None:
    key = b"election:{election}:"
    for name, *arguments in commands:
        keys = 2 if name == "COPY" else 1
        steady.ask(name, *(key + argument for argument in arguments[:keys]), *arguments[keys:])
    state = await ledger.begin_term(make_term(2, elected_at=at(5)), process())
    overview = await ledger.overview()
    for jobs in (state.jobs, await ledger.jobs(), [*overview.code, *overview.stored]):
        assert [(job.id, job.broken) for job in jobs if job.id == "job"] == [("job", None)]
        [odd] = [job for job in jobs if job.id != "job"]
        assert odd.id.isprintable()
        assert "cannot be read" in (odd.broken or "")


async def test_pitfall_63_an_id_that_is_no_text_among_many_jobs(ledger: RedisLedger, steady: Server) -> None:
    """With so many, the leader reads most of them later, by their ids."""
    stored = StoredJob("tests.schedule.stored_functions:remember", {"value": 1}, {})
    await ledger.store_jobs([NewJob(f"good-{number}", JOB.schedule, stored) for number in range(120)])
    key = b"election:{election}:"
    for job_id, due in ((b"a\xff", 5), (b"b\xff", 2**52)):
        steady.ask("COPY", key + b"job:good-1", key + b"job:" + job_id)
        steady.ask("SADD", key + b"jobs", job_id)
        steady.ask("ZADD", key + b"due", due, job_id)
    steady.ask("COPY", key + b"job:job", key + b"job:c\xff")
    steady.ask("SADD", key + b"jobs", b"c\xff")
    state = await ledger.begin_term(make_term(2, elected_at=at(5)), process())
    totals, overview = await ledger.totals(), await ledger.overview()
    ids = [*[job.id for job in state.jobs], *state.rest]
    assert {"job", *[f"good-{number}" for number in range(120)]} <= set(ids)
    assert all(job_id.isprintable() for job_id in [*ids, *totals.jobs, *overview.code_ids])


async def test_pitfall_63_a_run_with_bytes_that_are_no_text_is_left_out(ledger: RedisLedger, steady: Server) -> None:
    await ledger.record(1, [Claim(Tick("job", at(second)), at(second)) for second in (1, 2)])
    steady.ask("HSET", "election:{election}:run:1", "attempts", b"\xff")
    state = await ledger.begin_term(make_term(2, elected_at=at(5)), process())
    assert [run.tick for run in state.open_runs] == [Tick("job", at(2))]
    assert [run.seq for run in await ledger.runs()] == [2]


async def test_claims_that_should_not_be_are_found(ledger: RedisLedger, steady: Server) -> None:
    await ledger.begin_term(make_term(2), process())
    await ledger.record(2, [Claim(Tick("job", at(second)), at(second)) for second in (1, 2, 3)])
    assert await broken(ledger) == set()
    key = "election:{election}:"
    steady.ask("COPY", f"{key}run:1", f"{key}run:4")
    steady.ask("ZADD", f"{key}runs", 4, 4)
    steady.ask("ZADD", f"{key}run_dues:job", steady.ask("HGET", f"{key}run:4", "due"), "0:4")
    steady.ask("HSET", f"{key}run:3", "first_term", 1)
    steady.ask("HSET", f"{key}run:2", "term", 9)
    assert await broken(ledger) == {
        ("P3", "claimed 2 times", (at(1),)),
        ("P3", "claimed by term 1 after a later term", (at(3),)),
        ("P2", "claimed by term 9, which never began", (at(2),)),
    }


async def broken(ledger: RedisLedger) -> set[tuple[str, str, tuple[datetime, ...]]]:
    found = (await verify(ledger, now=at(4))).violations
    return {(violation.promise, violation.text, violation.ticks) for violation in found}


async def test_a_job_that_changes_while_it_is_replaced_is_looked_at_again(
    ledger: RedisLedger, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A claim in between: the new schedule owes ticks after it (P3)."""
    await ledger.store_job("stored", JOB.schedule, StoredJob("module:function"))
    rows, dues = ledger.store._history.rows, [at(10**8), at(10**8 + 1)]

    async def and_then_a_claim(kind: str, names: Any) -> Any:
        found = await rows(kind, names)
        if dues:
            due = dues.pop(0)
            assert await ledger.record(1, [Claim(Tick("stored", due), due)]) == [True]
        return found

    monkeypatch.setattr(ledger.store._history, "rows", and_then_a_claim)
    await ledger.store_job("stored", JOB.schedule, StoredJob("module:other"), if_exists=IfExists.REPLACE)
    monkeypatch.undo()
    [state] = [job for job in await ledger.jobs() if job.id == "stored"]
    assert state.stored == StoredJob("module:other")
    assert state.settled_until == at(10**8 + 1)
    assert dues == []


async def test_p2_with_a_ledger_elsewhere_the_number_is_larger_than_both_know(steady: Server, tmp_path: Path) -> None:
    path = str(tmp_path / "ledger.db")
    before = SqliteLedger(path)
    await before.begin_term(make_term(41), process())
    await before.close()
    engine = redis_engine(
        steady.patient_url,
        timing=SeatTiming(0.05, 0.2),
        durable=False,
        clock=SystemClock(),
        ledger=lambda: SqliteLedger(path),
    )
    await engine.seat.open()
    try:
        for number, asked in ((42, "41"), (43, None)):
            term = await engine.seat.campaign()
            assert term is not None
            assert term.number == number
            await engine.seat.release(Standing.RESIGNED)
            if asked is not None:
                steady.ask("SET", "election:{election}:term", asked)  # as in a failover
        assert isinstance(engine.ledger, SqliteLedger)
    finally:
        await engine.seat.close()
        await engine.ledger.close()


@pytest.fixture
def workers(steady: Server, postgres_server: RunningPostgres) -> list[Engine]:
    """Two workers of a pool with its seat here and its ledger in PostgreSQL, one after the other."""
    url, ledger = f"{steady.patient_url}&pool=two", postgres_server.url(pool="two")
    return [open_engine(url, ledger=ledger, heartbeat=0.05, safety_poll=0.2) for _ in range(2)]


async def test_p2_p3_what_redis_forgets_a_ledger_in_postgresql_knows(workers: list[Engine], steady: Server) -> None:
    """Neither a number nor a tick is used again."""
    for number, engine in enumerate(workers, 1):
        await engine.seat.open()
        try:
            term = await engine.seat.campaign()
            assert term is not None
            assert term.number == number
            state = await engine.ledger.begin_term(term, (await engine.seat.workers())[0].process)
            assert state.open_runs == [OpenRun(TICK, 1, 1)] * (number - 1)
            enrol = RegisterJob("job", JOB.schedule, at=at(0), since=at(0))
            assert await engine.ledger.record(number, [enrol, Claim(TICK, at(1))]) == [True, number == 1]
            await engine.seat.release(Standing.RESIGNED)
        finally:
            await engine.seat.close()
            await engine.ledger.close()
        steady.ask("FLUSHALL")


@pytest.mark.parametrize(
    ("key", "field", "value"),
    [
        ("totals:job", "runs danced", "1"),
        ("totals:job", "runs failed", "x"),
        ("totals:job", "skips tired", "1"),
        ("totals:job", "success latest", str(10**18)),
        ("totals:job", "lateness total", "x"),
        ("totals:job", "duration total", "inf"),
        ("totals", "terms moved", "1"),
        ("totals", "vacant moved", "1.5"),
        ("totals", "takeover total", "nan"),
    ],
)
async def test_p8_a_counter_that_cannot_be_read_is_left_out(
    ledger: RedisLedger, steady: Server, key: str, field: str, value: str
) -> None:
    """In a rolling deploy, a newer worker may count what an older one does not know."""
    before = await ledger.totals()
    steady.ask("HSET", f"election:{{election}}:{key}", field, value)
    assert await ledger.totals() == before


async def test_p8_the_latest_settled_time_is_that_of_the_jobs_that_have_one(
    ledger: RedisLedger, steady: Server
) -> None:
    before = (await ledger.totals()).settled_until
    assert before is not None
    for score in (10**18, "+inf"):
        steady.ask("ZADD", "election:{election}:settled", score, "odd")
        assert (await ledger.totals()).settled_until == before
    steady.ask("ZREM", "election:{election}:settled", "job")
    assert (await ledger.totals()).settled_until is None


@pytest.mark.parametrize("kwargs", ["5", "null", "[]"])
async def test_pitfall_63_a_job_whose_arguments_are_no_object_is_broken(
    ledger: RedisLedger, steady: Server, kwargs: str
) -> None:
    await ledger.store_jobs([NewJob("added", JOB.schedule, StoredJob("a:f"))])
    steady.ask("HSET", "election:{election}:job:added", "kwargs", kwargs)
    assert ["there is no object" in (job.broken or "") for job in await ledger.jobs()] == [True, False]


@pytest.mark.parametrize("moment", [str(10**18), str(-(10**18))])
async def test_p8_a_term_without_a_time_hides_no_history(ledger: RedisLedger, steady: Server, moment: str) -> None:
    await ledger.record(1, [Claim(TICK, at(1))])
    steady.ask("HSET", "election:{election}:term:1", "began_at", moment)
    window = await ledger.window(at(-60), at(60), 100)
    assert (window.terms, [run.due for run in window.runs], window.begins) == ([], [at(1)], at(1))
    assert await ledger.terms() == []
