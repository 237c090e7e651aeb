"""Every command in the README and docs/ exists, with the named targets and options."""

from __future__ import annotations

import functools
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from app.settings import Settings
from election.cli import parser

from .markdown import ROOT, Block, blocks, pages, prose

SYSTEM = {
    *(
        "cp",
        "curl",
        "docker",
        "git",
        "install",
        "journalctl",
        "kill",
        "kubectl",
        "openssl",
        "pip",
        "python3",
        "systemctl",
    ),
    *("systemd-analyze", "useradd"),
}
"""Commands of others, whose options are well known."""

SERVERS = {"uvicorn": [], "gunicorn": [], "hypercorn": [], "granian": [], "fastapi": ["run"]}
"""Each with its arguments before the options."""


def _commands(block: Block) -> list[str]:
    return [line[2:] for line in block.code.splitlines() if line.startswith("$ ")]


def _marks(command: str) -> list[pytest.MarkDecorator]:
    """The other servers are installed for the extended tests only."""
    return [pytest.mark.extended] if command.split(maxsplit=1)[0] in SERVERS.keys() - {"uvicorn"} else []


COMMANDS = [
    pytest.param(command, id=f"{block}: {command}", marks=_marks(command))
    for block in blocks("console")
    for command in _commands(block)
]


@pytest.mark.parametrize("command", COMMANDS)
def test_a_command_exists(command: str) -> None:
    _check(command)


def test_every_console_block_holds_a_command() -> None:
    assert [str(block) for block in blocks("console") if not _commands(block)] == []


@pytest.mark.parametrize("page", pages(), ids=lambda page: page.name)
def test_commands_in_the_prose_exist(page: Path) -> None:
    for span in re.findall(r"`((?:make|python run\.py) [^`]+)`", prose(page)):
        _check(span.removesuffix(" …"))


@pytest.mark.parametrize(
    "command",
    [
        "make no-such-target",
        "python run.py --no-such-flag 1",
        "make bench-nothing",
        "uvicorn main:app --no-such-option 4",
        "no-such-command",
        "python -m no_such_module",
        "python no_such_file.py",
    ],
)
def test_a_wrong_command_is_noticed(command: str) -> None:
    with pytest.raises(AssertionError):
        _check(command)


def test_the_hooks_call_make() -> None:
    entries = re.findall(r"^\s+entry: (.+)$", (ROOT / ".pre-commit-config.yaml").read_text(), re.MULTILINE)
    assert entries
    for entry in entries:
        assert entry.startswith("make ")
        _check(entry)


def _check(command: str) -> None:
    name, *arguments = shlex.split(command)
    name = re.sub(r"^(/opt/election/)?\.venv/bin/", "", name)
    if name == "make":
        assert all(_is_target(argument) for argument in arguments if "=" not in argument), command
    elif name == "python":
        _check_python(arguments)
    elif name in SERVERS:
        for option in _options(arguments):
            assert re.search(rf"(?<![\w-]){re.escape(option)}(?![\w-])", _help(name)), f"{command}: {option}"
    else:
        assert name in SYSTEM, f"{command}: {name} is not known to exist"


def _check_python(arguments: list[str]) -> None:
    if arguments[0] == "run.py":
        flags = {f"--{name.replace('_', '-')}" for name in Settings.model_fields}
        assert set(_options(arguments)) <= flags, arguments
    elif arguments[0] == "-m":
        if arguments[1] == "election":
            parser().parse_args(arguments[2:])  # ends the test with what is wrong
            return
        assert arguments[1] == "pytest", arguments
        assert [path for path in arguments[2:] if not (ROOT / path).exists()] == []
    else:
        raise AssertionError(f"python {arguments[0]} is not known to exist")


def _options(arguments: list[str]) -> list[str]:
    return [argument.partition("=")[0] for argument in arguments if argument.startswith("--")]


def _is_target(name: str) -> bool:
    """A target of the Makefile; for a pattern such as bench-% the rest is a module in the directory."""
    targets = set(re.findall(r"^([a-z][a-z-]*%?):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    group, _, rest = name.partition("-")
    return name in targets or (f"{group}-%" in targets and (ROOT / group / f"{rest}.py").exists())


@functools.cache
def _help(server: str) -> str:
    asked = subprocess.run(
        [sys.executable, "-m", server, *SERVERS[server], "--help"],
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    return asked.stdout
