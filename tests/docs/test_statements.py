"""Statements of the documents on options, JSON documents, log lines and roles agree with the code."""

from __future__ import annotations

import ast
import inspect
import json
import re
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from app.settings import Settings
from election import Election, events
from election.core.roles import TRANSITIONS, Role
from election.web.models import LeaderDocument

from .markdown import ROOT, blocks, pages, prose, table

HOOKED = "an event of election.events"
"""For a log line of an event that hooks get too: its name is that of its type."""

SOURCES = sorted(
    [
        *(ROOT / "election").rglob("*.py"),
        *{*(ROOT / "app").rglob("*.py")} - {ROOT / "app/jobs.py", ROOT / "app/first_steps.py"},
        ROOT / "run.py",
    ]
)
"""All but the demonstration's jobs, which log like the jobs of an application."""


def test_the_options_of_election_are_all_told() -> None:
    told = [(name.strip("`"), default.strip("`")) for name, default, _ in table("README.md", "option")]
    parameters = list(inspect.signature(Election).parameters.values())
    assert told == [(each.name, "" if each.default is each.empty else repr(each.default)) for each in parameters]


def test_the_flags_of_run_py_are_all_told() -> None:
    told = [tuple(cell.strip("`") for cell in row) for row in table("README.md", "flag")]
    assert told == [
        (f"--{name.replace('_', '-')}", f"ELECTION_{name.upper()}", str(field.default), field.description)
        for name, field in Settings.model_fields.items()
    ]


def test_the_leader_document_is_as_shown() -> None:
    (shown,) = blocks("json")
    document = LeaderDocument.model_validate_json(shown.code)
    assert json.loads(document.model_dump_json()) == json.loads(shown.code)  # an additional field would be missing here


def test_the_fields_of_the_leader_document_are_all_told() -> None:
    told = {name for cell, _ in table("README.md", "field") for name in re.findall(r"`(\w+)", cell)}
    assert told == set(LeaderDocument.model_fields)


def test_the_picture_of_the_roles_is_drawn_from_their_table() -> None:
    (picture,) = [block for block in blocks("mermaid") if block.page == "docs/how-it-works.md"]
    lines = ["stateDiagram-v2", f"    [*] --> {Role.FOLLOWER}"]
    lines += [f"    {role} --> {after}: {turn}" for (role, turn), after in TRANSITIONS.items()]
    assert picture.code.splitlines() == lines


@pytest.mark.parametrize("heading", ["problem", "error"])
def test_what_operators_are_told_to_look_for_is_what_the_code_says(heading: str) -> None:
    said = set(_texts())
    for row in table("docs/operations.md", heading):
        pattern = next(cell for cell in row if cell.startswith("`")).strip("`")
        assert pattern in said, f"docs/operations.md: nothing in the code says {pattern!r}"


def test_every_log_line_names_its_event() -> None:
    unnamed = [
        f"{path.relative_to(ROOT)}:{line}" for path in SOURCES for line, _, event in _log_calls(path) if not event
    ]
    assert unnamed == []


def test_the_table_of_log_lines_has_the_events_of_the_code_at_their_levels() -> None:
    """The events are the contract, the sentences are not."""
    levels = {"exception": "ERROR"}
    logged = {
        (levels.get(level, level.upper()), event)
        for path in SOURCES
        for _, level, event in _log_calls(path)
        if event != HOOKED
    }
    told = {
        (level, event)
        for level, events, *_ in table("docs/operations.md", "level")
        for event in re.findall(r"`(\w+)`", events)
    }
    hooked = {snake_case(name) for name in events.__all__} - {"event"}
    assert {(level, event) for level, event in told if event not in hooked} == logged
    assert {event for _, event in told} & hooked == hooked - {"run_started", "run_succeeded"}, (
        "these two are not logged"
    )


@pytest.mark.parametrize("page", pages(), ids=lambda page: page.name)
def test_links_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)]+)\)", prose(page)):
        if target.startswith("https://"):
            continue
        path, _, anchor = target.partition("#")
        linked = (page.parent / path).resolve() if path else page
        assert linked.exists(), f"{page.name}: {target}"
        if anchor:
            assert anchor in _anchors(linked), f"{page.name}: {target}"


def test_the_changes_name_the_version() -> None:
    version = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    assert version in (ROOT / "CHANGELOG.md").read_text()


def test_the_figures_of_the_ledgers_thread_are_those_that_were_measured() -> None:
    tables = json.loads((ROOT / "bench/results/ticks.json").read_text())["tables"]
    rows = {(table["title"].partition(":")[0], *row[:2]): row for table in tables for row in table["rows"]}
    costs = "Claim and settle of one tick, in a transaction each"
    ours, bare = rows[costs, "no", "election"], rows[costs, "no", "bare sqlite3"]
    (burst,) = (row for key, row in rows.items() if key[:2] == ("A burst", "election"))
    page = (ROOT / "docs/decisions/ledger-thread.md").read_text()
    for figure in (f"{ours[3]:.2f} ms", f"{bare[3]:.3f} ms", f"{burst[-1][:-1]} times the rate"):
        assert figure in page


def _anchors(page: Path) -> set[str]:
    headings = re.findall(r"^#+ (.+)$", prose(page), re.MULTILINE)
    named = re.findall(r'<a id="([^"]+)"></a>', prose(page))
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings} | {*named}


def snake_case(name: str) -> str:
    return re.sub(r"(?<=[a-z])(?=[A-Z])", "_", name).lower()


def _log_calls(path: Path) -> Iterator[tuple[int, str, str | None]]:
    """Line, level and event of each call that logs above debug level."""
    for node in ast.walk(ast.parse(path.read_text())):
        if (
            isinstance(node, ast.Call)
            and isinstance(node.func, ast.Attribute)
            and isinstance(node.func.value, ast.Name)
            and node.func.value.id == "log"
            and node.func.attr != "debug"
        ):
            extra = next((keyword.value for keyword in node.keywords if keyword.arg in {"extra", None}), None)
            yield node.lineno, node.func.attr, None if extra is None else _event(extra)


def _event(extra: ast.expr) -> str | None:
    match extra:
        case ast.Call(func=ast.Name("named"), args=[ast.Constant(str(name))]):
            return name
        case ast.Dict(keys=[ast.Constant("event")], values=[ast.Dict(values=[ast.Constant(str(name))])]):
            return name
        case ast.Call(func=ast.Name("described")):
            return HOOKED
    return None


def _texts() -> Iterator[str]:
    for path in SOURCES:
        for node in ast.walk(ast.parse(path.read_text())):
            text = _text(node)
            if text is not None:
                yield text


def _text(node: Any) -> str | None:
    """Text in the code in the form of the documents: with an ellipsis for variable parts."""
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        return re.sub(r"%[-\d.]*[sdfgr]", "…", node.value)
    if isinstance(node, ast.JoinedStr):
        return "".join(str(part.value) if isinstance(part, ast.Constant) else "…" for part in node.values)
    return None
