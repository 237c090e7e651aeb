"""Name of the distribution on a package index, where ``election`` belongs to another project."""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, version

DISTRIBUTION = "fastapi-election"
"""The name to install; pyproject.toml, messages and documents agree with it, by a test."""


def installed_version() -> str:
    """Return the version of this package; "not installed" if it is run from its source alone."""
    try:
        return version(DISTRIBUTION)
    except PackageNotFoundError:
        return "not installed"


def install_command(extra: str) -> str:
    """Return the command that installs this package with ``extra``, for an error message."""
    return f"pip install '{DISTRIBUTION}[{extra}]'"
