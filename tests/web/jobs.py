"""Functions that the tests add as jobs at run time, by reference."""

from __future__ import annotations

from election import current_run
from tests.support.facts import write_fact


async def note(text: str = "") -> None:
    """Leave a fact."""
    run = current_run()
    write_fact("ran", job=run.job_id, due=run.due.isoformat(), term=run.term, key=run.key, text=text)
