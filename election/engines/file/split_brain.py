"""Split-brain check: whether a leader may still lead on a lock file that was replaced (docs/pitfalls.md#4).

A flock proves that no other process holds *this* file. The leader record names the file that its holder had locked, and
so reveals a leader on another file.
"""

from __future__ import annotations

import os

from election.core.term import LeaderRecord, Standing

from .lock import Identity
from .lock_holders import listed_locks


def is_rival(record: LeaderRecord | None, ours: Identity, *, alive: bool, flocked: bool | None) -> bool:
    """Whether the recorded leader may still lead, so that the holder of the flock on ``ours`` must not. Decides only.

    Args:
        record: Current leader record.
        ours: Lock file whose flock this process holds.
        alive: Whether the recorded leader's process lives, or may.
        flocked: Whether any process holds a flock on the recorded lock file; None if unknown.
    """
    if record is None or record.standing is not Standing.LEADING:
        return False
    if record.seat_id == seat_id(ours):
        return False  # our flock proves that its former holder has lost it
    return alive and flocked is not False


def describe_split_brain(lock: str, record: LeaderRecord) -> str:
    """Problem text: why no worker leads on ``lock`` while the recorded leader may."""
    return (
        f"{lock} was replaced while pid {record.holder.pid} leads term {record.term}"
        " on the former file; no other worker can lead before that term has ended"
    )


def seat_id(identity: Identity) -> str:
    """Device and inode of a lock file, as the leader record names it."""
    return f"{identity[0]}:{identity[1]}"


def is_flocked(wanted: str, ours: Identity, locks: str = "/proc/locks") -> bool | None:
    """Whether the kernel lists a flock on the file that the record names as ``wanted``; None if the list is unusable.

    Args:
        wanted: Device and inode as in ``seat_id``.
        ours: File whose flock this process holds. If the list lacks it, the list has other device numbers than
            ``stat`` (btrfs, overlayfs) or belongs to another container, and proves nothing.
        locks: Path of the kernel's list.
    """
    listed = {(int(row[3]), row[4]) for row in listed_locks(locks) if row[0] == "FLOCK"}  # waiters have "->" there
    if (os.getpid(), _as_listed(ours)) not in listed:
        return None
    device, _, inode = wanted.partition(":")
    try:
        return _as_listed((int(device), int(inode))) in {file for _, file in listed}
    except (ValueError, OverflowError):
        return False  # not the name of a lock file, so no process holds it


def _as_listed(identity: Identity) -> str:
    device, inode = identity
    return f"{os.major(device):02x}:{os.minor(device):02x}:{inode}"
