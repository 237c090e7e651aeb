"""Architecture tests: imports run downward only, and modules stay small enough to read.

Lazy imports in functions and imports for type checkers count like any other.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]

PUBLIC = {"election", "election.events", "election.testing", "election.tracing"}
"""Modules that an application imports."""

_PARTS = {
    "election.dependencies",
    "election.lifespan",
    "election.membership",
    "election.operation",
    "election.options",
    "election.pool_jobs",
    "election.requested_run",
    "election.signals",
}
"""Modules that ``election.election`` may import, beside the rooms below."""

WALLS: dict[str, set[str]] = {
    "run": {"app", *PUBLIC},
    "app": PUBLIC,
    "election": {"election.election", "election.core", "election.schedule"},
    "election.election": {"election.web", "election.schedule", "election.engines", "election.core", *_PARTS},
    "election.membership": {
        "election.fencing",
        "election.schedule",
        "election.engines",
        "election.options",
        "election.signals",
        "election.core",
    },
    "election.dependencies": {"election.schedule", "election.core"},
    "election.requested_run": {"election.operation", "election.schedule", "election.core"},
    "election.pool_jobs": {
        "election.requested_run",
        "election.operation",
        "election.web",
        "election.schedule",
        "election.core",
    },
    "election.operation": {"election.schedule", "election.core"},
    "election.fencing": {"election.core"},
    "election.options": {"election.core"},
    "election.events": {"election.core"},
    "election.tracing": {
        "election.election",
        "election.schedule.job_runner",
        "election.schedule.run",
        "election.core",
    },
    "election.signals": {"election.core"},
    "election.lifespan": {"election.core"},
    "election.web": {"election.schedule", "election.core"},
    "election.cli": {"election.schedule", "election.core", "election.engines"},
    "election.__main__": {"election.cli"},
    "election.engines": {
        "election.schedule.ledger",
        "election.schedule.ledger_reader",
        "election.schedule.commands",
        "election.schedule.model",
        "election.schedule.history",
        "election.schedule.store",
        "election.core",
    },
    "election.testing": {"election.schedule", "election.engines", "election.core"},
    "election.schedule": {"election.core"},
    "election.core": set(),
}
"""Each room, and what it may import beside itself. A room's name stands for all that is in it, except for three that
are one module: ``election`` (the public names), ``election.testing`` and ``election.election``.
"""

SHUT = {("election.schedule", "election.core.elector")}
"""Exceptions to allowed imports: the elector and the schedule meet in a term, and nowhere else."""

LONGEST = 400
"""Maximum lines of a module: one concept, read from top to bottom."""

MACHINE_TIME = {
    *("datetime.now", "datetime.utcnow", "datetime.today", "date.today"),
    *("time.time", "time.time_ns", "time.monotonic", "time.monotonic_ns", "time.perf_counter", "time.sleep"),
    *("asyncio.sleep", "asyncio.timeout", "asyncio.timeout_at", "asyncio.wait_for", "loop.time"),
    *("loop.call_later", "loop.call_at"),
}
"""Reads of the machine's clocks, and waits on them: elsewhere, time comes from the injected ``Clock``."""

MAY_USE_MACHINE_TIME = {
    "election/core/clock.py": "it is the clock",
    "election/testing/clock.py": "it is a clock, and waits for threads in real time",
    "election/cli": "a command is a process of its own, which lives by the machine's clock",
    "election/fencing/switch.py": "the timer that it resets is faulthandler's, which runs in real time",
    "election/engines/file/checkpoint.py": "counts in the ledger's thread how often a real disk is written to",
    "election/engines/file/diagnostics.py": "compares with the mtime of a file, which the kernel sets",
    "election/engines/file/leader_record.py": "compares with the mtime of a file, which the kernel sets",
    "election/engines/file/file_thread.py": "measures for how long a real disk does not answer",
    "election/engines/sql/bounded_wait.py": "measures for how long a thread really blocks the event loop",
    "election/engines/postgres/database.py": "a limit on a real server's answer, which ends the socket",
    "election/engines/postgres/connection.py": "a limit on a real server's answer, which ends the socket",
    "election/engines/redis/resolving.py": "the limit of a driver's connection, as the driver counts it",
    "election/engines/redis/lease.py": "a thread, when no event loop runs any more",
}
"""Modules and folders that need the machine's clock, and why."""

MODULES = sorted([ROOT / "run.py", *(ROOT / "app").rglob("*.py"), *(ROOT / "election").rglob("*.py")])


def test_imports_run_downward() -> None:
    found = {
        str(path.relative_to(ROOT)): breaches
        for path in MODULES
        if (breaches := _breaches(_module(path), path.read_text(), is_package=path.name == "__init__.py"))
    }
    assert found == {}


def test_every_module_has_a_room() -> None:
    modules = {_module(path) for path in MODULES}
    assert {module for module in modules if _room(module) == "election"} == {"election"}


def test_a_module_can_be_read_in_one_go() -> None:
    lengths = {str(path.relative_to(ROOT)): len(path.read_text().splitlines()) for path in MODULES}
    assert {name: length for name, length in lengths.items() if length > LONGEST} == {}


def test_time_comes_from_the_clock_that_is_passed_in() -> None:
    """Only modules that are exempt use the machine's time, and each of these does."""
    using = {path: uses for path in MODULES if (uses := list(_machine_time(path.read_text())))}
    assert {str(path): uses for path, uses in using.items() if _exemption(path) is None} == {}
    assert {_exemption(path) for path in using} == MAY_USE_MACHINE_TIME.keys()


def test_randomness_is_passed_in() -> None:
    """With ``SeatTiming``; the jitter of a trigger is drawn from the tick and the job's id."""
    using = {
        str(path.relative_to(ROOT))
        for path in MODULES
        if re.search(r"^\s*(import|from) random\b", path.read_text(), re.MULTILINE)
    }
    assert using == {"election/core/backend.py", "election/schedule/ticks.py"}


@pytest.mark.parametrize(
    ("code", "found"),
    [
        ("from datetime import UTC, datetime\nnow = datetime.now(UTC)", "datetime.now"),
        ("import datetime\nnow = datetime.datetime.now()", "datetime.now"),
        ("import time\ndef f(clock=time.monotonic): ...", "time.monotonic"),
        ("from time import monotonic", "time.monotonic"),
        ("from asyncio import sleep as pause", "asyncio.sleep"),
        ("async def f():\n    async with asyncio.timeout(1): ...", "asyncio.timeout"),
        ("asyncio.get_running_loop().call_later(1, f)", "loop.call_later"),
        ("self._loop.time()", "loop.time"),
        ("asyncio.wait([task], timeout=1)", "asyncio.wait(timeout=)"),
    ],
)
def test_a_use_of_the_machines_time_is_noticed(code: str, found: str) -> None:
    assert list(_machine_time(code)) == [found]


@pytest.mark.parametrize("code", ["clock.sleep(1)", "call_later(clock, 1, f)", "asyncio.wait([task])", "moment.time()"])
def test_other_uses_of_time_are_none_of_the_machines(code: str) -> None:
    assert list(_machine_time(code)) == []


def test_the_front_door_holds_names_and_nothing_else() -> None:
    docstring, *rest = ast.parse((ROOT / "election/__init__.py").read_text()).body
    assert isinstance(docstring, ast.Expr)
    assert isinstance(rest.pop(), ast.Assign)
    assert [node for node in rest if not isinstance(node, ast.ImportFrom)] == []


def test_every_module_says_what_it_is() -> None:
    assert [str(path) for path in MODULES if not ast.get_docstring(ast.parse(path.read_text()))] == []


@pytest.mark.parametrize(
    ("module", "code", "reached"),
    [
        (
            "election.core.elector",
            "from election.schedule.executor import TermExecutor",
            "election.schedule.executor.TermExecutor",
        ),
        ("election.core.elector", "from ..schedule import executor", "election.schedule.executor"),
        (
            "election.core.elector",
            "def f():\n    import election.schedule.executor",
            "election.schedule.executor",
        ),
        ("election.core.term", "async def f():\n    from ..engines import open_engine", "election.engines.open_engine"),
        (
            "election.schedule.executor",
            "from election.core.elector import Elector",
            "election.core.elector.Elector",
        ),
        ("election.schedule.executor", "from election.core import elector", "election.core.elector"),
        ("election.schedule.executor", "from election.engines import Engine", "election.engines.Engine"),
        (
            "election.engines.file.backend",
            "from election.schedule.executor import TermExecutor",
            "election.schedule.executor.TermExecutor",
        ),
        ("election.web.router", "from ..election import Election", "election.election.Election"),
        ("election.web.router", "from election import Election", "election.Election"),
        ("election.election", "import app.main", "app.main"),
        ("election.election", "import run", "run"),
        ("election.election", "import importlib\nimportlib.import_module('app.main')", "app.main"),
        ("election.election", "__import__('app.main')", "app.main"),
        ("app.main", "from election.core.errors import ElectionError", "election.core.errors.ElectionError"),
        ("run", "from election.engines import open_engine", "election.engines.open_engine"),
        ("election.testing", "from .election import Election", "election.election.Election"),
        (
            "election.core.seat",
            "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from election.schedule.run import Run",
            "election.schedule.run.Run",
        ),
    ],
)
def test_a_breach_is_noticed(module: str, code: str, reached: str) -> None:
    assert _breaches(module, code) == [f"{module} imports {reached}"]


@pytest.mark.parametrize(
    ("module", "code"),
    [
        ("election.core.elector", "import asyncio\nfrom . import clock\nfrom .term import Term"),
        ("election.schedule.executor", "from election.core.term import Term\nfrom .run import Run"),
        ("election.engines.file.ledger", "from election.schedule.ledger import Ledger"),
        ("app.main", "from election import Election\nfrom . import jobs\nfrom .settings import Settings"),
        ("run", "from app.main import app\nfrom election import ConfigurationError"),
    ],
)
def test_what_is_allowed_is_not_refused(module: str, code: str) -> None:
    assert _breaches(module, code) == []


def _exemption(path: Path) -> str | None:
    """Return the entry of ``MAY_USE_MACHINE_TIME`` that exempts a module; None if there is none."""
    name = path.relative_to(ROOT).as_posix()
    return next(
        (allowed for allowed in MAY_USE_MACHINE_TIME if name == allowed or name.startswith(allowed + "/")), None
    )


def _machine_time(code: str) -> Iterator[str]:
    """Return every use of the machine's time in the code, by the names in ``MACHINE_TIME``."""
    for node in ast.walk(ast.parse(code)):
        if isinstance(node, ast.Attribute):
            holder = ast.unparse(node.value).removesuffix("()").rpartition(".")[2].lstrip("_")
            holder = "loop" if holder.endswith("loop") else holder
            if (name := f"{holder}.{node.attr}") in MACHINE_TIME:
                yield name
        elif isinstance(node, ast.ImportFrom) and not node.level:
            yield from (name for alias in node.names if (name := f"{node.module}.{alias.name}") in MACHINE_TIME)
        elif isinstance(node, ast.Call) and ast.unparse(node.func) == "asyncio.wait":
            yield from ("asyncio.wait(timeout=)" for keyword in node.keywords if keyword.arg == "timeout")


def _module(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def _breaches(module: str, code: str, *, is_package: bool = False) -> list[str]:
    room = _room(module)
    return [
        f"{module} imports {name}"
        for name in _imports(module, code, is_package=is_package)
        if _is_ours(name) and not _may(room, name)
    ]


def _may(room: str, name: str) -> bool:
    if any(room == shut_in and _within(name, shut_off) for shut_in, shut_off in SHUT):
        return False
    if _room(name) == room:
        return True
    return any(_allows(wall, name) for wall in WALLS[room])


def _allows(wall: str, name: str) -> bool:
    """``election`` allows its public names, not the modules below it; any other room includes all modules below it."""
    if wall in PUBLIC:
        return _room(name) == wall
    return _within(name, wall)


def _room(module: str) -> str:
    """Return the innermost room of a module, or of a name in one."""
    return max((room for room in WALLS if _within(module, room)), key=len)


def _within(name: str, room: str) -> bool:
    return name == room or name.startswith(room + ".")


def _is_ours(name: str) -> bool:
    return name.partition(".")[0] in {"run", "app", "election"}


def _imports(module: str, code: str, *, is_package: bool) -> Iterator[str]:
    """Return every name that the code imports, in full, wherever the import stands."""
    for node in ast.walk(ast.parse(code)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            package = module.split(".")
            if node.level:
                package = package[: len(package) - node.level + is_package]
            base = ".".join([*(package if node.level else []), *([node.module] if node.module else [])])
            yield from (f"{base}.{alias.name}" for alias in node.names)
        elif isinstance(node, ast.Call) and node.args and isinstance(node.args[0], ast.Constant):
            called = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
            if called in {"import_module", "__import__"}:
                yield str(node.args[0].value)


RIDDLES = ("What", "Who", "Whoever", "Whatever", "Whom", "Whose")
"""First words of docstrings that paraphrase a thing instead of naming it."""


def _docstrings(path: Path) -> Iterator[tuple[int, str]]:
    """Docstrings of modules, classes and functions, and the strings that stand below attributes; with their lines."""
    for node in ast.walk(ast.parse(path.read_text())):
        body = getattr(node, "body", None)
        for child in body if isinstance(body, list) else []:
            match child:
                case ast.Expr(ast.Constant(str() as text)):
                    yield child.lineno, text


def test_docstrings_name_their_subject() -> None:
    folders = ("election", "app", "bench", "tests")
    sources = [ROOT / "run.py", *(path for folder in folders for path in (ROOT / folder).rglob("*.py"))]
    riddles = [
        f"{path.relative_to(ROOT)}:{line}: {text.split(maxsplit=1)[0]}"
        for path in sorted(sources)
        for line, text in _docstrings(path)
        if text.split(maxsplit=1)[:1] and text.split(maxsplit=1)[0] in RIDDLES
    ]
    assert riddles == []
