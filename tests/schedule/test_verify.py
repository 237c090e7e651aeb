"""``verify`` accepts a real history, and rejects a ledger with each kind of break (P1 to P4)."""

from __future__ import annotations

import sqlite3
from collections.abc import AsyncIterator, Sequence
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from election.core.term import Reason, Standing
from election.engines.file.ledger import SqliteLedger
from election.engines.sql.values import to_us
from election.schedule.claim_history import ClaimHistory, Settlement
from election.schedule.commands import Claim, Entry, FinishRun, RegisterJob, RetireJob, Retry, Skip
from election.schedule.history import ClaimRow, Epoch, SkipRow, TermRow
from election.schedule.model import OpenRun, Outcome, SkipReason, Span, Tick
from election.schedule.ticks import ticks
from election.schedule.triggers import describe
from election.schedule.verify import Violation, check_open_runs, check_terms, check_ticks, owed_ticks, verify
from tests.schedule.making import NOW, at, make_job, make_term, moments, process

pytestmark = pytest.mark.anyio

LATER = at(10_000)

STEADY = make_job("interval", seconds=10, start_date=NOW)
SLOW = make_job("cron", minute="*/2")
JITTERED = make_job("interval", seconds=10, start_date=NOW, jitter=4)
ONCE = make_job("date", run_date=at(35))


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture
def path(tmp_path: Path) -> str:
    return str(tmp_path / "ledger.db")


def enrol(job_id: str, description: Any, second: float = 0) -> RegisterJob:
    return RegisterJob(job_id, description, at=at(second), since=at(second))


def run(job_id: str, second: float, outcome: Outcome = Outcome.SUCCEEDED) -> list[Entry]:
    tick = Tick(job_id, at(second))
    return [Claim(tick, at(second)), FinishRun(tick, outcome, at(second + 1))]


def skip(job_id: str, first: float, last: float, reason: SkipReason, count: int | None = None) -> Skip:
    return Skip(job_id, at(first), at(last), count, reason, at(last))


async def lead(ledger: SqliteLedger, number: int, entries: Sequence[Entry], *, dies: bool = False) -> None:
    """A term that writes ``entries``, and ends in order unless it ``dies``."""
    await ledger.begin_term(make_term(number, elected_at=at(10 * number)), process(100 + number))
    assert all(await ledger.record(number, entries))
    if not dies:
        await ledger.end_term(number, Standing.RESIGNED)


async def test_more_runs_at_once_than_the_job_allows_are_a_break(ledger: SqliteLedger) -> None:
    """The leaders' monotonic clocks are compared, whatever the wall clock showed."""
    ticks = [Tick("steady", at(second), request) for second, request in ((1700, 21), (1701, 22), (1702, 23))]
    claims = [Claim(tick, tick.due, max_instances=2) for tick in ticks]
    spans = [Span(10, 20), Span(12, 30), Span(19, 25)]
    ends = [FinishRun(tick, Outcome.SUCCEEDED, at(0), span=span) for tick, span in zip(ticks, spans, strict=True)]
    await lead(ledger, 6, [*claims, *ends])
    text = "3 runs at once in term 6, where max_instances allows 2"
    assert await judge(ledger) == [Violation("P9", text, "steady")]


@pytest.fixture
async def ledger(path: str) -> AsyncIterator[SqliteLedger]:
    """Five terms, two of which ended with ``kill -9``, of four jobs, with every kind of entry."""
    ledger = SqliteLedger(path)
    interrupted, again = Tick("steady", at(50)), Tick("steady", at(60))
    await lead(
        ledger,
        1,
        [
            enrol("steady", STEADY.schedule),
            enrol("slow", SLOW.schedule),
            enrol("once", ONCE.schedule),
            *run("steady", 10),
            *run("steady", 20, Outcome.FAILED),
            Claim(Tick("steady", at(25), 1), at(25)),
            FinishRun(Tick("steady", at(25), 1), Outcome.SUCCEEDED, at(26)),
            skip("steady", 30, 40, SkipReason.COALESCED, 2),
            *run("once", 35),
            Claim(interrupted, at(50)),
        ],
        dies=True,
    )
    await lead(ledger, 2, [FinishRun(interrupted, Outcome.INTERRUPTED, at(55)), Claim(again, at(60))], dies=True)
    await lead(
        ledger,
        4,
        [
            Retry(again, Outcome.INTERRUPTED, at(70)),
            *run("steady", 70),
            FinishRun(again, Outcome.SUCCEEDED, at(75)),
            skip("steady", 80, 80, SkipReason.OVERLAP, 1),
            skip("steady", 90, 90, SkipReason.MISFIRED, 1),
            *run("slow", 120),
            skip("steady", 100, 150, SkipReason.PAUSED, 6),
        ],
    )
    await lead(
        ledger,
        5,
        [
            skip("steady", 160, 1595, SkipReason.DOWN),
            *run("steady", 1600),
            skip("slow", 240, 1580, SkipReason.DOWN),
            enrol("steady", make_job("interval", seconds=7, start_date=NOW).schedule, 1605),
            *run("steady", 1610),
            enrol("jittered", JITTERED.schedule, 1600),
            *run("jittered", 1610.5),
            *run("jittered", 1624),
            *run("slow", 1680),
            RetireJob("steady", at(1615)),
        ],
    )
    yield ledger
    await ledger.close()


async def judge(ledger: SqliteLedger, now: datetime = LATER) -> list[Violation]:
    return list((await verify(ledger, now=now)).violations)


# --- green -----------------------------------------------------------------------------------------------------------


async def test_a_real_history_is_green(ledger: SqliteLedger) -> None:
    seen: dict[str, int] = {}
    report = await verify(ledger, now=LATER, progress=lambda job_id, count: seen.update({job_id: count}))
    assert report.violations == ()
    assert report.unchecked == ()
    assert report.terms == 4
    assert report.ticks == 160 + 1 + 14 + 1 + 2
    assert set(seen) == {"steady", "slow", "once", "jittered"}


async def test_an_empty_ledger_is_green(tmp_path: Path) -> None:
    ledger = SqliteLedger(str(tmp_path / "new.db"))
    report = await verify(ledger, now=LATER)
    assert (report.violations, report.ticks, report.terms) == ((), 0, 0)
    await ledger.close()


async def test_a_leader_that_is_at_work_is_green(ledger: SqliteLedger) -> None:
    """Ticks that have just fallen due are not settled yet, nor are open runs."""
    await ledger.begin_term(make_term(6, elected_at=at(2000)), process(106))
    await ledger.record(6, [skip("slow", 1800, 1800, SkipReason.DOWN), Claim(Tick("slow", at(1920)), at(1920))])
    assert await judge(ledger, at(2041)) == []


async def test_a_pool_that_is_dead_owes_nothing_since(ledger: SqliteLedger) -> None:
    assert await judge(ledger, at(10**7)) == []


async def test_clocks_of_two_boots_are_not_compared(ledger: SqliteLedger, path: str) -> None:
    doctor(path, "UPDATE terms SET began_ns = 5, ended_ns = 6, boot_id = 'another' WHERE term = 5")
    assert await judge(ledger) == []


# --- red -------------------------------------------------------------------------------------------------------------


def doctor(path: str, *statements: str) -> None:
    connection = sqlite3.connect(path)
    for statement in statements:
        assert connection.execute(statement).rowcount != 0, f"{statement} changed nothing"
    connection.commit()
    connection.close()


def us(second: float) -> int:
    return to_us(at(second))


TWICE = (
    "DROP INDEX one_claim_per_tick",
    "INSERT INTO runs (job_id, due, request, term, claimed_at, ended_at, outcome)"
    " SELECT job_id, due, request, 5, claimed_at, ended_at, outcome FROM runs",
)


@pytest.mark.parametrize(
    ("statements", "promise", "text", "job_id", "broken"),
    [
        pytest.param(
            ["UPDATE terms SET ended_ns = (SELECT began_ns + 2500000 FROM terms WHERE term = 5) WHERE term = 4"],
            "P1", "terms 4 and 5 overlap by 2.500 ms", None, [], id="P1: two terms at one instant",
        ),
        pytest.param(
            ["UPDATE terms SET began_ns = (SELECT began_ns - 1 FROM terms WHERE term = 4) WHERE term = 5"],
            "P2", "term 5 began before term 4", None, [], id="P2: a number that went back",
        ),
        pytest.param(
            ["DELETE FROM terms WHERE term = 2", f"UPDATE runs SET term = 2 WHERE due = {us(70)}"],
            "P2", "claimed by term 2, which never began", "steady", [70], id="P2: a run of a term that never began",
        ),
        pytest.param(
            [f"UPDATE runs SET term = 9, ended_at = NULL, outcome = NULL WHERE due = {us(1680)}"],
            "P2", "claimed by term 9, which never began", "slow", [1680], id="P2: an open run of such a term",
        ),
        pytest.param(
            [TWICE[0], f"{TWICE[1]} WHERE due = {us(1600)}"],
            "P3", "claimed 2 times", "steady", [1600], id="P3: a tick that was claimed twice",
        ),
        pytest.param(
            [TWICE[0], f"{TWICE[1]} WHERE request = 1"],
            "P3", "claimed 2 times", "steady", [25], id="P3: a request that was carried out twice",
        ),
        pytest.param(
            [f"UPDATE runs SET term = 2 WHERE due = {us(1600)}"],
            "P3", "claimed by term 2 after a later term", "steady", [1600], id="P3: a claim of a term that was over",
        ),
        pytest.param(
            [f"DELETE FROM runs WHERE due = {us(70)}"],
            "P4", "neither run nor skipped", "steady", [70], id="P4: a run that is gone",
        ),
        pytest.param(
            [f"DELETE FROM runs WHERE due IN ({us(10)}, {us(1600)})"],
            "P4", "neither run nor skipped", "steady", [10, 1600], id="P4: two of them",
        ),
        pytest.param(
            ["DELETE FROM runs WHERE job_id = 'once'"],
            "P4", "neither run nor skipped", "once", [35], id="P4: the one run of a date",
        ),
        pytest.param(
            [f"UPDATE runs SET request = 7 WHERE due = {us(70)}"],
            "P4", "neither run nor skipped", "steady", [70], id="P4: a run for another reason",
        ),
        pytest.param(
            ["DELETE FROM skips WHERE reason = 'coalesced'"],
            "P4", "neither run nor skipped", "steady", [30, 40], id="P4: a skip that is gone",
        ),
        pytest.param(
            [f"UPDATE skips SET last_due = {us(140)} WHERE reason = 'paused'"],
            "P4", "neither run nor skipped", "steady", [150], id="P4: a skip that is too short",
        ),
        pytest.param(
            [f"UPDATE skips SET first_due = {us(181)} WHERE job_id = 'steady' AND reason = 'down'"],
            "P4", "neither run nor skipped", "steady", [160, 170, 180], id="P4: one that begins too late",
        ),
        pytest.param(
            ["UPDATE skips SET job_id = 'slow' WHERE reason = 'overlap'"],
            "P4", "neither run nor skipped", "steady", [80], id="P4: a skip of another job",
        ),
        pytest.param(
            [f"DELETE FROM runs WHERE due = {us(1610)}"],
            "P4", "neither run nor skipped", "steady", [1610], id="P4: under a changed schedule",
        ),
        pytest.param(
            [f"DELETE FROM runs WHERE due = {us(1610.5)}"],
            "P4", "neither run nor skipped", "jittered", [1610], id="P4: with jitter",
        ),
        pytest.param(
            [f"UPDATE runs SET due = {us(1614.5)} WHERE due = {us(1610.5)}"],
            "P4", "neither run nor skipped", "jittered", [1610], id="P4: later than its jitter allows",
        ),
        pytest.param(
            [f"UPDATE runs SET ended_at = NULL, outcome = NULL WHERE due = {us(50)}"],
            "P4", "the run of term 1 was never settled", "steady", [50], id="P4: a run that was never settled",
        ),
    ],
)  # fmt: skip
async def test_a_doctored_ledger_is_red(
    ledger: SqliteLedger,
    path: str,
    statements: list[str],
    promise: str,
    text: str,
    job_id: str | None,
    broken: list[float],
) -> None:
    doctor(path, *statements)
    assert await judge(ledger) == [Violation(promise, text, job_id, moments(*broken))]


async def test_a_pruned_history_is_judged_from_there_on(ledger: SqliteLedger, path: str) -> None:
    while await ledger.prune(at(65), 2) >= 2:
        pass
    assert await judge(ledger) == []
    assert [term.term for term in await ledger.terms()] == [5, 4], "those that died without an end too"
    doctor(path, f"DELETE FROM runs WHERE due IN ({us(70)}, {us(1600)})")
    assert [violation.ticks for violation in await judge(ledger)] == [moments(70, 1600)]


async def test_history_that_is_removed_while_it_is_judged_is_no_break(ledger: SqliteLedger, path: str) -> None:
    """On a live pool that happens every minute."""

    class PrunedMeanwhile(SqliteLedger):
        async def skips(self, **conditions: Any) -> list[SkipRow]:
            while await ledger.prune(at(65), 100) >= 100:
                pass
            return await super().skips(**conditions)

    reader = PrunedMeanwhile(path, look_only=True)
    assert await judge(reader) == []
    doctor(path, f"DELETE FROM runs WHERE due = {us(70)}")
    assert [violation.ticks for violation in await judge(reader)] == [moments(70)]
    await reader.close()


async def test_a_trigger_class_of_the_users_own_is_told_not_judged(ledger: SqliteLedger) -> None:
    description = {"type": "other", "text": "module.Own: own"}
    await lead(ledger, 6, [enrol("own", description, 1700), *run("own", 1777), enrol("own", description, 1800)])
    report = await verify(ledger, now=LATER)
    assert report.violations == ()
    assert report.unchecked == ("own",)


# --- the pure parts --------------------------------------------------------------------------------------------------


def term_row(number: int, began_ns: int, ended_ns: int | None, boot: str = "boot") -> TermRow:
    return TermRow(number, 1, "host", boot, NOW, began_ns, Reason.DIED, None, None, None, ended_ns, None)


@pytest.mark.parametrize(
    ("terms", "promises"),
    [
        ([], []),
        ([term_row(1, 10, 20)], []),
        ([term_row(1, 10, 20), term_row(2, 20, 30)], []),
        ([term_row(1, 10, None), term_row(2, 20, 30)], []),
        ([term_row(1, 10, 21), term_row(2, 20, 30)], ["P1"]),
        ([term_row(1, 10, None), term_row(2, 10, None)], ["P2"]),
        ([term_row(1, 50, 60), term_row(2, 20, 30), term_row(3, 25, 40)], ["P2", "P1"]),
        ([term_row(1, 50, 60), term_row(2, 20, 30, "later")], []),
    ],
)
def test_terms_follow_each_other(terms: list[TermRow], promises: list[str]) -> None:
    assert [violation.promise for violation in check_terms(terms)] == promises


@pytest.mark.parametrize(
    ("run_term", "seconds", "broken"),
    [(1, 5, False), (1, 11, True), (2, 3600, False)],
    ids=["a new leader has just begun", "a new leader had its time", "its own leader may still run it"],
)
def test_a_run_is_settled_by_the_next_leader_soon(run_term: int, seconds: float, broken: bool) -> None:
    terms = [term_row(1, 10, None), term_row(2, 20, None)]
    found = check_open_runs([OpenRun(Tick("job", NOW), run_term, 1)], terms, at(seconds))
    assert bool(found) is broken
    assert check_open_runs([OpenRun(Tick("job", NOW), run_term, 1)], [], at(seconds)) == []


@pytest.mark.parametrize(
    ("runs", "skips", "jitter", "missing"),
    [
        ([0, 10, 20, 30], [], 0, []),
        ([0, 20], [], 0, [10, 30]),
        ([0], [(10, 30)], 0, []),
        ([0], [(5, 25)], 0, [30]),
        ([0], [(10, 10), (20, 20), (30, 30)], 0, []),
        ([0], [(5, 100), (10, 15)], 0, []),
        ([0], [(20, 30), (10, 10)], 0, []),
        ([0.1, 10, 20, 30], [], 0, [0]),
        ([3, 14, 20, 34], [], 4, []),
        ([3, 14.5, 20, 34], [], 4, [10]),
        ([3], [(12, 34)], 4, []),
        ([3], [(14.5, 34)], 4, [10]),
        ([], [], 0, [0, 10, 20, 30]),
    ],
)
def test_each_tick_has_a_run_or_a_skip(
    runs: list[float], skips: list[tuple[float, float]], jitter: float, missing: list[float]
) -> None:
    settlement = Settlement([us(second) for second in runs], [(at(first), at(last)) for first, last in skips])
    found = check_ticks("job", moments(0, 10, 20, 30), settlement, timedelta(seconds=jitter))
    assert [due for violation in found for due in violation.ticks] == list(moments(*missing))


def test_many_skips_are_judged_as_fast_as_many_runs() -> None:
    """A job that overlapped all month has a row for each tick; comparing each tick with each row would take hours."""
    owed = moments(*range(20_000))
    skips = Settlement([], [(due, due) for due in owed])
    assert check_ticks("job", owed, skips) == []


@pytest.mark.parametrize(
    ("executions", "limit", "most"),
    [
        pytest.param([(0, 10), (10, 20)], 1, None, id="one begins as the other ends"),
        pytest.param([(0, 10), (9, 20)], 1, 2, id="two at once"),
        pytest.param([(0, 10), (9, 20)], 2, None, id="two are allowed"),
        pytest.param([(0, 100), (10, 20), (15, 30), (40, 50)], 2, 3, id="three, where two are allowed"),
        pytest.param([(0, 10), (0, 0)], 2, None, id="no time at all"),
    ],
)
def test_executions_at_once_are_counted(executions: list[tuple[int, int]], limit: int, most: int | None) -> None:
    claims = ClaimHistory()
    for seq, (began, ended) in enumerate(executions):
        claims.add(ClaimRow(seq, "job", at(seq), 0, 1, 1, limit, Span(began, ended)))
    assert list(claims.overlaps()) == ([] if most is None else [("job", 1, most, limit)])


def test_executions_of_two_terms_or_of_an_unknown_limit_are_not_compared() -> None:
    claims = ClaimHistory()
    for seq, (term, limit) in enumerate([(1, 1), (2, 1), (1, None)]):
        claims.add(ClaimRow(seq, "job", at(seq), 0, term, term, limit, Span(0, 10)))
    claims.add(ClaimRow(9, "job", at(9), 0, 1, 1, 1, None))
    assert list(claims.overlaps()) == []


def test_what_is_owed_is_what_the_scheduler_would_do() -> None:
    for job in (STEADY, SLOW, ONCE, make_job("calendarinterval", days=1)):
        epoch = Epoch("job", NOW, None, at(3), job.schedule)
        owed = owed_ticks(epoch, NOW, at(86400 * 2))
        assert owed is not None
        if job.schedule.get("start_date", "") is not None:
            assert list(owed) == list(ticks(job.trigger, NOW, at(86400 * 2)))
    jittered = owed_ticks(Epoch("job", NOW, None, NOW, describe(JITTERED.trigger, NOW, True)), NOW, at(50))
    assert jittered is not None
    assert list(jittered) == list(moments(10, 20, 30, 40, 50))


async def test_a_schedule_that_was_counted_by_another_rule_is_told_not_judged(ledger: SqliteLedger, path: str) -> None:
    """No later version rejects an old history."""
    doctor(path, f"DELETE FROM runs WHERE due = {us(70)}", "UPDATE epochs SET rule = 99 WHERE job_id = 'steady'")
    report = await verify(ledger, now=LATER)
    assert report.violations == ()
    assert report.unchecked == ("steady",)
