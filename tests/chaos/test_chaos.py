"""Short runs: a served pool survives its faults, the picture is drawn, and no process is left, however the run ends."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from xml.etree import ElementTree

import psutil
import pytest

from tests.support.pool import ROOT
from tests.support.postgres_server import needs_programs
from tests.support.redis_server import needs_valkey
from tests.support.waiting import until

IN_THE_BACKGROUND = ["sh", "-c", "trap '' INT; exec \"$@\"", "sh"]
"""Command prefix under which SIGINT is ignored, as for a script's ``&``."""


@contextmanager
def chaos(
    directory: Path, seconds: int, seed: int, engine: str = "file", only: Sequence[str] = ()
) -> Iterator[subprocess.Popen[str]]:
    options = {"--engine": engine, "--seconds": str(seconds), "--seed": str(seed), "--workers": "4"}
    command = ["-m", "tests.chaos", *(word for option in options.items() for word in option)]
    command += ["--only", *only] if only else []
    process = subprocess.Popen(
        [*IN_THE_BACKGROUND, sys.executable, *command, "--directory", str(directory)],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    try:
        yield process
    finally:
        if process.poll() is None:
            process.terminate()
        process.communicate(timeout=60)


SHORT = [
    ("file", 10, 19),
    *(pytest.param(engine, 20, 2, marks=pytest.mark.extended) for engine in ("postgres", "redis", "redis+postgres")),
]
"""Engines, seconds and seeds."""


def needs_servers(engine: str) -> None:
    """Skip engines whose server is missing."""
    if "redis" in engine:
        needs_valkey()
    if "postgres" in engine:
        needs_programs()


def of_the_pool(directory: Path) -> list[psutil.Process]:
    """Every process that was started for the run, by its environment."""
    wanted, found = str(directory / "facts"), []
    for process in psutil.process_iter():
        try:
            if process.environ().get("FACTS") == wanted and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process)
        except psutil.Error:
            continue
    return found


@pytest.mark.timeout(200)
@pytest.mark.parametrize(("engine", "seconds", "seed"), SHORT)
def test_a_short_run_is_green(tmp_path: Path, engine: str, seconds: int, seed: int) -> None:
    needs_servers(engine)
    with chaos(tmp_path, seconds, seed, engine) as process:
        said, _ = process.communicate(timeout=180)
    assert process.returncode == 0, said
    assert "GREEN" in said
    found = json.loads((tmp_path / "report.json").read_text())
    assert (found["verdict"], found["engine"], found["seed"]) == ("green", engine, seed)
    assert len([fault for fault in found["faults"] if not fault["missed"]]) >= 4
    assert found["terms"] > 1
    assert of_the_pool(tmp_path) == []
    if engine != "file":  # the ordinary tier has no matplotlib
        assert (tmp_path / "picture.png").read_bytes().startswith(b"\x89PNG")
        drawn = ElementTree.parse(tmp_path / "picture.svg").getroot()
        assert drawn.tag.endswith("svg")


@pytest.mark.extended
@pytest.mark.timeout(240)
@pytest.mark.parametrize(
    ("engine", "only"),
    [
        ("file", ["copied pool", "poison", "step clock", "step clock of leader", "step clock of follower"]),
        ("postgres", ["copied pool", "poison", "demote server"]),
        ("redis", ["poison", "demote server"]),
    ],
)
def test_a_short_run_of_chosen_kinds_is_green(tmp_path: Path, engine: str, only: list[str]) -> None:
    needs_servers(engine)
    with chaos(tmp_path, 20, 5, engine, only) as process:
        said, _ = process.communicate(timeout=220)
    assert process.returncode == 0, said
    faults = json.loads((tmp_path / "report.json").read_text())["faults"]
    assert {fault["kind"] for fault in faults if not fault["missed"]} & {*only}, said


@pytest.mark.extended
@pytest.mark.timeout(240)
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_run_leaves_nothing_behind(tmp_path: Path, number: signal.Signals) -> None:
    with chaos(tmp_path, 60, 7) as process:
        until((tmp_path / "faults").exists, timeout=150, what="the first fault")
        assert of_the_pool(tmp_path)
        process.send_signal(number)
        said, _ = process.communicate(timeout=60)
    assert process.returncode == 1
    assert "Traceback" not in said
    assert of_the_pool(tmp_path) == []
