"""Simulated pools, each generated from a seed, so that a failure can be reproduced by its seed."""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from election.core.errors import SeatError
from tests.core.simulation import EVENTS, EVERYBODY, LONGEST, Event, Script, live

REGRESSIONS = (
    3364, 3598, 6084,  # a frozen worker whose release failed counted as leader after the release
)  # fmt: skip
"""Seeds that have failed once. The test runs each of them every time, so the meaning of a seed must not change."""

_PAUSES = (0.0, 0.0, 0.05, 0.3, 1.0, 3.0, 10.0)
_WHAT = [*EVENTS, "join", *["join", "heal", "continue", "crash", "resign", "take away", "hang", "fence"] * 2]
_ERRORS = (SeatError("disk full"), OSError(28, "No space left"), RuntimeError("nobody thought of this"))


def script_of(seed: int) -> tuple[int, Script]:
    """Initial number of workers, and the script of events."""
    chance = random.Random(seed)
    size = chance.choice((1, 2, 2, 3, 3, 4, 6, 8))
    return size, [(_an_event(chance), chance.choice(_PAUSES)) for _ in range(chance.randint(5, 40))]


def _an_event(chance: random.Random) -> Event:
    whom = chance.choice((None, None, chance.randrange(8), chance.randrange(8), chance.randrange(8), EVERYBODY))
    seconds = chance.choice((0.0, 0.1, 0.7, 2.0, LONGEST))
    return Event(chance.choice(_WHAT), whom, seconds, chance.choice(_ERRORS))


@dataclass
class Outcome:
    """Result of several seeds. ``failed``: the violation, by seed."""

    seeds: int = 0
    terms: int = 0
    seconds: float = 0.0
    failed: dict[int, str] = field(default_factory=dict)

    def __str__(self) -> str:
        rate = self.seeds / self.seconds * 60 if self.seconds else 0.0
        return (
            f"{self.seeds} seeds, {self.terms} terms, {len(self.failed)} failed,"
            f" in {self.seconds:.1f} s ({rate:,.0f} seeds a minute)"
        )


def simulate(seeds: Iterable[int], tell: Callable[[int, str], None] = lambda seed, wrong: None) -> Outcome:
    """Simulate each seed; call ``tell`` at once for each that fails."""
    log = logging.getLogger("election")
    level = log.level
    log.setLevel(logging.CRITICAL)  # there are many faults, and each is logged
    outcome, began = Outcome(), time.perf_counter()
    try:
        with asyncio.Runner() as runner:
            for seed in seeds:
                outcome.seeds += 1
                try:
                    outcome.terms += runner.run(live(*script_of(seed)))
                except Exception as error:
                    outcome.failed[seed] = f"{type(error).__name__}: {error}"
                    tell(seed, outcome.failed[seed])
    finally:
        log.setLevel(level)
    outcome.seconds = time.perf_counter() - began
    return outcome
