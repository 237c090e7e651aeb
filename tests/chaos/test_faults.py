"""Faults that overlap."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any, cast

import psutil
import pytest

from tests.support.waiting import until

from .faults import Injector
from .plan import Fault


@pytest.mark.parametrize("later", [0.0, 1000.0], ids=["for good", "for a while"])
def test_a_worker_that_two_faults_have_stopped_does_not_go_on_at_the_end_of_the_first(
    tmp_path: Path, later: float
) -> None:
    """It went on when it had been stopped for good, and the run was judged by a death that there was not."""
    nothing = cast(Any, None)
    injector = Injector(nothing, "file", nothing, tmp_path, {"ORDERS": str(tmp_path), "CLOCK": str(tmp_path / "clock")})
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as process:
        worker = psutil.Process(process.pid)
        try:
            injector.stop(worker, Fault(0.0, "stop leader", 0, 1e-6))
            injector.stop(worker, Fault(0.1, "stop leader", 0, later))
            injector.undo_what_is_due()
            until(lambda: worker.status() == psutil.STATUS_STOPPED)  # a signal takes a moment
            injector.close()
            until(lambda: (worker.status() == psutil.STATUS_STOPPED) is (later == 0.0))
        finally:
            process.kill()
