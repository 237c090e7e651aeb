"""Results of a benchmark: tables for people, samples for further analysis, a plot."""

from __future__ import annotations

import json
import re
import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).parent / "results"
DOCS = Path(__file__).parents[1] / "docs" / "performance.md"

Cell = str | float | int | None


@dataclass(frozen=True, slots=True)
class Table:
    """A table with its title and, below it, notes."""

    title: str
    heads: Sequence[str]
    rows: Sequence[Sequence[Cell]]
    note: str = ""

    def markdown(self) -> str:
        """As Markdown, for the documents."""
        lines = [f"**{self.title}**", "", _line(self.heads), _line(["---"] * len(self.heads))]
        lines += [_line([_text(cell) for cell in row]) for row in self.rows]
        return "\n".join([*lines, *(["", self.note] if self.note else [])])

    def text(self) -> str:
        """As text, for a terminal."""
        rows = [list(self.heads), *([_text(cell) for cell in row] for row in self.rows)]
        widths = [max(len(row[column]) for row in rows) for column in range(len(self.heads))]
        lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
        return "\n".join([self.title, *lines, *([self.note] if self.note else [])])


@dataclass(frozen=True, slots=True)
class Report:
    """The whole result of one benchmark. samples: JSON values. plot: draws on the given axes."""

    name: str
    tables: Sequence[Table]
    samples: Mapping[str, Any]
    plot: Callable[[Any], None] | None = None
    facts: dict[str, Any] = field(default_factory=dict)

    def write(self) -> None:
        """Write JSON and picture to ``bench/results``, and the tables between the marks in docs/performance.md."""
        RESULTS.mkdir(exist_ok=True)
        tables = [
            {"title": each.title, "heads": each.heads, "rows": each.rows, "note": each.note} for each in self.tables
        ]
        found = {**self.facts, "tables": tables, "samples": self.samples}
        (RESULTS / f"{self.name}.json").write_text(_LIST.sub(_on_one_line, json.dumps(found, indent=1)) + "\n")
        if self.plot is not None:
            self._draw(RESULTS / f"{self.name}.png")
        put_into_docs(self.name, self.tables)

    def _draw(self, path: Path) -> None:
        import matplotlib as mpl

        mpl.use("Agg")
        from matplotlib import pyplot

        figure, axes = pyplot.subplots(figsize=(8, 4), layout="constrained")
        assert self.plot is not None
        self.plot(axes)
        figure.savefig(path, dpi=110)
        pyplot.close(figure)


def put_into_docs(name: str, tables: Sequence[Table]) -> None:
    """Replace the text between ``<!-- name -->`` and ``<!-- /name -->``."""
    new = "\n\n".join(table.markdown() for table in tables)
    page = DOCS.read_text()
    mark = re.compile(rf"(<!-- {name} -->\n).*?(<!-- /{name} -->)", re.DOTALL)
    if not mark.search(page):
        raise LookupError(f"{DOCS} has no place for {name}")
    DOCS.write_text(mark.sub(lambda found: f"{found[1]}\n{new}\n\n{found[2]}", page))


def tables_of(name: str) -> list[Table]:
    """The tables of the last full run."""
    found = json.loads((RESULTS / f"{name}.json").read_text())
    return [Table(**each) for each in found["tables"]]


def p50(samples: Sequence[float]) -> float:
    return statistics.median(samples)


def p99(samples: Sequence[float]) -> float:
    """By the nearest rank: a measured sample, never an interpolated one."""
    return sorted(samples)[max(0, -(-99 * len(samples) // 100) - 1)]


def spread(samples: Sequence[float]) -> list[Cell]:
    """n, p50, p99 and the largest."""
    return [len(samples), p50(samples), p99(samples), max(samples)] if samples else [0, None, None, None]


def ratio(samples: Sequence[float], reference: Sequence[float]) -> Cell:
    """Median of ``samples`` divided by that of ``reference``."""
    return f"{p50(samples) / p50(reference):.2f}×" if samples and reference and p50(reference) else None


_LIST = re.compile(r"\[[^\[\]{}\"]*\]")


def _on_one_line(found: re.Match[str]) -> str:
    """A list of numbers on one line; JSON would make a line of each."""
    return re.sub(r"\s+", " ", found[0]).replace("[ ", "[").replace(" ]", "]")


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _text(cell: Cell) -> str:
    if cell is None:
        return "–"
    if isinstance(cell, float):
        return f"{cell:.0f}" if abs(cell) >= 1000 else f"{cell:.3g}"
    return str(cell)
