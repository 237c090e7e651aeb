"""One name on the package index: pyproject.toml, messages, documents and constraints agree with ``DISTRIBUTION``."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest

from election.core.distribution import DISTRIBUTION, install_command
from tests.docs.markdown import ROOT

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]

FOREIGN = re.compile(r"(?<![\w-])election\[")
"""The import's name with an extra, as a requirement: on a package index it belongs to another project."""


def _texts() -> list[Path]:
    found = [*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"), *ROOT.glob("election/**/*.py"), *ROOT.glob("app/**/*.py")]
    return [*found, ROOT / "run.py", ROOT / "pyproject.toml", ROOT / "Dockerfile", ROOT / "Makefile"]


def test_the_distribution_has_its_own_name() -> None:
    assert PROJECT["name"] == DISTRIBUTION != "election"


def test_no_file_asks_for_the_distribution_of_somebody_else() -> None:
    found = {str(path.relative_to(ROOT)): FOREIGN.findall(path.read_text()) for path in _texts()}
    assert {name: places for name, places in found.items() if places} == {}


def test_every_extra_that_is_asked_for_exists() -> None:
    asked = {extra for path in _texts() for extra in re.findall(rf"{DISTRIBUTION}\[(\w+)\]", path.read_text())}
    asked |= {
        extra
        for path in ROOT.glob("election/**/*.py")
        for extra in re.findall(r"install_command\(['\"](\w+)['\"]\)", path.read_text())
    }
    assert asked >= {"metrics", "otel", "cli", "postgres", "redis"}
    assert asked <= set(PROJECT["optional-dependencies"])


@pytest.mark.parametrize("extra", ["redis", "otel"])
def test_messages_name_it(extra: str) -> None:
    assert install_command(extra) == f"pip install 'fastapi-election[{extra}]'"
