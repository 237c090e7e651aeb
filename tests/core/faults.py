"""What may happen to the workers of a crew, by name: the faults of the simulations."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from tests.core.crew import Crew, Member

EVERYBODY = -1


@dataclass(frozen=True)
class Event:
    """``what`` happens to the leader if ``whom`` is None, else to the worker with that index (modulo their number)."""

    what: str
    whom: int | None
    seconds: float
    error: Exception

    def __repr__(self) -> str:
        whom = {None: "leader", EVERYBODY: "everybody"}.get(self.whom, self.whom)
        return f"{self.what}({whom}, {self.seconds:g}, {self.error!r})"


def _set(name: str) -> Callable[[Member, Event], None]:
    def fault(member: Member, event: Event) -> None:
        value = event.error if name.endswith("raises") else event.seconds
        setattr(member if hasattr(member, name) else member.seat, name, value)

    return fault


def heal(member: Member, event: Event | None = None) -> None:
    """No fault is left but death."""
    member.drain_takes = member.clings = member.seat.campaign_takes = member.seat.release_takes = 0.0
    member.entry_raises = member.exit_raises = None
    member.seat.campaign_raises = member.seat.beat_raises = member.seat.release_raises = None
    member.resume()


EVENTS: dict[str, Callable[[Member, Event], Any]] = {
    "crash": lambda member, _: member.crash(),
    "resign": lambda member, _: member.elector.request_resignation(),
    "take away": lambda member, _: member.seat.take_away(),
    "hang": lambda member, _: member.hang(),
    "continue": lambda member, _: member.resume(),
    "fence": lambda member, _: member.crash() if member.silent else None,
    "stop": lambda member, _: member.elector.stop(),
    "stop with the pool": lambda member, _: member.elector.stop_with_the_pool(),
    "cancel": lambda member, _: member.task.cancel(),
    "heal": heal,
    **{
        name: _set(name)
        for name in (
            "drain_takes", "clings", "release_takes", "campaign_takes",
            "campaign_raises", "beat_raises", "release_raises", "entry_raises", "exit_raises",
        )
    },
}  # fmt: skip


def chosen(crew: Crew, happening: Event) -> list[Member]:
    """To whom it happens."""
    if happening.whom == EVERYBODY:
        return [member for member in crew.members if not member.crashed]
    if happening.whom is None:
        return [member for member in crew.members if not member.crashed and crew.pool.holder is member.seat]
    living = [member for member in crew.members if not member.crashed]
    return [living[happening.whom % len(living)]] if living else []
