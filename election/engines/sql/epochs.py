"""Which schedule a job has, from when to when: the table ``epochs``, by which ``verify`` knows what was owed."""

from __future__ import annotations

from election.schedule.model import TICK_RULE

from .database import Connection


def open_epoch(connection: Connection, job_id: str, since: int, anchor: int, trigger: str) -> None:
    """After ``since`` the job owes the ticks of ``trigger``, and no longer those of the one before."""
    close_epoch(connection, job_id, since)
    connection.execute(
        "INSERT INTO epochs (job_id, since, anchor, trigger, rule) VALUES (?, ?, ?, ?, ?) ON CONFLICT (job_id, since)"
        " DO UPDATE SET until = NULL, anchor = excluded.anchor, trigger = excluded.trigger, rule = excluded.rule",
        (job_id, since, anchor, trigger, TICK_RULE),
    )


def close_epoch(connection: Connection, job_id: str, until: int) -> None:
    """After ``until`` the job owes nothing."""
    connection.execute("UPDATE epochs SET until = ? WHERE job_id = ? AND until IS NULL", (until, job_id))
