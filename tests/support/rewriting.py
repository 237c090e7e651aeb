"""Rewriting of asserts in a fresh clone, shared by the processes of pytest-xdist.

pytest rewrites the asserts of a module when it is imported, and keeps the result on disk. All processes collect the
same modules in the same order, so each of them would rewrite every module at the same moment: half a minute on two
cores. Each imports a share of its own first, and finds the rest written when it collects.
"""

from __future__ import annotations

import contextlib
import importlib

import pytest


def import_own_share(config: pytest.Config) -> None:
    """Import this process's share of the test modules; without effect unless all tests run under pytest-xdist.

    A module that cannot be imported is left to the collection, which reports it.
    """
    process = getattr(config, "workerinput", None)
    if process is None or config.args != config.getini("testpaths"):
        return
    number, count = int(process["workerid"].removeprefix("gw")), process["workercount"]
    files = sorted((config.rootpath / "tests").rglob("test_*.py"))
    for file in files[number::count]:
        with contextlib.suppress(Exception, pytest.skip.Exception):
            importlib.import_module(".".join(file.relative_to(config.rootpath).with_suffix("").parts))
