"""Diagnostics of the file engine for ``doctor``: directory, lock and its holders, leader record, FIFO. Read only."""

from __future__ import annotations

import os
import stat
import sys
import time
from collections.abc import Iterator

from election.core.checks import START, CheckResult, Severity
from election.core.clock import SystemClock
from election.core.errors import PoolPathError, SeatError
from election.core.term import LeaderRecord, Standing

from .directory import PoolDirectory, filesystem_type
from .leader_record import LeaderRecordFile
from .lock_holders import Holder, holder_of, list_directory, who_holds
from .presence import Presence

SILENT_AFTER_S = 5.0
"""Seconds without a heartbeat after which a leader is reported as silent, independent of the pool's settings."""

FORK_WINDOW_S = 0.1
"""Seconds, more than a child needs from its fork to its exec; until then it has every descriptor of its parent."""

MAX_SNAPSHOTS = 5
"""Maximum number of reads of record and lock, repeated until no election comes between the two."""


def examine(directory: PoolDirectory) -> Iterator[CheckResult]:
    """All check results, the directory first."""
    yield from _ground(directory)
    try:
        record, holders = _snapshot(directory)
        yield _record(directory, record)
        yield from _lock(directory, record, holders)
        yield _fifo(directory)
    except OSError as error:
        advice = "run this command as the user of the workers"
        yield CheckResult(Severity.WRONG, f"{error.filename} cannot be inspected: {error.strerror}", advice)


# --- the directory -------------------------------------------------------------------------------------------------


def _ground(directory: PoolDirectory) -> Iterator[CheckResult]:
    found = os.lstat(directory.path)
    if stat.S_ISLNK(found.st_mode):
        text = f"{directory.path} is a symbolic link, and no worker takes that for a pool"
        yield CheckResult(Severity.WRONG, text, f"name the directory itself: {os.path.realpath(directory.path)}")
        found = os.stat(directory.path)
    us = os.geteuid() if sys.platform != "win32" else 0
    if found.st_uid == us:
        yield CheckResult(Severity.GOOD, f"{directory.path} belongs to this user, uid {us}")
    elif us == 0:
        yield CheckResult(
            Severity.GOOD, f"{directory.path} belongs to uid {found.st_uid}, as which the workers must run"
        )
    else:
        text = f"{directory.path} belongs to uid {found.st_uid}, and this process runs as uid {us}"
        advice = f"if the workers run as this user: chown {us}; else run this command as uid {found.st_uid}"
        yield CheckResult(Severity.WRONG, text, advice)
    yield _mode(directory.path, found, 0o700, "whoever can read the lock file can hold it")
    for name in sorted(list_directory(directory.path)):
        yield from _inside(os.path.join(directory.path, name), found.st_uid)
    kind = filesystem_type(os.path.realpath(directory.path)) or "an unknown filesystem"
    try:
        directory.check_filesystem()
    except (PoolPathError, SeatError) as error:
        yield CheckResult(Severity.WRONG, str(error))
    else:
        yield CheckResult(Severity.GOOD, f"the filesystem is {kind}, and flock works there")


def _mode(path: str, found: os.stat_result, wanted: int, reason: str) -> CheckResult:
    mode = stat.S_IMODE(found.st_mode)
    if mode & 0o777 == wanted:
        return CheckResult(Severity.GOOD, f"nobody else may enter it (mode {mode:04o})")
    why = f"others may enter it, and {reason}" if mode & ~wanted & 0o777 else "its owner may not use it"
    return CheckResult(Severity.WRONG, f"{path} has mode {mode:04o}: {why}", f"chmod {wanted:o} {path}")


def _inside(path: str, owner: int) -> Iterator[CheckResult]:
    """Problems that keep the owner of the pool from using a file in it."""
    try:
        found = os.lstat(path)
    except FileNotFoundError:
        return  # files come and go
    if found.st_uid != owner:
        yield CheckResult(
            Severity.WRONG, f"{path} belongs to uid {found.st_uid}, not to {owner}", f"chown {owner} {path}"
        )
    elif found.st_mode & 0o600 != 0o600:
        mode = stat.S_IMODE(found.st_mode)
        yield CheckResult(Severity.WRONG, f"{path} has mode {mode:04o}: its owner may not use it", f"chmod u+rw {path}")


# --- the record ----------------------------------------------------------------------------------------------------


def _record(directory: PoolDirectory, record: LeaderRecord | None) -> CheckResult:
    if record is None and os.path.lexists(directory.record):
        return CheckResult(Severity.WARNING, f"{directory.record} cannot be parsed", "the next leader replaces it")
    if record is None:
        return CheckResult(
            Severity.WARNING, "there is no leader record", "normal before the first election; otherwise see the log"
        )
    holder = f"pid {record.holder.pid}, term {record.term}"
    if record.standing is not Standing.LEADING:
        return CheckResult(
            Severity.WARNING, f"nobody leads: the last leader ({holder}) {_ENDED[record.standing]}", START
        )
    if record.holder.is_alive() is False:
        return CheckResult(Severity.WARNING, f"nobody leads: the last leader ({holder}) died", START)
    silent = time.time() - os.stat(directory.record).st_mtime
    if silent > SILENT_AFTER_S:
        advice = "its event loop is blocked, or the process is stopped; once it is killed, another worker is elected"
        return CheckResult(
            Severity.WARNING, f"the last heartbeat of the leader ({holder}) was {silent:.0f} s ago", advice
        )
    return CheckResult(Severity.GOOD, f"the record names a live leader: {holder}")


_ENDED = {Standing.RESIGNED: "resigned", Standing.LOST: "lost its seat"}

# --- the lock ------------------------------------------------------------------------------------------------------


def _snapshot(directory: PoolDirectory) -> tuple[LeaderRecord | None, list[Holder]]:
    """Read the record and the holders of the lock; repeat both if an election came between them."""
    records = LeaderRecordFile(directory.record)
    record = records.read()
    for _ in range(MAX_SNAPSHOTS):
        holders = _lasting_holders(directory, record)
        before, record = record, records.read()
        if before == record:
            break
    return record, holders


def _lasting_holders(directory: PoolDirectory, record: LeaderRecord | None) -> list[Holder]:
    """Holders of the lock, without forked children before their exec."""
    try:
        found = os.stat(directory.lock, follow_symlinks=False)
    except FileNotFoundError:
        return []
    holders = list(who_holds(found.st_dev, found.st_ino))
    if {holder.pid for holder in holders} - {_leader_pid(record)}:
        time.sleep(FORK_WINDOW_S)
        holders = [holder for holder in holders if holder_of(holder.pid, found.st_dev, found.st_ino) == holder]
    return holders


def _leader_pid(record: LeaderRecord | None) -> int | None:
    return record.holder.pid if record is not None and record.standing is Standing.LEADING else None


def _lock(directory: PoolDirectory, record: LeaderRecord | None, holders: list[Holder]) -> Iterator[CheckResult]:
    leader = _leader_pid(record)
    if not os.path.lexists(directory.lock):
        advice = "the next campaign makes it"
        if leader is not None:
            advice += "; a leader that runs notices the loss within a heartbeat and steps down"
        yield CheckResult(Severity.WARNING, "there is no lock file", advice)
        return
    if not os.path.isdir("/proc/self/fdinfo"):
        yield CheckResult(Severity.WARNING, "the holder of the lock cannot be determined on this system")
        return
    held_by_leader = leader in {holder.pid for holder in holders}
    if held_by_leader:
        yield CheckResult(Severity.GOOD, f"pid {leader} holds the lock, and is the recorded leader")
    elif not holders and record is not None and leader is not None and record.holder.is_alive():
        advice = "the lock file was replaced: within a heartbeat its leader notices and another is elected; look again"
        yield CheckResult(
            Severity.WRONG, f"pid {leader} is the recorded leader, and does not hold {directory.lock}", advice
        )
    elif not holders:
        yield CheckResult(Severity.GOOD, "no process that this user can see holds the lock")
    workers = {
        each.process.pid for each in Presence(directory.workers, SystemClock()).look() if each.process.is_neighbour()
    }
    for holder in holders:
        if holder.pid == leader:
            continue
        named = f"pid {holder.pid} ({holder.command})"
        if held_by_leader:
            text = f"{named} shares the leader's lock: once the leader dies, no other worker can lead"
            advice = f"a process that inherited the descriptor; end it: kill {holder.pid}"
            yield CheckResult(Severity.WARNING, text, advice)
        elif holder.pid in workers:
            text = f"{named} holds the lock, and has not published a leader record yet"
            yield CheckResult(Severity.WARNING, text, "a worker about to lead; look again in a few seconds")
        else:
            text = f"{named} holds the lock and is no worker, so nobody can be elected"
            advice = f"an orphan that inherited the descriptor of a former leader; end it: kill {holder.pid}"
            if holder.taken_by == holder.pid:
                advice = "it took the lock itself, so it is no orphan: find out why it runs before you end it"
            yield CheckResult(Severity.WRONG, text, advice)


# --- the helpers ---------------------------------------------------------------------------------------------------


def _fifo(directory: PoolDirectory) -> CheckResult:
    try:
        is_fifo = stat.S_ISFIFO(os.lstat(directory.alive).st_mode)
    except FileNotFoundError:
        is_fifo = False
    if is_fifo:
        return CheckResult(Severity.GOOD, "the FIFO that signals resignations is there")
    advice = "the next leader makes it anew; until then followers notice a resignation at their safety poll"
    return CheckResult(Severity.WARNING, f"{directory.alive} is missing, or no FIFO", advice)
