"""docs/guides/moving.md has a counterpart for each public method of APScheduler's scheduler."""

from __future__ import annotations

import re

from apscheduler.job import Job
from apscheduler.schedulers.asyncio import AsyncIOScheduler

from election import Election
from election.pool_jobs import PoolJobs

from .markdown import ROOT

PAGE = (ROOT / "docs/guides/moving.md").read_text()
ROWS = re.findall(r"^\| (.+) \| (.+) \|$", PAGE, re.MULTILINE)


def test_each_method_of_apscheduler_has_a_row() -> None:
    named = {name for old, _ in ROWS for name in re.findall(r"`(?:job\.)?(\w+)", old)}
    methods = {name for name in dir(AsyncIOScheduler) if not name.startswith("_")}
    methods |= {name for name in dir(Job) if not name.startswith("_") and callable(getattr(Job, name))}
    assert methods - named == set()


def test_each_counterpart_exists() -> None:
    named = {name for _, new in ROWS for name in re.findall(r"election\.(?!jobs\.)(\w+)", new)}
    assert {name for name in named if not hasattr(Election, name)} == set()
    of_jobs = {name for _, new in ROWS for name in re.findall(r"election\.jobs\.(\w+)", new)}
    assert len(of_jobs) >= 7
    assert {name for name in of_jobs if not hasattr(PoolJobs, name)} == set()
