"""Files of the repository are independent of the machine."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from election.core.distribution import DISTRIBUTION

from .markdown import ROOT

# Written in pieces, so that this file contains none of them.
PLACES = [
    r"(?<![\w.\-/])/" + "(home|work|root|Users)" + r"/\w",
    r"[A-Z]:\\" + r"Users\\",
    "py" + r"pi\.org",
    "python" + r"hosted\.org",
    r"https?://[^\s]+/" + r"simple\b",
    r"\B--" + r"(extra-)?index-url\b",
]


def tracked_files() -> list[Path]:
    """Files that git tracks or would track; all files without git."""
    try:
        listed = subprocess.run(
            ["git", "ls-files", "--cached", "--others", "--exclude-standard"],
            cwd=ROOT,
            capture_output=True,
            text=True,
            check=True,
        ).stdout.split("\n")
    except (OSError, subprocess.CalledProcessError):
        listed = [str(path.relative_to(ROOT)) for room in ("app", "docs", "election", "tests") for path in _all(room)]
        listed += [path.name for path in ROOT.iterdir() if path.is_file()]
    return [ROOT / name for name in listed if name and (ROOT / name).is_file()]


def _all(room: str) -> Iterator[Path]:
    return (path for path in (ROOT / room).rglob("*") if path.suffix != ".pyc")


def _places(text: str) -> list[str]:
    return [match[0] for place in PLACES for match in re.finditer(place, text)]


def test_no_file_names_a_place_on_the_machine_it_was_written_on() -> None:
    found = {str(path.relative_to(ROOT)): _places(path.read_text(errors="replace")) for path in tracked_files()}
    assert {name: places for name, places in found.items() if places} == {}


@pytest.mark.parametrize(
    "text",
    [
        'open("/' + 'home/somebody/file")',
        "see /" + "work/main/run.py",
        "cd /" + "root/project",
        "https://" + "py" + "pi.org/project/x",
        "http://mirror.example/" + "simple",
        "pip install --" + "index-url x",
    ],
)
def test_such_a_place_is_noticed(text: str) -> None:
    assert _places(text) != []


@pytest.mark.parametrize("text", ["election/schedule/work.py", "./home/x", "/srv/app/var/pool", "a simple/plain thing"])
def test_other_paths_are_no_such_places(text: str) -> None:
    assert _places(text) == []


def test_constraints_are_versions_and_nothing_else() -> None:
    """One version of each package, or one for each of several markers."""
    pins = [Requirement(line) for line in _constraints()]
    assert [
        str(pin) for pin in pins if pin.url or pin.extras or not re.fullmatch(r"==[0-9][\w.]*", str(pin.specifier))
    ] == []
    assert [pin.name for pin in pins] == sorted(pin.name for pin in pins)
    alone = [pin.name for pin in pins if pin.marker is None]
    assert len(alone) == len(set(alone))
    assert [pin.name for pin in pins if pin.marker is not None and pin.name in alone] == []


@pytest.mark.parametrize("extra", ["test", pytest.param("dev", marks=pytest.mark.extended)])
def test_everything_that_make_installs_is_pinned(extra: str) -> None:
    pins = [Requirement(line) for line in _constraints()]
    pinned = {pin.name for pin in pins if pin.marker is None or pin.marker.evaluate()}
    assert _required(DISTRIBUTION, extra) - pinned == {DISTRIBUTION}


def _constraints() -> list[str]:
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    return [line for line in lines if line and not line.startswith("#")]


def _required(name: str, *extras: str) -> set[str]:
    """The distribution and all of its requirements here, with these extras, direct or not."""
    found: set[tuple[str, str]] = set()
    todo = [(name, extra) for extra in ("", *extras)]
    while todo:
        this, extra = todo.pop()
        if (this, extra) in found:
            continue
        found.add((this, extra))
        for line in metadata.requires(this) or []:
            need = Requirement(line)
            if need.marker is None or need.marker.evaluate({"extra": extra}):
                todo += [(canonicalize_name(need.name), each) for each in ("", *need.extras)]
    return {this for this, _ in found}
