"""A worker with an ``Election`` and no server, so that its whole cost is the election's: ``worker POOL [OPTIONS]``,
the options of ``Election`` as JSON."""

from __future__ import annotations

import asyncio
import json
import sys
from pathlib import Path
from typing import Any

from election import Election

JOBS = 10


async def job() -> None:
    """Does nothing."""


def build(pool: str | Path, **options: Any) -> Election:
    """Membership in the pool, with ten jobs that are due each hour."""
    election = Election(pool, **options)
    for number in range(JOBS):
        election.scheduled_job("interval", hours=1, id=f"job {number}")(job)
    return election


async def main() -> None:
    async with build(sys.argv[1], **json.loads("".join(sys.argv[2:]) or "{}")):
        await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(main())
