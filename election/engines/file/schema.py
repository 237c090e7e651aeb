"""Tables of the ledger in SQLite, and the steps from each version to the next: forward only, in one transaction."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator

from election.engines.sql.rows import DUE_ORDER, NEVER
from election.schedule.history import BOUNDS
from election.schedule.store import check_schema_version

_TABLES = """
CREATE TABLE terms (
  term INTEGER PRIMARY KEY, pid INTEGER NOT NULL, host TEXT NOT NULL, boot_id TEXT NOT NULL,
  began_at INTEGER NOT NULL, began_ns INTEGER NOT NULL, reason TEXT NOT NULL, from_pid INTEGER, takeover_ms REAL,
  ended_at INTEGER, ended_ns INTEGER, standing TEXT, vacant_s REAL
);
CREATE TABLE jobs (
  id TEXT PRIMARY KEY, trigger TEXT NOT NULL, scheduled_since INTEGER NOT NULL, settled_until INTEGER NOT NULL,
  paused_at INTEGER, resume_at INTEGER, retired_at INTEGER,
  func TEXT, kwargs TEXT, options TEXT, removed INTEGER NOT NULL DEFAULT 0, broken TEXT,
  info TEXT  -- what people are told of a job, as JSON: name, description, tags
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
CREATE INDEX unsuccessful_runs ON runs (outcome) WHERE outcome <> 'succeeded';  -- costs nothing where all goes well
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
CREATE TABLE fences (  -- who set out to end a leader that hung, and why
  term INTEGER PRIMARY KEY, pid INTEGER NOT NULL, by_pid INTEGER NOT NULL, at INTEGER NOT NULL, silent_s REAL NOT NULL
);
CREATE TABLE totals (
  what TEXT NOT NULL, job_id TEXT NOT NULL, label TEXT NOT NULL, count INTEGER NOT NULL, total REAL NOT NULL,
  PRIMARY KEY (what, job_id, label)
) WITHOUT ROWID;
"""


def _seconds(later: str, earlier: str) -> str:
    """The seconds between two times; none where the clock stepped back."""
    return f"max(0, {later} - {earlier}) / 1e6"


def _bucket(seconds: str) -> str:
    """The label of the bucket that ``seconds`` fall into."""
    cases = " ".join(f"WHEN {seconds} <= {bound} THEN '{bound}'" for bound in BOUNDS)
    return f"CASE {cases} ELSE '+Inf' END"


def _add(what: str, job_id: str, label: str, count: str, total: str = "0.0") -> str:
    """The statement of a trigger that adds to a row of ``totals``."""
    return (
        f"INSERT INTO totals VALUES ('{what}', {job_id}, {label}, {count}, {total}) ON CONFLICT (what, job_id, label)"
        " DO UPDATE SET count = count + excluded.count, total = total + excluded.total;"
    )


_LATENESS = _seconds("coalesce(NEW.started_at, NEW.claimed_at)", "NEW.due")
_DURATION = _seconds("NEW.ended_at", "NEW.claimed_at")
_TAKEOVER = "NEW.takeover_ms / 1e3"
_ENDED = "outcome IN ('succeeded', 'failed')"

# How ledgers counted until the step that drops these triggers.
_COUNTING = f"""
CREATE TRIGGER count_run AFTER UPDATE OF outcome ON runs WHEN OLD.outcome IS NULL AND NEW.outcome IS NOT NULL BEGIN
  {_add("runs", "NEW.job_id", "NEW.outcome", "1")}
END;
CREATE TRIGGER count_duration AFTER UPDATE OF outcome ON runs WHEN OLD.outcome IS NULL AND NEW.{_ENDED} BEGIN
  {_add("duration", "NEW.job_id", _bucket(_DURATION), "1", _DURATION)}
END;
CREATE TRIGGER count_skip AFTER INSERT ON skips BEGIN
  {_add("skips", "NEW.job_id", "NEW.reason", "coalesce(NEW.count, 100)")}
END;
CREATE TRIGGER count_term AFTER INSERT ON terms BEGIN
  {_add("terms", "''", "NEW.reason", "1", "coalesce(NEW.vacant_s, 0)")}
END;
CREATE TRIGGER count_takeover AFTER UPDATE OF takeover_ms ON terms
WHEN OLD.takeover_ms IS NULL AND NEW.takeover_ms IS NOT NULL BEGIN
  {_add("takeover", "''", _bucket(_TAKEOVER), "1", _TAKEOVER)}
END;
"""

_LOGS = f"""
ALTER TABLE requests ADD COLUMN outcome TEXT;
ALTER TABLE requests ADD COLUMN reason TEXT;
ALTER TABLE requests ADD COLUMN run INTEGER;
ALTER TABLE runs ADD COLUMN started_at INTEGER;
CREATE TABLE run_logs (
  id INTEGER PRIMARY KEY AUTOINCREMENT, run INTEGER NOT NULL, attempt INTEGER NOT NULL, job_id TEXT NOT NULL,
  failed INTEGER NOT NULL, log TEXT NOT NULL
);
CREATE UNIQUE INDEX log_of_attempt ON run_logs (run, attempt);
CREATE INDEX logs_of_job ON run_logs (job_id, failed);
CREATE TRIGGER prune_logs AFTER DELETE ON runs BEGIN DELETE FROM run_logs WHERE run = OLD.seq; END;
DROP TRIGGER IF EXISTS count_lateness;
CREATE TRIGGER count_lateness AFTER UPDATE OF outcome ON runs
WHEN OLD.outcome IS NULL AND NEW.outcome IS NOT NULL AND NEW.request = 0 BEGIN
  {_add("lateness", "NEW.job_id", _bucket(_LATENESS), "1", _LATENESS)}
END;
"""

_CLAIMS = """
ALTER TABLE runs ADD COLUMN max_instances INTEGER;
ALTER TABLE runs ADD COLUMN began_us INTEGER;
ALTER TABLE runs ADD COLUMN ended_us INTEGER;
ALTER TABLE epochs ADD COLUMN rule INTEGER NOT NULL DEFAULT 1;
"""

_PLACE = f"""
CREATE TABLE place (  -- one row: where the ledger was last led, and since when and which term as a copy
  identity TEXT NOT NULL, copied_at INTEGER, copied_term INTEGER
);
INSERT INTO place (identity) VALUES ('');
DROP TRIGGER count_run; DROP TRIGGER count_duration; DROP TRIGGER count_skip; DROP TRIGGER count_term;
DROP TRIGGER count_takeover; DROP TRIGGER count_lateness;  -- from now on, see totals.py
CREATE TABLE job_changes (  -- in which order jobs were last changed, so that a leader reads these and not all
  job_id TEXT PRIMARY KEY, number INTEGER NOT NULL
);
CREATE INDEX latest_changes ON job_changes (number);
DROP INDEX open_runs;
CREATE INDEX open_runs ON runs (job_id) WHERE outcome IS NULL;
CREATE INDEX live_jobs ON jobs (id, removed) WHERE removed = 0;  -- has all that a count needs
CREATE INDEX code_jobs ON jobs (func, id) WHERE removed = 0 AND func IS NULL;
ALTER TABLE jobs ADD COLUMN next_due INTEGER NOT NULL DEFAULT {NEVER};
CREATE INDEX due_jobs ON jobs ({DUE_ORDER})
WHERE removed = 0 AND func IS NOT NULL;
CREATE TRIGGER note_new_job AFTER INSERT ON jobs BEGIN
  INSERT INTO job_changes SELECT NEW.id, coalesce(max(number), 0) + 1 FROM job_changes WHERE true
  ON CONFLICT (job_id) DO UPDATE SET number = excluded.number;
END;
CREATE TRIGGER note_changed_job AFTER UPDATE OF trigger, paused_at, resume_at, func, kwargs, options, removed ON jobs
WHEN NEW.removed <> 2 BEGIN  -- 1: somebody has removed it; 2: it has finished, and the leader knows
  INSERT INTO job_changes SELECT NEW.id, coalesce(max(number), 0) + 1 FROM job_changes WHERE true
  ON CONFLICT (job_id) DO UPDATE SET number = excluded.number;
END;
"""

_REQUESTS = """
ALTER TABLE requests ADD COLUMN kwargs TEXT;  -- of a run, in the place of the job's own, as JSON
ALTER TABLE requests ADD COLUMN result TEXT;  -- what that run returned, as JSON
ALTER TABLE jobs ADD COLUMN new_trigger TEXT;  -- what a job of the code was given at run time,
ALTER TABLE jobs ADD COLUMN code_trigger TEXT;  -- in the place of this
"""

_STEPS = [_TABLES + _COUNTING, _LOGS, _CLAIMS, _PLACE, _REQUESTS]

FIRST_VERSION = 6
"""The first schema that this code reads: 1 to 5 were written before the first release."""

VERSION = FIRST_VERSION + len(_STEPS) - 1
"""The schema that this code writes."""


def check_version(path: str, version: int) -> None:
    """Raise ``LedgerVersionError`` if this code cannot read a database file with this version of the schema."""
    way_out = f"stop the pool, move {path} away with its -wal and -shm, and start again; term numbers go on"
    check_schema_version(path, version, first=FIRST_VERSION, latest=VERSION, way_out=way_out)


def migrate(connection: sqlite3.Connection) -> None:
    """Bring the tables up to ``VERSION``. Somebody else may be doing the same: the first one does it."""
    connection.execute("BEGIN IMMEDIATE")
    try:
        version = connection.execute("PRAGMA user_version").fetchone()[0]
        for step in _STEPS[max(0, version - FIRST_VERSION + 1) :]:
            for statement in _statements(step):
                connection.execute(statement)
        connection.execute(f"PRAGMA user_version={VERSION}")
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:  # a full disk has rolled it back already
            connection.execute("ROLLBACK")
        raise
    connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")  # so that the version stands in the file's own header


def _statements(script: str) -> Iterator[str]:
    """The statements one by one, for ``executescript`` would commit; a trigger has semicolons within."""
    statement = ""
    for piece in "\n".join(line.split("--")[0] for line in script.splitlines()).split(";"):
        statement += f"{piece};"
        if sqlite3.complete_statement(statement):
            yield statement
            statement = ""
    if statement.strip(" \n;"):
        yield statement
