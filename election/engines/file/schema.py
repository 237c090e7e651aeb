"""The ledger's tables, and the way from each version to the next: forward only, in one transaction."""

from __future__ import annotations

import sqlite3

_1 = """
CREATE TABLE terms (
  term INTEGER PRIMARY KEY, pid INTEGER NOT NULL, host TEXT NOT NULL, boot_id TEXT NOT NULL,
  began_at INTEGER NOT NULL, began_ns INTEGER NOT NULL, reason TEXT NOT NULL, from_pid INTEGER, takeover_ms REAL,
  ended_at INTEGER, ended_ns INTEGER, standing TEXT
);
CREATE TABLE jobs (
  id TEXT PRIMARY KEY, trigger TEXT NOT NULL, seen_at INTEGER NOT NULL, accounted_until INTEGER NOT NULL,
  paused_at INTEGER, resume_at INTEGER, retired_at INTEGER,
  func TEXT, kwargs TEXT, options TEXT, removed INTEGER NOT NULL DEFAULT 0, broken TEXT
) WITHOUT ROWID;
CREATE TABLE epochs (  -- which schedule a job had, from when to when: what it owed can be worked out again
  job_id TEXT NOT NULL, since INTEGER NOT NULL, until INTEGER, anchor INTEGER NOT NULL, trigger TEXT NOT NULL,
  PRIMARY KEY (job_id, since)
) WITHOUT ROWID;
CREATE TABLE runs (
  seq INTEGER PRIMARY KEY AUTOINCREMENT, job_id TEXT NOT NULL, due INTEGER NOT NULL, request INTEGER NOT NULL,
  term INTEGER NOT NULL, attempt INTEGER NOT NULL DEFAULT 1, claimed_at INTEGER NOT NULL,
  ended_at INTEGER, outcome TEXT, error TEXT, attempts TEXT NOT NULL DEFAULT '[]'
);
CREATE UNIQUE INDEX one_claim_per_tick ON runs (job_id, due, request);
CREATE INDEX open_runs ON runs (term) WHERE outcome IS NULL;
CREATE TABLE skips (
  seq INTEGER PRIMARY KEY AUTOINCREMENT, job_id TEXT NOT NULL, first_due INTEGER NOT NULL, last_due INTEGER NOT NULL,
  count INTEGER, reason TEXT NOT NULL, request INTEGER NOT NULL, term INTEGER NOT NULL, at INTEGER NOT NULL
);
CREATE INDEX skips_of_job ON skips (job_id, first_due);
CREATE TABLE requests (
  id INTEGER PRIMARY KEY AUTOINCREMENT, action TEXT NOT NULL, job_id TEXT, term INTEGER, at INTEGER NOT NULL,
  done_at INTEGER
);
CREATE INDEX open_requests ON requests (id) WHERE done_at IS NULL;
CREATE TABLE pruned (until INTEGER NOT NULL);  -- history up to here may be gone
INSERT INTO pruned VALUES (0);
"""

_2 = """
CREATE TABLE fences (  -- who set out to end a leader that hung, and why
  term INTEGER PRIMARY KEY, pid INTEGER NOT NULL, by_pid INTEGER NOT NULL, at INTEGER NOT NULL, silent_s REAL NOT NULL
);
"""

_3 = """
ALTER TABLE jobs ADD COLUMN about TEXT;  -- what people are told of a job, as JSON: name, description, tags
"""

_STEPS = [_1, _2, _3]

VERSION = len(_STEPS)
"""The schema that this code writes."""


def migrate(connection: sqlite3.Connection) -> None:
    """Bring the tables up to ``VERSION``. Somebody else may be doing the same: the first one does it."""
    connection.execute("BEGIN IMMEDIATE")
    try:
        version = connection.execute("PRAGMA user_version").fetchone()[0]
        for step in _STEPS[version:]:
            for statement in filter(str.strip, _uncommented(step).split(";")):
                connection.execute(statement)
        connection.execute(f"PRAGMA user_version={VERSION}")
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:  # a full disk has rolled it back already
            connection.execute("ROLLBACK")
        raise
    connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")  # so that the version stands in the file's own header


def look_back(connection: sqlite3.Connection, version: int) -> None:
    """Let whoever only looks read tables of an earlier ``version`` as those of today: what they lack is empty.

    A view in the connection's own memory stands before the table; once somebody else has migrated the file, it shows
    what is in it.
    """
    if 0 < version < _STEPS.index(_3) + 1:
        connection.execute("PRAGMA temp_store=MEMORY")
        connection.execute("CREATE TEMP VIEW jobs AS SELECT *, NULL AS about FROM main.jobs")


def _uncommented(script: str) -> str:
    return "\n".join(line.split("--")[0] for line in script.splitlines())
