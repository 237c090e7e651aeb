"""Tools that a machine may lack: the test is skipped then, and told why; where nothing may be skipped, it fails."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from typing import Any

import pytest


def needs(tool: str) -> Callable[[Any], Any]:
    """Marks a test that runs ``tool``."""
    lacking = shutil.which(tool) is None and not os.environ.get("ELECTION_CI")
    return pytest.mark.skipif(lacking, reason=f"{tool} is not installed")
