"""The API against its own description, with requests that nobody would write: no 5xx but the 503 that is told of."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from typing import Any

import hypothesis
import pytest
from fastapi import FastAPI
from starlette.testclient import TestClient

from election import Election
from election.testing import always_leader
from tests.support.waiting import until

TOKEN = "a token for the fuzzer"

EXAMPLES = 12
"""Requests for each route, with the token and without."""


@pytest.fixture(scope="module")
def api() -> Iterator[tuple[FastAPI, TestClient]]:
    with pytest.MonkeyPatch.context() as patch, tempfile.TemporaryDirectory() as directory:
        patch.setenv("ELECTION_ADMIN_TOKEN", TOKEN)
        patch.setattr("election.web.guard.MAX_FAILURES_PER_MINUTE", 10_000)
        patch.setattr("election.web.guard.MAX_CHANGES_PER_MINUTE", 10_000)
        election = Election(os.path.join(directory, "pool"))

        @election.scheduled_job("interval", hours=1, id="job")
        async def job() -> None: ...

        app = FastAPI(lifespan=election.lifespan)
        app.include_router(election.router)
        app.include_router(election.metrics)
        app.include_router(election.health)
        with always_leader(election), TestClient(app) as client:
            until(lambda: client.get("/leader").json()["jobs"][0]["next_run_time"])
            yield app, client


@pytest.mark.extended
@pytest.mark.timeout(120)
@pytest.mark.parametrize("headers", [{}, {"Authorization": f"Bearer {TOKEN}"}], ids=["without", "with the token"])
def test_every_route_answers_as_it_says(api: tuple[FastAPI, TestClient], headers: dict[str, str]) -> None:
    import schemathesis

    app, client = api
    schema = schemathesis.openapi.from_dict(app.openapi())
    seen: set[int] = set()
    for found in schema.get_all_operations():
        operation = found.ok()

        @hypothesis.settings(
            max_examples=EXAMPLES,
            deadline=None,
            derandomize=True,
            database=None,
            suppress_health_check=list(hypothesis.HealthCheck),
        )
        @hypothesis.given(case=operation.as_strategy())
        def call(case: Any) -> None:
            arguments = case.as_transport_kwargs()
            both = {**(arguments.get("headers") or {}), **headers}
            names = {"params": "params", "json": "json", "data": "content"}  # the client's names
            arguments = {names[name]: value for name, value in arguments.items() if name in names}
            answer = client.request(case.method, case.formatted_path, headers=both, **arguments)
            seen.add(answer.status_code)
            documented = {str(code) for code in case.operation.definition.raw["responses"]}
            assert str(answer.status_code) in documented, (case.method, case.formatted_path, answer.text)
            assert answer.status_code < 500 or answer.status_code == 503

        call()
    assert seen >= ({401} if not headers else {202})
