"""References to docs/pitfalls.md: each leads to a row, and each row names tests that exist."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from .markdown import ROOT, functions, table
from .test_repository import tracked_files

PAGE = ROOT / "docs/pitfalls.md"
THIS = Path(__file__)
SUFFIXES = {".css", ".html", ".js", ".json", ".lua", ".md", ".py", ".toml", ".yaml"}

DASH = "\N{EN DASH}"
NUMBER = r"#[0-9]+[a-z]?"
REFERENCE = re.compile(rf"pitfalls\.md((?:{NUMBER})(?:(?:, | and |{DASH}){NUMBER})*)")
IN_A_TEST_NAME = re.compile(r"^test_(?:row|rows|pitfall|pitfalls)_((?:\d+_)+)")
LINK = re.compile(r"\[(test_\w+)\]\(\.\./(tests/[\w/]+\.py)\)")


def _rows() -> dict[str, list[str]]:
    """Cells after the number, by number. Raises ``ValueError`` for a row with a missing or wrong anchor."""
    rows: dict[str, list[str]] = {}
    for number, *cells in (row for part in range(PAGE.read_text().count("| # |")) for row in table(PAGE, "#", part)):
        anchor = re.fullmatch(r'<a id="(\w+)"></a>(\w+)', number)
        if anchor is None or anchor[1] != anchor[2] or anchor[1] in rows:
            raise ValueError(f"docs/pitfalls.md: row {number}")
        rows[anchor[1]] = cells
    return rows


def _numbers(reference: str) -> Iterator[str]:
    """Rows of a reference: ``#2–#4, #7`` is 2, 3, 4 and 7."""
    for part in re.split(", | and ", reference):
        first, _, last = part.replace("#", "").partition(DASH)
        yield from (str(number) for number in range(int(first), int(last) + 1)) if last else (first,)


def _references() -> dict[str, set[str]]:
    found: dict[str, set[str]] = {}
    for path in tracked_files():
        if path.suffix in SUFFIXES and path not in {THIS, PAGE}:
            name = path.relative_to(ROOT).as_posix()
            for match in REFERENCE.finditer(path.read_text()):
                found.setdefault(name, set()).update(_numbers(match[1]))
            if path.suffix == ".py" and name.startswith("tests/"):
                for test in functions(path):
                    if match := IN_A_TEST_NAME.match(f"{test}_"):
                        found.setdefault(name, set()).update(str(int(each)) for each in match[1].split("_") if each)
    return found


def test_every_reference_leads_to_a_row() -> None:
    rows, references = _rows().keys(), _references()
    assert len(references) > 30, "the references are no longer found"
    assert {name: sorted(numbers - rows) for name, numbers in references.items() if numbers - rows} == {}


def test_no_reference_has_another_form() -> None:
    """No pitfall is named by its number alone, and no page outside of the repository is named."""
    others = re.compile("PIT" + r"FALLS|\bDES" + r"IGN\b|pitfalls? \d")
    found = {
        f"{path.relative_to(ROOT)}: {match[0]}"
        for path in tracked_files()
        if path.suffix in SUFFIXES and path not in {THIS, PAGE}
        for match in others.finditer(path.read_text())
    }
    assert found == set()


def test_the_rows_are_numbered_without_a_gap_up_to_43() -> None:
    assert [int(number) for number in _rows() if number.isdigit() and int(number) <= 43] == [*range(1, 44)]


@pytest.mark.parametrize("number", _rows())
def test_a_row_names_its_tests(number: str) -> None:
    pitfall, remedy, guards = _rows()[number]
    assert pitfall
    assert remedy
    tests = LINK.findall(guards)
    assert tests
    assert LINK.sub("", guards).strip(", ") == "", "something else than tests is named"
    missing = [f"{path}::{test}" for test, path in tests if test not in functions(ROOT / path)]
    assert missing == []


@pytest.mark.parametrize(
    ("text", "numbers"),
    [
        ("see docs/pitfalls.md#7", ["7"]),
        (f"(docs/pitfalls.md#2{DASH}#4, #7{DASH}#8 and #22)", ["2", "3", "4", "7", "8", "22"]),
        ("[why](pitfalls.md#75b)", ["75b"]),
        ("docs/pitfalls.md#1, #3, before it hurts", ["1", "3"]),
    ],
)
def test_a_reference_is_read(text: str, numbers: list[str]) -> None:
    (reference,) = REFERENCE.findall(text)
    assert [*_numbers(reference)] == numbers
