"""The tree of exceptions in the docstring of the module equals the one in the code."""

from __future__ import annotations

import importlib
import inspect
import pkgutil
import re
from collections.abc import Iterator

import pytest

import election
from election.core import errors
from election.core.errors import ConfigurationError, ElectionError, describe_error

LINE = re.compile(r"^(?P<indent>[│ ]*)(?:[├└]── )?(?P<name>\w+Error)  +(?P<meaning>\S.*)$", re.MULTILINE)


def _modules() -> Iterator[str]:
    yield "election"
    yield from (found.name for found in pkgutil.walk_packages(election.__path__, "election."))


def _exceptions() -> set[type[BaseException]]:
    """All exception classes of the package."""
    return {
        value
        for name in _modules()
        if name != "election.__main__"
        for value in vars(importlib.import_module(name)).values()
        if inspect.isclass(value) and issubclass(value, BaseException) and value.__module__.startswith("election")
    }


def _drawn() -> dict[str, str | None]:
    """Name of each exception in the drawing, with its parent's."""
    found: dict[str, str | None] = {}
    last_at: dict[int, str] = {}
    for match in LINE.finditer(inspect.getdoc(errors) or ""):
        line = match[0]
        depth = line.index(match["name"]) // 4
        last_at[depth] = match["name"]
        assert match["name"] not in found
        found[match["name"]] = last_at[depth - 1] if depth else None
    return found


def test_all_exceptions_derive_from_one() -> None:
    assert {each.__name__ for each in _exceptions() if not issubclass(each, ElectionError)} == set()


def test_the_drawn_tree_is_complete() -> None:
    exceptions = _exceptions() - {ElectionError}
    parents: dict[str, str | None] = {
        each.__name__: next(base.__name__ for base in each.__bases__ if issubclass(base, ElectionError))
        for each in exceptions
    }
    assert len(parents) == len(exceptions), "two exceptions have one name"
    assert _drawn() == parents | {"ElectionError": None}


def test_exceptions_that_an_application_meets_are_public() -> None:
    internal = set(re.findall(r"(\w+Error) +internal:", inspect.getdoc(errors) or ""))
    assert internal == {
        "LedgerBusyError",
        "RefusedError",
        "SearchLimitError",
        "TriggerError",
        "UnmetConditionError",
        "UnstableTriggerError",
    }
    assert _drawn().keys() - internal - set(election.__all__) == {"UnfinishedJobsError"}, "it never leaves the elector"


@pytest.mark.parametrize("builtin", [ValueError, LookupError])
def test_the_drawn_tree_names_the_built_in_bases(builtin: type[Exception]) -> None:
    also = {match["name"] for match in LINE.finditer(inspect.getdoc(errors) or "") if builtin.__name__ in match[0]}
    named = {
        each.__name__
        for each in _exceptions()
        if issubclass(each, builtin) and (each is ConfigurationError or not issubclass(each, ConfigurationError))
    }
    assert also == named


class MuteError(ValueError):
    def __str__(self) -> str:
        raise self.args[0]


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (ValueError("no luck"), "no luck"),
        (ValueError(), "ValueError()"),
        (KeyboardInterrupt("no luck"), "KeyboardInterrupt: no luck"),
        (MuteError(RuntimeError()), "MuteError: its __str__ failed"),
        (MuteError(GeneratorExit()), "MuteError: its __str__ failed"),
    ],
    ids=["a message", "none", "no Exception", "a mute one", "a mute one, without an Exception"],
)
def test_the_description_of_an_error_never_raises(error: BaseException, told: str) -> None:
    assert describe_error(error) == told
