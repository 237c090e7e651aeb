"""Replacements of a file whose owner may write it anew at any moment."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

from tests.support.waiting import until


def replace_by_directory(path: Path) -> None:
    """Put the file aside, and an empty directory in its place; no single system call does that."""

    def replaced() -> bool:
        with suppress(FileNotFoundError):
            path.rename(path.with_suffix(".kept"))
        with suppress(FileExistsError):  # its owner was quicker
            path.mkdir()
            return True
        return False

    until(replaced, what=f"{path} is a directory")


def replace_by_link(path: Path) -> None:
    """Put a symbolic link to a copy in the place of the file, in one step."""
    copy, link = path.with_suffix(".kept"), path.with_suffix(".link")
    copy.write_bytes(path.read_bytes())
    copy.chmod(0o600)
    link.symlink_to(copy)
    link.replace(path)
