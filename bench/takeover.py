"""1. Takeover: from just before the leader is killed to the first sign of the next leader's work, on one clock."""

from __future__ import annotations

import contextlib
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from . import servers
from .pool import Pool
from .report import Cell, Report, Table, p50, ratio, spread

QUICK = 3
SEED = 20261123


@dataclass(frozen=True, slots=True)
class Case:
    """A pool, and the number of its leader's kills in a full run."""

    name: str
    module: str
    kills: int
    workers: int = 4
    environment: Mapping[str, str] = field(default_factory=dict, hash=False)
    how: str = "kill"


OURS = "election"
FLOOR = "floor: pidfd, then flock"

IN_TURN = [
    Case(FLOOR, "floor", 20),
    Case(OURS, "ours", 100),
    Case("election, no pidfd", "ours", 10, environment={"BENCH_WITHOUT": "pidfd"}),
    Case("election, no FIFO", "ours", 10, environment={"BENCH_WITHOUT": "fifo"}),
    Case("election, only the safety poll", "ours", 10, environment={"BENCH_WITHOUT": "pidfd,fifo"}),
    Case("election, the leader resigns (SIGTERM)", "ours", 10, how="resign"),
    Case("filelock, polled each 50 ms", "polling", 12, environment={"BENCH_POLL": "0.05"}),
    Case("filelock, polled each second", "polling", 10, environment={"BENCH_POLL": "1"}),
    Case("flock at start-up only", "startup", 5),
    Case("PostgreSQL advisory lock, each second", "postgres_lock", 8),
]
"""In turn, one pool at a time, in shuffled order."""

BUSY = [Case(FLOOR, "floor", 15), Case(OURS, "ours", 20)]
"""The same two with a busy loop for each core beside them."""

SIDE_BY_SIDE = [
    Case("election, fenced (stopped, fence_after=2)", "ours", 10, environment={"BENCH_FENCE_AFTER": "2"}, how="stop"),
    Case("Redis lock, SET NX PX 10 s", "redis_lock", 5),
    Case("fastapi-task-manager", "task_manager", 5),
]
"""Seconds each: all at once, since they mostly wait."""

NEEDS = {"redis_lock": "BENCH_REDIS", "task_manager": "BENCH_REDIS", "postgres_lock": "BENCH_POSTGRES"}


def run(directory: Path, quick: bool) -> Report:
    with servers_for(directory) as (urls, notes):
        idle = _in_turn(IN_TURN, directory / "idle", urls, quick)
        with all_cores_busy():
            busy = _in_turn(BUSY, directory / "busy", urls, quick)
        slow = _side_by_side(SIDE_BY_SIDE, directory / "slow", urls, quick)
    samples = {**idle, **{f"{name}, all cores busy": found for name, found in busy.items()}, **slow}
    rows: list[list[Cell]] = []
    for name, found in samples.items():
        floor = busy[FLOOR] if name.endswith("busy") else idle[FLOOR]
        rows.append([name, *spread(found), ratio(found, floor), ratio(found, idle[OURS])])
    note = " ".join(
        [
            "Four workers under Uvicorn; killed at a random phase of the second.",
            "The floor is a process that holds the same modules in memory, and does nothing else.",
            "Pools of 2 to 64 workers are in the section on growth.",
            *notes,
        ]
    )
    heads = ["what", "n", "p50 ms", "p99 ms", "max ms", "of the floor", "of election"]
    return Report("takeover", [Table("Takeover after kill -9", heads, rows, note)], samples, _plot(samples))


def _in_turn(cases: list[Case], directory: Path, urls: Mapping[str, str], quick: bool) -> dict[str, list[float]]:
    """All cases' kills in one shuffled order; each case has its pool all the time."""
    random.seed(SEED)
    with contextlib.ExitStack() as scope:
        pools = _pools(cases, directory, urls, scope)
        rounds = [case for case in pools for _ in range(QUICK if quick else case.kills)]
        random.shuffle(rounds)
        found: dict[str, list[float]] = {case.name: [] for case in pools}
        for case in rounds:
            for pool in pools.values():  # a worker that is starting takes half a second of a core
                pool.whole()
            found[case.name].append(takeover(case, pools[case]))
    return found


def _side_by_side(cases: list[Case], directory: Path, urls: Mapping[str, str], quick: bool) -> dict[str, list[float]]:
    """All pools at once: each has its next kill as soon as all of its workers take part again."""
    with contextlib.ExitStack() as scope:
        pools = _pools(cases, directory, urls, scope)

        def all_of(case: Case) -> list[float]:
            return [takeover(case, pools[case]) for _ in range(QUICK if quick else case.kills)]

        with ThreadPoolExecutor(len(pools)) as threads:
            return {case.name: found for case, found in zip(pools, threads.map(all_of, pools), strict=True)}


def _pools(
    cases: list[Case], directory: Path, urls: Mapping[str, str], scope: contextlib.ExitStack
) -> dict[Case, Pool]:
    """A complete pool for each case whose server is available."""
    pools = {}
    for number, case in enumerate(cases):
        if case.module not in NEEDS or NEEDS[case.module] in urls:
            command = ["-m", "bench.systems.floor"] if case.module == "floor" else None
            environment = {**case.environment, **urls}
            pool = Pool(
                case.module, directory / str(number), workers=case.workers, environment=environment, command=command
            )
            pools[case] = scope.enter_context(pool)
    for pool in pools.values():
        pool.whole()
    return pools


def takeover(case: Case, pool: Pool) -> float:
    """Milliseconds from a signal to the leader of a complete pool until the next one leads."""
    pool.whole()
    leader = pool.leader()
    time.sleep(random.uniform(0.1, 1.1))  # a phase of the second
    number = {"kill": signal.SIGKILL, "resign": signal.SIGTERM, "stop": signal.SIGSTOP}[case.how]
    return pool.next_leads(pool.kill(leader, number), but=leader)


@contextlib.contextmanager
def servers_for(directory: Path) -> Iterator[tuple[dict[str, str], list[str]]]:
    """URLs of the available servers, and a note on the missing ones."""
    urls, notes = {}, []
    with contextlib.ExitStack() as scope:
        for name, server in (("BENCH_REDIS", servers.redis), ("BENCH_POSTGRES", servers.postgres)):
            try:
                urls[name] = scope.enter_context(server(directory / name.lower()))
            except servers.MissingServerError as error:
                notes.append(f"Not measured: what needs {name.removeprefix('BENCH_').title()}, because {error}.")
        yield urls, notes


@contextlib.contextmanager
def all_cores_busy() -> Iterator[None]:
    burning = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(os.cpu_count() or 1)]
    try:
        yield
    finally:
        for process in burning:
            process.kill()
            process.wait()


def _plot(samples: Mapping[str, list[float]]) -> Any:
    def draw(axes: Any) -> None:
        names = sorted((name for name in samples if samples[name]), key=lambda name: p50(samples[name]), reverse=True)
        for place, name in enumerate(names):
            axes.plot(samples[name], [place] * len(samples[name]), "|", alpha=0.5)
            axes.plot([p50(samples[name])], [place], "ko", markersize=4)
        axes.set_yticks(range(len(names)), names, fontsize=7)
        axes.set_xscale("log")
        axes.set_xlabel("ms from kill -9 to the next scheduler (each, and the median)")
        axes.grid(axis="x", alpha=0.3)

    return draw
