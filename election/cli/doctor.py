"""``python -m election doctor``: checks of the pool's prerequisites, with advice."""

from __future__ import annotations

import asyncio
from argparse import Namespace
from collections.abc import Iterable
from datetime import UTC, datetime

from election.core.backend import describe_problem
from election.core.checks import CheckResult, Severity
from election.core.errors import LedgerError, LedgerVersionError, SeatError
from election.engines import Engine
from election.schedule.model import UNREADABLE
from election.schedule.term_warnings import describe_ahead, settled_ahead
from election.schedule.verify import describe_missing, find_missing_terms

from .open_pool import engine_of, never_led, without_history
from .show import Progress, show_json

_SIGN = {Severity.GOOD: "ok     ", Severity.WARNING: "warning", Severity.WRONG: "WRONG  "}


async def doctor(options: Namespace) -> int:
    """Run all checks, read only; 1 if something is wrong."""
    engine = engine_of(options, readable=False)
    async with Progress("checking the pool and the holder of its seat") as progress:
        findings = await asyncio.to_thread(lambda: list(engine.examine()))
        findings += [*await _examine_workers(engine)]
        progress.update("checking the ledger")
        findings += await _examine_ledger(engine)
    if options.json:
        show_json(findings)
    else:
        for finding in findings:
            print(f"{_SIGN[finding.grade]}  {finding.text}")
            if finding.advice:
                print(f"         -> {finding.advice}")
    return 1 if any(finding.grade is Severity.WRONG for finding in findings) else 0


async def _examine_workers(engine: Engine) -> Iterable[CheckResult]:
    """One result for each different problem that workers have published."""
    if engine.missing() is not None or engine.closed() is not None:
        return []
    try:
        await engine.look()
    except SeatError:  # ``examine`` has reported it
        return []
    by_problem = {worker.problem: worker for worker in await engine.seat.workers() if worker.problem}
    texts = [describe_problem([worker]) for worker in by_problem.values()]
    return [CheckResult(Severity.WRONG, text, "its workers try again by themselves") for text in texts if text]


_MOVED = "the ledger was copied or restored from another place, and what the original owes is not run here"
_ADOPT = "if the original is gone: python -m election adopt, before the pool starts to run what is owed, too"


async def _examine_ledger(engine: Engine) -> list[CheckResult]:
    ledger, ledger_advice = engine.open_reader(), engine.ledger_advice
    try:
        broken, open_runs, jobs = await ledger.integrity(), await ledger.open_runs(), await ledger.jobs()
        unaware = None if jobs or broken else await without_history(engine, ledger)
        moved = not broken and await ledger.is_moved()
        missing = 0 if broken else await find_missing_terms(ledger)
    except LedgerVersionError as error:
        return [CheckResult(Severity.WRONG, str(error))]
    except LedgerError as error:
        if await never_led(engine):
            return [
                CheckResult(Severity.WARNING, f"no ledger can be read: {error}", "normal before the first election")
            ]
        return [CheckResult(Severity.WRONG, f"the ledger cannot be read: {error}", ledger_advice.unreadable)]
    except (ValueError, TypeError) as error:  # an intact ledger into which another program has written
        return [
            CheckResult(
                Severity.WRONG, f"the ledger has a row that no worker can have written: {error}", ledger_advice.damaged
            )
        ]
    finally:
        await ledger.close()
    if broken:
        return [CheckResult(Severity.WRONG, f"the ledger is damaged: {'; '.join(broken)}", ledger_advice.damaged)]
    if unreadable := [job.broken for job in jobs if job.trigger == UNREADABLE]:
        text = f"the ledger has a row that no worker can have written: {unreadable[0]}"
        return [CheckResult(Severity.WRONG, text, ledger_advice.damaged)]
    if unaware is not None:
        advice = "normal before the first election" if await never_led(engine) else None
        return [CheckResult(Severity.WARNING, f"the ledger is empty: {unaware}", advice)]
    ahead = describe_ahead(settled_ahead(jobs, now := datetime.now(UTC)), now)
    advice = "see that its trigger works, or put the function back"
    away = f"{advice}, or take the job out with election.remove_job"
    return [
        *([] if ahead is None else [CheckResult(Severity.WRONG, ahead)]),
        *([CheckResult(Severity.WARNING, _MOVED, _ADOPT)] if moved else []),
        *([CheckResult(Severity.WARNING, describe_missing(missing))] if missing else []),
        CheckResult(Severity.GOOD, f"{ledger_advice.sound}: {len(jobs)} jobs, {len(open_runs)} open runs"),
        *(
            CheckResult(Severity.WARNING, f"job {job.id!r}: {job.broken}", away if job.stored else advice)
            for job in jobs
            if job.broken and not (job.removed or job.retired_at)
        ),
    ]
