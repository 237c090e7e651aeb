"""Servers and a fork server for the tests of the engines: one of each for a whole session of tests."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.support.hosts import Hosts, two_hosts
from tests.support.processes import ForkServer, fork_server


@pytest.fixture(scope="session")
def workers() -> Iterator[ForkServer]:
    with fork_server() as server:
        yield server


@pytest.fixture
def hosts() -> Iterator[Hosts]:
    with two_hosts() as hosts:
        yield hosts
