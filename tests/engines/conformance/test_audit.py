"""The audit trail on every ledger: who changed what, in the transaction of the change."""

from __future__ import annotations

import os
import socket
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta

import pytest

from election.core.errors import ConfigurationError, UnknownJobError
from election.schedule.commands import RescheduleJob
from election.schedule.ledger import IfExists, Ledger
from election.schedule.model import Action, StoredJob
from tests.engines.conformance.pool import SECONDS, Pool
from tests.schedule.making import NOW, make_job

pytestmark = pytest.mark.anyio

FUNC = StoredJob("module:function", {"a": 1}, {"coalesce": False})


@pytest.fixture
async def other(pool: Pool, ledger: Ledger) -> AsyncIterator[Ledger]:
    """The same ledger, as another worker has it."""
    other = pool.ledger()
    yield other
    await other.close()


async def test_each_change_is_in_the_audit_trail(ledger: Ledger, other: Ledger) -> None:
    """With who made it, in the order of the changes, and what it was before; a repetition of what is so leaves none."""
    changed = StoredJob("module:function", {"secret": "x"}, {"max_instances": 2})
    every_minute = make_job("interval", minutes=1).schedule
    await other.pause("job", True, by="ann")
    await other.pause("job", False, by="ann")
    run = await other.request(Action.RUN, job_id="job", kwargs={"day": "secret"}, by="ben")
    resign = await other.request(Action.RESIGN, term=1, by="token")
    await other.store_job("stored", SECONDS.schedule, FUNC, by="cleo")
    await other.store_job("stored", SECONDS.schedule, FUNC, by="dan", if_exists=IfExists.REPLACE)
    await other.store_job("stored", SECONDS.schedule, FUNC, by="dan", if_exists=IfExists.KEEP)
    await other.store_job("stored", SECONDS.schedule, changed, by="dan", if_exists=IfExists.REPLACE)
    await other.store_job("stored", every_minute, changed, by="eve", if_exists=IfExists.REPLACE)
    await other.modify_job("job", lambda found: RescheduleJob("job", every_minute), by="eve")
    await other.modify_job("job", lambda found: RescheduleJob("job", None), by="eve")
    await other.remove_job("stored", by="ann")
    await other.record_resignation(1)
    rows = await ledger.audit_trail()
    assert [row.seq for row in rows] == sorted((row.seq for row in rows), reverse=True)
    second, minute = "interval[0:00:01]", "interval[0:01:00]"
    assert [(row.by, row.action, row.job_id, row.before, row.after, row.request) for row in rows[::-1]] == [
        ("ann", "pause", "job", None, None, None),
        ("ann", "resume", "job", None, None, None),
        ("ben", "run", "job", None, "with day", run),
        ("token", "resign", None, "term 1", None, resign),
        ("cleo", "add", "stored", None, f"{second} {FUNC.func}", None),
        ("dan", "modify", "stored", "coalesce=false", "max_instances=2, kwargs: a, secret", None),
        ("eve", "reschedule", "stored", second, minute, None),
        ("eve", "reschedule", "job", second, minute, None),
        ("eve", "reschedule", "job", minute, f"{second} (the trigger of the code)", None),
        ("ann", "remove", "stored", f"{minute} module:function", None, None),
        (f"pid {os.getpid()} on {socket.gethostname()}", "resign", None, "term 1", None, None),
    ]
    assert [row.action for row in await ledger.audit_trail(job_id="stored")] == [
        "remove",
        "reschedule",
        "modify",
        "add",
    ]
    assert [row.seq for row in await ledger.audit_trail(before=rows[3].seq, limit=2)] == [rows[4].seq, rows[5].seq]


async def test_a_change_that_is_refused_leaves_no_audit_entry(ledger: Ledger) -> None:
    with pytest.raises(UnknownJobError):
        await ledger.pause("unknown", True)
    with pytest.raises(UnknownJobError):
        await ledger.request(Action.RUN, job_id="unknown")
    for nobody in ("", " x", "two\nlines", "x" * 256):
        with pytest.raises(ConfigurationError, match="cannot be recorded"):
            await ledger.pause("job", True, by=nobody)
    (job,) = await ledger.find_jobs(["job"])
    assert not job.paused
    assert await ledger.audit_trail() == []


async def test_the_audit_trail_is_pruned_as_the_history_is(ledger: Ledger, other: Ledger) -> None:
    await other.pause("job", True)
    await other.pause("job", False)
    assert await ledger.prune(NOW - timedelta(days=1), 100) == 0
    assert await ledger.prune(datetime.now(UTC) + timedelta(days=1), 1) == 1
    assert [row.action for row in await ledger.audit_trail(job_id="job")] == ["resume"]
    assert await ledger.prune(datetime.now(UTC) + timedelta(days=1), 100) == 1
    assert await ledger.audit_trail() == []
