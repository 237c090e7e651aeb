"""5. HTTP: ``/leader``, the page's data and ``/metrics`` beside a bare JSON endpoint of the same application."""

from __future__ import annotations

import contextlib
import random
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path

from . import wrk
from .pool import Pool
from .processes import cpu_s
from .report import Cell, Report, Table, p50, ratio
from .takeover import SEED

BARE = "/bare"
PATHS = (BARE, "/leader", "/leader/live/data", "/metrics")
ROLES = ("follower", "leader")

ROUNDS = 7
SECONDS = 1
"""For one path in one round: many short rounds, because the machine is shared."""

UNDER_FIRE = 10
"""Seconds for which the leader is killed each second."""


def run(directory: Path, quick: bool) -> Report:
    wrk.require()
    random.seed(SEED)
    tables, samples = [], {}
    for name, measured in (
        ("at rest", _at_rest(directory / "rest", 2 if quick else ROUNDS)),
        ("under fire", _under_fire(directory / "fire", 3 if quick else UNDER_FIRE)),
    ):
        table, samples[name] = measured
        tables.append(table)
    return Report("http", tables, samples)


def _at_rest(directory: Path, rounds: int) -> tuple[Table, object]:
    """Measure every path of both workers in each round, in a newly shuffled order."""
    found: dict[tuple[str, str], list[wrk.Load]] = {(role, path): [] for role in ROLES for path in PATHS}
    took: dict[tuple[str, str], list[float]] = {each: [] for each in found}
    with _two(directory) as pools:
        for _ in range(rounds):
            for role, path in random.sample(list(found), len(found)):
                (pid,) = pools[role].pids()
                before = cpu_s(pid)
                load = wrk.Wrk(pools[role].port, path, SECONDS).result()
                took[role, path].append((cpu_s(pid) - before) / (load.rate * SECONDS) * 1e6)
                found[role, path].append(load)
    rows: list[list[Cell]] = []
    for (role, path), loads in found.items():
        rates = [load.rate for load in loads]
        bare = [load.rate for load in found[role, BARE]]
        waits = [p50([load.p50_ms for load in loads]), p50([load.p99_ms for load in loads])]
        cpu = [p50(took[role, path]), ratio(took[role, path], took[role, BARE])]
        rows.append([role, path, len(loads), p50(rates), ratio(rates, bare), *waits, *cpu, _told(loads)])
    heads = [
        "worker",
        "path",
        "n",
        "requests/s",
        "of the bare one",
        "p50 ms",
        "p99 ms",
        "CPU µs each",
        "of the bare one",
    ]
    heads.append("errors")
    note = (
        f"Two workers of one pool, each on a port of its own and with a job each second; wrk with {wrk.CONNECTIONS}"
        f" connections, {SECONDS} s at a time; medians."
    )
    samples = {
        f"{role} {path}": [{**asdict(load), "cpu_us": cpu} for load, cpu in zip(loads, took[role, path], strict=True)]
        for (role, path), loads in found.items()
    }
    return Table("Requests at rest", heads, rows, note), samples


@contextlib.contextmanager
def _two(directory: Path) -> Iterator[dict[str, Pool]]:
    """A leader and a follower with separate addresses."""
    state = {"BENCH_STATE": str(directory / "state")}
    with contextlib.ExitStack() as scope:
        pools = {}
        for role in ("leader", "follower"):
            pools[role] = scope.enter_context(Pool("served", directory / role, workers=1, environment=state))
            pools[role].whole()
            if role == "leader":
                pools[role].leader()
        for role, pool in pools.items():
            for path in PATHS:
                pool.get(path)
            assert f'"role":"{role}"}}'.encode() in pool.get("/leader").partition(b'"answered_by":')[2][:60]
        yield pools


def _under_fire(directory: Path, seconds: int) -> tuple[Table, object]:
    """The same kills for both paths: errors that the plain one has too are not the election's."""
    rows: list[list[Cell]] = []
    samples = {}
    for path in (BARE, "/leader"):
        with Pool("served", directory / path.strip("/"), workers=4) as pool:
            pool.whole()
            pool.leader()
            load, kills = wrk.Wrk(pool.port, path, seconds), 0
            next_kill = time.monotonic() + 0.5
            while load.running():
                if time.monotonic() > next_kill:
                    with contextlib.suppress(ProcessLookupError):
                        pool.kill(pool.leader())
                        kills += 1
                    next_kill += 1
                time.sleep(0.02)
            came = load.result()
        rows.append([path, kills, came.rate, came.p50_ms, came.p99_ms, _told([came])])
        samples[path] = {"kills": kills, **asdict(came)}
    heads = ["path", "kills", "requests/s", "p50 ms", "p99 ms", "errors"]
    note = (
        "Four workers on one port. Who was connected to the worker that died loses the connection; a request that"
        " comes between the death and the next term is answered with 503, in time, because nobody leads."
    )
    return Table("Requests while the leader is killed each second", heads, rows, note), samples


def _told(loads: list[wrk.Load]) -> str:
    found: Counter[str] = sum((Counter(load.errors) for load in loads), Counter())
    return ", ".join(f"{count} {kind}" for kind, count in found.items()) or "none"
