"""Winning is not yet leading: may the holder of this flock lead, given the leader record?

The flock proves that nobody else holds *this* file. Whether somebody leads on a file that lay here before is what the
record tells, because it names the file that its holder held (docs/pitfalls.md#4).
"""

from __future__ import annotations

import os

from election.core.term import LeaderRecord, Standing

from .lock import Identity


def is_rival(record: LeaderRecord | None, ours: Identity, *, alive: bool, flocked: bool | None) -> bool:
    """Whether the recorded leader may still lead, so that the holder of the flock on ``ours`` must not. Decides only.

    alive: whether the recorded leader's process lives, or may.
    flocked: whether anybody holds a flock on the file that it held; None if that cannot be told.
    """
    if record is None or record.standing is not Standing.LEADING:
        return False
    if record.seat_id == seat_id(ours):
        return False  # our flock is the proof: whoever held it has lost it
    return alive and flocked is not False


def standoff(lock: str, record: LeaderRecord) -> str:
    """Why nobody leads while the recorded leader may, in words."""
    return (
        f"{lock} was replaced while pid {record.holder.pid} leads term {record.term}"
        " on the former one; nobody else leads before that has ended"
    )


def seat_id(identity: Identity) -> str:
    """Device and inode of a lock file, as the leader record names it."""
    return f"{identity[0]}:{identity[1]}"


def is_flocked(wanted: str, ours: Identity, locks: str = "/proc/locks") -> bool | None:
    """Whether the kernel lists a flock on the file that the record calls ``wanted``; None if its list cannot be used.

    ours: a file whose flock this process holds. If the list does not show that one, its device numbers are not those
    that ``stat`` gives (btrfs, overlayfs), or it is another container's, and it proves nothing.
    """
    try:
        with open(locks) as file:
            rows = [line.split() for line in file]
    except OSError:
        return None
    listed = {(int(row[4]), row[5]) for row in rows if row[1] == "FLOCK"}  # see proc(5); waiters have "->" there
    if (os.getpid(), _as_listed(ours)) not in listed:
        return None
    device, _, inode = wanted.partition(":")
    try:
        return _as_listed((int(device), int(inode))) in {file for _, file in listed}
    except (ValueError, OverflowError):
        return False  # no lock file's name, so nobody holds that


def _as_listed(identity: Identity) -> str:
    device, inode = identity
    return f"{os.major(device):02x}:{os.minor(device):02x}:{inode}"
