"""6. Growth: the takeover, as the pool has more workers and more jobs. (A larger ledger is among the ticks.)

Each size is measured beside a pool of four workers with one job, and nothing else. One of the two loses its leader at a
time, in a shuffled order, and only when all workers take part: one that is starting takes half a second of a core.
"""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .pool import Pool
from .report import Report, Table, p50, ratio, spread
from .takeover import QUICK, SEED, Case, all_cores_busy, takeover

FOUR = Case("4 workers, 1 job", "ours", 0)


@dataclass(frozen=True, slots=True)
class Size:
    """A pool of ``number`` workers or jobs; busy: whether it is measured with all cores busy too."""

    number: int
    case: Case
    busy: bool = False


def _workers(number: int, kills: int = 6, module: str = "ours") -> Case:
    return Case(f"{number} workers", module, kills, workers=number)


WORKERS = [
    Size(2, _workers(2)),
    Size(16, _workers(16), busy=True),
    Size(64, _workers(64), busy=True),
]
FLOOR = Size(64, _workers(64, module="floor"))
JOBS = [
    Size(number, Case(f"{number:,} jobs", "ours", kills, environment={"BENCH_JOBS": str(number - 1)}))
    for number, kills in ((100, 6), (1_000, 6), (10_000, 4))
]


@dataclass(frozen=True, slots=True)
class Pair:
    """Milliseconds of a size, and of the pool of four with one job beside it."""

    it: Sequence[float]
    four: Sequence[float]

    def row(self, name: str) -> list[Any]:
        return [name, *spread(self.it), ratio(self.it, self.four)]


def run(directory: Path, quick: bool) -> Report:
    random.seed(SEED)
    places = {size: directory / str(place) for place, size in enumerate([*WORKERS, FLOOR, *JOBS])}
    found = {size: _beside_four(size, place, quick) for size, place in places.items()}
    by_workers, by_jobs = ({size.number: found[size][0] for size in sizes} for sizes in (WORKERS, JOBS))
    by_workers[FOUR.workers], by_jobs[1] = _own(by_workers), _own(by_jobs)
    busy = {size.number: found[size][1] for size in WORKERS if size.busy}
    rows = [by_workers[number].row(f"{number} workers") for number in sorted(by_workers)]
    rows += [pair.row(f"{number} workers, all cores busy") for number, pair in busy.items()]
    rows += [found[FLOOR][0].row(f"{FLOOR.number} workers, the floor")]
    heads = ["n", "p50 ms", "p99 ms", "max ms", f"of {FOUR.name}"]
    tables = [
        Table("Takeover against the number of workers", ["workers", *heads], rows, "Compared with the pool beside it."),
        Table(
            "Takeover against the number of jobs",
            ["jobs", *heads],
            [by_jobs[number].row(f"{number:,}") for number in sorted(by_jobs)],
            "One job is due each second, the others once a day.",
        ),
    ]
    floor = {FLOOR.number: found[FLOOR][0]}
    named = {"workers": by_workers, "workers, all cores busy": busy, "floor": floor, "jobs": by_jobs}
    samples = {
        kind: {number: {"it": list(pair.it), "four": list(pair.four)} for number, pair in pairs.items()}
        for kind, pairs in named.items()
    }
    return Report("growth", tables, samples, _plot({"workers": by_workers, "jobs": by_jobs}))


def _beside_four(size: Size, directory: Path, quick: bool) -> tuple[Pair, Pair]:
    """With idle cores, and with busy ones."""
    kills = QUICK if quick else size.case.kills
    with _pool(size.case, directory / "it") as it, _pool(FOUR, directory / "four") as four:
        pools = [(size.case, it), (FOUR, four)]
        idle = _in_turn(pools, kills)
        if not size.busy:
            return idle, Pair([], [])
        with all_cores_busy():
            return idle, _in_turn(pools, kills)


def _in_turn(pools: list[tuple[Case, Pool]], kills: int) -> Pair:
    found: dict[str, list[float]] = {case.name: [] for case, _ in pools}
    for _ in range(kills):
        for case, pool in random.sample(pools, len(pools)):
            for _, each in pools:
                each.whole()
            found[case.name].append(takeover(case, pool))
    return Pair(*found.values())


def _own(pairs: Mapping[int, Pair]) -> Pair:
    """All samples of the pool of four beside the others: its own measure."""
    four = [each for pair in pairs.values() for each in pair.four]
    return Pair(four, four)


def _pool(case: Case, directory: Path) -> Pool:
    command = ["-m", "bench.systems.floor"] if case.module == "floor" else None
    return Pool(case.module, directory, workers=case.workers, environment=case.environment, command=command)


def _plot(curves: Mapping[str, Mapping[int, Pair]]) -> Any:
    def draw(axes: Any) -> None:
        figure = axes.figure
        axes.remove()
        for panel, (name, pairs) in zip(figure.subplots(1, len(curves)), curves.items(), strict=True):
            numbers = sorted(pairs)
            for number in numbers:
                panel.plot([number] * len(pairs[number].it), pairs[number].it, "_", color="tab:blue", alpha=0.5)
            panel.plot(numbers, [p50(pairs[number].it) for number in numbers], "ko-", markersize=4, label="median")
            panel.set_xscale("log")
            panel.set_xticks(numbers, [f"{number:,}" for number in numbers])
            panel.minorticks_off()
            panel.set_ylim(bottom=0)
            panel.set_xlabel(name)
            panel.set_ylabel("ms from kill -9 to the next scheduler")
            panel.grid(alpha=0.3)
            panel.legend()

    return draw
