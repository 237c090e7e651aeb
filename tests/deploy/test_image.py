"""The steps of the Dockerfile, run without Docker: its files and commands, in a separate directory.

No image can be built where no base image is available, so the base is this machine's Python.
"""

from __future__ import annotations

import json
import os
import shlex
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import psutil
import pytest

from tests.deploy.dockerfile import instructions
from tests.docs.markdown import ROOT
from tests.support.pool import ServerProcess
from tests.support.ports import free_port
from tests.support.waiting import until

DOCKERFILE = instructions(ROOT / "Dockerfile")

pytestmark = [pytest.mark.extended, pytest.mark.timeout(300)]


@dataclass(frozen=True, slots=True)
class Image:
    """Directory of the build, and the environment of its commands."""

    directory: Path
    environment: dict[str, str]

    def command(self, name: str) -> list[str]:
        """``CMD`` or ``HEALTHCHECK`` of the file."""
        text = dict(DOCKERFILE)[name]
        found = json.loads(text[text.index("[") :])
        return [*found]


@pytest.fixture(scope="module")
def image(tmp_path_factory: pytest.TempPathFactory) -> Image:
    top = tmp_path_factory.mktemp("image")
    directory, port = top / "app", free_port()
    directory.mkdir()
    subprocess.run([sys.executable, "-m", "venv", str(top / "venv")], check=True, timeout=120)
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("ELECTION_", "PYTHON"))}
    environment |= {"PATH": f"{top / 'venv/bin'}{os.pathsep}{os.environ['PATH']}", "VIRTUAL_ENV": str(top / "venv")}
    for name, rest in DOCKERFILE:
        if name == "COPY":
            *sources, target = shlex.split(rest)
            for source in sources:
                assert _is_sent(source), f".dockerignore holds {source} back"
                _copy(ROOT / source, directory / target)
        elif name == "RUN" and rest.startswith("pip "):
            done = subprocess.run(
                rest,
                shell=True,
                cwd=directory,
                env=environment,
                capture_output=True,
                text=True,
                timeout=240,
                check=False,
            )
            assert done.returncode == 0, done.stdout + done.stderr
        elif name == "ENV":
            environment |= dict(each.split("=", 1) for each in shlex.split(rest))
    environment |= {"ELECTION_HOST": "127.0.0.1", "ELECTION_PORT": str(port), "ELECTION_WORKERS": "2"}
    environment["ELECTION_POOL"] = str(top / "volume/pool")
    return Image(directory, environment)


@pytest.fixture
def container(image: Image, tmp_path: Path) -> Iterator[ServerProcess]:
    """Its command, as process 1 of a new namespace where that is allowed."""
    namespace = ["unshare", "--pid", "--fork", "--mount-proc", "--kill-child"]
    tried = subprocess.run([*namespace, "true"], capture_output=True, check=False) if shutil.which("unshare") else None
    allowed = tried is not None and tried.returncode == 0
    server = ServerProcess(
        [*(namespace if allowed else []), *image.command("CMD")],
        port=int(image.environment["ELECTION_PORT"]),
        log=tmp_path / "log",
        environment=image.environment,
        cwd=image.directory,
    )
    try:
        server.launch()
        yield server
    finally:
        server.reap()


def test_the_image_serves_is_healthy_and_stops_in_order(image: Image, container: ServerProcess) -> None:
    def status(path: str) -> int:
        answer = container.get(path)
        return 0 if answer is None else int(answer.status_code)

    def logged() -> str:
        return container.log.read_text()[-4000:]

    until(lambda: status("/leader") == status("/readyz") == status("/metrics") == 200, 60, what=logged)
    check = subprocess.run(image.command("HEALTHCHECK"), env=image.environment, timeout=30, check=False)
    assert check.returncode == 0

    assert container.parent is not None
    outer = psutil.Process(container.parent.pid)
    first = outer.children()[0] if outer.name() == "unshare" else outer
    first.send_signal(signal.SIGTERM)
    assert container.parent.wait(60) == 0, logged()
    for line in container.log.read_text().splitlines():
        assert json.loads(line)["level"] in {"info", "warning"}, line
    assert json.loads((Path(image.environment["ELECTION_POOL"]) / "leader.json").read_text())["standing"] == "resigned"


def _is_sent(source: str) -> bool:
    lines = (ROOT / ".dockerignore").read_text().splitlines()
    return f"!{source}" in lines


def _copy(source: Path, target: Path) -> None:
    if source.is_dir():
        shutil.copytree(source, target, ignore=shutil.ignore_patterns("__pycache__"))
    else:
        shutil.copy(source, target)
