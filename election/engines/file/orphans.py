"""Diagnosis of a lock that is held while no worker leads: its holder is named, and ended (docs/pitfalls.md#1).

The holder may be an orphan, a child that a dead leader forked without Python's fork hooks; a worker that was stopped in
the middle of its election, or whose record was removed; or a foreign process. Foreign processes are left alone; the
others are ended if the pool fences, by a punctual observer.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Sequence
from functools import partial

from election.core.backend import SeatTiming, Worker
from election.core.clock import Clock
from election.core.events import named
from election.core.logs import log
from election.core.process import pinned
from election.core.term import LeaderRecord, Standing

from .file_thread import FileThread
from .leader_record import is_led
from .lock_holders import Holder, holder_of, is_waiting_for_disk, who_holds
from .split_brain import seat_id

MIN_REFUSAL_S = 1.0
"""Seconds for which a flock may be held while nobody leads: a winner needs part of them to begin its term."""

LOOK_AGAIN_S = 5.0
"""Seconds between two scans of all processes; a scan takes milliseconds, in a thread."""


class OrphanDetector:
    """Detects a lock that is refused for long while no worker leads; ``problem`` then names its holder.

    Args:
        path: Lock file.
        min_refusal_s: Seconds of refusals before the search for the holder.
        timing: Seconds, as in ``Election``; with ``fence_after``, an orphan or a stalled worker is ended.
        clock: Time of refusals.
        workers: Returns the workers of the pool, in the thread.
        files: Thread that looks at files and processes.
    """

    def __init__(
        self,
        path: str,
        *,
        min_refusal_s: float,
        timing: SeatTiming,
        clock: Clock,
        workers: Callable[[], Sequence[Worker]],
        files: FileThread,
    ) -> None:
        self._path = path
        self._workers = workers
        self._files = files
        self._clock = clock
        self._min_refusal_s = min_refusal_s
        self._fence_after = timing.fence_after
        self._punctual_gap = 2 * timing.safety_poll + (timing.fence_after or 0.0) / 4
        self._seen_gap = max(self._punctual_gap, min_refusal_s)
        self._last_try = float("-inf")
        self._since: float | None = None
        self._punctual_since = 0.0
        self._look_at = 0.0
        self._found: dict[Holder, float] = {}
        """Monotonic time at which each holder was first seen."""
        self.problem: str | None = None

    def clear(self) -> None:
        """Reset earlier refusals: a worker leads, or the lock is free."""
        self._since = self.problem = None
        self._last_try, self._found = float("-inf"), {}

    async def refused(self, record: LeaderRecord | None) -> None:
        """Record one more refusal.

        Args:
            record: Current leader record.
        """
        if is_led(record):
            self.clear()
            return
        now = self._clock.monotonic()
        gap, self._last_try = now - self._last_try, now
        if gap > self._seen_gap:
            self._since = None  # another worker may have led meanwhile
        if gap > self._punctual_gap:  # naming a process needs less certainty than ending it
            self._punctual_since, self._found = now, {}
        if self._since is None:
            self._since, self._look_at = now, now + self._min_refusal_s
        if now < self._look_at:
            return
        self._look_at = now + LOOK_AGAIN_S
        if self._fence_after is not None:
            self._look_at = min(self._look_at, max(self._punctual_since + self._fence_after, now + self._min_refusal_s))
        locked, holders = await self._files.run(partial(_look, self._path))
        scan_s = self._clock.monotonic() - now
        if scan_s <= self._punctual_gap:  # longer, and this process may have stood still
            self._last_try += scan_s  # with many descriptors on the host, each next try would be late otherwise
        self._found = {holder: self._found.get(holder, now) for holder in holders}
        self._log(record, locked, holders)
        if self._fence_after is not None and now - self._punctual_since >= self._fence_after:
            known = await self._files.run(self._workers)
            for holder, found in self._found.items():
                if is_orphan(holder, record, locked, known):
                    await self._end(holder, "it keeps the lock that it inherited from a leader that is dead")
                elif (
                    now - found >= self._fence_after
                    and is_stalled(holder, known)
                    # A winner syncs its number before it writes its record.
                    and not await self._files.run(partial(is_waiting_for_disk, holder.pid))
                ):
                    await self._end(holder, "a worker that keeps the lock, and does not publish a leader record")

    def _log(self, record: LeaderRecord | None, locked: str, holders: Sequence[Holder]) -> None:
        before = self.problem
        if not holders:
            who = "a process that cannot be seen from here"
        else:
            who = ", ".join(_described(holder, record, locked) for holder in holders)
        self.problem = f"nobody leads, but {self._path} is locked by {who}; end that process if it stays so"
        if self.problem != before:
            log.error("%s", self.problem, extra=named("orphan_found"))

    async def _end(self, found: Holder, why: str) -> None:
        """Pin a process, so that its pid cannot be reused, and end it if it still holds the lock."""
        with contextlib.suppress(OSError), pinned(found.pid) as kill:  # gone meanwhile, or no permission
            if await self._files.run(partial(_still_holds, self._path, found)):
                log.error("ending pid %d (%s): %s", found.pid, found.command, why, extra=named("orphan_killed"))
                kill()


def _still_holds(path: str, found: Holder) -> bool:
    locked = os.stat(path, follow_symlinks=False)
    return holder_of(found.pid, locked.st_dev, locked.st_ino) == found


def is_orphan(holder: Holder, record: LeaderRecord | None, locked: str, workers: Sequence[Worker]) -> bool:
    """Whether a process holds the lock that the recorded leader took, and that leader is dead. Decides only.

    A leader's lock can be held by others only if it forked them, or passed them the descriptor.

    Args:
        holder: Process with a descriptor of the lock.
        record: Current leader record.
        locked: Lock file that it holds, as in ``seat_id``.
        workers: Workers of the pool.
    """
    return (
        record is not None
        and record.standing is Standing.LEADING
        and record.seat_id == locked
        and record.holder.is_alive() is False
        and holder.pid != record.holder.pid
        and holder.taken_by in {record.holder.pid, 0}
        and holder.pid not in {worker.process.pid for worker in workers}
    )


def is_stalled(holder: Holder, workers: Sequence[Worker]) -> bool:
    """Whether the holder of a lock without a record is a worker that took it itself. Decides only.

    A winner writes its record within two heartbeats, and a leader whose record is removed puts it back.
    """
    alive = {worker.process.pid for worker in workers if worker.process.is_neighbour() and worker.process.is_alive()}
    return holder.pid in alive and holder.taken_by == holder.pid and holder.pid != os.getpid()


def _described(holder: Holder, record: LeaderRecord | None, locked: str) -> str:
    who = f"pid {holder.pid} ({holder.command})"
    if record is not None and is_orphan(holder, record, locked, ()):
        return f"{who}, which inherited it from the dead leader, pid {record.holder.pid}"
    return who


def _look(path: str) -> tuple[str, list[Holder]]:
    """Identity of the lock file at ``path``, and its holders."""
    try:
        found = os.stat(path, follow_symlinks=False)
    except OSError:
        return "", []
    return seat_id((found.st_dev, found.st_ino)), list(who_holds(found.st_dev, found.st_ino))
