"""Two tiers of tests: those of ``make test``, and the extended ones that only ``make test-all`` runs.

A pytest plugin, loaded by ``tests/conftest.py``. A test is extended by its marker, because it needs root, or because
it examines the repository instead of running the program. With ``-m "not extended"`` the closing lines of the run
report how many tests were left out, by folder, and the command that runs them.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from itertools import accumulate, groupby
from pathlib import Path
from typing import Any, TypeVar

import pytest

Item = TypeVar("Item")

NEEDS_ROOT = {"as_root", "hosts", "small_disk"}
"""Fixtures that need root: mounts, files of other users, network namespaces."""

OF_THE_REPOSITORY = (
    "tests/test_house.py", "tests/chaos/test_judge.py", "tests/chaos/test_plan.py", "tests/support/",
    "tests/docs/test_architecture.py", "tests/docs/test_commands.py", "tests/docs/test_faults.py",
    "tests/docs/test_pitfalls.py", "tests/docs/test_prometheus.py", "tests/docs/test_statements.py",
)  # fmt: skip
"""Tests of the code's structure, of statements in the documents and of the tests' own tools: none runs the program."""

ORDINARY = "not extended"
"""The expression for ``-m`` that selects the tests of ``make test``."""

LONG_TESTS = (
    "tests/chaos/", "tests/pool/", "tests/faults/", "tests/servers/", "tests/browser/", "tests/deploy/", "tests/build/",
    "tests/engines/postgres/", "tests/engines/redis/", "tests/engines/conformance/test_controls.py",
    "tests/engines/file/test_orphans.py", "tests/engines/file/test_takeover.py", "tests/web/", "tests/cli/",
)  # fmt: skip
"""Tests that take seconds each: every process of pytest-xdist begins with some of them, so that none comes last."""

LONGEST_TIMEOUT_S = 240
"""Tests with such a limit, or a longer one, take a minute or more: they come before all others."""


class Tiers:
    """Marks the extended tests and counts those that the expression of ``-m`` leaves out."""

    def __init__(self, config: pytest.Config) -> None:
        self._config = config
        self._left_out: Counter[str] = Counter()

    @pytest.hookimpl(tryfirst=True)  # before the expression of -m is applied
    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        for item in items:
            needs_root = NEEDS_ROOT.intersection(getattr(item, "fixturenames", ()))
            if needs_root or item.nodeid.startswith(OF_THE_REPOSITORY):
                item.add_marker(pytest.mark.extended)

    @pytest.hookimpl(trylast=True, specname="pytest_collection_modifyitems")
    def deal(self, items: list[pytest.Item]) -> None:
        """Order the tests for pytest-xdist, whose processes take a contiguous share each and then steal."""
        count = getattr(self._config, "workerinput", {}).get("workercount", 1)
        items[:] = deal(items, count, rank=_rank)

    def pytest_deselected(self, items: Sequence[pytest.Item]) -> None:
        if self._config.option.markexpr == ORDINARY:
            self._left_out.update(_folder(item) for item in items if item.get_closest_marker("extended"))

    @pytest.hookimpl(optionalhook=True)
    def pytest_testnodedown(self, node: Any) -> None:
        """Take over the count of a worker process of pytest-xdist: all workers collect the same tests."""
        self._left_out = Counter(getattr(node, "workeroutput", {}).get("left_out", {})) or self._left_out

    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        if hasattr(session.config, "workeroutput"):
            session.config.workeroutput["left_out"] = dict(self._left_out)

    @pytest.hookimpl(trylast=True)
    def pytest_terminal_summary(self, terminalreporter: Any) -> None:
        if self._left_out:
            folders = ", ".join(f"{name} {count}" for name, count in sorted(self._left_out.items()))
            terminalreporter.section("left out")
            terminalreporter.line(
                f"{self._left_out.total()} extended tests, which take long, need root or a tool that no wheel brings,"
                f" or examine the repository: {folders}"
            )
            terminalreporter.line("run them, with all others: make test-all")


def deal(items: Sequence[Item], count: int, *, rank: Callable[[Item], int]) -> list[Item]:
    """Return ``items`` in an order whose ``count`` contiguous shares begin with equally many of each low rank.

    The order within a rank is kept, so that the tests of a module mostly stay together.
    """
    if not items:
        return []
    *first, last = ([*group] for _, group in groupby(sorted(items, key=rank), rank))
    ends = [[share * len(group) // count for share in range(count + 1)] for group in first]
    left = (share * len(items) // count - sum(end[share] for end in ends) for share in range(count + 1))
    of_last = [*accumulate(left, max)]
    dealt: list[Item] = []
    for share in range(count):
        for group, end in zip([*first, last], [*ends, of_last], strict=True):
            dealt += group[end[share] : end[share + 1]]
    return dealt


def _rank(item: pytest.Item) -> int:
    """0 for the longest tests, 1 for long ones, 2 for the others; all of the browser, which they share, are in one."""
    limit = item.get_closest_marker("timeout")
    if limit is not None and limit.args[0] >= LONGEST_TIMEOUT_S and not item.nodeid.startswith("tests/browser/"):
        return 0
    return 1 if item.nodeid.startswith(LONG_TESTS) else 2


def _folder(item: pytest.Item) -> str:
    """Folder of the test below ``tests``."""
    path = Path(item.nodeid.partition("::")[0])
    return path.parts[1] if len(path.parts) > 2 else path.stem
