"""Entries as the script takes them: a name and nine texts each."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from datetime import datetime
from functools import singledispatch
from typing import Any

from election.core.process import ProcessIdentity
from election.core.term import Term, ended_by
from election.engines.sql.rows import about_text, to_us
from election.schedule.model import (
    Claim,
    CompleteRequest,
    DescribeJob,
    EndPause,
    Entry,
    FinishRun,
    MarkBroken,
    RegisterJob,
    RetireJob,
    Retry,
    Skip,
    Tick,
)

ARGUMENTS = 9


def flat(calls: Iterable[tuple[Any, ...]]) -> list[str]:
    """The script's arguments: each call padded to the same length; None is the empty text."""
    texts: list[str] = []
    for call in calls:
        texts += ["" if value is None else str(value) for value in call]
        texts += [""] * (ARGUMENTS + 1 - len(call))
    return texts


def beginning(term: Term, holder: ProcessIdentity, began_ns: int) -> Iterator[tuple[Any, ...]]:
    """The calls that begin a term, so many nanoseconds after boot, and say how the one before ended, if it is known."""
    takeover = term.takeover
    yield (
        "begin", holder.pid, holder.boot_id, holder.host, to_us(term.elected_at), began_ns, takeover.reason.value,
        takeover.from_pid, takeover.vacant_s or 0.0,
    )  # fmt: skip
    if (standing := ended_by(takeover)) is not None:
        yield "ended", takeover.from_pid, standing.value, to_us(takeover.vacant_since)


@singledispatch
def call(entry: Entry) -> tuple[Any, ...]:
    """The call that writes ``entry``."""
    raise TypeError(entry)


@call.register
def _(entry: Claim) -> tuple[Any, ...]:
    return "claim", *_key(entry.tick), to_us(entry.at), _since(entry.scheduled_since)


@call.register
def _(entry: FinishRun) -> tuple[Any, ...]:
    return "settle", *_key(entry.tick), entry.outcome.value, to_us(entry.at), _maybe(entry.error)


@call.register
def _(entry: Retry) -> tuple[Any, ...]:
    attempt = {"ended_at": entry.at.isoformat(), "outcome": entry.outcome, "error": entry.error}
    return "retry", *_key(entry.tick), json.dumps(attempt)


@call.register
def _(entry: Skip) -> tuple[Any, ...]:
    return (
        "skip", entry.job_id, to_us(entry.first_due), to_us(entry.last_due), entry.count, entry.reason.value,
        to_us(entry.at), entry.request, int(entry.claimed), _since(entry.scheduled_since),
    )  # fmt: skip


@call.register
def _(entry: RegisterJob) -> tuple[Any, ...]:
    return "enrol", entry.job_id, json.dumps(entry.trigger), to_us(entry.at), to_us(entry.since)


@call.register
def _(entry: RetireJob) -> tuple[Any, ...]:
    return "retire", entry.job_id, to_us(entry.at)


@call.register
def _(entry: EndPause) -> tuple[Any, ...]:
    return "resumed", entry.job_id, to_us(entry.until)


@call.register
def _(entry: MarkBroken) -> tuple[Any, ...]:
    return "set", entry.job_id, "broken", _maybe(entry.error)


@call.register
def _(entry: DescribeJob) -> tuple[Any, ...]:
    return "set", entry.job_id, "about", about_text(entry.info)


@call.register
def _(entry: CompleteRequest) -> tuple[Any, ...]:
    return "done", entry.request, to_us(entry.at)


def _key(tick: Tick) -> tuple[str, int, int]:
    return tick.job_id, to_us(tick.due), tick.request


def _since(scheduled_since: datetime | None) -> int | None:
    return None if scheduled_since is None else to_us(scheduled_since)


def _maybe(text: str | None) -> str | None:
    """A text that may be empty, told from none."""
    return None if text is None else f"={text}"
