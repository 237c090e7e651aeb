"""The systemd unit, the Kubernetes manifest and the Dockerfile say what the application does."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

import run
from app.main import app
from app.settings import Settings
from election.membership import RELEASE_GRACE_S
from tests.deploy.dockerfile import instructions
from tests.docs.markdown import ROOT
from tests.support.tools import needs

UNIT = ROOT / "deploy/election.service"

STOP = run.GRACEFUL_SHUTDOWN + Settings.model_fields["drain_timeout"].default + RELEASE_GRACE_S
"""Seconds that a stop may take."""


def unit() -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for name, value in re.findall(r"^(\w+)=(.*)$", UNIT.read_text(), re.MULTILINE):
        found.setdefault(name, []).append(value)
    return found


def manifest() -> tuple[dict[str, Any], dict[str, Any]]:
    """The pod, and its container."""
    deployment, claim = yaml.safe_load_all((ROOT / "deploy/kubernetes.yaml").read_text())
    pod = deployment["spec"]["template"]["spec"]
    (volume,) = pod["volumes"]
    assert volume["persistentVolumeClaim"]["claimName"] == claim["metadata"]["name"]
    assert deployment["spec"]["replicas"] == 1
    (container,) = pod["containers"]
    return pod, container


def paths() -> set[str]:
    return set(app.openapi()["paths"])


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
    assert float(found["TimeoutStopSec"][0]) > STOP
    assert found["Restart"] == ["always"]
    (pool,) = [value for value in found["Environment"] if value.startswith("ELECTION_POOL=")]
    assert pool == f"ELECTION_POOL=%S/{found['StateDirectory'][0]}/pool"


def test_what_the_unit_starts_exists() -> None:
    _, script, *arguments = shlex.split(unit()["ExecStart"][0])
    assert (ROOT / script).is_file()
    known = {f"--{name.replace('_', '-')}" for name in Settings.model_fields}
    assert {each for each in arguments if each.startswith("--")} <= known
    settings = {f"ELECTION_{name.upper()}" for name in Settings.model_fields} | {"PYTHONUNBUFFERED"}
    assert {each.partition("=")[0] for each in unit()["Environment"]} <= settings


def test_the_probes_ask_what_is_there() -> None:
    pod, container = manifest()
    probes = {name: container[name]["httpGet"]["path"] for name in container if name.endswith("Probe")}
    assert probes == {"startupProbe": "/healthz", "livenessProbe": "/healthz", "readinessProbe": "/readyz"}
    assert {*probes.values(), "/metrics", "/leader"} <= paths()
    assert pod["terminationGracePeriodSeconds"] > STOP


def test_the_manifest_and_the_image_agree() -> None:
    pod, container = manifest()
    image = dict(instructions(ROOT / "Dockerfile"))
    assert [mount["mountPath"] for mount in container["volumeMounts"]] == [image["VOLUME"]]
    assert str(pod["securityContext"]["runAsUser"]) == image["USER"]
    assert str(container["ports"][0]["containerPort"]) == image["EXPOSE"]


@pytest.mark.parametrize("kind", ["ENV", "HEALTHCHECK"])
def test_the_image_names_settings_that_exist(kind: str) -> None:
    text = " ".join(rest for name, rest in instructions(ROOT / "Dockerfile") if name == kind)
    named = set(re.findall(r"ELECTION_\w+", text))
    assert named
    assert named <= {f"ELECTION_{name.upper()}" for name in Settings.model_fields}
