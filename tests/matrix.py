"""``make test`` on each Python that is promised, and with the lowest versions that pyproject.toml allows.

``python -m tests.matrix`` runs all of them; ``python -m tests.matrix 3.12 lowest`` only those. Each has an environment,
``.venv-3.12`` and so on. Exits with 1 if a run fails; a Python that this machine lacks is reported as left out.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]

PYTHONS = ("3.11", "3.12", "3.13", "3.14")
LOWEST = "lowest"
"""The oldest Python with the lowest version of each direct requirement."""


def find_python(version: str) -> str | None:
    """Return the path of an interpreter of this version: on the PATH, or one of pyenv's; None if there is none."""
    folders = [*os.environ.get("PATH", "").split(os.pathsep), *map(str, _pyenv_folders(version))]
    for folder in folders:
        found = shutil.which(f"python{version}", path=folder)
        if found is not None and _runs(found, version):
            return found
    return None


def _pyenv_folders(version: str) -> list[Path]:
    root = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv"))
    return sorted(root.glob(f"versions/{version}.*/bin"))


def _runs(path: str, version: str) -> bool:
    """Return whether it is that version, and no stand-in that only reports that it is missing."""
    code = "import sys, venv; print('%d.%d' % sys.version_info[:2])"
    try:
        done = subprocess.run([path, "-c", code], capture_output=True, text=True, timeout=30, check=False)
    except OSError:
        return False
    return done.stdout.strip() == version


def main(names: list[str]) -> int:
    """Run the tests of each name, in turn; return the exit status."""
    results: dict[str, str] = {}
    for name in names or [*PYTHONS, LOWEST]:
        python = find_python(PYTHONS[0] if name == LOWEST else name)
        if python is None:
            results[name] = "left out: this machine has no such Python"
            continue
        print(f"--- {name}: {python}", flush=True)
        goal = "test-lowest" if name == LOWEST else "test"
        command = ["make", goal, f"VENV=.venv-{name}", f"PYTHON={python}"]
        results[name] = "green" if subprocess.run(command, cwd=ROOT, check=False).returncode == 0 else "FAILED"
    for name, result in results.items():
        print(f"{name:>6}: {result}")
    return int("FAILED" in results.values())


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
