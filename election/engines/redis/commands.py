"""Commands of a ledger as calls of the script ``write``: a name and nine texts each."""

from __future__ import annotations

import json
from collections.abc import Iterable
from functools import singledispatch
from typing import Any

from election.engines.sql.rows import tick_key
from election.engines.sql.values import info_text, kwargs_text, log_text, to_us, to_us_or_none
from election.schedule.commands import (
    AcceptTime,
    AddAuditEntry,
    AddRequest,
    Adopt,
    BeginTerm,
    Claim,
    Command,
    CompleteRequest,
    ConfirmTerm,
    DescribeJob,
    EndPause,
    EndTerm,
    ExpectJob,
    Fence,
    FinishJob,
    FinishRun,
    KeepResult,
    MarkBroken,
    PauseJob,
    RecordLog,
    RegisterJob,
    RemoveJob,
    RequireJob,
    RescheduleJob,
    ResumeJob,
    RetireJob,
    Retry,
    SetNextDue,
    SettleFormerTerm,
    Skip,
    StoreJob,
)
from election.schedule.history import MAX_LOGS, MAX_LOGS_PER_JOB
from election.schedule.model import TICK_RULE, SkipReason

from .rows import row_text

MAX_ARGUMENTS = 9

ANNOUNCED = (AddRequest, PauseJob, ResumeJob, StoreJob, RescheduleJob, RemoveJob, AcceptTime)
"""Commands of any worker that the leader has to detect."""

CONDITIONS = (RequireJob, ExpectJob)
"""Commands that may refuse a write. They come first, since a script's effects are not undone."""

CHANGE = ("change",)
"""Call that increments the version, by which the leader detects a write."""


def flat(calls: Iterable[tuple[Any, ...]]) -> list[str]:
    """The script's arguments: each call padded to the same length; None is the empty text."""
    texts: list[str] = []
    for call in calls:
        texts += ["" if value is None else _text(value) for value in call]
        texts += [""] * (MAX_ARGUMENTS + 1 - len(call))
    return texts


def _text(value: object) -> str:
    """``str()``, but the text itself for a member of an enumeration of texts."""
    return str.__str__(value) if isinstance(value, str) else str(value)


@singledispatch
def call(command: Command) -> tuple[Any, ...]:
    """The call that writes ``command``."""
    raise TypeError(command)


@call.register
def _(command: Claim) -> tuple[Any, ...]:
    since = to_us_or_none(command.scheduled_since)
    return "claim", *tick_key(command.tick), to_us(command.at), since, command.max_instances


@call.register
def _(command: FinishRun) -> tuple[Any, ...]:
    span = (None, None) if command.span is None else (command.span.began_us, command.span.ended_us)
    return (
        "settle", *tick_key(command.tick), command.outcome.value, to_us(command.at), _maybe(command.error),
        to_us_or_none(command.started_at), *span,
    )  # fmt: skip


@call.register
def _(command: FinishJob) -> tuple[Any, ...]:
    times = command.scheduled_since, command.settled_until, command.at
    return "finish_job", command.job_id, *map(to_us, times)


@call.register
def _(command: RecordLog) -> tuple[Any, ...]:
    kind = "failed" if command.log.traceback is not None else "other"
    limits = MAX_LOGS_PER_JOB, MAX_LOGS
    return "log", *tick_key(command.tick), command.log.attempt, kind, log_text(command.log), *limits


@call.register
def _(command: KeepResult) -> tuple[Any, ...]:
    return "result", command.request, command.value


@call.register
def _(command: Retry) -> tuple[Any, ...]:
    attempt = {"ended_at": command.at.isoformat(), "outcome": command.outcome, "error": command.error}
    return "retry", *tick_key(command.tick), json.dumps(attempt), to_us_or_none(command.started_at)


@call.register
def _(command: Skip) -> tuple[Any, ...]:
    return (
        "skip", command.job_id, to_us(command.first_due), to_us(command.last_due), command.count, command.reason.value,
        to_us(command.at), command.request, int(command.claimed), to_us_or_none(command.scheduled_since),
    )  # fmt: skip


@call.register
def _(command: RegisterJob) -> tuple[Any, ...]:
    return "enrol", command.job_id, json.dumps(command.trigger), to_us(command.at), to_us(command.since), TICK_RULE


@call.register
def _(command: RetireJob) -> tuple[Any, ...]:
    return "retire", command.job_id, to_us(command.at)


@call.register
def _(command: EndPause) -> tuple[Any, ...]:
    return "resumed", command.job_id, to_us(command.until)


@call.register
def _(command: MarkBroken) -> tuple[Any, ...]:
    return "set", command.job_id, "broken", _maybe(command.error)


@call.register
def _(command: DescribeJob) -> tuple[Any, ...]:
    return "set", command.job_id, "info", info_text(command.info)


@call.register
def _(command: SetNextDue) -> tuple[Any, ...]:
    return "set", command.job_id, "next_due", to_us(command.due)


@call.register
def _(command: CompleteRequest) -> tuple[Any, ...]:
    return "done", command.request, to_us(command.at), command.outcome.value, command.reason


@call.register
def _(command: BeginTerm) -> tuple[Any, ...]:
    term, holder = command.term, command.holder
    return (
        "begin", holder.pid, holder.boot_id, holder.host, to_us(term.elected_at), command.began_ns,
        term.takeover.reason.value, term.takeover.from_pid, term.takeover.vacant_s or 0.0,
    )  # fmt: skip


@call.register
def _(command: SettleFormerTerm) -> tuple[Any, ...]:
    return "ended", command.pid, command.standing.value, to_us(command.at)


@call.register
def _(command: ConfirmTerm) -> tuple[Any, ...]:
    return "confirm", command.term, command.takeover_ms


@call.register
def _(command: EndTerm) -> tuple[Any, ...]:
    return "finish", command.term, to_us(command.at), command.at_ns, command.standing.value


@call.register
def _(command: Fence) -> tuple[Any, ...]:
    at = to_us(command.at)
    intent = {"pid": command.pid, "by_pid": command.by_pid, "at": at, "silent_s": command.silent_s}
    return "fence", command.term, json.dumps(intent), at, to_us(command.not_since), to_us(command.not_after)


@call.register
def _(command: AddRequest) -> tuple[Any, ...]:
    kwargs = kwargs_text(command.kwargs)
    return "request", command.action.value, command.job_id, command.term, to_us(command.at), kwargs


@call.register
def _(command: PauseJob) -> tuple[Any, ...]:
    return "pause", command.job_id, to_us(command.at)


@call.register
def _(command: ResumeJob) -> tuple[Any, ...]:
    return "resume", command.job_id, to_us(command.at)


@call.register
def _(command: StoreJob) -> tuple[Any, ...]:
    stored = command.stored
    texts = stored.func, json.dumps(dict(stored.kwargs)), json.dumps(dict(stored.options))
    return "store", command.job_id, *texts, int(command.keep_pause)


@call.register
def _(command: RescheduleJob) -> tuple[Any, ...]:
    return "reschedule", command.job_id, None if command.trigger is None else json.dumps(dict(command.trigger))


@call.register
def _(command: RemoveJob) -> tuple[Any, ...]:
    return "remove", command.job_id, to_us(command.at)


@call.register
def _(command: AcceptTime) -> tuple[Any, ...]:
    return "accept_time", command.job_id, to_us(command.at), SkipReason.CLOCK.value


@call.register
def _(command: Adopt) -> tuple[Any, ...]:
    return ("adopt",)


@call.register
def _(command: AddAuditEntry) -> tuple[Any, ...]:
    texts = command.by, command.before, command.after
    return "audit", command.action.value, command.job_id, to_us(command.at), *texts, int(command.of_request)


@call.register
def _(command: RequireJob) -> tuple[Any, ...]:
    return "known", command.job_id


@call.register
def _(command: ExpectJob) -> tuple[Any, ...]:
    return "expect", command.job_id, row_text({}) if command.found is None else command.found.row_text


def _maybe(text: str | None) -> str | None:
    """Mark a text that may be empty, to distinguish it from None."""
    return None if text is None else f"={text}"
