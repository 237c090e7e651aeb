"""7. Many jobs, added at run time: calls a second, and what a hundred thousand of them cost the leader."""

from __future__ import annotations

import contextlib
import json
import select
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from . import servers
from .pool import LIMIT, ROOT
from .report import Cell, Report, Table, p50, p99, spread

WORKERS = 4
SIZES = (10, 10_000, 100_000)
KILLS = 3
CALLS = 2_000
BATCHES = 10_000


class Many:
    """A process of ``bench.systems.many``."""

    def __init__(self, what: str, log: Path) -> None:
        self._log = log
        with log.open("ab") as errors:
            self._process = subprocess.Popen(
                [sys.executable, "-W", "ignore", "-m", "bench.systems.many", what],
                stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=errors, cwd=ROOT,
            )  # fmt: skip
        self.answer()

    def order(self, *words: Any) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(words).encode() + b"\n")
        self._process.stdin.flush()

    def answer(self) -> Any:
        assert self._process.stdout is not None
        if not select.select([self._process.stdout], [], [], LIMIT)[0]:
            raise TimeoutError(f"no answer within {LIMIT:g} s")
        line = self._process.stdout.readline()
        if not line:
            raise ChildProcessError(f"it has ended; see {self._log}")
        return json.loads(line)

    def ask(self, *words: Any) -> Any:
        self.order(*words)
        return self.answer()

    def kill(self) -> None:
        self._process.kill()
        self._process.communicate()


@contextlib.contextmanager
def _workers(what: str, directory: Path, number: int) -> Iterator[list[Many]]:
    """The first of them leads."""
    directory.mkdir(parents=True, exist_ok=True)
    found = [Many(what, directory / "log")]
    try:
        if what != "bare":
            found[0].ask("leads")
        found += [Many(what, directory / "log") for _ in range(number - 1)]
        yield found
    finally:
        for each in found:
            each.kill()


def run(directory: Path, quick: bool) -> Report:
    sizes = SIZES[:2] if quick else SIZES
    rates = _rates(directory, quick)
    costs = {size: _costs(directory / f"{size}", size, 2 if quick else KILLS) for size in sizes}
    bare = _bare(directory, sizes[-1])
    ten = costs[SIZES[0]]["takeover"]
    rows: list[list[Cell]] = [
        [f"{size:,}", *spread(found["takeover"]), f"{p50(found['takeover']) / p50(ten):.2f}×",
         p99(found["still"]), found["bytes"] / 1e3, p99(found["ask"]),
         round(found["memory"]) if size > SIZES[0] else None]
        for size, found in costs.items()
    ]  # fmt: skip
    tables = [
        Table(
            "Jobs added in a second",
            ["engine", "add_job, one worker", "add_job, four workers", "add_jobs, batches of 1,000"],
            [[name, *found] for name, found in rates.items()],
            "Sixteen calls of add_job are under way in each worker; a leader plans what is added meanwhile.",
        ),
        Table(
            "A leader with many jobs, file engine",
            ["jobs", "n", "takeover p50 ms", "p99 ms", "max ms", "of ten jobs", "add_job stands still, p99 ms",
             "/leader kB", "/leader p99 ms", "bytes a job"],
            rows,
            "From kill -9 to the first run of the next leader; a job is due each 20 ms. The longest stand-still of the"
            f" leader's event loop within 0.1 s of a call. Bare APScheduler takes {bare:.0f} bytes a job.",
        ),
    ]  # fmt: skip
    return Report("jobs", tables, {"rates": rates, "costs": costs, "bare bytes a job": bare})


def _rates(directory: Path, quick: bool) -> dict[str, list[float]]:
    found = {"file": _rate(str(directory / "rate/pool"), directory / "rate", quick)}
    for name, server in (("PostgreSQL", servers.postgres), ("Redis", servers.redis)):
        with server(directory / name) as url:
            found[name] = _rate(url, directory / name, quick)
    return found


def _rate(url: str, directory: Path, quick: bool) -> list[float]:
    calls, batches = (400, 2_000) if quick else (CALLS, BATCHES)
    with _workers(url, directory, WORKERS) as workers:
        alone = calls / workers[1].ask("add_each", calls)
        began = time.monotonic()
        for each in workers:
            each.order("add_each", calls)
        for each in workers:
            each.answer()
        together = WORKERS * calls / (time.monotonic() - began)
        return [alone, together, batches / workers[1].ask("add_jobs", batches)]


def _costs(directory: Path, jobs: int, kills: int) -> dict[str, Any]:
    with _workers(str(directory / "pool"), directory, 2) as workers:
        before = workers[0].ask("memory")
        workers[1].ask("add_jobs", jobs)
        workers[0].ask("rest")
        found = {"memory": (workers[0].ask("memory") - before) / jobs, "still": workers[0].ask("stands_still")}
        asked = workers[0].ask("ask")
        found |= {"bytes": asked["bytes"], "ask": asked["ms"], "takeover": []}
        for _ in range(kills):
            leader, follower = workers
            leader.ask("rest")
            began = time.monotonic()
            leader.kill()
            found["takeover"].append((follower.ask("leads") - began) * 1e3)
            workers[:] = [follower, Many(str(directory / "pool"), directory / "log")]
        return found


def _bare(directory: Path, jobs: int) -> float:
    with _workers("bare", directory / "bare", 1) as (only,):
        before = only.ask("memory")
        only.ask("add_jobs", jobs)
        return float(only.ask("memory") - before) / jobs
