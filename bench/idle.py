"""3. Cost of an idle follower and leader, compared with a bare worker; and the cost of importing."""

from __future__ import annotations

import compileall
import contextlib
import random
import re
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path

from .pool import ROOT, Pool
from .processes import Reading, read
from .report import Cell, Report, Table, p50
from .takeover import SEED

SECONDS = 30.0
SETTLES = 5.0
"""Seconds after which the work of a start is done."""

IMPORTS = 9

WORDS = ("CPU, ms a minute", "CPU, % of a core", "wake-ups/s", "RSS, MiB", "USS, MiB", "descriptors", "threads")


def run(directory: Path, quick: bool) -> Report:
    random.seed(SEED)
    with contextlib.ExitStack() as scope:
        bare = scope.enter_context(Pool("bare", directory / "bare", workers=3))
        ours = scope.enter_context(Pool("ours", directory / "ours", workers=3, environment={"BENCH_IDLE": "1"}))
        for pool in (bare, ours):
            pool.whole()
        leader = ours.leader()
        followers = sorted(ours.pids() - {leader})
        watched = {"bare worker": sorted(bare.pids()), "follower": followers, "leader, a job an hour": [leader]}
        time.sleep(1 if quick else SETTLES)
        costs, took = _watch(watched, 5.0 if quick else SECONDS)
    rows: list[list[Cell]] = [[name, *values] for name, values in costs.items()]
    for name in list(costs)[1:]:
        over = [mine - its for mine, its in zip(costs[name], costs["bare worker"], strict=True)]
        rows.append([f"{name}, over the bare worker", *over])
    note = (
        f"Three bare workers, two followers and a leader, side by side for {took:.0f} s; means. Uvicorn's own loop"
        " looks around ten times a second, in each of them. USS is the memory that a process shares with nobody."
    )
    imports, samples = _imports(3 if quick else IMPORTS)
    tables = [Table("A worker at rest", ["process", *WORDS], rows, note), imports]
    return Report("idle", tables, {"rest": costs, "imports": samples})


def _watch(watched: Mapping[str, list[int]], seconds: float) -> tuple[dict[str, list[float]], float]:
    before = {pid: read(pid) for pids in watched.values() for pid in pids}
    began = time.monotonic()
    time.sleep(seconds)
    after = {pid: read(pid) for pid in before}
    took = time.monotonic() - began
    found = {}
    for name, pids in watched.items():
        each = [_cost(before[pid], after[pid], took) for pid in pids]
        found[name] = [sum(values) / len(values) for values in zip(*each, strict=True)]
    return found, took


def _cost(before: Reading, after: Reading, took: float) -> list[float]:
    cpu = (after.cpu_s - before.cpu_s) / took
    switches = (after.switches - before.switches) / took
    memory = [after.rss / 2**20, after.uss / 2**20]
    return [cpu * 60_000, cpu * 100, switches, *memory, float(after.descriptors), float(after.threads)]


BESIDE = "fastapi, apscheduler.schedulers.asyncio, apscheduler.triggers.cron, filelock"
"""Modules that election requires, and most applications that schedule jobs load anyway."""

PROGRAMS = {
    "Python alone": "pass",
    "FastAPI, APScheduler, filelock": f"import {BESIDE}",
    "the same and election": f"import {BESIDE}, election",
    "election alone": "import election",
}


def _imports(times: int) -> tuple[Table, dict[str, list[float]]]:
    """In turn, with bytecode compiled."""
    compileall.compile_dir(ROOT / "election", quiet=2)
    samples: dict[str, list[float]] = {name: [] for name in [*PROGRAMS, OWN]}
    for _ in range(times):
        for name in random.sample(list(PROGRAMS), len(PROGRAMS)):
            began = time.monotonic()
            _python("-c", PROGRAMS[name])
            samples[name].append((time.monotonic() - began) * 1000)
        told = _python("-X", "importtime", "-c", "import election")
        samples[OWN].append(_own_ms(told))
    base = p50(samples["FastAPI, APScheduler, filelock"])
    rows: list[list[Cell]] = [
        [name, len(found), p50(found), min(found), f"{p50(found) / base:.0%}"] for name, found in samples.items()
    ]
    heads = ["what", "n", "p50 ms", "least ms", "of FastAPI, APScheduler, filelock"]
    note = (
        "Whole processes, started in turn, with bytecode compiled; the last line is the sum of what `-X importtime`"
        " tells of election's own modules, without what they import."
    )
    return Table("Starting Python and importing", heads, rows, note), samples


OWN = "election's own modules"


def _python(*arguments: str) -> str:
    return subprocess.run([sys.executable, *arguments], check=True, cwd=ROOT, capture_output=True, text=True).stderr


def _own_ms(told: str) -> float:
    """Time of the modules of this package alone: the first number of a line is the module's own, in µs."""
    found = re.findall(r"^import time:\s+(\d+) \|\s+\d+ \|\s+(election(?:\.\S+)?)$", told, re.MULTILINE)
    if not found:
        raise ValueError(f"-X importtime told nothing of election: {told[-500:]}")
    return sum(int(own) for own, _ in found) / 1000
