"""Reads the project's Markdown: blocks of code, tables, links."""

from __future__ import annotations

import ast
import functools
import re
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]

_FENCE = re.compile(
    r"(?:^<!-- not run: (?P<reason>[^\n]+?) -->\n\n?)?^```(?P<language>\w*)\n(?P<code>.*?)^```$",
    re.MULTILINE | re.DOTALL,
)


@dataclass(frozen=True, slots=True)
class Block:
    """A fenced block. ``not_run``: the reason in the comment above it, if there is one."""

    page: str
    line: int
    language: str
    code: str
    not_run: str | None

    def __str__(self) -> str:
        return f"{self.page}:{self.line}"


def sides(block: Block) -> tuple[str, str]:
    """The two texts of a difference that is shown in full: before and after. Raises ``ValueError`` for another line."""
    lines = block.code.splitlines()
    if odd := [line for line in lines if line and line[0] not in " +-"]:
        raise ValueError(f"{block} is no difference in full: {odd[0]}")
    before, after = ("\n".join(line[1:] for line in lines if line[:1] != other) + "\n" for other in "+-")
    return before, after


def pages() -> list[Path]:
    """Every page for readers."""
    return sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")])


def blocks(*languages: str) -> list[Block]:
    """The fenced blocks of all pages in these languages; in all languages by default."""
    return [block for page in pages() for block in blocks_of(page) if not languages or block.language in languages]


@functools.cache
def blocks_of(page: Path) -> list[Block]:
    """The fenced blocks of one page. Raises ``ValueError`` for a fence that is never closed."""
    text = page.read_text()
    name = page.relative_to(ROOT).as_posix() if page.is_relative_to(ROOT) else page.name
    found = [
        Block(name, text.count("\n", 0, match.start("language")) + 1, match["language"], match["code"], match["reason"])
        for match in _FENCE.finditer(text)
    ]
    if len(re.findall(r"^\s*```", text, re.MULTILINE)) != 2 * len(found):
        raise ValueError(f"{name} has a fence that is indented or never closed, and so would not be tested")
    return found


def table(page: str | Path, first_heading: str, nth: int = 0) -> list[list[str]]:
    """The rows of the ``nth`` table in ``page`` whose first column is headed so. Raises ``LookupError`` without one."""
    lines = iter((ROOT / page).read_text().splitlines())
    for line in lines:
        if line.startswith(f"| {first_heading} |"):
            if nth:
                nth -= 1
                continue
            next(lines)
            rows = []
            for row in lines:
                if not row.startswith("|"):
                    break
                rows.append([cell.strip() for cell in re.split(r"(?<!\\)\|", row)[1:-1]])
            return rows
    raise LookupError(f"{page} has no such table that begins with {first_heading!r}")


@functools.cache
def functions(module: Path) -> frozenset[str]:
    """Names of all test functions in a module; none if the module does not exist."""
    if not module.is_file():
        return frozenset()
    kinds = (ast.FunctionDef, ast.AsyncFunctionDef)
    nodes = ast.walk(ast.parse(module.read_text()))
    return frozenset(node.name for node in nodes if isinstance(node, kinds) and node.name.startswith("test"))


def prose(page: Path) -> str:
    """The page without its blocks."""
    return _FENCE.sub("", page.read_text())
