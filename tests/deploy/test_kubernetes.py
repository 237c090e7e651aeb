"""Statements of the Kubernetes manifest about the application and the image, compared with both."""

from __future__ import annotations

from typing import Any

import pytest
import yaml
from pydantic import ValidationError

from app.settings import Settings
from tests.deploy.application import SECRETS, SETTINGS, STOP_S, paths
from tests.deploy.dockerfile import instructions
from tests.docs.markdown import ROOT


@pytest.fixture(scope="module")
def objects() -> dict[str, dict[str, Any]]:
    """Objects of the manifest by kind."""
    documents = list(yaml.safe_load_all((ROOT / "deploy/kubernetes.yaml").read_text()))
    found = {document["kind"]: document for document in documents}
    assert (len(documents), found.keys()) == (3, {"Deployment", "Service", "PersistentVolumeClaim"})
    return found


@pytest.fixture(scope="module")
def pod(objects: dict[str, dict[str, Any]]) -> dict[str, Any]:
    return dict(objects["Deployment"]["spec"]["template"]["spec"])


@pytest.fixture(scope="module")
def container(pod: dict[str, Any]) -> dict[str, Any]:
    (found,) = pod["containers"]
    return dict(found)


@pytest.fixture(scope="module")
def image() -> dict[str, str]:
    """Instructions of the Dockerfile that occur once."""
    return dict(instructions(ROOT / "Dockerfile"))


def test_one_pod_at_a_time_has_the_pool(objects: dict[str, dict[str, Any]], pod: dict[str, Any]) -> None:
    spec = objects["Deployment"]["spec"]
    assert (spec["replicas"], spec["strategy"]) == (1, {"type": "Recreate"})
    claim = objects["PersistentVolumeClaim"]
    assert claim["spec"]["accessModes"] == ["ReadWriteOncePod"]
    claims = [volume["persistentVolumeClaim"] for volume in pod["volumes"] if "persistentVolumeClaim" in volume]
    assert claims == [{"claimName": claim["metadata"]["name"]}]


def test_the_probes_ask_routes_that_exist(objects: dict[str, dict[str, Any]], container: dict[str, Any]) -> None:
    asked = {name: container[name]["httpGet"] for name in container if name.endswith("Probe")}
    assert {name: probe["path"] for name, probe in asked.items()} == {
        "startupProbe": "/healthz",
        "livenessProbe": "/healthz",
        "readinessProbe": "/readyz",
    }
    ports = {port["name"] for port in container["ports"]}
    assert {probe["port"] for probe in asked.values()} <= ports
    scraped = objects["Deployment"]["spec"]["template"]["metadata"]["annotations"]["prometheus.io/path"]
    assert {scraped, *(probe["path"] for probe in asked.values())} <= paths()


def test_a_stop_has_time_for_the_drain(pod: dict[str, Any]) -> None:
    assert pod["terminationGracePeriodSeconds"] > STOP_S


def test_the_manifest_and_the_image_agree(
    pod: dict[str, Any], container: dict[str, Any], image: dict[str, str]
) -> None:
    mounts = {mount["mountPath"]: mount["name"] for mount in container["volumeMounts"]}
    assert mounts[image["VOLUME"]] == "pool"
    assert set(mounts.values()) == {volume["name"] for volume in pod["volumes"]}
    assert str(pod["securityContext"]["runAsUser"]) == image["USER"]
    assert [str(port["containerPort"]) for port in container["ports"]] == [image["EXPOSE"]]
    assert not {"command", "args"} & container.keys(), "the image's own command is used"


def test_the_service_leads_to_the_pod(objects: dict[str, dict[str, Any]], container: dict[str, Any]) -> None:
    deployment, service = objects["Deployment"]["spec"], objects["Service"]["spec"]
    assert service["selector"] == deployment["selector"]["matchLabels"]
    assert service["selector"].items() <= deployment["template"]["metadata"]["labels"].items()
    assert {port["targetPort"] for port in service["ports"]} <= {port["name"] for port in container["ports"]}


def test_the_service_gives_the_pod_no_variables(
    objects: dict[str, dict[str, Any]], pod: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The link of a Service named election would set a variable that is also a setting."""
    assert pod["enableServiceLinks"] is False
    variable = f"{objects['Service']['metadata']['name'].upper()}_PORT"
    assert variable in SETTINGS
    monkeypatch.setenv(variable, "tcp://10.0.0.1:80")
    with pytest.raises(ValidationError):
        Settings()


def test_the_pod_has_no_privileges(pod: dict[str, Any], container: dict[str, Any]) -> None:
    context = pod["securityContext"]
    assert context["runAsNonRoot"] is True
    assert context["seccompProfile"] == {"type": "RuntimeDefault"}
    assert context["fsGroupChangePolicy"] == "OnRootMismatch", "a recursive change opens the pool to the group"
    assert pod["automountServiceAccountToken"] is False
    assert container["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }


def test_a_temporary_directory_can_be_written(pod: dict[str, Any], container: dict[str, Any]) -> None:
    """The root filesystem is read-only, and Python's tempfile finds no directory without this one."""
    (name,) = [mount["name"] for mount in container["volumeMounts"] if mount["mountPath"] == "/tmp"]
    (volume,) = [volume for volume in pod["volumes"] if volume["name"] == name]
    assert "emptyDir" in volume


def test_resources_are_requested(container: dict[str, Any]) -> None:
    resources = container["resources"]
    assert resources["requests"].keys() == {"cpu", "memory"}
    assert resources["limits"].keys() == {"memory"}, "a limit of the CPU delays heartbeats"


def test_the_environment_has_settings_that_exist_and_no_secret(container: dict[str, Any]) -> None:
    named = {variable["name"] for variable in container["env"]}
    assert named <= SETTINGS
    assert not named & SECRETS
    assert container["envFrom"] == [{"secretRef": {"name": "election", "optional": True}}]
