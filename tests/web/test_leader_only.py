"""``Depends(election.leader_only)``: routes that only the leader answers."""

from __future__ import annotations

import os
from types import SimpleNamespace
from typing import Any
from unittest.mock import AsyncMock

import pytest
from fastapi import Depends, FastAPI, HTTPException
from starlette.testclient import TestClient

from election import Election
from election.web.guard import build_leader_only
from election.web.models import Leader
from tests.schedule.making import NOW
from tests.support.pool import WorkerPool
from tests.support.waiting import until


@pytest.mark.anyio
async def test_a_leader_on_another_host_may_have_our_pid() -> None:
    """In containers every server is process 1."""
    leader = Leader(
        pid=os.getpid(), host="elsewhere", term=3, elected_at=NOW, heartbeat_age_s=0.1, responsive=True, queued=0
    )
    view: Any = SimpleNamespace(document=AsyncMock(return_value=SimpleNamespace(leader=leader, problem=None)))
    with pytest.raises(HTTPException) as refused:
        await build_leader_only(view, lambda: False)()
    assert (refused.value.status_code, refused.value.detail["leader"]["host"]) == (421, "elsewhere")  # type: ignore[index]


@pytest.mark.parametrize("candidate", [True, False])
def test_only_the_leader_answers(living: WorkerPool, candidate: bool) -> None:
    election = Election(living.url, heartbeat=0.1, safety_poll=0.3, candidate=candidate)
    app = FastAPI(lifespan=election.lifespan)
    app.include_router(election.router)

    @app.get("/cache", dependencies=[Depends(election.leader_only)])
    async def cache() -> str:
        return "mine"

    with TestClient(app) as client:
        until(lambda: client.get("/leader").json()["leader"], what="it sees who leads")
        answer, leader = client.get("/cache"), living.leader()
        assert answer.status_code == 421
        detail, document = answer.json()["detail"], client.get("/leader").json()
        assert detail["leader"] == {name: document["leader"][name] for name in ("pid", "host", "term")}
        assert detail["message"].startswith(f"pid {leader.pid} on ")
        assert {worker["pid"]: worker["candidate"] for worker in document["workers"]}[leader.pid] is True
        living.kill_leader()
        wanted = 200 if candidate else 503
        answer = until(lambda: (got := client.get("/cache")).status_code == wanted and got)
        if candidate:
            assert answer.json() == "mine"
        else:
            assert answer.headers["retry-after"] == "1"
