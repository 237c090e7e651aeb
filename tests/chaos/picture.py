"""Picture of a run: a lane per worker over time, terms as bars, ticks as dots, faults as marks."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from tests.support.judge import spans

from .history import SECOND, History
from .judge import facts_of
from .kinds import JOBS, Ends, Hits

_COLOURS = dict(zip(JOBS, ("#1b9e77", "#d95f02", "#7570b3"), strict=True))
_MARKS = {
    Ends.DIED: ("X", "#c00000", "deadly fault"),
    Ends.RESIGNED: ("v", "#c07000", "told to stop"),
    Ends.LOST: ("s", "#7a3fa0", "the ground spoilt or away"),
    None: ("D", "#555555", "hang, load or harmless"),
}
_GAP = 0.5
"""Seconds between two workers that share a lane."""


def draw_picture(history: History, path: Path, title: str) -> list[Path]:
    """Write ``path`` as PNG and as SVG; returns both."""
    lives = _lives(history)
    lanes = _lanes(lives)
    length = (history.until_ns - history.since_ns) / SECOND
    height = max(lanes.values(), default=0) + 1
    figure = Figure(figsize=(min(60.0, 6 + length / 4), 1.5 + 0.6 * height), layout="constrained")
    axes = figure.add_subplot()
    for pid, (first, last) in lives.items():
        axes.plot([first, last], [lanes[pid]] * 2, color="#cccccc", linewidth=1, zorder=1)
        axes.annotate(str(pid), (first, lanes[pid]), (2, -11), textcoords="offset points", fontsize=6, color="#777777")
    _draw_terms(axes, history, lanes)
    _draw_ticks(axes, history, lanes)
    _draw_faults(axes, history, lanes, height)
    axes.set(title=title, xlabel="seconds", ylim=(height - 0.4, -1.6), xlim=(-0.5, length + 0.5))
    axes.set_yticks(range(height), [f"worker {lane + 1}" for lane in range(height)])
    axes.legend(loc="upper left", bbox_to_anchor=(1.0, 1.0), fontsize=7, frameon=False)
    written = [path.with_suffix(".png"), path.with_suffix(".svg")]
    for each in written:
        figure.savefig(each, dpi=110)
    return written


def _lives(history: History) -> dict[int, tuple[float, float]]:
    """Times of the first and last sign of each worker: from other workers, its own facts, or a fault."""
    seen: dict[int, tuple[float, float]] = {}
    heard = [
        *((pid, sample.answered) for sample in history.samples for pid in sample.workers),
        *((fact.pid, fact.at) for fact in history.facts),
        *((fault.pid, fault.at) for fault in history.happened if fault.pid is not None),
    ]
    for pid, at in heard:
        moment = (at - history.since_ns) / SECOND
        first, last = seen.get(pid, (moment, moment))
        seen[pid] = min(first, moment), max(last, moment)
    return dict(sorted(seen.items(), key=lambda life: life[1]))


def _lanes(lives: Mapping[int, tuple[float, float]]) -> dict[int, int]:
    """A worker that replaces a dead one takes over its lane, so that there are about as many lanes as workers."""
    free: list[float] = []
    lanes = {}
    for pid, (first, last) in lives.items():
        lane = next((lane for lane, over in enumerate(free) if over + _GAP < first), len(free))
        free[lane : lane + 1] = [last]
        lanes[pid] = lane
    return lanes


def _draw_terms(axes: Axes, history: History, lanes: Mapping[int, int]) -> None:
    certain = spans(facts_of(history))
    for number, row in enumerate(history.terms):
        begin = (row.began_ns - history.since_ns) / SECOND
        end = ((row.ended_ns or certain[row.term].over) - history.since_ns) / SECOND
        if row.pid in lanes:
            axes.barh(
                lanes[row.pid],
                end - begin,
                left=begin,
                height=0.5,
                color="#9ecae1",
                edgecolor="#3182bd",
                linewidth=0.5,
                zorder=2,
                label="term" if number == 0 else None,
            )
            axes.annotate(str(row.term), (begin, lanes[row.pid] - 0.27), fontsize=6, color="#3182bd")


def _draw_ticks(axes: Axes, history: History, lanes: Mapping[int, int]) -> None:
    for place, (job, colour) in enumerate(_COLOURS.items()):
        begins = [fact for fact in history.facts if fact.event == "begin" and fact.job == job]
        at = [(fact.at - history.since_ns) / SECOND for fact in begins]
        lane = [lanes[fact.pid] + 0.13 * (place - 1) for fact in begins]
        axes.scatter(at, lane, s=3, color=colour, linewidths=0, zorder=3, label=f"tick of {job}")


def _draw_faults(axes: Axes, history: History, lanes: Mapping[int, int], height: int) -> None:
    told = set()
    for number, fault in enumerate(history.happened):
        marker, colour, label = _MARKS[next(iter(fault.of.ends), None)]
        at, over = ((moment - history.since_ns) / SECOND for moment in (fault.at, fault.until))
        lane = lanes[fault.pid] if fault.pid is not None else -0.75
        axes.scatter([at], [lane], marker=marker, s=28, color=colour, zorder=5, label=None if label in told else label)
        told.add(label)
        if fault.of.hits is Hits.POOL:
            axes.axvline(at, color=colour, linewidth=0.5, alpha=0.6, zorder=0)
        if over > at:
            axes.plot([at, over], [lane] * 2, color=colour, linewidth=2.5, alpha=0.6, zorder=4)
        shift = 4 + 6 * (number % 3)  # labels close in time are written at different heights
        axes.annotate(
            fault.kind, (at, -0.75 if fault.pid is None else lane), (1, shift), textcoords="offset points",
            fontsize=5, rotation=25, color=colour,
        )  # fmt: skip
