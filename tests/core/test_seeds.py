"""Pools from seeds keep the promises, and each planted bug is found."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import replace

import pytest

from election.core import elector
from election.core.backend import Grant, Refusal
from election.core.elector import Elector
from election.testing.pool import MemoryBackend
from tests import simulate as command
from tests.core.seeds import REGRESSIONS, Outcome, script_of, simulate
from tests.core.simulation import EVENTS

SEEDS = 300

TryAcquire = Callable[[MemoryBackend], Awaitable[Grant | Refusal]]


@pytest.mark.parametrize("seeds", [80, pytest.param(SEEDS, marks=pytest.mark.extended)])
def test_p1_p2_p5_p6_hold_whatever_the_seed(seeds: int) -> None:
    outcome = simulate([*REGRESSIONS, *range(seeds)])
    assert outcome.failed == {}
    assert outcome.terms > 2 * seeds


def test_the_seeds_make_everything_happen() -> None:
    what = {happening.what for seed in range(SEEDS) for happening, _ in script_of(seed)[1]}
    assert what == {*EVENTS, "join"}


def test_a_seed_means_the_same_each_time() -> None:
    assert repr(script_of(7)) == repr(script_of(7))


# --- planted bugs --------------------------------------------------------------------------------------------------


def granted_twice(acquire: TryAcquire) -> TryAcquire:
    """Planted bug: a seat is granted while its holder stands still."""

    async def stolen(backend: MemoryBackend) -> Grant | Refusal:
        if await acquire(backend) is Refusal.TAKEN:
            backend.shared.holder = None
        return await acquire(backend)

    return stolen


def the_same_number(acquire: TryAcquire) -> TryAcquire:
    """Planted bug: term numbers start again after a resignation."""

    async def forgetful(backend: MemoryBackend) -> Grant | Refusal:
        grant = await acquire(backend)
        if isinstance(grant, Grant) and grant.before is not None and grant.before.ended_at is not None:
            return replace(grant, before=None, last_term=0)
        return grant

    return forgetful


PLANTED = {
    "a seat is granted twice": (MemoryBackend, "try_acquire", granted_twice(MemoryBackend.try_acquire), "P1"),
    "a number is used twice": (MemoryBackend, "try_acquire", the_same_number(MemoryBackend.try_acquire), "P2"),
    "who failed once does not try again": (elector, "backoff_s", lambda first_delay_s, retries: 1e9, "P6"),
    "a lost leader works on": (Elector, "_leave", lambda self, lost: lost.clear(), "ValueError"),
}


@pytest.mark.parametrize(
    "bug", [bug if "twice" in bug else pytest.param(bug, marks=pytest.mark.extended) for bug in PLANTED]
)
def test_a_planted_bug_is_found(bug: str, monkeypatch: pytest.MonkeyPatch) -> None:
    owner, name, wrong, words = PLANTED[bug]
    monkeypatch.setattr(owner, name, wrong)
    outcome = simulate(range(60))
    assert any(words in told for told in outcome.failed.values())


# --- the command ---------------------------------------------------------------------------------------------------


def test_the_command_prints_the_rate(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr("sys.argv", ["simulate", "--seeds", "5", "--first", "100"])
    assert command.main() == 0
    assert capsys.readouterr().out.startswith("5 seeds, ")


def test_the_command_tells_how_to_have_a_failure_again(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def failing(seeds: range, tell: Callable[[int, str], None]) -> Outcome:
        tell(seeds[0], "P1: two of them")
        return Outcome(seeds=1, failed={seeds[0]: "P1: two of them"})

    monkeypatch.setattr("sys.argv", ["simulate", "--seed", "42"])
    monkeypatch.setattr(command, "simulate", failing)
    assert command.main() == 1
    said = capsys.readouterr().out
    assert "seed 42 failed: P1: two of them\n  again: python -m tests.simulate --seed 42" in said
    assert f"{script_of(42)[0]} workers" in said
