"""Tables of a ledger in SQL. Times are microseconds since the epoch, in UTC."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from .rows import DUE_ORDER, NEVER


@dataclass(frozen=True, slots=True)
class Table:
    """A table.

    Attributes:
        name: Name of the table.
        key: Columns of its primary key.
        definition: Its columns, with the types TEXT, INTEGER (64 bits) and REAL (64 bits). A key that the database
            numbers is not among them.
        appended: Whether its rows are only ever added, in the order of their key, and stay as they are.
        moves: Whether a migration to another database copies its rows.
    """

    name: str
    key: tuple[str, ...]
    definition: str
    appended: bool = False
    moves: bool = True

    @property
    def columns(self) -> tuple[str, ...]:
        """Names of all columns, the key first."""
        others = (column.split()[0] for column in self.definition.split(", "))
        return tuple(dict.fromkeys((*self.key, *others)))

    @property
    def numbered(self) -> bool:
        """Whether the database numbers its rows, ascending and without reuse."""
        return len(self.columns) > len(self.definition.split(", "))


@dataclass(frozen=True, slots=True)
class Index:
    """An index. where: condition of a partial index; a database without partial indexes may index all rows."""

    name: str
    table: str
    columns: str
    where: str = ""
    unique: bool = False


TABLES = (
    Table(
        "jobs",
        ("id",),
        "id TEXT, trigger TEXT NOT NULL, scheduled_since INTEGER NOT NULL, settled_until INTEGER NOT NULL,"
        " paused_at INTEGER, resume_at INTEGER, retired_at INTEGER,"
        " func TEXT, kwargs TEXT, options TEXT,"  # of a job that was added at run time
        " removed INTEGER NOT NULL DEFAULT 0,"  # 1: the job was removed; 2: it has finished
        " broken TEXT, info TEXT,"  # why it cannot run; name, description and tags as JSON
        f" next_due INTEGER NOT NULL DEFAULT {NEVER},"
        " new_trigger TEXT, code_trigger TEXT",  # of a job of the code: run-time trigger, and the one that it replaces
    ),
    Table(  # the schedules of each job, from when to when, to compute its due ticks again
        "epochs",
        ("job_id", "since"),
        "job_id TEXT NOT NULL, since INTEGER NOT NULL, until INTEGER, anchor INTEGER NOT NULL, trigger TEXT NOT NULL,"
        " rule INTEGER NOT NULL DEFAULT 1",
    ),
    Table(
        "runs",
        ("seq",),
        "job_id TEXT NOT NULL, due INTEGER NOT NULL, request INTEGER NOT NULL, term INTEGER NOT NULL,"
        " attempt INTEGER NOT NULL DEFAULT 1, claimed_at INTEGER NOT NULL, ended_at INTEGER, outcome TEXT, error TEXT,"
        " attempts TEXT NOT NULL DEFAULT '[]', started_at INTEGER, max_instances INTEGER, began_us INTEGER,"
        " ended_us INTEGER",
        appended=True,
    ),
    Table(
        "skips",
        ("seq",),
        "job_id TEXT NOT NULL, first_due INTEGER NOT NULL, last_due INTEGER NOT NULL, count INTEGER,"
        " reason TEXT NOT NULL, request INTEGER NOT NULL, term INTEGER NOT NULL, skipped_at INTEGER NOT NULL",
        appended=True,
    ),
    Table(
        "run_logs",
        ("id",),
        "run INTEGER NOT NULL, attempt INTEGER NOT NULL, job_id TEXT NOT NULL, failed INTEGER NOT NULL,"
        " log TEXT NOT NULL",
    ),
    Table(
        "requests",
        ("id",),
        "action TEXT NOT NULL, job_id TEXT, term INTEGER, requested_at INTEGER NOT NULL, done_at INTEGER, outcome TEXT,"
        " reason TEXT, run INTEGER,"
        " kwargs TEXT, result TEXT",  # of a requested run, as JSON: arguments, and return value
    ),
    Table(  # who changed a job or the pool, and when
        "audit",
        ("seq",),
        "changed_at INTEGER NOT NULL, changed_by TEXT NOT NULL, action TEXT NOT NULL, job_id TEXT, old_value TEXT,"
        " new_value TEXT, request INTEGER",
        appended=True,
    ),
    Table(  # intents to end a leader that hung
        "fences",
        ("term",),
        "term INTEGER, pid INTEGER NOT NULL, by_pid INTEGER NOT NULL, fenced_at INTEGER NOT NULL,"
        " silent_s REAL NOT NULL",
    ),
    Table("pruned", ("until",), "until INTEGER NOT NULL"),  # history up to here may be gone
    Table(
        "terms",
        ("term",),
        "term INTEGER, pid INTEGER NOT NULL, host TEXT NOT NULL, boot_id TEXT NOT NULL, began_at INTEGER NOT NULL,"
        " began_ns INTEGER NOT NULL, reason TEXT NOT NULL, from_pid INTEGER, takeover_ms REAL, ended_at INTEGER,"
        " ended_ns INTEGER, standing TEXT, vacant_s REAL",
    ),
    Table(
        "totals",
        ("what", "job_id", "label"),
        "what TEXT NOT NULL, job_id TEXT NOT NULL, label TEXT NOT NULL, count INTEGER NOT NULL, total REAL NOT NULL",
    ),
    Table(  # order of the latest changes of jobs, so that a leader reads only changed jobs
        "job_changes", ("job_id",), "job_id TEXT, number INTEGER NOT NULL", moves=False
    ),
    Table(  # one row: last location of the ledger; time and term since when it is a copy
        "place",
        ("identity",),
        "identity TEXT NOT NULL, copied_at INTEGER, copied_term INTEGER",
        moves=False,
    ),
)

NUMBERED = {table.name: table.key[0] for table in TABLES if table.numbered}
"""Keys that the database numbers, by table."""

INDEXES = (
    Index("one_claim_per_tick", "runs", "job_id, due, request", unique=True),
    Index("open_runs", "runs", "job_id", "outcome IS NULL"),
    Index("runs_of_job", "runs", "job_id, seq"),
    Index("unsuccessful_runs", "runs", "outcome, seq", "outcome <> 'succeeded'"),  # empty if all runs succeed
    Index("skips_of_job", "skips", "job_id, seq"),
    Index("open_requests", "requests", "id", "done_at IS NULL"),
    Index("audit_of_job", "audit", "job_id, seq"),
    Index("log_of_attempt", "run_logs", "run, attempt", unique=True),
    Index("logs_of_job", "run_logs", "job_id, failed, id"),
    Index("latest_changes", "job_changes", "number"),
    Index("live_jobs", "jobs", "id, removed", "removed = 0"),  # covers a count
    Index("code_jobs", "jobs", "func, id", "removed = 0 AND func IS NULL"),
    Index("due_jobs", "jobs", DUE_ORDER, "removed = 0 AND func IS NOT NULL"),
)

FIRST_ROWS = ("INSERT INTO pruned VALUES (0)", "INSERT INTO place (identity) VALUES ('')")


def create_tables(
    *, numbered: str, integer: str = "INTEGER", real: str = "REAL", options: Mapping[str, str] | None = None
) -> Iterator[str]:
    """Statements that make the tables and their first rows, without the indexes.

    Args:
        numbered: Definition of a key that the database numbers; ``{table}`` is the table's name.
        integer: Type of an integer of 64 bits.
        real: Type of a floating point number of 64 bits.
        options: Ends of statements, by table.
    """
    for table in TABLES:
        definition = table.definition.replace("INTEGER", integer).replace("REAL", real)
        if table.numbered:
            columns = f"{table.key[0]} {numbered.format(table=table.name)}, {definition}"
        else:
            columns = f"{definition}, PRIMARY KEY ({', '.join(table.key)})"
        yield f"CREATE TABLE {table.name} ({columns}) {(options or {}).get(table.name, '')}".rstrip()
    yield from FIRST_ROWS


def create_indexes() -> Iterator[str]:
    """Statements that make the indexes, in a database that has partial ones."""
    for index in INDEXES:
        where = f" WHERE {index.where}" if index.where else ""
        yield f"CREATE {'UNIQUE ' * index.unique}INDEX {index.name} ON {index.table} ({index.columns}){where}"
