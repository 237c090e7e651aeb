"""Every block of Python in the README and docs/ is run, in a separate process and directory."""

from __future__ import annotations

import ast
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.waiting import until

from .markdown import ROOT, Block, blocks, blocks_of

NOT_RUN = {("docs/security.md", "answers only those who have logged in")}  # tried in web/test_application_login.py
"""Blocks that cannot be run: the page, and the reason in the comment above the block."""

LIMIT = 90.0
"""Time limit of a block in seconds; far more than any needs."""

_SERVE = """
import sys, time
from fastapi.testclient import TestClient
import block
with TestClient(block.app) as client:
    end = time.monotonic() + {limit}
    while client.get("/leader").status_code == 503 and time.monotonic() < end:
        time.sleep(0.01)
    found = client.get("/leader")
    assert found.status_code == 200, found.text
    assert block.election.is_leader
assert not block.election.is_leader
"""
"""Starts the application of a block on a real pool, and waits until it leads."""


def _tiered(block: Block) -> object:
    """The README's first block, the eight lines, runs with ``make test``; all others with ``make test-all``."""
    first = next(each for each in blocks("python") if each.page == "README.md")
    return pytest.param(block, id=str(block), marks=[] if str(block) == str(first) else [pytest.mark.extended])


@pytest.mark.parametrize("block", [_tiered(block) for block in blocks("python")])
def test_a_block_of_python_runs(block: Block, tmp_path: Path) -> None:
    if block.not_run is not None:
        assert (block.page, block.not_run) in NOT_RUN, f"{block} is marked as not run, and not expected to be"
        return
    _run(block, tmp_path)


def test_the_blocks_that_are_not_run_are_the_expected_ones() -> None:
    assert {(block.page, block.not_run) for block in blocks() if block.not_run is not None} == NOT_RUN


def test_no_block_hides_its_language() -> None:
    """A block without a language, or with a synonym, would be ignored."""
    known = {"python", "console", "json", "sql", "text", "mermaid", "diff"}
    assert {str(block): block.language for block in blocks() if block.language not in known} == {}


@pytest.mark.extended
@pytest.mark.parametrize(
    "code",
    [
        "import election\nelection.no_such_name\n",
        "def test_it():\n    assert False\n",
        "import election, fastapi\nelection = election.Election('var/pool')\napp = fastapi.FastAPI()\n",
        "if __name__ == '__main__':\n    raise SystemExit(3)\n",
    ],
    ids=["plain", "test", "app that elects nobody", "program"],
)
def test_a_broken_block_is_noticed(code: str, tmp_path: Path) -> None:
    with pytest.raises(AssertionError):
        _run(Block("page.md", 1, "python", code, None), tmp_path)


def test_a_marked_block_is_seen_as_such(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("<!-- not run: needs a database -->\n```python\nx\n```\n\n```python\ny\n```\n")
    assert [block.not_run for block in blocks_of(page)] == ["needs a database", None]


def test_a_fence_that_hides_a_block_is_refused(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("- indented:\n\n  ```python\n  x\n  ```\n")
    with pytest.raises(ValueError, match="indented"):
        blocks_of(page)


def _run(block: Block, directory: Path) -> None:
    names = _names(block.code)
    if any(name.startswith("test_") for name in names):
        _run_tests(block, directory)
    elif "__name__ == " in block.code:
        _run_program(block, directory)
    elif "app" in names:
        (directory / "block.py").write_text(block.code)
        (directory / "serve.py").write_text(_SERVE.format(limit=LIMIT / 2))
        _succeeds(directory, "serve.py")
    else:
        (directory / "block.py").write_text(block.code)
        _succeeds(directory, "block.py")


def _run_tests(block: Block, directory: Path) -> None:
    (directory / "test_block.py").write_text(block.code)
    (directory / "pytest.ini").write_text("[pytest]\nfilterwarnings = error\n")
    told = _succeeds(directory, "-m", "pytest", "-p", "no:cacheprovider", "test_block.py")
    assert " passed" in told, told
    assert "skipped" not in told, told


def _run_program(block: Block, directory: Path) -> None:
    """A program elects on a real pool until it is told to stop, and ends in order."""
    (directory / "block.py").write_text(block.code)
    with _python(directory, "block.py") as program:
        try:
            _until_led(directory / "var/pool/leader.json", program)
            program.send_signal(signal.SIGTERM)
            told, _ = program.communicate(timeout=LIMIT)
        finally:
            program.kill()
    assert program.returncode == 0, told
    assert "Traceback" not in told
    assert json.loads((directory / "var/pool/leader.json").read_text())["standing"] == "resigned"


def _until_led(record: Path, program: subprocess.Popen[str]) -> None:
    def has_led_or_ended() -> bool:
        # The takeover's milliseconds are written when the scheduler runs.
        led = record.exists() and json.loads(record.read_text())["takeover"]["takeover_ms"] is not None
        return led or program.poll() is not None

    until(has_led_or_ended, LIMIT, what="the program leads")
    assert program.poll() is None, program.communicate()[0]


def _succeeds(directory: Path, *arguments: str) -> str:
    with _python(directory, *arguments) as process:
        try:
            told, _ = process.communicate(timeout=LIMIT)
        finally:
            process.kill()
    assert process.returncode == 0, told
    return told


def _python(directory: Path, *arguments: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-W", "error", *arguments],
        cwd=directory,
        env={**os.environ, "PYTHONPATH": f"{directory}{os.pathsep}{ROOT}"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def _names(code: str) -> set[str]:
    """Names that the block defines at its top level."""
    found = set()
    for node in ast.parse(code).body:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            found.add(node.name)
        elif isinstance(node, ast.Assign):
            found |= {target.id for target in node.targets if isinstance(target, ast.Name)}
        elif isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            found.add(node.target.id)
    return found
