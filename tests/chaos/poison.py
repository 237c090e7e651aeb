"""Jobs in the ledger that no worker has added: each is broken, and says why, and all others go on (P10)."""

from __future__ import annotations

import asyncio
import contextlib
import time
from typing import Any

from election.core.errors import LedgerError, UnknownJobError
from election.engines import open_engine
from election.schedule.ledger import IfExists, Ledger
from election.schedule.ledger_reader import LedgerReader
from election.schedule.model import NewJob, StoredJob

from .grounds import Ground, NotPossibleError, Undo, UnnoticedError
from .kinds import POISONED

SPOILT = f"{POISONED} with a number beyond all times"

WITHIN_S = 3.0
"""Seconds that a ledger has to answer whoever spoils it."""

LIMIT_S = 20.0
"""Seconds until a leader, which there may not be at first, has looked at them."""

AGAIN_S = 0.5

_SECONDS = {
    "type": "interval", "seconds": 1, "timezone": "UTC", "start_date": None, "end_date": None, "jitter": None,
}  # fmt: skip


def _job(name: str, func: str = "tests.schedule.stored_functions:remember", **changes: Any) -> NewJob:
    trigger, options = changes.get("trigger", _SECONDS), changes.get("options", {})
    return NewJob(f"{POISONED} {name}", trigger, StoredJob(func, {"value": 1}, options))


JOBS = [
    _job("with a broken trigger", trigger={**_SECONDS, "seconds": "many"}),
    _job("with a trigger of the future", trigger={"type": "moon"}),
    _job("with an unknown function", "no.such.module:function"),
    _job("with an option of the future", options={"of_the_future": 1}),
    _job("x" * 300, "no.such.module:function"),
    _job("with a line\nand \x1b[31mmarks", "no.such.module:function"),
    NewJob(SPOILT, _SECONDS, StoredJob("no.such.module:function", {}, {})),
]


def plant(ground: Ground) -> Undo:
    """Put them into the ledger; returns what removes them when all are broken. Raises ``NotPossibleError``."""
    engine = open_engine(ground.ledger, heartbeat=0.5, safety_poll=1.0)
    until = time.monotonic() + LIMIT_S
    mend: Undo | None = None

    async def store(ledger: Ledger) -> None:
        await ledger.store_jobs(JOBS, if_exists=IfExists.REPLACE)

    async def remove(ledger: Ledger) -> None:
        for job in JOBS:
            with contextlib.suppress(UnknownJobError):  # an earlier try was cut off
                await ledger.remove_job(job.id)

    async def read(ledger: LedgerReader) -> list[str]:
        return [job.id for job in await ledger.jobs() if job.id.startswith(POISONED) and job.broken is None]

    def end() -> float | None:
        try:
            sound = _within(ground, engine.open_reader(), read)
            if sound and time.monotonic() < until:
                return AGAIN_S
            if mend is not None:
                mend()
            _within(ground, engine.open_ledger(), remove)
        except NotPossibleError:
            return AGAIN_S
        if sound:
            raise UnnoticedError(f"a job that cannot run is not broken: {sound[0]}")
        return None

    _within(ground, engine.open_ledger(), store)
    mend = ground.spoil(SPOILT)
    return end


def _within(ground: Ground, ledger: Any, do: Any) -> Any:
    """Do it with a ledger that is closed afterwards. Raises ``NotPossibleError``."""
    if ground.away:  # on a frozen disk even the close would wait, and nobody would end the freeze
        raise NotPossibleError("the ledger is away")

    async def bounded() -> Any:
        try:
            return await asyncio.wait_for(do(ledger), WITHIN_S)
        finally:
            await ledger.close()

    try:
        return asyncio.run(bounded())
    except (LedgerError, TimeoutError) as error:
        raise NotPossibleError(f"the ledger cannot be reached: {error}") from error
