"""Programs of the documents as modules, for tests that do with them what a reader would."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType

import pytest

from .markdown import ROOT, blocks_of


def write_recipe(page: str, text: str, directory: Path) -> Path:
    """Write the block of Python on a page that contains ``text`` into ``recipe.py``."""
    (code,) = [each.code for each in blocks_of(ROOT / page) if each.language == "python" and text in each.code]
    path = directory / "recipe.py"
    path.write_text(code)
    return path


def load_recipe(
    page: str, text: str, directory: Path, monkeypatch: pytest.MonkeyPatch, **environment: str
) -> ModuleType:
    """The block as a module, with a pool in ``directory``."""
    monkeypatch.chdir(directory)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    spec = importlib.util.spec_from_file_location("recipe", write_recipe(page, text, directory))
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
