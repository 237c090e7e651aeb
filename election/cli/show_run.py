"""Printing one run: its dates, and the traceback and log lines of each attempt."""

from __future__ import annotations

from collections.abc import Sequence

from election.schedule.history import RunRow
from election.schedule.model import RunLog

from .pool_status import late_ms
from .show import printable, text


def show_run(run: RunRow, logs: Sequence[RunLog]) -> None:
    """Print a run and its logs for people."""
    rows = (
        ("run", run.seq),
        ("job", run.job_id),
        ("due", run.due),
        ("claimed", run.claimed_at),
        ("started", run.started_at),
        ("ended", run.ended_at),
        ("late", f"{late_ms(run)} ms"),
        ("term", run.term),
        ("attempt", run.attempt),
        ("outcome", run.outcome or "running"),
        ("error", run.error),
    )
    for name, value in rows:
        print(f"{name:<9}{text(value)}")
    _show_attempts(run, logs)
    if not logs:
        print("\nno log is kept: the run logged nothing, or newer logs of the job have taken its place")


def show_log(run: RunRow, logs: Sequence[RunLog]) -> None:
    """Print the logs of a run below one line that names it."""
    print(f"run {run.seq}  {text(run.due)}  {text(run.job_id)}  {run.outcome or 'running'}")
    _show_attempts(run, logs)


def _show_attempts(run: RunRow, logs: Sequence[RunLog]) -> None:
    errors = {attempt["attempt"]: f"{attempt['outcome']}: {attempt['error']}" for attempt in run.attempts}
    by_attempt = {log.attempt: log for log in logs}
    for number in sorted(errors.keys() | by_attempt.keys()):
        print(f"\nattempt {number}" + (f"  {text(errors[number])}" if number in errors else ""))
        if number in by_attempt:
            _show_lines(by_attempt[number])


def _show_lines(log: RunLog) -> None:
    if log.dropped:
        print(f"  … {log.dropped} earlier lines were too many to keep")
    for line in log.lines:
        first, *more = printable(line.text).split("\n")
        print(f"  {text(line.at)} {line.level:<8} {line.logger}: {first}")
        for part in more:
            print(f"    {part}")
    for part in printable(log.traceback or "").splitlines():
        print(f"  {part}")
