"""Every promise of ``Ledger``: one claim per tick, none for a term that is over, no tick forgotten (P2, P3, P4)."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from election.core.errors import JobDefinitionError, StaleTermError, UnknownJobError
from election.core.term import Reason, Standing, Takeover, Term
from election.schedule.commands import (
    Claim,
    Command,
    CompleteRequest,
    DescribeJob,
    EndPause,
    Entry,
    FinishJob,
    FinishRun,
    KeepResult,
    MarkBroken,
    RecordLog,
    RegisterJob,
    RescheduleJob,
    RetireJob,
    Retry,
    SetNextDue,
    Skip,
    StoreJob,
)
from election.schedule.history import ClaimRow, Epoch, SkipRow
from election.schedule.ledger import IfExists, Ledger
from election.schedule.ledger_reader import MAX_INTEGER
from election.schedule.model import (
    Action,
    JobInfo,
    JobState,
    LogLine,
    NewJob,
    OpenRun,
    Outcome,
    RequestOutcome,
    RunLog,
    SkipReason,
    Span,
    StoredJob,
    Tick,
)
from election.schedule.verify import verify
from election.testing import ManualClock
from tests.engines.conformance.pool import SECONDS, Pool
from tests.schedule.making import NOW, at, make_job, make_term, process

pytestmark = pytest.mark.anyio

MICROSECOND = timedelta(microseconds=1)
TICK = Tick("job", at(1))
BURST = 75
"""More than one statement takes."""
FUNC = StoredJob("module:function", {"a": 1}, {"coalesce": False})


@pytest.fixture
async def other(pool: Pool, ledger: Ledger) -> AsyncIterator[Ledger]:
    """The ledger in another worker."""
    other = pool.ledger()
    yield other
    await other.close()


def claim(second: float, request: int = 0) -> Claim:
    return Claim(Tick("job", at(second), request), at(second))


def settle(second: float, outcome: Outcome = Outcome.SUCCEEDED, error: str | None = None) -> FinishRun:
    return FinishRun(Tick("job", at(second)), outcome, at(second + 0.5), error)


def skip(first: float, last: float, reason: SkipReason = SkipReason.DOWN, **more: Any) -> Skip:
    return Skip("job", at(first), at(last), round(last - first) + 1, reason, at(last), **more)


async def job_state(ledger: Ledger, job_id: str = "job") -> JobState:
    [found] = [state for state in await ledger.jobs(removed=True) if state.id == job_id]
    return found


async def everything(ledger: Ledger) -> list[object]:
    """The whole content of the ledger."""
    return [
        await ledger.jobs(removed=True), await ledger.runs(), await ledger.skips(), await ledger.terms(),
        await ledger.epochs(), await ledger.open_runs(),
    ]  # fmt: skip


async def promises(ledger: Ledger, now: datetime) -> list[str]:
    """The violations that ``verify`` finds."""
    report = await verify(ledger, now=now)
    return [f"{violation.promise} {violation.text} {violation.ticks}" for violation in report.violations]


# --- P3: one claim a tick --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("before", "entry", "granted"),
    [
        pytest.param([], claim(1), True, id="a tick that is owed"),
        pytest.param([], claim(100), True, id="ticks before it are the leader's to account for"),
        pytest.param([claim(1)], claim(1), False, id="claimed already"),
        pytest.param([claim(1), settle(1)], claim(1), False, id="and settled"),
        pytest.param([claim(2)], claim(1), False, id="older than one that was claimed"),
        pytest.param([skip(1, 3)], claim(2), False, id="within a skip"),
        pytest.param([skip(1, 3)], claim(3), False, id="at the end of a skip"),
        pytest.param([skip(1, 3)], claim(4), True, id="after a skip"),
        pytest.param([], claim(0), False, id="the moment of the enrolment"),
        pytest.param([], claim(-5), False, id="before the enrolment"),
        pytest.param([], Claim(Tick("nobody", at(1)), NOW), False, id="of no job"),
        pytest.param([], claim(1, request=4), True, id="because somebody asked for it"),
        pytest.param([claim(1)], claim(1, request=4), True, id="asked for at the very moment of a tick"),
        pytest.param([claim(1, request=4)], claim(1, request=4), False, id="asked for once, claimed once"),
        pytest.param([claim(1, request=4)], claim(1, request=5), True, id="asked for twice"),
        pytest.param([claim(9, request=4)], claim(1), True, id="a request accounts for no tick of the schedule"),
        pytest.param([claim(1)], skip(1, 1), False, id="no skip of what was claimed"),
        pytest.param([claim(2)], skip(1, 3), False, id="no skip over what was claimed"),
        pytest.param([skip(1, 2)], skip(2, 3), False, id="no tick skipped twice"),
        pytest.param([claim(1)], skip(2, 9), True, id="a skip of what follows"),
    ],
)
async def test_p3_a_tick_is_accounted_for_once(
    ledger: Ledger, before: list[Entry], entry: Entry, granted: bool
) -> None:
    assert all(await ledger.record(1, before))
    old = await everything(ledger)
    assert await ledger.record(1, [entry]) == [granted]
    assert (await everything(ledger) == old) is not granted, "what is refused leaves no trace"


async def test_entries_of_one_transaction_are_written_in_order(ledger: Ledger) -> None:
    entries: list[Entry] = [skip(1, 3), claim(4), claim(4), claim(3), claim(5), settle(4)]
    assert await ledger.record(1, entries) == [True, True, False, False, True, True]
    assert [run.outcome for run in await ledger.runs()] == [None, Outcome.SUCCEEDED]


def burst(prefix: str, entry: Callable[[str, int], Entry]) -> list[Entry]:
    """An entry for each of many jobs of the ``prefix``."""
    return [entry(f"{prefix} {number:02}", number) for number in range(BURST)]


async def record_each(ledger: Ledger, entries: Sequence[Entry]) -> list[bool]:
    """Record entries in a transaction each."""
    return [granted for entry in entries for granted in await ledger.record(1, [entry])]


async def test_p3_a_burst_is_claimed_and_settled_as_one_by_one(ledger: Ledger) -> None:
    """Many entries of one kind may be written by one statement: with the same answers, and the same rows."""
    registered = at(-1)

    def register(job_id: str, number: int) -> Entry:
        return RegisterJob(job_id, {"type": "other"}, registered, NOW)

    def claim_one(job_id: str, number: int) -> Entry:
        """Some were claimed before, some are of a schedule that is over, some of no job."""
        since = {0: None, 1: registered, 2: at(-2)}[number % 3]
        tick = Tick(f"no {job_id}" if number % 7 == 0 else job_id, at(number % 5))
        return Claim(tick, at(9), since, number % 2 or None)

    def finish_one(job_id: str, number: int) -> Entry:
        """Some fail, some never ran their code, some have no open run."""
        outcome = (Outcome.SUCCEEDED, Outcome.FAILED, Outcome.INTERRUPTED)[number // 3 % 3]
        error, span = (None, Span(number, 2 * number)) if number % 2 else ("it's no 'text'; \\ %s ?", None)
        return FinishRun(Tick(job_id, at(number % 5)), outcome, at(11), error, at(10) if number % 4 else None, span)

    async def content(prefix: str) -> list[object]:
        """Jobs, runs and claims of one half, named alike and in the order of their jobs."""
        jobs = [replace(job, id=job.id.removeprefix(prefix)) for job in await ledger.jobs() if prefix in job.id]
        runs = [replace(run, seq=0, job_id=run.job_id.removeprefix(prefix))
                for run in await ledger.runs(limit=1000) if prefix in run.job_id]  # fmt: skip
        claims = [claim._replace(seq=0, job_id=claim.job_id.removeprefix(prefix))
                  for claim in await ledger.claims(limit=1000) if prefix in claim.job_id]  # fmt: skip
        return [jobs, sorted(runs, key=lambda run: run.job_id), sorted(claims, key=lambda claim: claim.job_id)]

    for make in (register, claim_one, claim_one, finish_one, finish_one):
        together = await ledger.record(1, burst("together", make))
        assert together == await record_each(ledger, burst("apart", make))
        assert await content("together") == await content("apart")
    runs = [run for run in await ledger.runs(limit=1000) if run.job_id.startswith("together")]
    assert {run.outcome for run in runs} == {*Outcome} and len(runs) < BURST


async def test_p3_two_connections_race_for_the_same_ticks(ledger: Ledger, other: Ledger) -> None:
    """Two leaders in one term are impossible; if there were two, the ledger would decide."""
    answers = await asyncio.gather(
        *(racer.record(1, [claim(second)]) for second in range(1, 101) for racer in (ledger, other))
    )
    won = [int(one[0]) + int(two[0]) for one, two in zip(answers[::2], answers[1::2], strict=True)]
    assert max(won) == 1
    assert len(await ledger.runs(limit=1000)) == sum(won)
    assert not [broken for broken in await promises(ledger, at(200)) if broken.startswith("P3")]


RACE = """
import asyncio, json, sys
from tests.engines.conformance.engines import engine_on
from tests.engines.conformance.test_ledger import claim

async def race():
    ledger = engine_on(sys.argv[1]).open_ledger()
    await ledger.latest_terms()
    print("ready", flush=True)
    sys.stdin.readline()
    print(json.dumps([s for s in range(1, 201) if (await ledger.record(1, [claim(s)]))[0]]), flush=True)
    await ledger.close()

asyncio.run(race())
"""


async def test_p3_two_processes_race_for_the_same_ticks(ledger: Ledger, pool: Pool) -> None:
    def race() -> list[list[int]]:
        command = [sys.executable, "-c", RACE, pool.url]
        racers = [subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) for _ in range(2)]
        for racer in racers:
            assert racer.stdout is not None
            assert racer.stdout.readline() == "ready\n"
        for racer in racers:
            assert racer.stdin is not None
            racer.stdin.write("go\n")
            racer.stdin.flush()
        return [json.loads(racer.communicate(timeout=60)[0]) for racer in racers]

    one, two = await asyncio.to_thread(race)
    assert set(one) & set(two) == set()
    assert sorted(round((run.due - NOW).total_seconds()) for run in await ledger.runs(limit=1000)) == sorted(one + two)
    assert max(one + two) == 200


# --- P2, P3: terms that are over -------------------------------------------------------------------------------------

OF_EACH_KIND: list[Entry] = [
    claim(2),
    claim(3, request=1),
    settle(1),
    Retry(TICK, Outcome.FAILED, NOW, "again"),
    skip(2, 3),
    skip(1, 1, SkipReason.MISFIRED, claimed=True),
    RegisterJob("new", SECONDS.schedule, at=NOW, since=NOW),
    RetireJob("job", NOW),
    EndPause("job", NOW),
    MarkBroken("job", "broken"),
    RecordLog(TICK, RunLog(1, "traceback")),
    KeepResult(1, "null"),
    SetNextDue("job", NOW),
    CompleteRequest(1, NOW, RequestOutcome.REFUSED, "no such job"),
]


@pytest.mark.parametrize("entry", OF_EACH_KIND, ids=lambda entry: type(entry).__name__)
async def test_p3_a_term_that_is_over_writes_nothing(ledger: Ledger, other: Ledger, entry: Entry) -> None:
    """docs/pitfalls.md#27, #41: a leader that was paused continues in another leader's term."""
    await ledger.record(1, [claim(1)])
    await ledger.request(Action.RUN, job_id="job")
    await other.begin_term(make_term(2), process(200))
    before = await everything(ledger)
    with pytest.raises(StaleTermError, match="term 1 is over: term 2 has begun"):
        await ledger.record(1, [claim(7), entry])
    assert await everything(ledger) == before
    assert (await ledger.begin_term(make_term(2), process(200))).requests != []


async def test_p2_an_older_term_does_not_begin(ledger: Ledger) -> None:
    await ledger.begin_term(make_term(5), process())
    for number in (1, 4):
        with pytest.raises(StaleTermError):
            await ledger.begin_term(make_term(number), process())
    assert (await ledger.latest_terms()).begun == 5
    assert [term.term for term in await ledger.terms()] == [5, 1]


async def test_p2_a_number_is_used_by_one_process(ledger: Ledger) -> None:
    with pytest.raises(StaleTermError, match="begun by pid 100 already"):
        await ledger.begin_term(make_term(1), process(200))
    with pytest.raises(StaleTermError, match="begun by pid 100 already"):
        await ledger.begin_term(make_term(1), replace(process(), host="another container of this host"))


async def test_the_same_term_may_begin_again(ledger: Ledger) -> None:
    """A leader whose ledger was unreachable reads the state again."""
    await ledger.record(1, [claim(1)])
    [before] = await ledger.terms()
    state = await ledger.begin_term(make_term(1), process())
    assert state.open_runs == [OpenRun(TICK, 1, 1)]
    assert await ledger.terms() == [before]


async def test_a_term_is_written_down(ledger: Ledger) -> None:
    await ledger.confirm_term(1, 4.1234)
    await ledger.end_term(1, Standing.RESIGNED)
    [term] = await ledger.terms()
    assert (term.term, term.pid, term.host, term.boot_id) == (1, 100, "host", "boot")
    assert (term.reason, term.from_pid, term.takeover_ms) == (Reason.STARTED, None, 4.12)
    assert term.standing is Standing.RESIGNED
    assert term.ended_ns is not None
    assert term.began_ns < term.ended_ns


@pytest.mark.parametrize(
    ("reason", "standing"), [(Reason.LOST, Standing.LOST), (Reason.RESIGNED, Standing.RESIGNED), (Reason.DIED, None)]
)
async def test_how_a_term_ended_is_told_by_the_next_one_if_its_leader_could_not(
    ledger: Ledger, reason: Reason, standing: Standing | None
) -> None:
    await ledger.begin_term(Term(2, at(60), Takeover(2, 100, 200, reason, at(60), vacant_s=4.5)), process(200))
    before, after = (await ledger.terms())[::-1]
    assert before.standing is standing
    assert before.ended_at == (None if standing is None else at(55.5))
    assert before.ended_ns is None, "nobody has looked at that clock"
    assert (after.standing, after.ended_at) == (None, None)


async def test_what_a_leader_said_of_its_own_end_stands(ledger: Ledger) -> None:
    await ledger.end_term(1, Standing.RESIGNED)
    [said] = await ledger.terms()
    await ledger.begin_term(Term(2, at(60), Takeover(2, 100, 200, Reason.LOST, at(60), vacant_s=4.5)), process(200))
    assert (await ledger.terms())[-1] == said


async def test_nothing_is_said_of_the_end_of_another_leaders_term(ledger: Ledger) -> None:
    """The previous leader never reached the ledger."""
    await ledger.begin_term(Term(3, at(60), Takeover(3, 150, 200, Reason.LOST, at(60), vacant_s=4.5)), process(200))
    assert [term.standing for term in await ledger.terms()] == [None, None]


# --- P4: runs and skips ----------------------------------------------------------------------------------------------


async def test_p4_a_run_is_settled_once(ledger: Ledger) -> None:
    await ledger.record(1, [claim(1), claim(2)])
    assert await ledger.open_runs() == [OpenRun(TICK, 1, 1), OpenRun(Tick("job", at(2)), 1, 1)]
    assert await ledger.record(1, [settle(1, Outcome.FAILED, "no")]) == [True]
    assert await ledger.record(1, [settle(1)]) == [False]
    assert await ledger.record(1, [settle(3)]) == [False]
    assert await ledger.open_runs() == [OpenRun(Tick("job", at(2)), 1, 1)]
    [run] = await ledger.runs(outcome="failed")
    assert (run.due, run.error, run.ended_at, run.claimed_at) == (at(1), "no", at(1.5), at(1))


async def test_the_next_leader_learns_how_often_a_run_was_interrupted(ledger: Ledger) -> None:
    await ledger.record(1, [claim(1), Retry(TICK, Outcome.FAILED, at(2), "first")])
    for number in (2, 3):
        await ledger.begin_term(make_term(number), process())
        await ledger.record(number, [Retry(TICK, Outcome.INTERRUPTED, at(number + 1), "cut short")])
    state = await ledger.begin_term(make_term(4), process())
    assert state.open_runs == [OpenRun(TICK, 3, 4, interruptions=2)]


async def test_attempts_are_kept_in_the_rows_own_history(ledger: Ledger) -> None:
    await ledger.record(1, [claim(1), Retry(TICK, Outcome.FAILED, at(2), "first")])
    await ledger.begin_term(make_term(2), process())
    await ledger.record(2, [Retry(TICK, Outcome.INTERRUPTED, at(3), "second")])
    assert await ledger.open_runs() == [OpenRun(TICK, 2, 3, interruptions=1)]
    await ledger.record(2, [settle(1)])
    assert await ledger.record(2, [Retry(TICK, Outcome.FAILED, at(4))]) == [False]
    [run] = await ledger.runs()
    assert (run.term, run.attempt, run.outcome) == (2, 3, Outcome.SUCCEEDED)
    assert [(a["attempt"], a["term"], a["outcome"], a["error"]) for a in run.attempts] == [
        (1, 1, "failed", "first"),
        (2, 1, "interrupted", "second"),
    ]
    assert [claim.first_term for claim in await ledger.claims()] == [1], "the claim is still that of the first term"


async def test_p4_a_claim_that_came_too_late_becomes_a_skip(ledger: Ledger) -> None:
    late = skip(1, 1, SkipReason.MISFIRED, claimed=True)
    await ledger.record(1, [claim(1)])
    assert await ledger.record(1, [late, late]) == [True, False]
    assert await ledger.runs() == []
    assert [row.reason for row in await ledger.skips()] == [SkipReason.MISFIRED]
    assert await ledger.record(1, [claim(1)]) == [False], "P3: it stays accounted for"


async def test_a_run_that_was_settled_meanwhile_is_not_skipped_as_well(ledger: Ledger) -> None:
    await ledger.record(1, [claim(1), settle(1, Outcome.INTERRUPTED)])
    assert await ledger.record(1, [skip(1, 1, SkipReason.MISFIRED, claimed=True)]) == [False]
    assert await ledger.skips() == []


async def test_a_range_is_one_row(ledger: Ledger) -> None:
    month = Skip("job", at(1), at(30 * 86400), None, SkipReason.DOWN, at(30 * 86400))
    assert await ledger.record(1, [month]) == [True]
    [row] = await ledger.skips()
    assert row == SkipRow(row.seq, "job", month.first_due, month.last_due, None, SkipReason.DOWN, 1, month.at)


async def test_claims_have_what_verify_judges_them_by(ledger: Ledger) -> None:
    """Of a run that was run again: the term of its claim, and that of the last attempt."""
    second = Tick("job", at(2))
    await ledger.record(1, [Claim(TICK, at(1), max_instances=3), claim(2), claim(5, request=3)])
    await ledger.begin_term(make_term(2), process())
    finish = FinishRun(TICK, Outcome.SUCCEEDED, at(9), None, at(8), Span(10**14, 10**14 + 7))
    await ledger.record(2, [Retry(TICK, Outcome.INTERRUPTED, at(3)), finish, FinishRun(second, Outcome.FAILED, at(9))])
    claims = (await ledger.claims())[::-1]
    assert claims == [
        ClaimRow(claims[0].seq, "job", at(1), 0, 1, 2, 3, Span(10**14, 10**14 + 7)),
        ClaimRow(claims[1].seq, "job", at(2), 0, 1, 1, None, None),
        ClaimRow(claims[2].seq, "job", at(5), 3, 1, 1, None, None),
    ]
    assert await ledger.claims(before=claims[1].seq, limit=5) == claims[:1]


async def test_pitfall_71_time_that_a_clock_ahead_has_settled_can_be_accepted(
    ledger: Ledger, other: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By any worker: the leader is notified, the schedule begins anew, and claims stay."""
    monkeypatch.setattr(other, "_clock", ManualClock(at(5)))
    await ledger.record(1, [claim(1), settle(1), claim(1000), settle(1000)])
    await ledger.changes()
    assert await other.accept_time() == ["job"]
    changed = await ledger.changes()
    assert changed is not None
    [job] = [job for job in changed.jobs if job.id == "job"]
    assert (job.settled_until, job.scheduled_since) == (at(5), at(5))
    [told] = await ledger.skips()
    assert told == SkipRow(told.seq, "job", at(5), at(5), 0, SkipReason.CLOCK, 1, at(5))
    later = [replace(claim(second), scheduled_since=at(5)) for second in (4, 6, 1000, 1001)]
    assert await ledger.record(1, later) == [False, True, False, True]
    assert (await ledger.totals()).settled_until == at(1001)
    assert await other.accept_time() == ["job"]
    assert await other.accept_time() == []


async def test_times_are_exact(ledger: Ledger) -> None:
    """No float touches a due time: a microsecond later is another tick."""
    for number in range(50):
        due = at(10**8 + number / 7) + number * MICROSECOND
        assert await ledger.record(1, [Claim(Tick("job", due), due)]) == [True]
        assert (await ledger.runs(limit=1))[0].due == due


# --- jobs ------------------------------------------------------------------------------------------------------------


async def test_enrol_retire_and_back(ledger: Ledger) -> None:
    state = await job_state(ledger)
    assert state == JobState("job", SECONDS.schedule, scheduled_since=NOW, settled_until=NOW)
    await ledger.record(1, [claim(5), MarkBroken("job", "another worker has it"), RetireJob("job", at(9))])
    state = await job_state(ledger)
    assert (state.retired_at, state.broken) == (at(9), None)
    with pytest.raises(UnknownJobError):
        await ledger.pause("job", True)
    changed = make_job("interval", seconds=2).schedule
    await ledger.record(1, [RegisterJob("job", changed, at=at(20), since=at(20))])
    state = await job_state(ledger)
    assert (state.trigger, state.scheduled_since, state.settled_until, state.retired_at) == (
        changed,
        at(20),
        at(20),
        None,
    )
    assert await ledger.epochs() == [
        Epoch("job", NOW, at(9), NOW, SECONDS.schedule),
        Epoch("job", at(20), None, at(20), changed),
    ]


async def test_p3_an_enrolment_makes_no_old_tick_claimable(ledger: Ledger) -> None:
    await ledger.record(1, [claim(5), RegisterJob("job", SECONDS.schedule, at=at(1), since=at(1))])
    assert (await job_state(ledger)).settled_until == at(5)
    assert await ledger.record(1, [claim(5), claim(6)]) == [False, True]


async def test_a_break_is_kept_until_it_is_mended(ledger: Ledger) -> None:
    await ledger.record(1, [MarkBroken("job", "no module")])
    assert (await job_state(ledger)).broken == "no module"
    await ledger.record(1, [MarkBroken("job", None)])
    assert (await job_state(ledger)).broken is None


async def test_a_pause_outlives_the_term_and_ends_where_somebody_ended_it(ledger: Ledger, other: Ledger) -> None:
    await other.pause("job", True)
    first = (await job_state(ledger)).paused_at
    await other.pause("job", True)
    state = (await ledger.begin_term(make_term(2), process())).jobs[0]
    assert state.paused_at == first is not None, "paused since the first time"
    await other.pause("job", False)
    resume_at = (await job_state(ledger)).resume_at
    await other.pause("job", False)
    state = await job_state(ledger)
    assert state.resume_at == resume_at is not None, "resumed since the first time"
    assert state.paused_at == first, "until the leader has accounted for it"
    assert await ledger.record(2, [EndPause("job", resume_at)]) == [True]
    state = await job_state(ledger)
    assert (state.paused_at, state.resume_at, state.settled_until) == (None, None, resume_at)


async def test_a_pause_that_comes_in_between_is_not_lost(ledger: Ledger, other: Ledger) -> None:
    """Resumed and paused again while the leader was about to end the first pause."""
    await other.pause("job", True)
    await other.pause("job", False)
    resume_at = (await job_state(ledger)).resume_at
    assert resume_at is not None
    await other.pause("job", True)
    assert await ledger.record(1, [EndPause("job", resume_at)]) == [False]
    state = await job_state(ledger)
    assert state.paused_at is not None
    assert state.resume_at is None


async def test_to_resume_what_is_not_paused_does_nothing(ledger: Ledger) -> None:
    before = await job_state(ledger)
    await ledger.pause("job", False)
    assert await job_state(ledger) == before


async def test_requests(ledger: Ledger, other: Ledger) -> None:
    run = await other.request(Action.RUN, job_id="job")
    resign = await other.request(Action.RESIGN, term=1)
    assert run < resign
    state = await ledger.changes()
    assert state is not None
    assert [(r.id, r.action, r.job_id, r.term) for r in state.requests] == [
        (run, Action.RUN, "job", None),
        (resign, Action.RESIGN, None, 1),
    ]
    asked = state.requests[0].at
    resigned = CompleteRequest(resign, NOW, RequestOutcome.RESIGNED)
    await ledger.record(1, [Claim(Tick("job", asked, run), NOW), resigned])
    assert (await ledger.begin_term(make_term(1), process())).requests == []
    again = await other.request(Action.RUN, job_id="job")
    assert again > resign, "a number is used once"
    await ledger.record(1, [skip(1, 1, SkipReason.OVERLAP, request=again)])
    assert (await ledger.begin_term(make_term(1), process())).requests == []
    assert (await job_state(ledger)).settled_until == NOW


async def test_a_job_of_the_code_is_rescheduled(ledger: Ledger, other: Ledger) -> None:
    await ledger.changes()
    before = await job_state(ledger)
    new, newer = make_job("interval", seconds=7).schedule, make_job("interval", seconds=8).schedule
    for trigger in (new, newer):
        await other.modify_job("job", lambda found, trigger=trigger: RescheduleJob(found.id, trigger))
    state = await ledger.changes()
    assert state is not None
    (changed,) = state.jobs
    assert (changed.trigger, changed.new_trigger, changed.code_trigger) == (before.trigger, newer, before.trigger)
    await ledger.record(1, [RegisterJob("job", newer, at=at(5), since=at(5))])  # by a leader
    assert ((await job_state(ledger)).new_trigger, (await job_state(ledger)).trigger) == (newer, newer)
    assert (await job_state(ledger)).code_trigger == before.trigger
    await ledger.record(1, [RegisterJob("job", new, at=at(6), since=at(6))])  # the code has another one
    assert ((await job_state(ledger)).new_trigger, (await job_state(ledger)).trigger) == (None, new)
    await other.modify_job("job", lambda found: RescheduleJob(found.id, newer))
    assert (await job_state(ledger)).code_trigger == new
    await other.modify_job("job", lambda found: RescheduleJob(found.id, None))
    assert (await job_state(ledger)).new_trigger is None


async def test_changes_of_two_processes_at_one_time_are_all_kept(ledger: Ledger, other: Ledger) -> None:
    """Each is made of the job as the one before has left it."""

    def more(found: JobState) -> NewJob:
        assert found.stored is not None
        kwargs = {**found.stored.kwargs, "ü": found.stored.kwargs["ü"] + 1}
        return NewJob("added", found.trigger, replace(found.stored, kwargs=kwargs))

    def slower(found: JobState) -> RescheduleJob:
        seconds = (found.new_trigger or SECONDS.schedule)["seconds"] + 1
        return RescheduleJob("job", {**SECONDS.schedule, "seconds": seconds})

    stored = StoredJob("a:f", {"ü": 0, "x": 0.1}, {"max_instances": 2})
    await ledger.store_jobs([NewJob("added", SECONDS.schedule, stored)])
    async with asyncio.TaskGroup() as group:
        for each in (ledger, other) * 10:
            group.create_task(each.modify_job("added", more))
            group.create_task(each.modify_job("job", slower))
    jobs = {job.id: job for job in await ledger.jobs()}
    assert jobs["added"].stored == replace(stored, kwargs={"ü": 20, "x": 0.1})
    assert jobs["job"].new_trigger == {**SECONDS.schedule, "seconds": SECONDS.schedule["seconds"] + 20}


async def test_a_run_by_request_has_its_arguments_and_result(ledger: Ledger, other: Ledger) -> None:
    """Also when the next leader runs it again."""
    given = {"text": "ü\n", "none": None, "list": [1, {"a": 2.5}]}
    with_kwargs, without = [await other.request(Action.RUN, job_id="job", kwargs=each) for each in (given, None)]
    state = await ledger.changes()
    assert state is not None
    assert [request.kwargs for request in state.requests] == [given, None]
    ticks = [Tick("job", request.at, request.id) for request in state.requests]
    assert await ledger.record(1, [*(Claim(tick, NOW) for tick in ticks), claim(1)]) == [True] * 3
    begun = await ledger.begin_term(make_term(2), process(200))
    assert {run.tick.request: run.kwargs for run in begun.open_runs} == {with_kwargs: given, without: None, 0: None}
    value = '{"a": "ü"}'
    kept, _ = await ledger.record(2, [KeepResult(with_kwargs, value), FinishRun(ticks[0], Outcome.SUCCEEDED, NOW)])
    assert kept
    rows = [await other.request_row(number) for number in (with_kwargs, without)]
    assert [row and row.result for row in rows] == [value, None]
    assert await ledger.record(2, [KeepResult(without + 1, value)]) == [False]


async def test_what_becomes_of_a_request_can_be_read(ledger: Ledger, other: Ledger) -> None:
    numbers = [await other.request(Action.RUN, job_id="job") for _ in range(4)]
    waiting = [await other.request_row(number) for number in numbers]
    assert [(row and row.outcome, row and row.done_at) for row in waiting] == [(None, None)] * 4
    ran, skipped, refused, _ = numbers
    row = waiting[0]
    assert row is not None
    refusal = CompleteRequest(refused, at(3), RequestOutcome.REFUSED, "there is no job 'job' any more")
    tick = Tick("job", row.at, ran)
    await ledger.record(1, [Claim(tick, at(2)), skip(1, 1, SkipReason.OVERLAP, request=skipped), refusal])
    await ledger.record(1, [Claim(tick, at(4))])  # refused: it is the same tick
    [run] = await ledger.runs()
    found = [await other.request_row(number) for number in numbers]
    assert [(row.outcome, row.reason, row.run) for row in found if row is not None] == [
        (RequestOutcome.RAN, None, run.seq),
        (RequestOutcome.SKIPPED, "overlap", None),
        (RequestOutcome.REFUSED, "there is no job 'job' any more", None),
        (None, None, None),
    ]
    assert [row.action for row in found if row is not None] == [Action.RUN] * 4
    assert await other.request_row(numbers[-1] + 1) is None
    assert await other.request_row(MAX_INTEGER) is None


# --- what a run logged -----------------------------------------------------------------------------------------------

LINE = LogLine(at(2.25), "WARNING", "app", "three\nlines\0 \u2028 and \ud83d of anything")


async def test_the_log_of_each_attempt_is_kept(ledger: Ledger, other: Ledger) -> None:
    first, second = RunLog(1, "Traceback …\nKeyError: 'a'", (LINE,), 7), RunLog(2, None, (LINE, LINE))
    await ledger.record(1, [claim(1), RecordLog(TICK, first), Retry(TICK, Outcome.FAILED, at(2), "KeyError")])
    await ledger.record(1, [RecordLog(TICK, second), settle(1), RecordLog(Tick("job", at(99)), second)])
    [run] = await other.runs()
    assert await other.logs(run.seq) == [first, second]
    assert await other.run(run.seq) == run
    assert await other.logs(run.seq + 1) == []
    assert await other.run(run.seq + 1) is None


async def test_a_job_keeps_its_latest_logs(ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    """Failed runs have a separate limit, so that a job that logs every second keeps the reason of its failure."""
    for module in ("election.engines.sql.commands", "election.engines.redis.commands"):
        monkeypatch.setattr(f"{module}.MAX_LOGS_PER_JOB", 2)
    await ledger.record(1, [RegisterJob("rare", SECONDS.schedule, at=NOW, since=NOW)])
    await ledger.record(1, [Claim(Tick("rare", at(1)), NOW), RecordLog(Tick("rare", at(1)), RunLog(1, None, (LINE,)))])
    for second in range(1, 9):
        tick = Tick("job", at(second))
        log = RunLog(1, "KeyError" if second in {1, 2, 3} else None, (LINE,))
        await ledger.record(1, [claim(second), RecordLog(tick, log), settle(second)])
    kept = {(run.job_id, run.due) for run in await ledger.runs() if await ledger.logs(run.seq)}
    assert kept == {("job", at(second)) for second in (2, 3, 7, 8)} | {("rare", at(1))}


async def test_there_is_a_limit_to_the_logs_of_all_jobs(ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    for module in ("election.engines.sql.commands", "election.engines.redis.commands"):
        monkeypatch.setattr(f"{module}.MAX_LOGS", 3)
    for second in range(1, 6):
        await ledger.record(1, [claim(second), RecordLog(Tick("job", at(second)), RunLog(1, None, (LINE,)))])
    kept = [run.due for run in await ledger.runs() if await ledger.logs(run.seq)]
    assert kept == [at(5), at(4), at(3)]


async def test_logs_are_pruned_with_their_run(ledger: Ledger) -> None:
    await ledger.record(1, [claim(1), RecordLog(TICK, RunLog(1, "KeyError")), settle(1), claim(50)])
    late = Tick("job", at(50))
    await ledger.record(1, [RecordLog(late, RunLog(1, "ValueError"))])
    new, old = await ledger.runs()
    assert await ledger.prune(at(20), 100) == 1
    assert await ledger.logs(old.seq) == []
    assert await ledger.run(old.seq) is None
    assert [log.traceback for log in await ledger.logs(new.seq)] == ["ValueError"]


@pytest.mark.parametrize(
    "job_id", ["x" * 255, "\U0001f600" * 255, "Größe/übrig?&#%", "a b:c*[d]", "'; --", "{x}", "0:7", "%s"], ids=ascii
)
async def test_pitfall_63_an_id_that_registration_takes_is_held_by_every_ledger(ledger: Ledger, job_id: str) -> None:
    tick = Tick(job_id, at(1))
    entries: list[Entry] = [
        RegisterJob(job_id, SECONDS.schedule, at=NOW, since=NOW), DescribeJob(job_id, JobInfo(job_id)),
        Claim(tick, at(1)), RecordLog(tick, RunLog(1, "KeyError")), FinishRun(tick, Outcome.FAILED, at(2), "KeyError"),
        Skip(job_id, at(2), at(3), 2, SkipReason.DOWN, at(3)), MarkBroken(job_id, "why"),
    ]  # fmt: skip
    assert all(await ledger.record(1, entries))
    await ledger.request(Action.RUN, job_id=job_id)
    await ledger.pause(job_id, True)
    [run] = await ledger.runs(job_id=job_id)
    assert (run.job_id, len(await ledger.logs(run.seq)), len(await ledger.skips(job_id=job_id))) == (job_id, 1, 1)
    assert (await job_state(ledger, job_id)).broken == "why"
    assert (await ledger.totals()).runs == {(job_id, Outcome.FAILED): 1}
    assert await ledger.prune(at(100), 10) == 2


async def test_the_code_of_the_first_attempt_began(ledger: Ledger) -> None:
    started = [Retry(TICK, Outcome.FAILED, at(5), "no", at(4)), FinishRun(TICK, Outcome.SUCCEEDED, at(9), None, at(8))]
    await ledger.record(1, [claim(1), *started, claim(2), settle(2)])
    unknown, known = await ledger.runs()
    assert (known.started_at, unknown.started_at) == (at(4), None)


@pytest.mark.parametrize("job_id", ["nobody", "removed", "retired"])
async def test_what_nobody_has_cannot_be_asked_for(ledger: Ledger, job_id: str) -> None:
    await ledger.store_job("removed", SECONDS.schedule, FUNC)
    await ledger.remove_job("removed")
    await ledger.record(1, [RegisterJob("retired", SECONDS.schedule, at=NOW, since=NOW), RetireJob("retired", NOW)])
    with pytest.raises(UnknownJobError, match=job_id):
        await ledger.request(Action.RUN, job_id=job_id)
    with pytest.raises(UnknownJobError, match=job_id):
        await ledger.pause(job_id, True)
    with pytest.raises(UnknownJobError, match=job_id):
        await ledger.remove_job(job_id)


async def test_pitfall_51_a_job_that_is_stored_again_as_it_is_is_left_alone(ledger: Ledger, other: Ledger) -> None:
    """Each start of an application passes ``replace=True``; no schedule begins anew, and no tick is dropped."""
    for trigger in (SECONDS.schedule, make_job("date").schedule):
        await ledger.store_job("stored", trigger, FUNC, if_exists=IfExists.REPLACE)
        before, epochs = await job_state(ledger, "stored"), await ledger.epochs()
        await ledger.changes()
        for worker in (ledger, other, ledger):
            await worker.store_job("stored", trigger, FUNC, if_exists=IfExists.REPLACE)
        assert (await job_state(ledger, "stored"), await ledger.epochs()) == (before, epochs)


async def test_pitfall_51_other_arguments_keep_the_schedule_and_a_pause(ledger: Ledger, other: Ledger) -> None:
    await ledger.store_job("stored", SECONDS.schedule, FUNC)
    await ledger.pause("stored", True)
    before, epochs = await job_state(ledger, "stored"), await ledger.epochs()
    await ledger.changes()
    changed = replace(FUNC, kwargs={"a": 2})
    await other.store_job("stored", SECONDS.schedule, changed, if_exists=IfExists.REPLACE)
    assert await job_state(ledger, "stored") == replace(before, stored=changed)
    assert await ledger.epochs() == epochs
    assert await ledger.changes() is not None, "the leader learns of it"


async def test_jobs_of_the_code_cannot_be_stored_over_or_removed(ledger: Ledger) -> None:
    for if_exists in (IfExists.ERROR, IfExists.REPLACE):
        with pytest.raises(JobDefinitionError, match="in the code already"):
            await ledger.store_job("job", SECONDS.schedule, FUNC, if_exists=if_exists)
    with pytest.raises(UnknownJobError, match="added at run time"):
        await ledger.remove_job("job")


async def test_a_job_is_stored_replaced_removed_and_stored_again(ledger: Ledger) -> None:
    description = make_job("interval", seconds=5).schedule
    await ledger.store_job("stored", description, FUNC)
    first = await job_state(ledger, "stored")
    assert (first.trigger, first.stored, first.settled_until) == (description, FUNC, first.scheduled_since)
    with pytest.raises(JobDefinitionError, match="replace=True"):
        await ledger.store_job("stored", description, FUNC)
    await ledger.record(1, [MarkBroken("stored", "no module")])
    other = StoredJob("module:other")
    await ledger.store_job("stored", SECONDS.schedule, other, if_exists=IfExists.REPLACE)
    second = await job_state(ledger, "stored")
    assert (second.trigger, second.stored, second.broken) == (SECONDS.schedule, other, None)
    assert second.scheduled_since > first.scheduled_since
    await ledger.pause("stored", True)
    await ledger.remove_job("stored")
    assert (await job_state(ledger, "stored")).removed
    assert "stored" not in [job.id for job in await ledger.jobs()]
    assert [(epoch.until is None) for epoch in await ledger.epochs() if epoch.job_id == "stored"] == [False, False]
    await ledger.store_job("stored", description, FUNC)
    third = await job_state(ledger, "stored")
    assert (third.removed, third.paused_at, third.stored) == (False, None, FUNC)


async def test_a_change_is_what_somebody_else_has_changed(ledger: Ledger, other: Ledger) -> None:
    """And not the whole state: with many jobs, one more costs no more than with few."""
    for name in ("paused", "removed", "left alone", "asked for"):
        await other.store_job(name, SECONDS.schedule, FUNC)
    await ledger.begin_term(make_term(2), process())
    await other.store_job("stored", SECONDS.schedule, FUNC)
    await other.pause("paused", True)
    await other.remove_job("removed")
    await other.request(Action.RUN, job_id="asked for")
    change = await ledger.changes()
    assert change is not None
    assert change.about is not None
    assert change.about == {"stored", "paused", "removed", "asked for"}
    assert {job.id: job.removed for job in change.jobs}["removed"]
    assert [request.job_id for request in change.requests] == ["asked for"]
    assert change.open_runs == []
    await other.pause("paused", False)
    again = await ledger.changes()
    assert again is not None
    assert again.about == {"paused", "asked for"}, "the request is open still"
    assert await ledger.changes() is None
    whole = await other.changes()
    assert whole is not None
    assert whole.about is None
    assert {job.id for job in whole.jobs} >= {"job", "stored", "paused", "left alone", "asked for"}


async def test_of_many_jobs_the_state_has_those_that_are_due_soonest_and_names_the_others(
    ledger: Ledger, other: Ledger
) -> None:
    """And everything that cannot wait: jobs of the code, open runs, requests."""
    ids = [f"stored{number:03}" for number in range(300)]
    commands: list[Command] = []
    for number, job_id in enumerate(ids):
        register = RegisterJob(job_id, SECONDS.schedule, at=NOW, since=NOW)
        commands += [register, StoreJob(job_id, FUNC, keep_pause=False), SetNextDue(job_id, at(1000 - number))]
    await ledger.store.write(commands, term=None)
    await ledger.pause("stored299", True)
    await ledger.record(1, [MarkBroken("stored298", "broken"), Claim(Tick("stored000", at(1)), NOW)])
    await ledger.request(Action.RUN, job_id="stored001")
    await ledger.record(1, [Claim(Tick("stored002", at(1)), NOW)])
    await other.remove_job("stored002")  # while it runs
    await other.remove_job("stored297")
    state = await ledger.begin_term(make_term(2), process())
    expected = {"job", "stored000", "stored001", *ids[197:297]}
    assert {found.id for found in state.jobs} == expected
    assert next(found.next_due for found in state.jobs if found.id == "stored296") == at(1000 - 296)
    assert [*state.rest] == [*ids[196:2:-1], "stored298", "stored299"]
    found = {job.id: job for job in await ledger.find_jobs([*state.rest, "nobody"])}
    assert found.keys() == set(state.rest)
    assert found["stored299"].paused
    removed = await ledger.find_jobs(["stored297"])
    assert [job.removed for job in removed] == [True]
    assert (await ledger.find_jobs([])) == []


async def test_many_jobs_are_stored_in_one_transaction_or_not_at_all(ledger: Ledger, other: Ledger) -> None:
    new = [NewJob(f"stored{number}", SECONDS.schedule, FUNC) for number in range(5)]
    await other.store_jobs(new[2:3])
    with pytest.raises(JobDefinitionError, match="'stored2' already"):
        await ledger.store_jobs(new)
    assert [job.id for job in await ledger.jobs()] == ["job", "stored2"]
    await ledger.store_jobs(new, if_exists=IfExists.REPLACE)
    found = await other.find_jobs([job.id for job in new])
    assert sorted(job.id for job in found if job.stored == FUNC) == [job.id for job in new]
    assert all(job.next_due for job in found)


async def test_a_job_that_has_finished_leaves_and_its_id_is_free(ledger: Ledger, other: Ledger) -> None:
    """Its history stays, and settled ticks stay settled (P3)."""
    due = datetime.now(UTC) + timedelta(seconds=60)
    await other.store_job("stored", make_job("date", run_date=due).schedule, FUNC)
    present = await job_state(ledger, "stored")
    finish = FinishJob("stored", present.scheduled_since, due, due)
    claim_it = Claim(Tick("stored", due), due, present.scheduled_since)
    settle_it = FinishRun(Tick("stored", due), Outcome.SUCCEEDED, due)
    assert await ledger.record(1, [claim_it, settle_it, finish]) == [True, True, True]
    assert "stored" not in [job.id for job in await ledger.jobs()]
    assert (await job_state(ledger, "stored")).removed
    assert "stored" not in [job.id for job in (await ledger.overview()).jobs]
    assert [run.outcome for run in await ledger.runs(job_id="stored")] == [Outcome.SUCCEEDED]
    assert (await ledger.totals()).runs["added:module:function", Outcome.SUCCEEDED] == 1
    assert [epoch.until for epoch in await ledger.epochs() if epoch.job_id == "stored"] == [due]
    with pytest.raises(UnknownJobError):
        await other.request(Action.RUN, job_id="stored")
    assert not (await verify(ledger, now=due)).violations
    await other.store_job("stored", SECONDS.schedule, FUNC)
    again = await job_state(ledger, "stored")
    assert (again.removed, again.stored, again.settled_until >= due) == (False, FUNC, True)


@pytest.mark.parametrize(
    "why", ["a run is open", "a request is open", "not settled", "another schedule", "paused", "in the code"]
)
async def test_a_job_has_not_finished_while(why: str, ledger: Ledger, other: Ledger) -> None:
    await other.store_job("stored", SECONDS.schedule, FUNC)
    present = await job_state(ledger, "stored")
    due = present.settled_until + timedelta(seconds=1)
    finish = FinishJob("stored", present.scheduled_since, due, due)
    tick = Tick("stored", due)
    over = [Claim(tick, due, present.scheduled_since), FinishRun(tick, Outcome.SUCCEEDED, due)]
    match why:
        case "a run is open":
            await ledger.record(1, over[:1])
        case "a request is open":
            await ledger.record(1, over)
            await other.request(Action.RUN, job_id="stored")
        case "another schedule":
            await ledger.record(1, over)
            await other.store_job("stored", make_job("interval", seconds=5).schedule, FUNC, if_exists=IfExists.REPLACE)
        case "paused":
            await ledger.record(1, over)
            await other.pause("stored", True)
        case "in the code":
            finish = replace(finish, job_id="job", scheduled_since=NOW, settled_until=NOW)
    assert await ledger.record(1, [finish]) == [False]
    assert {"job", "stored"} <= {job.id for job in await ledger.jobs()}


async def test_an_id_that_was_removed_may_be_in_the_code_from_now_on(ledger: Ledger) -> None:
    await ledger.store_job("stored", SECONDS.schedule, FUNC)
    await ledger.remove_job("stored")
    await ledger.record(1, [RegisterJob("stored", SECONDS.schedule, at=at(5), since=at(5))])
    found = await job_state(ledger, "stored")
    assert (found.removed, found.stored) == (False, None)


async def test_p4_the_schedule_of_a_job_that_was_replaced_accounts_for_nothing_any_more(
    ledger: Ledger, other: Ledger
) -> None:
    """Its leader has not polled yet; the ticks of the new schedule are owed all the same."""
    await other.store_job("stored", SECONDS.schedule, FUNC)
    former = await job_state(ledger, "stored")
    await other.store_job("stored", make_job("interval", seconds=5).schedule, FUNC, if_exists=IfExists.REPLACE)
    present = await job_state(ledger, "stored")
    due = present.settled_until + timedelta(seconds=1)
    claim_it = Claim(Tick("stored", due), NOW, former.scheduled_since)
    skip_it = Skip("stored", due, due, 1, SkipReason.OVERLAP, NOW, scheduled_since=former.scheduled_since)
    assert await ledger.record(1, [claim_it, skip_it]) == [False, False]
    assert await job_state(ledger, "stored") == present
    assert await ledger.record(1, [Claim(Tick("stored", due), NOW, present.scheduled_since)]) == [True]
    later = due + timedelta(seconds=1)
    skip_it = replace(skip_it, first_due=later, last_due=later, scheduled_since=present.scheduled_since)
    assert await ledger.record(1, [skip_it]) == [True]


@pytest.mark.parametrize("paused", [False, True])
@pytest.mark.parametrize("then", ["replaced", "removed", "removed and stored again"])
async def test_p4_what_a_stored_job_owed_when_it_was_replaced_or_removed_is_skipped(
    ledger: Ledger, monkeypatch: pytest.MonkeyPatch, then: str, paused: bool
) -> None:
    """Nobody led at that time, so nobody else could settle it."""
    clock = ManualClock(NOW)
    monkeypatch.setattr(ledger, "_clock", clock)
    await ledger.store_job("stored", SECONDS.schedule, FUNC)
    if paused:
        await ledger.pause("stored", True)
    await clock.advance(60)
    if then == "replaced":
        await ledger.store_job("stored", make_job("cron", second="*").schedule, FUNC, if_exists=IfExists.REPLACE)
    else:
        await ledger.remove_job("stored")
    if then == "removed and stored again":
        await clock.advance(30)
        await ledger.store_job("stored", SECONDS.schedule, FUNC)
    [row] = await ledger.skips(job_id="stored")
    reason = SkipReason.PAUSED if paused else SkipReason.DOWN
    assert (row.first_due, row.last_due, row.count, row.reason) == (at(1), at(60), 60, reason)
    assert await promises(ledger, at(1000)) == []
    due = {"replaced": 61, "removed": None, "removed and stored again": 91}[then]
    if due is not None:
        assert await ledger.record(1, [Claim(Tick("stored", at(due - 1)), NOW)]) == [False]
        assert await ledger.record(1, [Claim(Tick("stored", at(due)), NOW)]) == [True]


@pytest.mark.parametrize("arguments", [{}, {"run_date": datetime.now(UTC) - timedelta(seconds=2)}], ids=["now", "past"])
async def test_p4_a_date_that_was_stored_for_now_is_owed(ledger: Ledger, arguments: dict[str, Any]) -> None:
    """``add_job(func, "date", id=…)`` means at once; that time has passed when the job is stored."""
    from election.schedule.triggers import build

    description = make_job("date", **arguments).schedule
    await ledger.store_job("soon", description, FUNC)
    state = await job_state(ledger, "soon")
    trigger = build(description, state.scheduled_since)
    assert trigger is not None
    assert trigger.run_date > state.settled_until
    assert await ledger.record(1, [Claim(Tick("soon", trigger.run_date), NOW)]) == [True]
    await ledger.store_job("soon", description, FUNC, if_exists=IfExists.REPLACE)
    if arguments:
        assert await ledger.record(1, [Claim(Tick("soon", trigger.run_date), NOW)]) == [False], "P3: once, ever"


# --- what others have written ----------------------------------------------------------------------------------------


async def test_changes_are_those_of_other_connections_and_only_those(ledger: Ledger, other: Ledger) -> None:
    await ledger.begin_term(make_term(1), process())
    assert await ledger.changes() is None
    await ledger.record(1, [claim(1), settle(1)])
    await ledger.confirm_term(1, 3.0)
    await other.jobs()
    assert await ledger.changes() is None
    await other.pause("job", True)
    state = await ledger.changes()
    assert state is not None
    assert state.jobs[0].paused_at is not None
    assert await ledger.changes() is None


async def test_changes_after_the_connection_was_lost_are_not_missed(ledger: Ledger, other: Ledger) -> None:
    """Each connection counts by itself, and a new one may happen to have the number of the last one."""
    for _ in range(3):
        await ledger.begin_term(make_term(1), process())
        await other.pause("job", True)
        await ledger.close()
        assert await ledger.changes() is not None
        assert await ledger.changes() is None


# --- history ---------------------------------------------------------------------------------------------------------


async def test_pages_of_runs(ledger: Ledger) -> None:
    entries: list[Entry] = [RegisterJob("another", SECONDS.schedule, at=NOW, since=NOW)]
    for second in range(1, 31):
        job_id = "another" if second % 3 == 0 else "job"
        entries.append(Claim(Tick(job_id, at(second)), at(second)))
        if second % 5:
            outcome = Outcome.FAILED if second % 2 else Outcome.SUCCEEDED
            entries.append(FinishRun(Tick(job_id, at(second)), outcome, at(second)))
    await ledger.record(1, entries)
    seen, before = [], None
    while page := await ledger.runs(before=before, limit=7):
        assert len(page) <= 7
        seen += page
        before = page[-1].seq
    assert [run.due for run in seen] == [at(second) for second in range(30, 0, -1)]
    assert [run.due for run in await ledger.runs(job_id="another", limit=2)] == [at(30), at(27)]
    assert [run.due for run in await ledger.runs(outcome="running", limit=2)] == [at(30), at(25)]
    assert [run.due for run in await ledger.runs(outcome="failed", limit=2)] == [at(29), at(27)]
    assert [run.due for run in await ledger.runs(job_id="job", outcome="failed", limit=2)] == [at(29), at(23)]
    last = await ledger.last_outcomes(["job", "another", "none"])
    assert {job_id: run.due for job_id, run in last.items()} == {"another": at(30), "job": at(29)}


async def test_pages_of_skips_and_terms(ledger: Ledger) -> None:
    for number in range(2, 8):
        await ledger.begin_term(make_term(number), process())
        await ledger.record(number, [skip(number, number)])
    assert [row.term for row in await ledger.skips(limit=2)] == [7, 6]
    [*_, last] = await ledger.skips(limit=2)
    assert [row.term for row in await ledger.skips(before=last.seq)] == [5, 4, 3, 2]
    assert await ledger.skips(job_id="another") == []
    assert [row.term for row in await ledger.terms(limit=2)] == [7, 6]
    assert [row.term for row in await ledger.terms(before=6)] == [5, 4, 3, 2, 1]


async def test_runs_and_skips_of_the_jobs_with_a_tag(ledger: Ledger) -> None:
    """By the tags that a job has now; a tag is a value, with any characters."""
    odd = "o'dd%"
    await ledger.record(1, [RegisterJob(name, SECONDS.schedule, at=NOW, since=NOW) for name in ("another", "third")])
    for name, tags in (("job", ("a", "both")), ("another", ("both", odd))):
        await ledger.record(1, [DescribeJob(name, JobInfo(name, tags=tags))])
    names = ("job", "another", "third")
    await ledger.record(1, [Claim(Tick(name, at(1)), at(1)) for name in names])
    await ledger.record(1, [Skip(name, at(2), at(2), 1, SkipReason.DOWN, at(2)) for name in names])
    for tag, expected in (("a", {"job"}), ("both", {"job", "another"}), (odd, {"another"}), ("x", set()), ("A", set())):
        assert {run.job_id for run in await ledger.runs(tag=tag)} == expected, tag
        assert {skip.job_id for skip in await ledger.skips(tag=tag)} == expected, tag
    assert [run.job_id for run in await ledger.runs(tag="both", job_id="job", outcome="running")] == ["job"]
    await ledger.record(1, [DescribeJob("job", JobInfo("job"))])
    assert await ledger.runs(tag="a") == []


# --- retention -------------------------------------------------------------------------------------------------------


async def fill(ledger: Ledger, seconds: int) -> None:
    """A minute of each term, in which every tenth tick is skipped."""
    for second in range(1, seconds + 1):
        number = 2 + second // 60
        if second % 60 == 0 or second == 1:
            await ledger.begin_term(make_term(number, elected_at=at(second)), process())
        await ledger.record(number, [skip(second, second)] if second % 10 == 0 else [claim(second), settle(second)])


async def test_old_history_goes_in_small_steps_and_nothing_else(ledger: Ledger) -> None:
    await fill(ledger, 300)
    assert await ledger.prune(at(200.5), 50) > 0
    steps = 1
    while await ledger.prune(at(200.5), 50) >= 50:
        steps += 1
    assert steps >= 3
    assert (await ledger.runs(limit=1000))[-1].due == at(201)
    assert (await ledger.skips(limit=1000))[-1].first_due == at(210)
    assert await ledger.pruned_until() == at(200.5)
    assert [term.term for term in await ledger.terms()] == [7, 6, 5], "each run's term is there, and the latest"
    assert await ledger.prune(at(200.5), 50) == 0
    assert await promises(ledger, at(1000)) == []


async def test_p3_pruning_makes_no_old_tick_claimable(ledger: Ledger) -> None:
    await fill(ledger, 60)
    while await ledger.prune(at(10**6), 10):
        pass
    assert await ledger.runs() == []
    assert await ledger.skips() == []
    assert await ledger.record(3, [claim(second) for second in range(61)]) == [False] * 61
    assert await ledger.record(3, [skip(1, 60)]) == [False]
    assert await ledger.record(3, [claim(61)]) == [True]
    assert (await ledger.latest_terms()).begun == 3, "docs/pitfalls.md#37: the number of the term is never lost"
    assert await promises(ledger, at(10**7)) == []


async def test_pruning_leaves_what_is_open(ledger: Ledger) -> None:
    await ledger.record(1, [claim(1), claim(2), settle(2)])
    await ledger.begin_term(make_term(2), process())
    request = await ledger.request(Action.RUN, job_id="job")
    assert await ledger.prune(at(10**6), 100) == 1
    state = await ledger.begin_term(make_term(2), process())
    assert [run.tick for run in state.open_runs] == [TICK]
    assert [asked.id for asked in state.requests] == [request]
    assert [term.term for term in await ledger.terms()] == [2, 1]


async def test_a_run_that_was_tried_again_keeps_the_terms_of_its_neighbours(ledger: Ledger) -> None:
    await ledger.record(1, [claim(1), claim(2), settle(2)])
    await ledger.begin_term(make_term(2), process())
    await ledger.record(2, [Retry(TICK, Outcome.INTERRUPTED, at(3)), settle(1)])
    await ledger.begin_term(make_term(3), process())
    assert await ledger.prune(NOW + timedelta(microseconds=1), 100) == 0
    assert not [broken for broken in await promises(ledger, at(200)) if broken.startswith("P3")]


async def test_retired_schedules_go_with_their_ticks(ledger: Ledger) -> None:
    await ledger.record(1, [claim(1), settle(1), RetireJob("job", at(2))])
    await ledger.record(1, [RegisterJob("job", SECONDS.schedule, at=at(9), since=at(9))])
    await ledger.prune(at(5), 100)
    assert [epoch.since for epoch in await ledger.epochs()] == [at(9)]


async def test_a_new_job_is_found_by_its_name_and_tags_at_once(ledger: Ledger) -> None:
    """Before a leader has read it."""
    bills = StoredJob("a:f", info=JobInfo("Bills", None, ("money",)))
    await ledger.store_jobs([NewJob("bill", SECONDS.schedule, bills)])
    for wanted in ({"tag": "money"}, {"text": "Bills"}):
        assert [job.id for job in await ledger.search_jobs(**wanted, limit=10)] == ["bill"]
    assert await ledger.search_jobs(tag="paper", limit=10) == []
