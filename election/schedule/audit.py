"""Entries of the audit trail: who changed what, when, and the difference in short.

The ledger writes an entry in the transaction of its change, so that there is neither without the other. Values of
arguments are left out: they may be secret, and the audit trail is shown.
"""

from __future__ import annotations

import json
import os
import socket
from collections.abc import Mapping
from datetime import datetime
from typing import Any

from apscheduler.triggers.base import BaseTrigger

from election.core.errors import ConfigurationError

from .commands import AddAuditEntry, RescheduleJob
from .model import Action, AuditAction, JobState, NewJob, StoredJob
from .run_log import shorten
from .triggers import build, trigger_text, unbuilt_text

MAX_IDENTITY_LENGTH = 255
"""Characters of the identity of a person or process."""

MAX_DIFFERENCE_LENGTH = 300
"""Characters of either side of a difference."""

_OF_REQUEST = {
    Action.RUN: AuditAction.RUN,
    Action.CANCEL: AuditAction.CANCEL,
    Action.RESIGN: AuditAction.RESIGN,
}


def identify(by: str | None) -> str:
    """Return the identity to record; without one, that of this process.

    Raises:
        ConfigurationError: It cannot be recorded.
    """
    if by is None:
        return f"pid {os.getpid()} on {socket.gethostname()}"
    if not isinstance(by, str) or not 0 < len(by) <= MAX_IDENTITY_LENGTH or not by.isprintable() or by != by.strip():
        raise ConfigurationError(
            f"{shorten(ascii(by), 80)} cannot be recorded as who makes a change: give a name of 1 to"
            f" {MAX_IDENTITY_LENGTH} characters that can be printed, with no space at its ends"
        )
    return by


def describe_request(
    action: Action,
    by: str,
    at: datetime,
    *,
    job_id: str | None = None,
    term: int | None = None,
    kwargs: Mapping[str, Any] | None = None,
) -> AddAuditEntry:
    """Entry of a request; the arguments are those of ``AddRequest``."""
    before, after = None, None
    if action is Action.RESIGN:
        before = None if term is None else f"term {term}"
    elif action is Action.CANCEL:
        before = None if kwargs is None else f"run due {kwargs['due']}"
    elif kwargs:
        after = _short(f"with {', '.join(kwargs)}")
    return AddAuditEntry(_OF_REQUEST[action], job_id, by, at, before, after, of_request=True)


def describe_pause(job_id: str, paused: bool, by: str, at: datetime, *, tag: str | None = None) -> AddAuditEntry:
    """Entry of a pause or its end. tag: the tag by which the job was selected."""
    action = AuditAction.PAUSE if paused else AuditAction.RESUME
    return AddAuditEntry(action, job_id, by, at, after=None if tag is None else _short(f"all tagged {tag}"))


def describe_stored(
    found: JobState | None, job: NewJob, by: str, at: datetime, built: BaseTrigger | None
) -> AddAuditEntry:
    """Entry of a job that is added at run time, or changed.

    found: the job before; None if its id was free. built: the trigger, which takes long to build.
    """
    trigger = _text(built, job.trigger)
    if found is None or found.stored is None:
        return AddAuditEntry(AuditAction.ADD, job.id, by, at, after=_short(f"{trigger} {job.stored.func}"))
    old = {"trigger": _trigger(found.trigger, at), **_parts(found.stored)}
    new = {"trigger": trigger, **_parts(job.stored)}
    if found.trigger != job.trigger and found.stored == job.stored:
        return AddAuditEntry(
            AuditAction.RESCHEDULE, job.id, by, at, before=_short(old["trigger"]), after=_short(new["trigger"])
        )
    names = [name for name in {**old, **new} if old.get(name) != new.get(name)]
    before, after = (_listed({name: side[name] for name in names if name in side}) for side in (old, new))
    changed = [
        name for name in {**found.stored.kwargs, **job.stored.kwargs} if _differs(name, found.stored, job.stored)
    ]
    if changed:
        after = ", ".join(filter(None, (after, f"kwargs: {', '.join(changed)}")))
    return AddAuditEntry(AuditAction.MODIFY, job.id, by, at, before and _short(before), after and _short(after))


def describe_reschedule(found: JobState, made: RescheduleJob, by: str, at: datetime) -> AddAuditEntry:
    """Entry of a job of the code that gets another trigger, or its own again."""
    own = made.trigger is None
    trigger = (found.code_trigger or found.trigger) if made.trigger is None else made.trigger
    before, after = _trigger(found.new_trigger or found.trigger, at), _trigger(trigger, at)
    after += " (the trigger of the code)" if own else ""
    return AddAuditEntry(AuditAction.RESCHEDULE, found.id, by, at, before=_short(before), after=_short(after))


def describe_removal(found: JobState, stored: StoredJob, by: str, at: datetime) -> AddAuditEntry:
    """Entry of a job that was added at run time and is removed."""
    before = _short(f"{_trigger(found.trigger, at)} {stored.func}")
    return AddAuditEntry(AuditAction.REMOVE, found.id, by, at, before=before)


def _trigger(description: Mapping[str, Any], at: datetime) -> str:
    return _text(build(description, at), description)


def _text(built: BaseTrigger | None, description: Mapping[str, Any]) -> str:
    return unbuilt_text(description) if built is None else trigger_text(built)


def _parts(stored: StoredJob) -> dict[str, str]:
    """Function and options of a job as text; its arguments are compared by name."""
    return {"func": stored.func, **{name: json.dumps(value) for name, value in stored.options.items()}}


def _differs(name: str, one: StoredJob, other: StoredJob) -> bool:
    absent = object()
    return bool(one.kwargs.get(name, absent) != other.kwargs.get(name, absent))


def _listed(parts: Mapping[str, str]) -> str | None:
    return ", ".join(f"{name}={text}" for name, text in parts.items()) or None


def _short(text: str) -> str:
    """The text in characters that every ledger can store, and no more of them than a line has room for."""
    if not text.isprintable():
        text = "".join(letter if letter.isprintable() else "?" for letter in text)
    return shorten(text, MAX_DIFFERENCE_LENGTH)
