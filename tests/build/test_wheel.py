"""Contents of the wheel and the source distribution, and the README's program installed from the wheel."""

from __future__ import annotations

import subprocess
import sys
import tarfile
import venv
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from tests.docs.markdown import ROOT, blocks_of
from tests.support.pool import Pool, ServerCommand, quiet_pools

pytestmark = [pytest.mark.extended, pytest.mark.timeout(300)]


def succeeds(*command: str | Path, **options: Any) -> str:
    done = subprocess.run(
        [str(word) for word in command],
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=240, check=False, **options,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout
    return done.stdout


@pytest.fixture(scope="module")
def dist(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with both distributions."""
    folder = tmp_path_factory.mktemp("dist")
    succeeds(sys.executable, "-m", "build", "--outdir", folder, ROOT)
    return folder


@pytest.fixture(scope="module")
def wheel(dist: Path) -> Path:
    (found,) = dist.glob("*.whl")
    return found


def test_their_metadata_and_contents_pass_the_checkers(dist: Path, wheel: Path) -> None:
    succeeds(sys.executable, "-m", "twine", "check", "--strict", *sorted(dist.iterdir()))
    succeeds(sys.executable, "-m", "check_wheel_contents", wheel)


def test_the_wheel_holds_the_package_and_nothing_else(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
    assert {name.partition("/")[0] for name in names} == {"election", f"{wheel.name.partition('-py3')[0]}.dist-info"}
    inside = {name for name in names if name.startswith("election/")}
    tracked = subprocess.run(["git", "ls-files", "election"], cwd=ROOT, capture_output=True, text=True, check=True)
    assert inside == set(tracked.stdout.split())


def test_the_source_distribution_has_no_pictures_and_no_benchmarks(dist: Path) -> None:
    (found,) = dist.glob("*.tar.gz")
    with tarfile.open(found) as archive:
        names = [name.partition("/")[2] for name in archive.getnames()]
    assert {"pyproject.toml", "README.md", "LICENSE", "election/__init__.py", "tests/conftest.py"} <= set(names)
    assert [name for name in names if name.startswith(("bench/", "docs/images/", ".ci/"))] == []
    assert found.stat().st_size < 1_000_000


@pytest.fixture(scope="module")
def python(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The interpreter of a new environment with the wheel and a server, and without the checkout."""
    folder = tmp_path_factory.mktemp("clean")
    venv.create(folder, with_pip=True)
    found = folder / "bin/python"
    succeeds(found, "-m", "pip", "install", "--quiet", "-c", ROOT / "constraints.txt", wheel, "uvicorn")
    return found


@pytest.fixture
def served(python: Path, tmp_path: Path) -> Iterator[Pool]:
    """The README's program, served by the README's command, from the installed wheel."""
    program, command = (block.code for block in blocks_of(ROOT / "README.md")[:2])
    (tmp_path / "main.py").write_text(program)
    assert command.strip() == "$ uvicorn main:app --workers 4"
    uvicorn = (str(python.with_name("uvicorn")), "main:app", "--workers", "{workers}", "--port", "{port}")
    with quiet_pools(tmp_path) as make:
        pool = make(
            server=ServerCommand("uvicorn", uvicorn), workers=4, environment={"PYTHONPATH": ""}, cwd=tmp_path
        ).start()
        yield pool
        pool.stop()


def test_the_readmes_program_elects_and_takes_over_from_the_installed_wheel(served: Pool) -> None:
    first = served.settled()
    assert first["jobs"], "the job of the README is scheduled"
    psutil.Process(first["leader"]["pid"]).kill()
    second = served.leader(but=first["leader"]["pid"])
    assert second["leader"]["term"] > first["leader"]["term"]
    assert second["last_takeover"]["reason"] == "died"


def test_a_missing_extra_is_reported_with_the_command_that_installs_it(python: Path, tmp_path: Path) -> None:
    done = subprocess.run(
        [python, "-c", "from election import Election; Election('redis://127.0.0.1:1/0').check()"],
        cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert done.returncode == 1
    assert "pip install 'fastapi-election[redis]'" in done.stderr
