"""The names that applications import, pinned: a change here is a change for everybody."""

from __future__ import annotations

import importlib
import inspect
import tomllib
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

import election

ROOT = Path(__file__).resolve().parents[1]

NAMES = {
    "election": [
        "ConfigurationError",
        "Election",
        "ElectionError",
        "JobDefinitionError",
        "LedgerError",
        "LedgerVersionError",
        "NotStartedError",
        "PoolInUseError",
        "PoolPathError",
        "Run",
        "RunError",
        "SeatError",
        "SeatLostError",
        "StaleTermError",
        "UnknownEngineError",
        "UnknownJobError",
        "current_run",
    ],
    "election.events": [
        "Deposed",
        "Elected",
        "Event",
        "Fenced",
        "JobFailing",
        "JobRecovered",
        "Resigned",
        "RunFailed",
        "RunGivenUp",
        "RunInterrupted",
        "RunLate",
        "RunOverlong",
        "RunStarted",
        "RunSucceeded",
        "TickSkipped",
        "TookOver",
    ],
    "election.tracing": [
        "instrument",
    ],
    "election.testing": [
        "Happening",
        "ManualClock",
        "MemoryPool",
        "MemorySeat",
        "always_leader",
        "as_run",
    ],
}

OF_ELECTION = [
    "add_job",
    "add_jobs",
    "around_runs",
    "check",
    "health",
    "is_leader",
    "jobs",
    "leader_only",
    "lifespan",
    "metrics",
    "on_event",
    "remove_job",
    "resign",
    "router",
    "routes",
    "run_now",
    "scheduled_job",
    "term",
    "unfinished_jobs",
    "wait_until_leading",
    "while_leading",
]


@pytest.fixture(params=NAMES)
def module(request: pytest.FixtureRequest) -> ModuleType:
    return importlib.import_module(request.param)


def test_the_exported_names_are_the_pinned_ones(module: ModuleType) -> None:
    assert list(module.__all__) == NAMES[module.__name__]
    assert [name for name in module.__all__ if not hasattr(module, name)] == []


def test_what_election_offers_is_pinned() -> None:
    assert [name for name in dir(election.Election) if not name.startswith("_")] == OF_ELECTION


def test_every_error_is_an_election_error() -> None:
    errors = [value for value in vars(election).values() if inspect.isclass(value) and issubclass(value, Exception)]
    assert [error for error in errors if not issubclass(error, election.ElectionError)] == []


def test_everything_exported_says_what_it_is(module: ModuleType) -> None:
    missing = [
        name
        for exported in module.__all__
        for name, value in _described(exported, getattr(module, exported))
        if not inspect.getdoc(value)
    ]
    assert missing == []


def test_type_checkers_are_told_that_there_are_types() -> None:
    """``py.typed`` is part of the package that the wheel contains."""
    assert Path(election.__file__).with_name("py.typed").is_file()
    assert tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["flit"]["module"] == {"name": "election"}


def test_nothing_private_is_needed_to_import() -> None:
    """A star import gives the exported names, each of them public."""
    names: dict[str, Any] = {}
    exec("from election import *", names)
    assert sorted(set(names) - {"__builtins__"}) == NAMES["election"]


def _described(name: str, value: Any) -> Iterator[tuple[str, Any]]:
    yield name, value
    if inspect.isclass(value):
        for attribute, member in vars(value).items():
            if not attribute.startswith("_") and (callable(member) or _is_property(member)):
                yield f"{name}.{attribute}", member


def _is_property(member: Any) -> bool:
    return isinstance(member, property | classmethod | staticmethod) or hasattr(member, "__set_name__")
