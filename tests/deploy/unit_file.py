"""Reads the systemd unit."""

from __future__ import annotations

import re
import subprocess

from tests.docs.markdown import ROOT

UNIT = ROOT / "deploy/election.service"


def unit() -> dict[str, list[str]]:
    """Settings of the unit, each with its values in order."""
    found: dict[str, list[str]] = {}
    for name, value in re.findall(r"^(\w+)=(.*)$", UNIT.read_text(), re.MULTILINE):
        found.setdefault(name, []).append(value)
    return found


def allowed_system_calls() -> set[str]:
    """Names that the lines ``SystemCallFilter=`` leave, with the groups as this machine's systemd defines them."""
    allowed: set[str] = set()
    for line in unit()["SystemCallFilter"]:
        names = {name for word in line.removeprefix("~").split() for name in _expand(word)}
        allowed = allowed - names if line.startswith("~") else allowed | names
    return allowed


def _expand(name: str) -> set[str]:
    if not name.startswith("@"):
        return {name}
    listed = subprocess.run(
        ["systemd-analyze", "syscall-filter", name], capture_output=True, text=True, check=True, timeout=30
    )
    lines = [line.strip() for line in listed.stdout.splitlines()[1:]]
    return {each for line in lines if line and not line.startswith("#") for each in _expand(line)}
