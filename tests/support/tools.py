"""Tools that no wheel contains: the tests that use one belong to the extended tier, which skips them where it is
missing.

With ``ELECTION_CI`` set nothing may be skipped for a missing tool: the test fails instead.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from typing import Any, NoReturn

import pytest


def needs(tool: str) -> Callable[[Any], Any]:
    """Mark a test that runs ``tool``, a program on the PATH."""
    missing = shutil.which(tool) is None and not os.environ.get("ELECTION_CI")
    skip = pytest.mark.skipif(missing, reason=f"{tool} is not installed")
    return lambda test: pytest.mark.extended(skip(test))


def skip_missing(reason: str) -> NoReturn:
    """Skip the running test for a tool that this machine lacks; fail it where all tools are required."""
    if os.environ.get("ELECTION_CI"):
        pytest.fail(f"{reason}; with ELECTION_CI=1 no test is skipped for a missing tool")
    pytest.skip(reason)
