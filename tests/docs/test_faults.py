"""The table of faults names existing tests, and contains every required fault."""

from __future__ import annotations

import re

import pytest

from .markdown import ROOT, functions

PAGE = ROOT / "docs/faults.md"

FAULTS = [
    "SIGKILL to the leader", "SIGKILL to a follower", "SIGKILL to the parent", "SIGKILL to all workers",
    "SIGTERM to the leader", "SIGTERM to a follower", "SIGSTOP", "SIGCONT", "SIGHUP", "event loop blocked for 4 or 5 s",
    "event loop blocked for good", "busy CPU", "memory ceiling", "fork in a job", "thread job that never ends",
    "raises", "os._exit", "closes all descriptors", "uses up all descriptors", "lock file removed", "record removed",
    "whole directory removed", "ledger removed", "log of the ledger", "FIFO removed", "permissions changed", "ENOSPC",
    "EROFS", "EACCES", "ENOLCK", "EMFILE", "clock steps back", "clock steps forward", "crash loops", "64",
    "two `run.py`", "in the middle of its takeover", "server killed", "server restarted", "server paused with SIGSTOP",
    "connection reset", "pg_terminate_backend", "CLIENT KILL", "FLUSHALL", "failover to a replica", "disk full",
    "slow network", "cable cut",
]  # fmt: skip

NAMED = re.findall(r"`(tests/[\w/]+\.py)::(\w+)`", PAGE.read_text())


@pytest.mark.parametrize(("path", "test"), sorted(set(NAMED)))
def test_a_test_that_is_named_exists(path: str, test: str) -> None:
    assert test in functions(ROOT / path)


def test_every_fault_has_a_test() -> None:
    rows = [line for line in PAGE.read_text().splitlines() if line.startswith("| ") and " --- " not in line]
    heads = [row for row in rows if row.endswith("| test |")]
    assert heads
    assert [row for row in rows if row not in heads and "::" not in row] == []


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_has_a_row(fault: str) -> None:
    faults = [line.split(" | ")[0] for line in PAGE.read_text().splitlines() if line.startswith("| ")]
    assert any(fault in found for found in faults)
