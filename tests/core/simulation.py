"""Simulation of a pool: a script of faults, then a healthy phase, then an orderly shutdown, with checks throughout."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

from election.core.backoff import RETRY_MAX_DELAY_S
from election.core.roles import Role
from tests.support.simulated import HEARTBEAT, SimulatedPool, SimulatedWorker, simulated_pool

EVERYBODY = -1


@dataclass(frozen=True)
class Event:
    """An event: ``what`` happens to the leader if ``whom`` is None, else to the worker with that index modulo their
    number.
    """

    what: str
    whom: int | None
    seconds: float
    error: Exception

    def __repr__(self) -> str:
        whom = {None: "leader", EVERYBODY: "everybody"}.get(self.whom, self.whom)
        return f"{self.what}({whom}, {self.seconds:g}, {self.error!r})"


def _set(name: str) -> Callable[[SimulatedWorker, Event], None]:
    def fault(worker: SimulatedWorker, event: Event) -> None:
        value = event.error if name.endswith("raises") else event.seconds
        setattr(worker if hasattr(worker, name) else worker.seat, name, value)

    return fault


def heal(worker: SimulatedWorker, event: Event | None = None) -> None:
    """Remove every fault but death."""
    worker.drain_takes = worker.clings = worker.seat.campaign_takes = worker.seat.release_takes = 0.0
    worker.entry_raises = worker.exit_raises = None
    worker.seat.campaign_raises = worker.seat.beat_raises = worker.seat.release_raises = None
    worker.resume()


EVENTS: dict[str, Callable[[SimulatedWorker, Event], Any]] = {
    "crash": lambda worker, _: worker.crash(),
    "resign": lambda worker, _: worker.elector.request_resignation(),
    "take away": lambda worker, _: worker.seat.take_away(),
    "hang": lambda worker, _: worker.hang(),
    "continue": lambda worker, _: worker.resume(),
    "fence": lambda worker, _: worker.crash() if worker.silent else None,
    "stop": lambda worker, _: worker.elector.stop(),
    "stop with the pool": lambda worker, _: worker.elector.stop_with_the_pool(),
    "cancel": lambda worker, _: worker.task.cancel(),
    "heal": heal,
    **{
        name: _set(name)
        for name in (
            "drain_takes", "clings", "release_takes", "campaign_takes",
            "campaign_raises", "beat_raises", "release_raises", "entry_raises", "exit_raises",
        )
    },
}  # fmt: skip


def chosen(pool: SimulatedPool, happening: Event) -> list[SimulatedWorker]:
    """Worker that the event affects."""
    if happening.whom == EVERYBODY:
        return [worker for worker in pool.workers if not worker.crashed]
    if happening.whom is None:
        return [worker for worker in pool.workers if not worker.crashed and pool.memory.holder is worker.seat]
    living = [worker for worker in pool.workers if not worker.crashed]
    return [living[happening.whom % len(living)]] if living else []


# --- a life -------------------------------------------------------------------------------------------------------

LONGEST = 5.0
"""Longest duration of any fault in seconds."""

RECOVERY = RETRY_MAX_DELAY_S + HEARTBEAT + 5 * LONGEST
"""Seconds within which a worker leads after the last fault: a back-off, a heartbeat that notices a loss, a campaign,
drain and release that were slow when they began, and the campaign of another worker.
"""

Script: TypeAlias = Sequence[tuple[Event, float]]
"""An event, and the seconds until the next one."""


async def live(size: int, script: Script) -> int:
    """Run the script with ``size`` workers, remove all faults, shut down in order; return the number of terms.

    Raises ``AssertionError`` for a broken promise: P1, P2 and P5 at any instant, P6 after the last fault.
    """
    stopping: list[asyncio.Task[None]] = []
    async with simulated_pool() as pool:
        for _ in range(size):
            await pool.join()
        for happening, pause in script:
            if happening.what == "join":
                await pool.join()
            else:
                for worker in chosen(pool, happening):
                    begun = EVENTS[happening.what](worker, happening)
                    if isinstance(begun, Coroutine):
                        stopping.append(asyncio.create_task(begun))
            await pool.clock.advance(pause)
            assert len(pool.leaders()) <= 1, "P1: two lead"
        await _recovers(pool)
        await _ends(pool)
        await asyncio.gather(*stopping)
    return sum(line.event == "begin" for line in pool.memory.history)


async def _recovers(pool: SimulatedPool) -> None:
    """Liveness: after the last fault a worker leads within bounded time, and keeps leading."""
    for worker in pool.workers:
        heal(worker)
    await pool.clock.settle()  # a worker that stood still in a failed release ends only now
    for worker in pool.workers:
        if worker.task.done():
            worker.crash()  # the end of a process also frees the seat that it failed to release
    await pool.join()  # all other workers may have crashed or stopped
    await pool.clock.advance(RECOVERY)
    assert len(pool.leaders()) == 1, f"P6: {len(pool.leaders())} lead after {RECOVERY:g} s without a fault"
    (leader,) = pool.leaders()
    terms = len(leader.terms)
    await pool.clock.advance(60)
    assert (pool.leaders(), len(leader.terms)) == ([leader], terms), "P6: it does not lead on"
    assert leader.elector.trouble is None


async def _ends(pool: SimulatedPool) -> None:
    """After the stop, all workers end, the seat is free, and no elector has raised."""
    for worker in pool.workers:
        worker.elector.stop()
    await pool.clock.advance(RETRY_MAX_DELAY_S)
    assert pool.memory.holder is None
    for worker in pool.workers:
        assert worker.task.done()
        if not worker.task.cancelled():
            assert worker.task.exception() is None
            assert worker.elector.role is Role.STOPPED
