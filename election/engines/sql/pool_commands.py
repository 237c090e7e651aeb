"""Commands of any worker as SQL: terms, requests, stored jobs and conditions."""

from __future__ import annotations

import json

from election.schedule.commands import (
    AcceptTime,
    AddAuditEntry,
    AddRequest,
    Adopt,
    BeginTerm,
    ConfirmTerm,
    EndTerm,
    ExpectJob,
    Fence,
    PauseJob,
    RemoveJob,
    RequireJob,
    RescheduleJob,
    ResumeJob,
    SettleFormerTerm,
    StoreJob,
)
from election.schedule.model import SkipReason
from election.schedule.store import UnmetConditionError, term_taken

from .commands import close_epoch, write
from .database import Connection
from .place import adopt, note_place
from .queries import find_jobs
from .values import kwargs_text, to_us


@write.register
def _(command: BeginTerm, connection: Connection, term: int) -> bool:
    begun, holder = command.term, command.holder
    made = connection.execute(
        "INSERT INTO terms (term, pid, host, boot_id, began_at, began_ns, reason, from_pid, vacant_s)"
        " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT (term) DO NOTHING",
        (
            begun.number, holder.pid, holder.host, holder.boot_id, to_us(begun.elected_at), command.began_ns,
            begun.takeover.reason, begun.takeover.from_pid, begun.takeover.vacant_s,
        ),
    )  # fmt: skip
    if made.rowcount == 1:
        note_place(connection, begun.number, to_us(begun.elected_at))
        return True
    found = connection.execute("SELECT pid, boot_id, host FROM terms WHERE term = ?", (begun.number,)).fetchone()
    if tuple(found) != (holder.pid, holder.boot_id, holder.host):
        raise term_taken(begun.number, found["pid"])
    return False


@write.register
def _(command: SettleFormerTerm, connection: Connection, term: int) -> bool:
    settled = connection.execute(
        f"UPDATE terms SET standing = ?, ended_at = {connection.dialect.greatest}(began_at, ?)"
        " WHERE term = (SELECT max(term) FROM terms WHERE term < ?) AND pid = ? AND standing IS NULL",
        (command.standing, to_us(command.at), command.term, command.pid),
    )
    return settled.rowcount == 1


@write.register
def _(command: ConfirmTerm, connection: Connection, term: int) -> bool:
    confirm = "UPDATE terms SET takeover_ms = ? WHERE term = ? AND takeover_ms IS NULL"
    return connection.execute(confirm, (command.takeover_ms, command.term)).rowcount == 1


@write.register
def _(command: EndTerm, connection: Connection, term: int) -> bool:
    ended = connection.execute(
        "UPDATE terms SET ended_at = ?, ended_ns = ?, standing = ? WHERE term = ?",
        (to_us(command.at), command.at_ns, command.standing, command.term),
    )
    return ended.rowcount == 1


@write.register
def _(command: Fence, connection: Connection, term: int) -> bool:
    between = to_us(command.not_since), to_us(command.not_after)
    recent = connection.execute("SELECT 1 FROM fences WHERE fenced_at > ? AND fenced_at < ?", between)
    if recent.fetchone() is not None:
        return False
    connection.execute(
        "INSERT INTO fences (term, pid, by_pid, fenced_at, silent_s) VALUES (?, ?, ?, ?, ?)"
        " ON CONFLICT (term) DO UPDATE SET pid = excluded.pid, by_pid = excluded.by_pid,"
        " fenced_at = excluded.fenced_at, silent_s = excluded.silent_s",
        (command.term, command.pid, command.by_pid, to_us(command.at), command.silent_s),
    )
    return True


@write.register
def _(command: AddRequest, connection: Connection, term: int) -> int:
    made = connection.execute(
        "INSERT INTO requests (action, job_id, term, requested_at, kwargs) VALUES (?, ?, ?, ?, ?) RETURNING id",
        (command.action, command.job_id, command.term, to_us(command.at), kwargs_text(command.kwargs)),
    )
    return int(made.fetchone()[0])


@write.register
def _(command: PauseJob, connection: Connection, term: int) -> bool:
    pause = "UPDATE jobs SET paused_at = coalesce(paused_at, ?), resume_at = NULL WHERE id = ?"
    return connection.execute(pause, (to_us(command.at), command.job_id)).rowcount == 1


@write.register
def _(command: ResumeJob, connection: Connection, term: int) -> bool:
    resumed = connection.execute(
        "UPDATE jobs SET resume_at = CASE WHEN paused_at IS NULL THEN NULL ELSE coalesce(resume_at, ?) END"
        " WHERE id = ?",
        (to_us(command.at), command.job_id),
    )
    return resumed.rowcount == 1


@write.register
def _(command: StoreJob, connection: Connection, term: int) -> bool:
    stored = command.stored
    pause = "" if command.keep_pause else ", paused_at = NULL, resume_at = NULL"
    changed = connection.execute(
        f"UPDATE jobs SET func = ?, kwargs = ?, options = ?, removed = 0, broken = NULL{pause} WHERE id = ?",
        (stored.func, json.dumps(dict(stored.kwargs)), json.dumps(dict(stored.options)), command.job_id),
    )
    return changed.rowcount == 1


@write.register
def _(command: RescheduleJob, connection: Connection, term: int) -> bool:
    trigger = None if command.trigger is None else json.dumps(dict(command.trigger))
    changed = connection.execute(  # the leader, which this notifies, registers the trigger
        "UPDATE jobs SET code_trigger = CASE WHEN new_trigger IS NULL THEN trigger ELSE code_trigger END,"
        " new_trigger = ?, trigger = trigger WHERE id = ? AND func IS NULL",
        (trigger, command.job_id),
    )
    return changed.rowcount == 1


@write.register
def _(command: RemoveJob, connection: Connection, term: int) -> bool:
    close_epoch(connection, command.job_id, to_us(command.at))
    return connection.execute("UPDATE jobs SET removed = 1 WHERE id = ?", (command.job_id,)).rowcount == 1


@write.register
def _(command: AcceptTime, connection: Connection, term: int) -> bool:
    at = to_us(command.at)
    taken_back = connection.execute(
        "UPDATE jobs SET settled_until = ? WHERE id = ? AND settled_until > ?", (at, command.job_id, at)
    )
    if taken_back.rowcount != 1:
        return False
    connection.execute(
        "INSERT INTO skips (job_id, first_due, last_due, count, reason, request, term, skipped_at)"
        " VALUES (?, ?, ?, 0, ?, 0, ?, ?)",
        (command.job_id, at, at, SkipReason.CLOCK, term, at),
    )
    return True


@write.register
def _(command: Adopt, connection: Connection, term: int) -> bool:
    return adopt(connection)


@write.register
def _(command: AddAuditEntry, connection: Connection, term: int) -> bool:
    request = "(SELECT max(id) FROM requests)" if command.of_request else "NULL"  # the latest is that of this write
    connection.execute(
        "INSERT INTO audit (changed_at, changed_by, action, job_id, old_value, new_value, request)"
        f" VALUES (?, ?, ?, ?, ?, ?, {request})",
        (to_us(command.at), command.by, command.action, command.job_id, command.before, command.after),
    )
    return True


@write.register
def _(command: RequireJob, connection: Connection, term: int) -> bool:
    known = "SELECT 1 FROM jobs WHERE id = ? AND retired_at IS NULL AND removed = 0"
    if connection.execute(known, (command.job_id,)).fetchone() is None:
        raise UnmetConditionError(command)
    return True


@write.register
def _(command: ExpectJob, connection: Connection, term: int) -> bool:
    expected = command.found
    found = next(iter(find_jobs(connection, [command.job_id])), None)
    if (found and found.fingerprint) != (expected and expected.fingerprint):
        raise UnmetConditionError(command)
    return True
