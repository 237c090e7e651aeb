"""Frame of ``watch``: a pool on one screen of any size."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import UTC, datetime, timedelta
from itertools import islice

from rich.console import Group, JustifyMethod, RenderableType
from rich.table import Table
from rich.text import Text

from election.core.term import Standing
from election.schedule.history import RunRow, SkipRow, TermRow

from .pool_status import JobStatus, PoolStatus, RecentHistory, late_ms
from .show import text
from .status import heartbeat

WIDE_COLUMNS = 110
"""Minimum columns of a terminal that shows descriptions."""

MIN_COLUMN_WIDTH = 4
"""Characters that remain of a text that is cut."""

OWED_AFTER = timedelta(seconds=2)
"""A tick that is due for less may be about to run."""

GAP = "  "

_STYLES = {"succeeded": "green", "failed": "red", "interrupted": "yellow", "running": "cyan"}


def frame(
    snapshot: PoolStatus, recent: RecentHistory, width: int, height: int | None, *, tag: str | None = None
) -> RenderableType:
    """Frame for a terminal of ``width`` columns and ``height`` lines; ``height`` is None for no limit."""
    now = datetime.now(UTC)
    header = [_headline(snapshot, now), _heart(snapshot), _workers(snapshot)]
    troubles = [words for words in (snapshot.trouble, snapshot.unread) if words]
    header += [_line(f"problem: {words}", "bold red") for words in dict.fromkeys(troubles)]
    jobs, runs, terms = _shares(
        height, len(header), len(snapshot.jobs), len(recent.runs) + len(recent.skips), recent.terms
    )
    parts: list[RenderableType] = [
        *header,
        *_section(
            _jobs_table(snapshot.jobs[:jobs], width, now), len(snapshot.jobs) - jobs + (snapshot.more_jobs or 0), "jobs"
        ),
        *_section(_history_table(islice(_history(recent), runs), now), 0, "runs"),
        *_section(_terms_table(recent.terms[:terms], now), 0, "terms"),
    ]
    if height is not None:
        only = f"; only jobs tagged {tag}" if tag else ""
        parts.append(_line(f"{now.astimezone():%H:%M:%S}; q ends this{only}", "dim"))
    return Group(*parts)


def _shares(height: int | None, header: int, jobs: int, runs: int, terms: Sequence[TermRow]) -> tuple[int, int, int]:
    """Numbers of jobs, entries of history and terms that fit below ``header`` lines."""
    if height is None:
        return jobs, min(runs, 10), min(len(terms), 5)
    room = height - header - 1 - 3 * 2  # the last line; three sections with an empty line and heads each
    shown_terms = min(len(terms), max(1, min(3, room // 4)))
    room = max(room - shown_terms, 0)
    shown_jobs = jobs if jobs <= room - min(runs, room // 2) else max(room - min(runs, room // 2) - 1, 0)
    return shown_jobs, min(runs, max(room - shown_jobs - (shown_jobs < jobs), 0)), shown_terms


# --- the header ------------------------------------------------------------------------------------------------------


def _headline(snapshot: PoolStatus, now: datetime) -> Text:
    record = snapshot.record
    if record is None:
        known = "nobody is known to lead {}" if snapshot.trouble else "nobody leads {}, and nobody has"
        return _line(known.format(snapshot.pool), "bold red")
    named = snapshot.named(record.holder)
    if snapshot.led:
        since = _clock(record.elected_at, now)
        words = f"pid {named} leads term {record.term} since {since}, for {duration(now - record.elected_at)}"
        return _line(words, "bold green").append(f"  {snapshot.pool}", "dim")
    ended = {Standing.RESIGNED: "resigned", Standing.LOST: "lost its seat"}.get(record.standing, "died")
    return _line(f"nobody leads; pid {named}, the leader of term {record.term}, {ended}", "bold red").append(
        f"  {snapshot.pool}", "dim"
    )


def _heart(snapshot: PoolStatus) -> Text:
    if not snapshot.led:
        return _line("heartbeat: none", "dim")
    return _line(f"heartbeat: {heartbeat(snapshot)}", "bold red" if snapshot.responsive is False else "")


def _workers(snapshot: PoolStatus) -> Text:
    leading = snapshot.record.holder if snapshot.record and snapshot.led else None
    names = [
        f"{snapshot.named(one.process)}{' (leader)' if one.process == leading else ''}" for one in snapshot.workers
    ]
    return _line(f"workers: {len(names)}{': ' if names else ''}{', '.join(names)}", "")


# --- the tables ------------------------------------------------------------------------------------------------------


def _section(table: Table, left_out: int, what: str) -> list[RenderableType]:
    more = [_line(f"… and {left_out} more {what}", "dim")] if left_out > 0 else []
    return [Text(), table, *more]


def _table(heads: Sequence[str], rows: Sequence[Sequence[Text]]) -> Table:
    """A table as wide as the terminal at most: a star marks heads of columns that may be cut, a plus those of numbers.

    Rich shrinks only columns that may wrap, the widest first; a cell that may not wrap is cut there.
    """
    table = Table(box=None, padding=(0, len(GAP), 0, 0), pad_edge=False, header_style="bold")
    for head in heads:
        may_be_cut = head.startswith("*")
        justify: JustifyMethod = "right" if head.startswith("+") else "left"
        table.add_column(_cell(head.lstrip("*+")), no_wrap=not may_be_cut, min_width=MIN_COLUMN_WIDTH, justify=justify)
    for row in rows:
        table.add_row(*row)
    return table


def _jobs_table(jobs: Sequence[JobStatus], width: int, now: datetime) -> Table:
    heads = ["*JOB", "NEXT", "LAST", "+LATE ms", "*TAGS", "*NAME", "*DESCRIPTION"]
    rows = [
        [
            _cell(job.id),
            _next(job, now),
            _cell(job.last_outcome, _STYLES.get(job.last_outcome or "", "")),
            _cell(job.last_late_ms),
            _cell(",".join(job.tags) or None, "cyan"),
            _cell(job.name),
            _cell(job.description and job.description.partition("\n")[0], "dim"),
        ]
        for job in jobs
    ]
    return _table(heads, rows) if width >= WIDE_COLUMNS else _table(heads[:-1], [row[:-1] for row in rows])


def _next(job: JobStatus, now: datetime) -> Text:
    if job.removed or job.retired:
        return _cell("gone", "dim")
    if job.broken:
        return _cell("broken", "red")
    if job.paused:
        return _cell("paused", "yellow")
    if job.next_run_time is not None and job.next_run_time < now - OWED_AFTER:
        return _cell(f"owed since {_clock(job.next_run_time, now)}", "yellow")
    return _cell(job.next_run_time and f"in {duration(job.next_run_time - now)}")


def _history(recent: RecentHistory) -> Iterable[RunRow | SkipRow]:
    """Runs and skips, in the order in which they were written, latest first."""

    def written(row: RunRow | SkipRow) -> datetime:
        return row.claimed_at if isinstance(row, RunRow) else row.at

    return sorted([*recent.runs, *recent.skips], key=written, reverse=True)


def _history_table(entries: Iterable[RunRow | SkipRow], now: datetime) -> Table:
    rows = []
    for entry in entries:
        if isinstance(entry, RunRow):
            what, due, late, error = entry.outcome or "running", entry.due, late_ms(entry), entry.error
        else:
            many = "" if entry.count == 1 else f" x{entry.count}" if entry.count else " many"
            what, due, late, error = f"skipped: {entry.reason}{many}", entry.last_due, None, None
        style = _STYLES.get(what, "yellow")
        cells = (_clock(due, now), entry.job_id, late, entry.term, error)
        rows.append([_cell(cells[0]), _cell(cells[1]), _cell(what, style), *(_cell(cell) for cell in cells[2:])])
    return _table(["DUE", "*JOB", "WHAT", "+LATE ms", "+TERM", "*ERROR"], rows)


def _terms_table(terms: Sequence[TermRow], now: datetime) -> Table:
    rows = []
    for row in terms:
        ended = row.standing and f"{row.standing}{f' {_clock(row.ended_at, now)}' if row.ended_at else ''}"
        began = _clock(row.began_at, now)
        rows.append(
            [_cell(cell) for cell in (row.term, began, row.pid, row.reason, row.from_pid, row.takeover_ms, ended)]
        )
    return _table(["+TERM", "BEGAN", "+PID", "WHY", "+FROM", "+TOOK ms", "*ENDED"], rows)


# --- words -----------------------------------------------------------------------------------------------------------


def duration(time: timedelta) -> str:
    """A duration in at most two units: ``3 min 12 s``."""
    seconds = max(int(time.total_seconds()), 0)
    if seconds < 60:
        return f"{seconds} s"
    if seconds < 3600:
        return f"{seconds // 60} min {seconds % 60} s"
    if seconds < 86400:
        return f"{seconds // 3600} h {seconds % 3600 // 60} min"
    return f"{seconds // 86400} d {seconds % 86400 // 3600} h"


def _clock(moment: datetime, now: datetime) -> str:
    """A moment in local time; with the day, if the time of day alone could be of two days."""
    local = moment.astimezone()
    return f"{local:%H:%M:%S}" if abs(now - moment) < timedelta(days=1) else f"{local:%m-%d %H:%M}"


def _cell(value: object, style: str = "") -> Text:
    shown, style = ("-", "dim") if value is None else (text(value), style)
    return Text(shown, style=style, no_wrap=True, overflow="ellipsis")


def _line(words: str, style: str) -> Text:
    return Text(text(words), style=style, no_wrap=True, overflow="ellipsis")
