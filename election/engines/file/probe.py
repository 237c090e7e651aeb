"""Probe of a filesystem that a host shares with this machine: whether flock and SQLite's log really work there.

Docker Desktop, Parallels, VirtualBox, VMware and QEMU mount folders of the host through such filesystems. Whether flock
excludes another process there, and whether two processes see the same shared memory, depends on their version and
settings, which no name tells.
"""

from __future__ import annotations

import contextlib
import os
import sqlite3
import subprocess
import sys
import tempfile

from filelock import lock_descriptor

from election.core.errors import SeatError

TIMEOUT_S = 10.0
"""Seconds that the other process may take."""

_OTHER_PROCESS = """
import fcntl, sqlite3, sys
try:
    fcntl.flock(open(sys.argv[1]), fcntl.LOCK_EX | fcntl.LOCK_NB)
except BlockingIOError:
    pass
else:
    sys.exit("another process can lock a file that this one has locked")
ledger = sqlite3.connect(sys.argv[2], isolation_level=None, timeout=0)
if ledger.execute("SELECT count(*) FROM probe").fetchone() != (1,):
    sys.exit("another process does not see what this one has written with SQLite")
try:
    ledger.execute("BEGIN IMMEDIATE")
except sqlite3.OperationalError:
    pass
else:
    sys.exit("another process can write with SQLite while this one does")
"""


def probe_shared_folder(path: str) -> str | None:
    """Try flock and SQLite's write-ahead log in a directory, with a second descriptor and another process.

    Args:
        path: An existing directory. Files are made in it, and removed.

    Returns:
        Description of the failure; None if all works.

    Raises:
        SeatError: The probe could not be made: no process could be started, say.
    """
    try:
        with tempfile.TemporaryDirectory(dir=path, prefix="probe-") as directory:
            return _probe(os.path.join(directory, "lock"), os.path.join(directory, "ledger.db"))
    except (OSError, subprocess.SubprocessError) as error:
        raise SeatError(f"the filesystem of {path} could not be probed: {error}") from error


def _probe(lock: str, ledger: str) -> str | None:
    with open(lock, "w") as first, open(lock) as second:
        if not lock_descriptor(first.fileno(), blocking=False):
            return "a new file cannot be locked"
        if lock_descriptor(second.fileno(), blocking=False):
            return "a second descriptor can lock a file that is locked"
        try:
            with contextlib.closing(sqlite3.connect(ledger, isolation_level=None, timeout=0)) as connection:
                connection.execute("PRAGMA journal_mode=WAL")
                connection.execute("CREATE TABLE probe (number)")
                connection.execute("INSERT INTO probe VALUES (1)")
                connection.execute("BEGIN IMMEDIATE")
                command = [sys.executable, "-c", _OTHER_PROCESS, lock, ledger]
                other = subprocess.run(command, capture_output=True, text=True, timeout=TIMEOUT_S, check=False)  # noqa: S603
        except sqlite3.Error as error:
            return f"SQLite fails: {error}"
    return (other.stderr.strip().rpartition("\n")[2] or "another process fails") if other.returncode else None
