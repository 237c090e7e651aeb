"""2. Ticks under fire: a job each second, while its process is killed or blocked: lost ticks, and ticks run twice."""

from __future__ import annotations

import contextlib
import math
import random
import time
from collections import Counter
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

from .facts import Fact
from .pool import Pool
from .report import Cell, Report, Table
from .takeover import SEED, servers_for

OURS = "election"

SYSTEMS: dict[str, tuple[str, Mapping[str, str]]] = {
    OURS: ("ours", {"BENCH_FENCE_AFTER": "5"}),
    "a scheduler in every worker": ("naive", {}),
    "a scheduler in the parent": ("parent", {}),
    "flock at start-up only": ("startup", {}),
    "filelock, polled each 50 ms": ("polling", {"BENCH_POLL": "0.05"}),
    "filelock, polled each second": ("polling", {"BENCH_POLL": "1"}),
    "Redis lock, SET NX PX 10 s": ("redis_lock", {}),
    "PostgreSQL advisory lock, each second": ("postgres_lock", {}),
    "fastapi-task-manager": ("task_manager", {}),
    "fastapi-crons, as it comes": ("crons", {}),
    "fastapi-crons, Redis": ("crons", {"CRON_ENABLE_DISTRIBUTED_LOCKING": "true"}),
}

NEEDS = {
    "redis_lock": "BENCH_REDIS",
    "task_manager": "BENCH_REDIS",
    "crons": "BENCH_REDIS",
    "postgres_lock": "BENCH_POSTGRES",
}

AFTER = 12.0
"""Seconds that a system gets after the last fault before its ticks are counted: longer than any lease here."""


@dataclass(frozen=True, slots=True)
class Fire:
    """Fault of the process that ran the job last, and the duration of the measurement.

    phase: returns the part of a second, after a tick, at which the next kill falls; None to block the loop instead.
    every: seconds between faults. shots: their number. job: seconds that the job takes.
    """

    name: str
    every: float
    shots: int
    phase: Callable[[], float] | None
    job: float = 0.0
    notes: tuple[str, ...] = ()


AIM = 0.1
"""Seconds before a fault in which its target is determined, so that it is in time."""

BLOCKED = 20.0

COALESCED = (
    "election with `fence_after=5`: the blocked worker is ended, and the next one runs the ticks that were missed as"
    " one (`coalesce=True`), the latest of them; the others are skips with their reason in the ledger."
)

FIRES = [
    Fire("killed every 4 s, at a random phase", 4, 20, lambda: random.uniform(0, 1)),
    Fire("killed 15 ms before the tick", 4, 15, lambda: 0.985),
    Fire("killed in the middle of a 0.5 s job", 4, 10, lambda: 0.25, job=0.5),
    Fire("its event loop blocked for 20 s, once", 4, 1, None, notes=(COALESCED,)),
]


def run(directory: Path, quick: bool) -> Report:
    tables, samples = [], {}
    random.seed(SEED)
    for number, fire in enumerate(FIRES):
        with servers_for(directory / str(number)) as (urls, notes):  # new, since a lock may outlive its run
            urls["CRON_REDIS_URL"] = urls.get("BENCH_REDIS", "")  # queried only where its locks are switched on
            found = _all_systems(fire, directory / str(number), urls, quick)
            samples[fire.name] = found
            rows: list[list[Cell]] = [[name, *count.values()] for name, count in found.items()]
            heads = ["what", "ticks due", "lost", "run twice", "longest silence s"]
            note = " ".join([*fire.notes, *notes])
            tables.append(Table(fire.name[0].upper() + fire.name[1:], heads, rows, note))
    return Report("fire", tables, samples, _plot(samples))


def _all_systems(fire: Fire, directory: Path, urls: Mapping[str, str], quick: bool) -> dict[str, dict[str, Cell]]:
    """Run all systems at once, for the same seconds, independently. Their faults fall into different seconds if
    there are enough: a worker that replaces a dead one takes half a second of a core from the others.
    """
    with contextlib.ExitStack() as scope:
        pools = {}
        for number, (name, (module, environment)) in enumerate(SYSTEMS.items()):
            if module in NEEDS and NEEDS[module] not in urls:
                continue
            state = directory / str(number)
            pool = Pool(
                module,
                state,
                environment={
                    **environment,
                    **urls,
                    "BENCH_JOB_SECONDS": str(fire.job),
                    "CRON_SQLITE_DB_PATH": str(state / "crons.db"),  # by default it lies in the working directory
                },
                command=["-m", "bench.systems.parent", "{port}"] if module == "parent" else None,
            )
            pools[name] = (scope.enter_context(pool), state)
        for pool, _ in pools.values():
            pool.whole()
        time.sleep(3)  # each has run its job by now
        with ThreadPoolExecutor(len(pools)) as threads:
            shots = 2 if quick else fire.shots
            began = math.ceil(time.time()) + 1
            turns = [began + place % fire.every for place in range(len(pools))]
            list(threads.map(lambda each, turn: _shoot(fire, *each, began=turn, shots=shots), pools.values(), turns))
        until = began + fire.every * shots + (BLOCKED if fire.phase is None else 0)
        time.sleep(max(0.0, until + AFTER - time.time()))
        return {name: _count(pool.facts(), began, int(until), fire) for name, (pool, _) in pools.items()}


def _shoot(fire: Fire, pool: Pool, state: Path, *, began: float, shots: int) -> None:
    for shot in range(shots):
        at = began + shot * fire.every
        if fire.phase is None:
            time.sleep(max(0.0, at - time.time()))
            (state / "state.block").write_text(str(BLOCKED))
            return
        moment = at + fire.phase()
        time.sleep(max(0.0, moment - AIM - time.time()))
        ran = [fact.pid for fact in pool.facts() if fact.what == "begin"]
        time.sleep(max(0.0, moment - time.time()))
        if ran:
            with contextlib.suppress(ProcessLookupError):
                pool.kill(ran[-1])


def _count(facts: list[Fact], began: int, until: int, fire: Fire) -> dict[str, Cell]:
    """Classify the seconds from ``began`` to ``until``. A run that was cut off has run, and is not lost."""
    runs = Counter(int(fact.more) for fact in facts if fact.what == "begin")
    due = range(began, until)
    seen = sorted(second for second in runs if began - 3 <= second)
    first = [] if seen and seen[0] <= began else [began]
    silences = [later - earlier for earlier, later in pairwise([*first, *seen, int(until + AFTER)])]
    longest = max(silences)
    lasts = longest > 2 and silences[-1] == longest  # its end was not recorded
    return {
        "due": len(due),
        "lost": sum(runs[second] == 0 for second in due),
        "twice": sum(runs[second] > 1 for second in due),
        "silence": f"at least {longest}" if lasts else longest,
    }


def _plot(samples: Mapping[str, Mapping[str, Mapping[str, Any]]]) -> Callable[[Any], None]:
    def draw(axes: Any) -> None:
        names = list(SYSTEMS)[::-1]
        height = 0.8 / len(samples)
        for place, (fire, found) in enumerate(samples.items()):
            wrong = [found[name]["lost"] + found[name]["twice"] if name in found else 0 for name in names]
            due = [found[name]["due"] if name in found else 1 for name in names]
            values = [100 * each / of for each, of in zip(wrong, due, strict=True)]
            axes.barh([row + place * height for row in range(len(names))], values, height, label=fire)
        axes.set_yticks([row + 0.3 for row in range(len(names))], names, fontsize=8)
        axes.set_xlabel("% of ticks lost or run twice")
        axes.legend(fontsize=7)

    return draw
