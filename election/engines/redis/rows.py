"""Conversion between the hashes in Redis and the ledger's values. A missing field is None."""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import partial
from typing import Any, TypeVar

from election.core.term import Reason, Standing
from election.engines.sql.rows import broken_state, check_request, log_once, refuse_bytes
from election.engines.sql.values import check_attempt, maybe, number, parse_info, parse_object, to_time
from election.schedule.history import (
    BOUNDS,
    AuditRow,
    ClaimRow,
    Epoch,
    Histogram,
    RequestRow,
    RunRow,
    SkipRow,
    TermRow,
    count_interruptions,
)
from election.schedule.model import (
    Action,
    AuditAction,
    JobState,
    OpenRun,
    Outcome,
    Request,
    RequestOutcome,
    SkipReason,
    Span,
    StoredJob,
    Tick,
)

from .client import describe_wrong_type

_T = TypeVar("_T")

Hash = Mapping[str, str]

WRONG_TYPE = "wrong_type"
"""Field of a row that is none: it has the name of a key that is of another type (see ``call.lua``)."""


COMPARED = (
    "settled_until", "scheduled_since", "retired_at", "removed", "paused_at",
    "func", "kwargs", "options", "new_trigger",
)  # fmt: skip
"""Fields of a job that change with its ``fingerprint``; ``expect`` in changes.lua has the same."""


def row_text(row: Hash) -> str:
    """The compared fields as they are stored: also those that somebody has written by hand, or that cannot be read."""
    return "\0".join(row.get(name, "") for name in COMPARED)


def job_state(row: Hash) -> JobState:
    """State of a job; a row that cannot be read, for example of another version, is a broken job."""
    try:
        if WRONG_TYPE in row:
            log_once(reason := describe_wrong_type(row[WRONG_TYPE]))
            raise ValueError(reason)
        refuse_bytes(row)
        return _job_state(row)
    except Exception as error:
        return broken_state(row["id"], error)


def _job_state(row: Hash) -> JobState:
    return JobState(
        id=row["id"],
        trigger=json.loads(row["trigger"]),
        scheduled_since=_time(row["scheduled_since"]),
        settled_until=_time(row["settled_until"]),
        paused_at=maybe(_time, row.get("paused_at")),
        resume_at=maybe(_time, row.get("resume_at")),
        retired_at=maybe(_time, row.get("retired_at")),
        stored=maybe(partial(_stored, row), row.get("func")),
        removed=row.get("removed") == "1",
        broken=parse_text(row.get("broken")),
        next_due=maybe(_time, row.get("next_due")),
        info=maybe(parse_info, row.get("info")),
        new_trigger=maybe(json.loads, row.get("new_trigger")),
        code_trigger=maybe(json.loads, row.get("code_trigger")),
    )


def run_row(row: Hash) -> RunRow:
    return RunRow(
        seq=int(row["id"]),
        job_id=row["job_id"],
        due=_time(row["due"]),
        request=int(row["request"]),
        term=int(row["term"]),
        attempt=int(row["attempt"]),
        claimed_at=_time(row["at"]),
        ended_at=maybe(_time, row.get("ended_at")),
        outcome=maybe(Outcome, row.get("outcome")),
        error=parse_text(row.get("error")),
        attempts=_attempts(row),
        started_at=maybe(_time, row.get("started_at")),
    )


def _attempts(row: Hash) -> list[Mapping[str, Any]]:
    return [_attempt(line) for line in row.get("attempts", "").split("\n") if line]


def open_run(row: Hash) -> OpenRun:
    tick = Tick(row["job_id"], _time(row["due"]), int(row["request"]))
    kwargs = maybe(json.loads, row.get("kwargs"))
    return OpenRun(tick, int(row["term"]), int(row["attempt"]), count_interruptions(_attempts(row)), kwargs)


def claim_row(row: Hash) -> ClaimRow:
    span = Span(int(row["began_us"]), int(row["ended_us"])) if "ended_us" in row else None
    return ClaimRow(
        seq=int(row["id"]),
        job_id=row["job_id"],
        due=_time(row["due"]),
        request=int(row["request"]),
        first_term=int(row["first_term"]),
        term=int(row["term"]),
        max_instances=maybe(int, row.get("max_instances")),
        span=span,
    )


def skip_row(row: Hash) -> SkipRow:
    return SkipRow(
        seq=int(row["id"]),
        job_id=row["job_id"],
        first_due=_time(row["first_due"]),
        last_due=_time(row["due"]),
        count=maybe(int, row["count"] or None),
        reason=SkipReason(row["reason"]),
        term=int(row["term"]),
        at=_time(row["at"]),
        request=int(row["request"]),
    )


def audit_row(row: Hash) -> AuditRow:
    return AuditRow(
        seq=int(row["id"]),
        at=_time(row["at"]),
        by=row["by"],
        action=AuditAction(row["action"]),
        job_id=row["job_id"] or None,
        before=row["before"] or None,
        after=row["after"] or None,
        request=maybe(int, row["request"] or None),
    )


def term_row(row: Hash) -> TermRow:
    return TermRow(
        term=int(row["id"]),
        pid=int(row["pid"]),
        host=row["host"],
        boot_id=row["boot_id"],
        began_at=_time(row["began_at"]),
        began_ns=int(row["began_ns"]),
        reason=Reason(row["reason"]),
        from_pid=maybe(int, row["from_pid"] or None),
        takeover_ms=maybe(to_number, row.get("takeover_ms")),
        ended_at=maybe(_time, row.get("ended_at")),
        ended_ns=maybe(int, row.get("ended_ns")),
        standing=maybe(Standing, row.get("standing")),
    )


def request(row: Hash) -> Request:
    term = maybe(int, row["term"] or None)
    kwargs = maybe(json.loads, row.get("kwargs"))
    check_request(row["action"], row["job_id"] or None, kwargs)
    return Request(int(row["id"]), Action(row["action"]), row["job_id"] or None, term, _time(row["at"]), kwargs)


def request_row(row: Hash) -> RequestRow:
    asked = request(row)
    return RequestRow(
        id=asked.id,
        action=asked.action,
        job_id=asked.job_id,
        term=asked.term,
        at=asked.at,
        done_at=maybe(_time, row.get("done_at")),
        outcome=maybe(RequestOutcome, row.get("outcome")),
        reason=row.get("reason") or None,
        run=maybe(int, row.get("run") or None),
        result=row.get("result"),
    )


def epochs_of(row: Hash) -> list[Epoch]:
    """The schedules of one job, oldest first."""
    job_id, found = row["id"], []
    fields = {name: value for name, value in row.items() if name != "id"}
    for since in sorted((name for name in fields if ":" not in name), key=int):
        anchor, _, trigger = fields[since].partition(" ")
        until = maybe(_time, fields.get(f"{since}:until"))
        rule = int(fields.get(f"{since}:rule", 1))
        found.append(Epoch(job_id, _time(since), until, _time(anchor), json.loads(trigger), rule))
    return found


def histogram(fields: Hash, what: str) -> Histogram | None:
    """Histogram that ``count`` in entries.lua keeps; None if it is empty."""
    if f"{what} total" not in fields:
        return None
    labels = [*map(str, BOUNDS), "+Inf"]
    return Histogram([int(fields.get(f"{what} {label}", 0)) for label in labels], to_number(fields[f"{what} total"]))


def _attempt(line: str) -> Mapping[str, Any]:
    attempt, term, rest = line.split(" ", 2)
    return check_attempt({"attempt": int(attempt), "term": int(term), **json.loads(rest)})


def _stored(row: Hash, func: str) -> StoredJob:
    return StoredJob(func, parse_object(row["kwargs"]), parse_object(row["options"]))


def _time(text: str) -> Any:
    return to_time(int(text))


def to_number(text: str) -> float:
    """Number of a text. Raises ``ValueError`` for others, and if it is not finite."""
    return number(float(text))


def parse_text(text: str | None) -> str | None:
    """Text that may be empty, as ``commands.py`` writes it; None for none."""
    return None if text is None else text[1:]
