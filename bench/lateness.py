"""Lateness of jobs, and duration of a burst of them: election beside APScheduler alone, on real Uvicorn."""

from __future__ import annotations

import contextlib
import json
import math
import random
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from .pool import ROOT, Pool
from .report import Cell, Table, p50, p99, ratio, spread

SEED = 20261123

KINDS = {"ours": "election", "bare": "AsyncIOScheduler", "stored": "AsyncIOScheduler, SQLAlchemy job store"}
IDLE, LOADED = "idle", "HTTP load"

SPREAD = {10: 0.25, 1_000: 5.0, 10_000: 50.0}
"""Jobs, and the seconds between two ticks of each: 40, 200 and 200 ticks a second, evenly spread."""

ANCHOR_AGE = 120.0
"""Age of the jobs' start in seconds: a recent one is taken for ``datetime.now()``, the moment of the registration."""

SECONDS = 1.6
"""Seconds per measurement. Before it: a second for ticks due during the start, and half a second for the load to
begin.
"""

CONNECTIONS = 8

BURST = 1_000
PERIOD = 9.0
"""Seconds between two bursts of the same system; the others' bursts lie between them."""

SLOTS = {"ours": 0.0, "bare": 1.5, "stored": 3.0}
"""Seconds into the period at which each system has its burst."""

START = 25.0
"""Seconds that all three get to start."""


@dataclass(slots=True)
class Lateness:
    """Milliseconds from due to begun, by (jobs, idle or not, kind), and the requests answered in a second."""

    late: dict[tuple[int, str, str], list[float]] = field(default_factory=dict)
    rates: dict[tuple[int, str], list[float]] = field(default_factory=dict)


@dataclass(slots=True)
class Bursts:
    """Milliseconds from due until the last job ended, by kind; ``settled``: until all were settled in the ledger."""

    took: dict[str, list[float]]
    settled: list[float]


def lateness(
    directory: Path, *, rounds: int, seconds: float = SECONDS, jobs: Sequence[int] = tuple(SPREAD)
) -> Lateness:
    """Measure every system in turn, in a new order each time."""
    found = Lateness()
    shuffled = random.Random(SEED)
    for turn in range(rounds):
        for count in jobs:
            for kind in shuffled.sample(list(KINDS), len(KINDS)):
                _look(found, directory / f"{turn}-{count}-{kind}", kind, count, seconds)
    return found


def _look(found: Lateness, directory: Path, kind: str, count: int, seconds: float) -> None:
    every = SPREAD[count]
    anchor = time.time() - math.ceil(ANCHOR_AGE / every) * every
    settings = {"BENCH_EVERY": str(every), "BENCH_ANCHOR": str(anchor), "BENCH_SPREAD": "1"}
    with _started(kind, directory, count, settings) as pool:
        time.sleep(1)
        idle = time.time(), time.time() + seconds
        time.sleep(seconds)
        load = subprocess.Popen(
            [sys.executable, "-m", "bench.load", str(pool.port), "/plain", str(seconds + 0.7), str(CONNECTIONS)],
            stdout=subprocess.PIPE, text=True, cwd=ROOT,
        )  # fmt: skip
        pool.until(lambda: time.time() > idle[1] + 0.5 or None)
        loaded = idle[1] + 0.5, idle[1] + 0.5 + seconds - 0.1
        rate, _ = load.communicate(timeout=60)
        if load.returncode:
            raise ChildProcessError("the load has failed")
        marks = json.loads(pool.get("/marks"))
    for what, (since, until) in {IDLE: idle, LOADED: loaded}.items():
        late = [late * 1e3 for due, late in marks if since <= due < until]
        if not late:
            raise AssertionError(f"{kind}, {count} jobs, {what}: no tick has run")
        found.late.setdefault((count, what, kind), []).extend(late)
    found.rates.setdefault((count, kind), []).append(float(rate))


def lateness_tables(found: Lateness) -> list[Table]:
    """Idle and loaded."""
    tables = []
    for what in (IDLE, LOADED):
        rows: list[list[Cell]] = []
        for count in sorted({count for count, _, _ in found.late}):
            bare = found.late[count, what, "bare"]
            for kind, name in KINDS.items():
                late = found.late[count, what, kind]
                row = [count, name, *spread(late), ratio(late, bare), f"{p99(late) / p99(bare):.2f}×"]
                rows.append([*row, p50(found.rates[count, kind])] if what == LOADED else row)
        heads = ["jobs", "scheduler", "n", "p50 ms", "p99 ms", "max ms", "p50 : bare", "p99 : bare"]
        tables.append(Table(
            f"Lateness of ticks, {what}",
            [*heads, "requests/s"] if what == LOADED else heads,
            rows,
            note=f"{CONNECTIONS} connections ask for a small JSON document of the same process, each again as soon as"
            " it has its answer." if what == LOADED else "",
        ))  # fmt: skip
    return tables


def bursts(directory: Path, *, repetitions: int) -> Bursts:
    """All three run side by side and sleep except for their own burst, so that they take turns."""
    anchor = time.time() + START
    with contextlib.ExitStack() as scope:
        pools = {
            kind: scope.enter_context(
                _started(
                    kind, directory / kind, BURST, {"BENCH_EVERY": str(PERIOD), "BENCH_ANCHOR": str(anchor + slot)}
                )
            )
            for kind, slot in SLOTS.items()
        }
        if time.time() > anchor:
            raise TimeoutError(f"the three took more than {START:g} s to start")
        time.sleep(anchor + repetitions * PERIOD - 0.5 - time.time())
        marks = {kind: json.loads(pool.get("/marks")) for kind, pool in pools.items()}
        settled = [fact.more.split() for fact in pools["ours"].facts() if fact.what == "settled"]
    took = {kind: _each(found, anchor + SLOTS[kind], repetitions) for kind, found in marks.items()}
    return Bursts(took, [float(after) * 1e3 for _, after in settled])


def _each(marks: list[tuple[float, float]], anchor: float, repetitions: int) -> list[float]:
    """Lateness of the last job of each burst, in milliseconds."""
    found = []
    for repetition in range(repetitions):
        late = [late for due, late in marks if abs(due - anchor - repetition * PERIOD) < 0.001]
        if len(late) != BURST:
            raise AssertionError(f"{len(late)} of {BURST} jobs began within {PERIOD:g} s")
        found.append(max(late) * 1e3)
    return found


def burst_table(found: Bursts) -> Table:
    """As rates beside the bare scheduler's."""
    bare = found.took["bare"]
    rows: list[list[Cell]] = [
        [name, *spread(found.took[kind]), BURST / p50(found.took[kind]) * 1e3,
         f"{p50(bare) / p50(found.took[kind]):.2f}×"]
        for kind, name in KINDS.items()
    ]  # fmt: skip
    rows.append([
        "election, until the ledger knew that all had ended", *spread(found.settled),
        BURST / p50(found.settled) * 1e3, f"{p50(bare) / p50(found.settled):.2f}×",
    ])  # fmt: skip
    return Table(
        f"A burst: {BURST:,} jobs due at once, until the last has ended",
        ["scheduler", "n", "p50 ms", "p99 ms", "max ms", "jobs/s", "rate : bare"],
        rows,
    )


@contextlib.contextmanager
def _started(kind: str, directory: Path, count: int, settings: dict[str, str]) -> Iterator[Pool]:
    environment = {"BENCH_KIND": kind, "BENCH_JOBS": str(count), **settings}
    with Pool("ticking", directory, workers=1, environment=environment) as pool:
        pool.whole()
        pool.until(lambda: _answers(pool))
        yield pool


def _answers(pool: Pool) -> bool:
    try:
        return bool(pool.get("/plain"))
    except OSError:
        return False
