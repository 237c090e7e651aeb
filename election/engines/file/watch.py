"""How a follower learns of a vacancy (P6) at next to no cost (P7).

Three things, the first to speak wins: a pidfd of the recorded leader, readable at its death, and then its flock is
already free; the hang-up of the FIFO, at a resignation or a death; a safety poll. The first two only shorten the third.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
from collections.abc import Callable

from election.core.clock import Clock, time_limit
from election.core.term import LeaderRecord, Standing

from .fifo import AliveFifo

FIRST_RETRY = 0.0005
"""Seconds until the second try when the seat seems vacant and is not ours; doubled up to the safety poll."""

HANG_UP_EARLY = 1.0
"""Seconds for which a live leader is doubted after a hang-up: a process that dies closes its FIFO before its flock,
and on a busy host that takes its time."""

DYING = 0.1
"""Seconds that a leader which has hung up gets to be dead: a try before that finds its flock taken, and takes the
processor from it."""

UNSETTLED = 0.05
"""Seconds between two tries while there is no record: whoever settles in may be gone before it has written one."""

RESIGNERS_TURN = 0.25
"""Of a safety poll: how long a worker that gave the seat up leaves it to the others."""


class Watch:
    """Waits for a vacancy on behalf of one follower.

    fifo: the pool's FIFO.
    safety_poll: seconds, jittered by a fifth, after which a campaign is worth trying in any case.
    """

    def __init__(self, fifo: AliveFifo, *, safety_poll: float, clock: Clock) -> None:
        self._fifo = fifo
        self._clock = clock
        self._safety_poll = safety_poll
        self._armed_for: tuple[int, Standing] | None = None
        self._met: tuple[int, Standing] | None = None
        """For whom the watch was armed last, also when it is to be armed anew."""
        self._descriptors: dict[str, int] = {}
        self._retry: float | None = None

    async def vacancy(self, look: Callable[[], LeaderRecord | None]) -> None:
        """Return when a campaign is worth trying. ``look`` gives the leader record as it stands."""
        record = look()
        if record is not None and (record.term, record.standing) != self._armed_for:
            self._arm(record)
            if not _is_own_end(record):
                return  # once more at once: what ended before the watch stood does not wake it
        spoke = await self._first_event(self._patience(record))
        if spoke == "fifo" and "pidfd" in self._descriptors and _is_same(record, look()):
            self._drop(spoke)  # it did not resign, so it is dying, and the pidfd tells when its flock is free
            spoke = await self._first_event(DYING) or spoke
        if spoke:
            if spoke in self._descriptors:
                self._drop(spoke)
            self._retry = FIRST_RETRY

    def close(self) -> None:
        """Give all descriptors back."""
        for source in list(self._descriptors):
            self._drop(source)
        self._armed_for = None

    def _arm(self, record: LeaderRecord) -> None:
        self.close()
        met, self._met = self._met, (record.term, record.standing)
        self._armed_for = self._met
        self._retry = None
        fifo = self._fifo.listen()
        if fifo is not None:
            self._descriptors["fifo"] = fifo
        if record.standing is Standing.LEADING and record.holder.is_neighbour() and record.holder.is_alive():
            with contextlib.suppress(OSError, AttributeError):  # dead meanwhile, no descriptors left, or no Linux
                self._descriptors["pidfd"] = os.pidfd_open(record.holder.pid)
                if not record.holder.is_alive():
                    self._drop("pidfd")  # somebody else has got the pid in between
        if "pidfd" not in self._descriptors and self._met != met:
            self._retry = FIRST_RETRY  # it may have hung up before we listened, and have its flock still

    def _patience(self, record: LeaderRecord | None) -> float:
        """Seconds to wait: a safety poll while somebody leads, short and growing while nobody seems to."""
        poll = self._safety_poll * random.uniform(0.8, 1.2)
        if record is None:
            return min(UNSETTLED, poll)
        if _is_own_end(record):
            return poll * RESIGNERS_TURN
        led = record.standing is Standing.LEADING and record.holder.is_alive() is not False
        if led and self._retry is None:
            return poll
        delay = self._retry or FIRST_RETRY
        if led and delay > HANG_UP_EARLY:
            self._retry = self._armed_for = None  # it leads on, so listen to it again
            return poll
        self._retry = delay * 2
        return min(delay * random.uniform(0.5, 1.0), poll)

    async def _first_event(self, seconds: float) -> str | None:
        """Which source spoke within ``seconds``; None if none did."""
        loop = asyncio.get_running_loop()
        spoken: asyncio.Future[str] = loop.create_future()

        def speak(source: str) -> None:
            if not spoken.done():
                spoken.set_result(source)

        for source, descriptor in self._descriptors.items():
            loop.add_reader(descriptor, speak, source)
        try:
            async with time_limit(self._clock, seconds):
                return await spoken
        except TimeoutError:
            return None
        finally:
            for descriptor in self._descriptors.values():
                loop.remove_reader(descriptor)

    def _drop(self, source: str) -> None:
        os.close(self._descriptors.pop(source))


def _is_same(one: LeaderRecord | None, other: LeaderRecord | None) -> bool:
    """Whether the same term goes on."""
    return one is not None and other is not None and (one.term, one.standing) == (other.term, other.standing)


def _is_own_end(record: LeaderRecord) -> bool:
    """Whether it was this process that led last, and gave the seat up."""
    return record.standing is not Standing.LEADING and record.holder.pid == os.getpid()
