"""Conversion between the ledger's rows and values."""

from __future__ import annotations

import functools
import json
import re
from collections.abc import Callable, Iterable, Mapping
from datetime import datetime
from typing import Any, TypeVar

from election.core.clock import EPOCH
from election.core.errors import LedgerError, describe_error
from election.core.events import named
from election.core.logs import log
from election.core.term import Reason, Standing
from election.schedule.history import (
    AuditRow,
    ClaimRow,
    Epoch,
    RequestRow,
    RunRow,
    SkipRow,
    TermRow,
    count_interruptions,
)
from election.schedule.model import (
    UNREADABLE,
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

from .database import Row
from .values import (
    integer,
    maybe,
    number,
    parse_attempts,
    parse_info,
    parse_object,
    text,
    to_time,
    to_us,
)

_T = TypeVar("_T")
_V = TypeVar("_V")
_C = TypeVar("_C")


NEVER = 2**62
"""Value of ``jobs.next_due`` if it is unknown: such a job is planned last."""

DUE_ORDER = f"(CASE WHEN paused_at IS NULL AND broken IS NULL THEN next_due ELSE {NEVER} END), id"
"""Due order of stored jobs; the index ``due_jobs`` serves only queries with exactly this text."""

JOB_COLUMNS = (
    "id, trigger, scheduled_since, settled_until, paused_at, resume_at, retired_at, func, kwargs, options,"
    " removed, broken, info, next_due, new_trigger, code_trigger"
)
RUN_COLUMNS = "seq, job_id, due, request, term, attempt, claimed_at, ended_at, outcome, error, attempts, started_at"
CLAIM_COLUMNS = "term, max_instances, began_us, ended_us"  # after seq, job_id, due, request and the first term
SKIP_COLUMNS = "seq, job_id, first_due, last_due, count, reason, term, skipped_at, request"
TERM_COLUMNS = (
    "term, pid, host, boot_id, began_at, began_ns, reason, from_pid, takeover_ms, ended_at, ended_ns, standing"
)

REQUEST_COLUMNS = "id, action, job_id, term, requested_at, done_at, outcome, reason, run, result"
LOG_COLUMNS = "attempt, log"
AUDIT_COLUMNS = "seq, changed_at, changed_by, action, job_id, old_value, new_value, request"


def tick_key(tick: Tick) -> tuple[str, int, int]:
    """Key of a tick in every ledger: job, due time and request."""
    return tick.job_id, to_us(tick.due), tick.request


def job_state(row: Row) -> JobState:
    """State of a job; a row that cannot be read, for example of another version, is a broken job."""
    try:
        refuse_bytes(row)
        return _job_state(row)
    except Exception as error:
        return broken_state(row["id"], error)


_BYTE = re.compile("[\udc80-\udcff]")
"""A byte that is no text, as ``surrogateescape`` reads it."""


def refuse_bytes(row: Any) -> None:
    """Raise ``ValueError`` if there are bytes in the row: they are no text, and a ledger has no other ones."""
    for value in _values(row):
        if isinstance(value, bytes):
            raise ValueError(f"there are bytes that are no text: {value[:100]!r}")
        if isinstance(value, str) and not value.isascii() and _BYTE.search(value):
            raise ValueError(f"there are bytes that are no text: {printable(value)[:100]!r}")


def _values(row: Any) -> list[Any]:
    """Values of a row, which may be a single text."""
    return [row] if isinstance(row, str) else [*(row.values() if isinstance(row, Mapping) else row)]


def printable(job_id: object) -> str:
    """Id of a row as text, also of one that no worker can have written."""
    return job_id.encode(errors="backslashreplace").decode() if isinstance(job_id, str) else repr(job_id)


def readable(convert: Callable[[Any], _V], rows: Iterable[Any]) -> list[_V]:
    """Values of the rows that can be read. Another row, for example of a newer version, is logged and left as it is:
    it does not keep the leader from all others (docs/pitfalls.md#63)."""
    values = []
    for row in rows:
        try:
            refuse_bytes(row)
            values.append(convert(row))
        except Exception as error:
            shown = str(_values(row))[:300]
            log_once(f"a row of the ledger cannot be read, and is left out: {shown}: {describe_error(error)}")
    return values


PRUNED = "the time before which history was removed"


def needed(convert: Callable[[Any], _V], row: Any, what: str) -> _V:
    """Value of a row without which nothing can be judged. Raises ``LedgerError`` if it cannot be read."""
    try:
        refuse_bytes(row)
        return convert(row)
    except Exception as error:
        raise LedgerError(
            f"the ledger has a row that no worker can have written: {what} cannot be read: {describe_error(error)}"
        ) from error


def read_counters(
    counters: Mapping[tuple[str, str, str], _C],
    what: str,
    to_label: Callable[[str], _T],
    to_value: Callable[[_C], _V],
) -> dict[tuple[str, _T], _V]:
    """Counters of one kind by job and label, without those that cannot be read: a newer version has more labels.

    A log entry has the key alone, so that it is the same when the counter has moved on.
    """
    keys = [key for key in counters if key[0] == what]
    return dict(readable(lambda key: ((key[1], to_label(key[2])), to_value(counters[key])), keys))


@functools.lru_cache(maxsize=256)
def log_once(text: str) -> None:
    """Log a text about an unreadable row, unless it was logged before in this process."""
    log.error("%s", text, extra=named("row_unreadable"))


def broken_state(row_id: object, error: Exception) -> JobState:
    """State of a job whose row cannot be read: it is not run, and is not registered anew."""
    job_id = printable(row_id)
    reason = f"the row of job {job_id!r} cannot be read: {describe_error(error)}"
    return JobState(job_id, UNREADABLE, EPOCH, EPOCH, stored=StoredJob("unreadable"), broken=reason)


def _job_state(row: Row) -> JobState:
    return JobState(
        id=row["id"],
        trigger=json.loads(row["trigger"]),
        scheduled_since=to_time(row["scheduled_since"]),
        settled_until=to_time(row["settled_until"]),
        paused_at=maybe(to_time, row["paused_at"]),
        resume_at=maybe(to_time, row["resume_at"]),
        retired_at=maybe(to_time, row["retired_at"]),
        stored=None
        if row["func"] is None
        else StoredJob(row["func"], parse_object(row["kwargs"]), parse_object(row["options"])),
        removed=bool(row["removed"]),
        broken=row["broken"],
        info=maybe(parse_info, row["info"]),
        next_due=to_time(row["next_due"]) if row["next_due"] < NEVER else None,
        new_trigger=maybe(json.loads, row["new_trigger"]),
        code_trigger=maybe(json.loads, row["code_trigger"]),
    )


def claim_row(row: Row) -> ClaimRow:
    seq, job_id, due, request, first_term, term, max_instances, began_us, ended_us = row
    span = None if ended_us is None else Span(integer(began_us), integer(ended_us))
    terms, most = (integer(first_term), integer(term)), maybe(integer, max_instances)
    return ClaimRow(seq, job_id, to_time(due), integer(request), *terms, most, span)


def run_row(row: Row) -> RunRow:
    return RunRow(
        seq=row["seq"],
        job_id=row["job_id"],
        due=to_time(row["due"]),
        request=integer(row["request"]),
        term=integer(row["term"]),
        attempt=integer(row["attempt"]),
        claimed_at=to_time(row["claimed_at"]),
        ended_at=maybe(to_time, row["ended_at"]),
        outcome=maybe(Outcome, row["outcome"]),
        error=row["error"],
        attempts=parse_attempts(row["attempts"]),
        started_at=maybe(to_time, row["started_at"]),
    )


def request_row(row: Row) -> RequestRow:
    return RequestRow(
        id=row["id"],
        action=Action(row["action"]),
        job_id=row["job_id"],
        term=maybe(integer, row["term"]),
        at=to_time(row["requested_at"]),
        done_at=maybe(to_time, row["done_at"]),
        outcome=maybe(RequestOutcome, row["outcome"]),
        reason=row["reason"],
        run=maybe(integer, row["run"]),
        result=row["result"],
    )


def skip_row(row: Row) -> SkipRow:
    return SkipRow(
        seq=row["seq"],
        job_id=row["job_id"],
        first_due=to_time(row["first_due"]),
        last_due=to_time(row["last_due"]),
        count=maybe(integer, row["count"]),
        reason=SkipReason(row["reason"]),
        term=integer(row["term"]),
        at=to_time(row["skipped_at"]),
        request=integer(row["request"]),
    )


def audit_row(row: Row) -> AuditRow:
    return AuditRow(
        seq=row["seq"],
        at=to_time(row["changed_at"]),
        by=row["changed_by"],
        action=AuditAction(row["action"]),
        job_id=row["job_id"],
        before=row["old_value"],
        after=row["new_value"],
        request=maybe(integer, row["request"]),
    )


def term_row(row: Row) -> TermRow:
    return TermRow(
        term=row["term"],
        pid=integer(row["pid"]),
        host=text(row["host"]),
        boot_id=text(row["boot_id"]),
        began_at=to_time(row["began_at"]),
        began_ns=integer(row["began_ns"]),
        reason=Reason(row["reason"]),
        from_pid=maybe(integer, row["from_pid"]),
        takeover_ms=maybe(number, row["takeover_ms"]),
        ended_at=maybe(to_time, row["ended_at"]),
        ended_ns=maybe(integer, row["ended_ns"]),
        standing=maybe(Standing, row["standing"]),
    )


def epoch(row: Row) -> Epoch:
    return Epoch(
        row["job_id"],
        to_time(row["since"]),
        maybe(to_time, row["until"]),
        to_time(row["anchor"]),
        json.loads(row["trigger"]),
        integer(row["rule"]),
    )


def open_run(row: Row) -> OpenRun:
    tick = Tick(row["job_id"], to_time(row["due"]), integer(row["request"]))
    interruptions = count_interruptions(parse_attempts(row["attempts"]))
    kwargs = maybe(json.loads, row["kwargs"])
    return OpenRun(tick, integer(row["term"]), integer(row["attempt"]), interruptions, kwargs)


def request(row: Row) -> Request:
    kwargs = maybe(json.loads, row["kwargs"])
    check_request(row["action"], row["job_id"], kwargs)
    term = maybe(integer, row["term"])
    return Request(row["id"], Action(row["action"]), row["job_id"], term, to_time(row["requested_at"]), kwargs)


def check_request(action: str, job_id: str | None, kwargs: Any) -> None:
    """Raise ``ValueError`` for a request that the leader could not carry out; see ``readable``."""
    if kwargs is not None and not isinstance(kwargs, dict):
        raise ValueError(f"the arguments of a request are no object: {kwargs!r}")
    if action == Action.CANCEL:
        if job_id is None or kwargs is None or not isinstance(kwargs.get("request"), int):
            raise ValueError("a request to cancel names no run")
        datetime.fromisoformat(str(kwargs.get("due")))
    if action == Action.RUN and job_id is None:
        raise ValueError("a request for a run names no job")
