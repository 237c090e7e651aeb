"""Statements of the systemd unit and of the Dockerfile about the application, compared with the application."""

from __future__ import annotations

import json
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from app.settings import Settings
from tests.deploy.application import SECRETS, SETTINGS, STOP_S, paths
from tests.deploy.dockerfile import instructions
from tests.deploy.unit_file import UNIT, unit
from tests.docs.markdown import ROOT
from tests.support.tools import needs

MAX_EXPOSURE = 3.0
"""Highest accepted figure of ``systemd-analyze security``: 0 is sealed off, 10 is open."""


@needs("systemd-analyze")
def test_systemd_understands_the_unit(tmp_path: Path) -> None:
    here = UNIT.read_text().replace("/opt/election/.venv/bin/python", sys.executable)
    here = here.replace("User=election", "User=root").replace("/opt/election", str(ROOT))
    (tmp_path / "election.service").write_text(here)
    verify = ["systemd-analyze", "verify", "--recursive-errors=no", str(tmp_path / "election.service")]
    done = subprocess.run(verify, capture_output=True, text=True, timeout=60, check=False)
    about_ours = [line for line in done.stderr.splitlines() if "election.service" in line]
    assert (done.returncode, about_ours) == (0, []), done.stderr


def test_the_unit_stops_the_pool_in_order() -> None:
    found = unit()
    assert found["KillMode"] == ["mixed"]
    assert float(found["TimeoutStopSec"][0]) > STOP_S
    assert found["Restart"] == ["always"]
    (pool,) = [value for value in found["Environment"] if value.startswith("ELECTION_POOL=")]
    assert pool == f"ELECTION_POOL=%S/{found['StateDirectory'][0]}/pool"


def test_what_the_unit_starts_exists() -> None:
    _, script, *arguments = shlex.split(unit()["ExecStart"][0])
    assert (ROOT / script).is_file()
    known = {f"--{name.replace('_', '-')}" for name in Settings.model_fields}
    assert {each for each in arguments if each.startswith("--")} <= known
    assert {each.partition("=")[0] for each in unit()["Environment"]} <= SETTINGS | {"PYTHONUNBUFFERED"}


@needs("systemd-analyze")
def test_the_exposure_of_the_unit() -> None:
    analyze = ["systemd-analyze", "security", "--offline=true", "--no-pager", str(UNIT)]
    done = subprocess.run(analyze, capture_output=True, text=True, timeout=60, check=False)
    found = re.search(r"Overall exposure level for election\.service: ([\d.]+)", done.stdout)
    assert found, done.stdout + done.stderr
    assert float(found[1]) <= MAX_EXPOSURE, done.stdout


def test_a_reload_is_a_rolling_restart() -> None:
    """tests/faults/test_signals.py: SIGHUP to the parent replaces the workers, one by one."""
    assert unit()["ExecReload"] == ["/bin/kill -HUP $MAINPID"]


def test_the_unit_keeps_what_the_workers_need() -> None:
    found = unit()
    assert found["UMask"] == ["0077"]
    assert "ProcSubset" not in found, "it hides /proc/locks and the boot id"
    assert "PrivateNetwork" not in found
    assert "IPAddressDeny" not in found


def test_the_environment_file_names_settings_that_exist() -> None:
    """Its lines are comments: an installed copy changes nothing, and holds no secret."""
    assert unit()["EnvironmentFile"] == ["-/etc/election/election.env"]
    text = (ROOT / "deploy/election.env").read_text()
    named = dict(re.findall(r"^#([A-Z_]+)=(.*)$", text, re.MULTILINE))
    assert [line for line in text.splitlines() if not line.startswith("#")] == []
    assert {"ELECTION_POOL", *SECRETS} <= named.keys() <= SETTINGS | SECRETS
    assert {name: named[name] for name in SECRETS} == dict.fromkeys(SECRETS, "")


@pytest.mark.parametrize("kind", ["ENV", "HEALTHCHECK"])
def test_the_image_names_settings_that_exist(kind: str) -> None:
    text = " ".join(rest for name, rest in instructions(ROOT / "Dockerfile") if name == kind)
    named = set(re.findall(r"ELECTION_\w+", text))
    assert named
    assert named <= {f"ELECTION_{name.upper()}" for name in Settings.model_fields}


def test_the_image_starts_and_checks_files_and_routes_that_exist() -> None:
    image = instructions(ROOT / "Dockerfile")
    copied = {source for name, rest in image if name == "COPY" for source in shlex.split(rest)[:-1]}
    python, script = json.loads(dict(image)["CMD"])
    assert (python, script in copied, (ROOT / script).is_file()) == ("python", True, True)
    asked = set(re.findall(r"(?<=\})(/\w+)'", dict(image)["HEALTHCHECK"]))
    assert asked == {"/healthz"}
    assert asked <= paths()


def test_the_image_has_every_engine() -> None:
    (installed,) = [rest for name, rest in instructions(ROOT / "Dockerfile") if name == "RUN" and "pip install" in rest]
    assert shlex.split(installed)[-2:] == [".[app,postgres,redis]", "psycopg[binary]"]
