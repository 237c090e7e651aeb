"""Statements of the compose file about the application and the image, compared with both."""

from __future__ import annotations

import re
from typing import Any

import pytest
import yaml

from election.engines.postgres.address import parse
from tests.deploy.application import SECRETS, SETTINGS, STOP_S
from tests.deploy.dockerfile import instructions
from tests.docs.markdown import ROOT
from tests.support.postgres_server import NEWEST, OLDEST

FILE = ROOT / "deploy/compose.yaml"

Services = dict[str, dict[str, Any]]


@pytest.fixture(scope="module")
def services() -> Services:
    found: Services = yaml.safe_load(FILE.read_text())["services"]
    assert found.keys() == {"app", "database"}
    return found


@pytest.fixture(scope="module")
def image() -> dict[str, str]:
    """Instructions of the Dockerfile that occur once."""
    return dict(instructions(ROOT / "Dockerfile"))


def test_the_application_waits_for_a_healthy_database(services: Services) -> None:
    assert services["app"]["depends_on"] == {"database": {"condition": "service_healthy"}}
    check = services["database"]["healthcheck"]
    assert check["test"][:2] == ["CMD", "pg_isready"]
    assert "--host=127.0.0.1" in check["test"], "the server that makes the database answers on its socket alone"


def test_the_pool_is_in_the_database(services: Services) -> None:
    database = services["database"]["environment"]
    address = parse(services["app"]["environment"]["ELECTION_POOL"])
    assert address.url == f"postgresql://{database['POSTGRES_USER']}@database/{database['POSTGRES_DB']}"
    asked = services["database"]["healthcheck"]["test"]
    assert {f"--username={database['POSTGRES_USER']}", f"--dbname={database['POSTGRES_DB']}"} < {*asked}
    name, _, version = services["database"]["image"].partition(":")
    assert name == "postgres"
    assert OLDEST <= int(version) <= NEWEST


def test_no_file_holds_a_password(services: Services) -> None:
    password = "${POSTGRES_PASSWORD:?set it in deploy/.env}"
    assert services["database"]["environment"]["POSTGRES_PASSWORD"] == password
    assert services["app"]["environment"]["PGPASSWORD"] == password
    named = set(re.findall(r"\$\{(\w+)", FILE.read_text()))
    example = dict(re.findall(r"^(\w+)=(.*)$", (ROOT / "deploy/compose.env").read_text(), re.MULTILINE))
    assert example == dict.fromkeys(named, "")


def test_the_file_with_the_password_stays_here() -> None:
    """Git, the image and the source distribution leave it out."""
    assert "/deploy/.env" in (ROOT / ".gitignore").read_text().splitlines()
    assert [line for line in (ROOT / ".dockerignore").read_text().splitlines() if "deploy" in line] == []
    assert '"deploy/.env"' in (ROOT / "pyproject.toml").read_text()


def test_the_application_is_the_image(services: Services, image: dict[str, str]) -> None:
    app = services["app"]
    assert (FILE.parent / app["build"]["context"] / "Dockerfile").resolve() == ROOT / "Dockerfile"
    assert app["environment"].keys() <= SETTINGS | SECRETS
    assert not {"command", "entrypoint", "healthcheck"} & app.keys(), "the image's own are used"
    (port,) = app["ports"]
    address, _, inside = port.split(":")
    assert (address, inside) == ("127.0.0.1", image["EXPOSE"])
    assert "ports" not in services["database"]


def test_a_stop_has_time_for_the_drain(services: Services) -> None:
    period = services["app"]["stop_grace_period"]
    assert float(period.removesuffix("s")) > STOP_S


def test_the_application_has_no_privileges(services: Services, image: dict[str, str]) -> None:
    app = services["app"]
    assert (app["read_only"], app["cap_drop"]) == (True, ["ALL"])
    assert app["security_opt"] == ["no-new-privileges:true"]
    assert app["tmpfs"] == ["/tmp", image["VOLUME"]], "Python's tempfile needs a directory that can be written"
