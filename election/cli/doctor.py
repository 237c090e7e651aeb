"""``python -m election doctor``: is the pool's ground sound, and what to do if it is not."""

from __future__ import annotations

import asyncio
from argparse import Namespace

from election.core.errors import LedgerError, LedgerVersionError
from election.core.finding import Finding, Grade
from election.engines import Engine

from .looking import engine_of, never_led
from .show import Busy, show_json

_KEEP = "stop the pool and keep a copy of the file; a leader that finds it corrupt sets it aside and goes on"

_SIGN = {Grade.GOOD: "ok     ", Grade.WARNING: "warning", Grade.WRONG: "WRONG  "}


async def doctor(options: Namespace) -> int:
    """Look at everything, and change nothing; 1 if something is wrong."""
    engine = engine_of(options, readable=False)
    async with Busy("looking at the ground, and at each process that may hold the lock") as busy:
        findings = await asyncio.to_thread(lambda: list(engine.examine()))
        busy.say("checking the ledger")
        findings += await _examine_ledger(engine)
    if options.json:
        show_json(findings)
    else:
        for finding in findings:
            print(f"{_SIGN[finding.grade]}  {finding.text}")
            if finding.advice:
                print(f"         -> {finding.advice}")
    return 1 if any(finding.grade is Grade.WRONG for finding in findings) else 0


async def _examine_ledger(engine: Engine) -> list[Finding]:
    ledger = engine.look_at_ledger()
    try:
        broken, open_runs, jobs = await ledger.integrity(), await ledger.open_runs(), await ledger.jobs()
    except LedgerVersionError as error:
        return [Finding(Grade.WRONG, str(error))]
    except LedgerError as error:
        if never_led(engine):
            return [Finding(Grade.WARNING, f"no ledger can be read: {error}", "normal before the first election")]
        advice = (
            "a leader begins a new ledger where there is none, and sets a corrupt one aside; to save what is in it,"
            " stop the pool and copy the file before that"
        )
        return [Finding(Grade.WRONG, f"the ledger cannot be read: {error}", advice)]
    except (ValueError, TypeError) as error:  # a file that is whole, and that somebody else has written into
        return [Finding(Grade.WRONG, f"the ledger holds what no worker can have written: {error}", _KEEP)]
    finally:
        await ledger.close()
    if broken:
        return [Finding(Grade.WRONG, f"the ledger is damaged: {'; '.join(broken)}", _KEEP)]
    advice = "put the function back, or take the job out with election.remove_job"
    return [
        Finding(Grade.GOOD, f"the ledger is whole: {len(jobs)} jobs, {len(open_runs)} open runs"),
        *(Finding(Grade.WARNING, job.broken, advice) for job in jobs if job.broken and not job.removed),
    ]
