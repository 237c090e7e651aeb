"""Wake-up of followers at a vacancy (P6), at next to no cost (P7).

Three sources: a pidfd of the recorded leader, readable at its death, when its flock is already free; the hang-up of a
FIFO that the leader holds, at a resignation or a death; a safety poll. The first two only shorten the third: without
them everything works, only later.

A thundering herd would take the cores that the successor needs. So only the eight oldest followers watch the leader:
the oldest tries the seat at once, the others one by one after the time of a takeover. Each younger follower watches the
eighth before it, and moves up at its death. This is the recipe of ZooKeeper's locks, in which each client waits for its
predecessor.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import select
import stat
from collections.abc import Callable
from functools import partial

from election.core.backend import SeatTiming
from election.core.clock import Clock, time_limit
from election.core.events import named
from election.core.logs import log
from election.core.process import ProcessIdentity
from election.core.term import LeaderRecord, Standing

from .file_thread import FileThread
from .leader_record import is_led

FIRST_RETRY_S = 0.0005
"""Delay of the second attempt when the seat seems vacant and is not ours; doubled up to the safety poll."""

HANG_UP_DOUBT_S = 1.0
"""Time for which a live leader is doubted after a hang-up: a process that dies closes its FIFO before its flock, and
that takes time on a busy host."""

DYING_S = 0.1
"""Time for a leader to die after its hang-up: an earlier attempt finds the flock taken, and slows the death down."""

UNSETTLED_S = 0.05
"""Interval of attempts while there is no record: a winner that settles may die before it writes one."""

LISTENERS = 8
"""Followers that watch the leader."""

HEAD_START_S = 0.02
"""Time in which the oldest follower has usually taken over."""

HEAD_START_STEP_S = 0.002
"""Further delay of each younger follower's attempt."""

_FLAGS = getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_NOFOLLOW", 0)

_held: set[int] = set()
"""FIFO write ends that this process holds."""


class AliveFifo:
    """``leader.alive``: a FIFO whose write end the leader holds, and which hangs up when the leader resigns or dies."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._descriptor: int | None = None

    @property
    def descriptor(self) -> int | None:
        """Write end that this process holds; None if it holds none."""
        return self._descriptor

    def hold(self) -> None:
        """Hold the write end, as the leader does; create the FIFO if needed. Logs errors, and never raises."""
        self.let_go()
        try:
            if not self._is_fifo():
                with contextlib.suppress(FileNotFoundError):
                    os.unlink(self._path)
                os.mkfifo(self._path, 0o600)
            # Both ends, because the write end alone cannot be opened before there is a reader.
            self._descriptor = os.open(self._path, os.O_RDWR | _FLAGS)
            _held.add(self._descriptor)
        except (OSError, AttributeError) as error:
            log.warning(
                "%s cannot be held, so resignations are noticed more slowly: %s",
                self._path,
                error,
                extra=named("fifo_unavailable"),
            )

    def let_go(self) -> None:
        """Close the write end. In a forked child it is closed already, and its number may belong to another file."""
        if self._descriptor in _held:
            _held.discard(self._descriptor)
            with contextlib.suppress(OSError):
                os.close(self._descriptor)
        self._descriptor = None

    def listen(self) -> int | None:
        """Open a descriptor that becomes readable when a present or future writer hangs up; None if that fails.

        Nothing else makes a FIFO readable: a new read end reports no event until its first writer has closed it.
        """
        try:
            descriptor = os.open(self._path, os.O_RDONLY | _FLAGS)
        except OSError:
            return None
        if stat.S_ISFIFO(os.fstat(descriptor).st_mode):
            return descriptor
        os.close(descriptor)
        return None

    def _is_fifo(self) -> bool:
        try:
            return stat.S_ISFIFO(os.lstat(self._path).st_mode)
        except FileNotFoundError:
            return False


def _close_in_child() -> None:
    """Close the write ends in a forked child, which would otherwise prevent the hang-up (docs/pitfalls.md#1)."""
    for descriptor in _held:
        with contextlib.suppress(OSError):
            os.close(descriptor)
    _held.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_close_in_child)


class VacancyWatcher:
    """Waits for a vacancy on behalf of one follower.

    Args:
        fifo: FIFO of the pool.
        timing: Safety poll, with jitter, after which a campaign is worth trying in any case.
        clock: Time of the waits.
        files: Thread that opens files.
        list_elders: Returns the workers that joined before this one, oldest first; may block.
    """

    def __init__(
        self,
        fifo: AliveFifo,
        *,
        timing: SeatTiming,
        clock: Clock,
        files: FileThread,
        list_elders: Callable[[], list[ProcessIdentity]] = list,
    ) -> None:
        self._fifo = fifo
        self._files = files
        self._clock = clock
        self._timing = timing
        self._list_elders = list_elders
        self._elders: list[ProcessIdentity] = []
        self._previous: tuple[int, Standing] | None = None
        self._descriptors: dict[str, int] = {}
        self._retry: float | None = None
        self.armed_for: tuple[int, Standing] | None = None
        """Term and standing whose end wakes this follower; None if the watcher has to be armed anew."""

    @property
    def sources(self) -> list[str]:
        """Names of the open wake-up sources beside the poll."""
        return sorted(self._descriptors)

    async def vacancy(self, record: LeaderRecord | None, look: Callable[[], LeaderRecord | None]) -> None:
        """Return when a campaign is worth trying.

        Args:
            record: Leader record as it was read just now.
            look: Returns the current record; may block.
        """
        if record is not None and (record.term, record.standing) != self.armed_for:
            self.close()
            await self._files.run(partial(self._listen, record))
            self._arm(record)
            return  # one more attempt at once: a term that ended before the watcher was armed does not wake it
        source = await self._first_event(self._min_refusal_s(record))
        if source == "fifo" and "pidfd" in self._descriptors:
            self._drop(source)
            if _is_readable(self._descriptors["pidfd"]):
                source = "pidfd"
            elif _is_same(record, await self._files.run(look)):
                # The leader is dying, not resigning: the pidfd reports when its flock is free.
                source = await self._first_event(DYING_S) or source
        if source == "elder":
            self.armed_for = None  # moved up one place
        elif source:
            if source in self._descriptors:
                self._drop(source)
            self._retry = FIRST_RETRY_S
            if (head_start := self._head_start_s()) > 0:
                await self._clock.sleep(head_start)

    def close(self) -> None:
        """Close all descriptors."""
        for source in list(self._descriptors):
            self._drop(source)
        self.armed_for = None

    def _head_start_s(self) -> float:
        """Seconds for which this follower leaves the seat to older ones; 0 if there is none."""
        for place, process in enumerate(self._elders):
            if not process.is_known_dead():
                return HEAD_START_S + HEAD_START_STEP_S * (len(self._elders) - place - 1)
        return 0.0

    def _listen(self, record: LeaderRecord) -> None:
        self._elders = [process for process in self._list_elders() if process != record.holder]
        if len(self._elders) >= LISTENERS and is_led(record) and self._watch("elder", self._elders[-LISTENERS]):
            return
        fifo = self._fifo.listen()
        if fifo is not None:
            self._descriptors["fifo"] = fifo

    def _arm(self, record: LeaderRecord) -> None:
        previous, self._previous = self._previous, (record.term, record.standing)
        self.armed_for = self._previous
        self._retry = None
        if "elder" in self._descriptors:
            return
        if record.standing is Standing.LEADING:
            self._watch("pidfd", record.holder)
        if "pidfd" not in self._descriptors and self._previous != previous:
            self._retry = FIRST_RETRY_S  # the leader may have hung up before, and still hold its flock

    def _min_refusal_s(self, record: LeaderRecord | None) -> float:
        """Seconds to wait: a safety poll while a worker leads, short and growing while no worker seems to lead."""
        poll = self._timing.jittered(self._timing.safety_poll)
        if record is None:
            return min(UNSETTLED_S, poll)
        led = is_led(record)
        if led and self._retry is None:
            return poll
        delay = self._retry or FIRST_RETRY_S
        if led and delay > HANG_UP_DOUBT_S:
            self._retry = self.armed_for = None  # the leader lives, so watch it again
            return poll
        self._retry = delay * 2
        return min(delay * self._timing.uniform(0.5, 1.0), poll)

    async def _first_event(self, seconds: float) -> str | None:
        """Name of the first source with an event within ``seconds``; None if there was none."""
        loop = asyncio.get_running_loop()
        event: asyncio.Future[str] = loop.create_future()

        def set_event(source: str) -> None:
            if not event.done():
                event.set_result(source)

        for source, descriptor in self._descriptors.items():
            loop.add_reader(descriptor, set_event, source)
        try:
            async with time_limit(self._clock, seconds):
                return await event
        except TimeoutError:
            return None
        finally:
            for descriptor in self._descriptors.values():
                loop.remove_reader(descriptor)

    def _watch(self, source: str, process: ProcessIdentity) -> bool:
        """Open a pidfd as a source; returns False if the process is dead or cannot be watched from here."""
        if process.is_neighbour() and process.is_alive():
            with contextlib.suppress(OSError, AttributeError):  # dead meanwhile, no descriptors left, or no Linux
                self._descriptors[source] = os.pidfd_open(process.pid)
                if process.is_alive():
                    return True
                self._drop(source)  # the pid was reused in between
        return False

    def _drop(self, source: str) -> None:
        os.close(self._descriptors.pop(source))


def _is_readable(descriptor: int) -> bool:
    now = select.poll()
    now.register(descriptor, select.POLLIN)
    return bool(now.poll(0))


def _is_same(one: LeaderRecord | None, other: LeaderRecord | None) -> bool:
    """Whether both records are of the same term, and it has not ended in between."""
    return one is not None and other is not None and (one.term, one.standing) == (other.term, other.standing)
