"""``python -m election …`` on pools on a server: the same exit codes, and advice that fits a server."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.cli.conftest import Call, live
from tests.support.pool import SAFETY_POLL_S, WorkerPool
from tests.support.ports import free_port
from tests.support.postgres_server import RunningPostgres
from tests.support.redis_server import RunningRedis
from tests.support.servers import WORKER, new_name
from tests.support.waiting import until

PASSWORD = "open-sesame"

COMMANDS = (
    "status", "watch", "jobs", "runs", "logs", "next", "skips", "terms", "verify", "doctor", "resign", "accept-time",
    "adopt",
)  # fmt: skip


def _postgresql(request: pytest.FixtureRequest) -> str:
    server: RunningPostgres = request.getfixturevalue("postgres_server")
    return server.url(user=f"postgres:{PASSWORD}", pool=new_name())


def _redis(request: pytest.FixtureRequest) -> str:
    server: RunningRedis = request.getfixturevalue("redis_server")
    return f"redis://default:{PASSWORD}@127.0.0.1:{server.port}/0?socket_timeout=20&pool={new_name()}"


URLS: dict[str, Callable[[pytest.FixtureRequest], str]] = {"postgresql": _postgresql, "redis": _redis}
"""URL of a new pool, by engine."""


@pytest.fixture(params=list(URLS), scope="session")
def alive(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[WorkerPool]:
    """A pool of two processes on a server."""
    pair = WorkerPool(tmp_path_factory.mktemp(request.param), URLS[request.param](request))
    try:
        pair.start()
        yield pair
    finally:
        pair.reap()


@pytest.fixture(params=list(URLS))
def url(request: pytest.FixtureRequest) -> str:
    """An answering server on which nobody has led yet."""
    return URLS[request.param](request)


@pytest.fixture(params=list(URLS), scope="session")
def stopped(request: pytest.FixtureRequest) -> str:
    """A pool on a server that was led twice, and stopped in order."""
    url = URLS[request.param](request)
    for pause in (False, True):
        asyncio.run(live(url, pause=pause))
    return url


@pytest.fixture
def say(call: Call) -> Callable[..., tuple[int, str]]:
    """Run a command; return its exit code and output, which contains no password and no traceback."""

    def run(command: str, pool: str, *arguments: str) -> tuple[int, str]:
        once = ["--once"] if command == "watch" else []
        code, out, err = call(command, pool, *once, *arguments)
        assert PASSWORD not in out + err
        assert "Traceback" not in out + err
        assert err.count("\n") <= 1, err
        return code, out + err

    return run


Say = Callable[..., tuple[int, str]]


def findings(said: str, grade: str) -> list[str]:
    """Results of ``doctor --json`` of one severity, the advice after an arrow."""
    return [f"{each['text']} -> {each['advice']}" for each in json.loads(said) if each["grade"] == grade]


# --- a pool that lives ------------------------------------------------------------------------------------------------


@pytest.mark.extended
def test_a_living_pool_is_shown(alive: WorkerPool, say: Say) -> None:
    """P8: every command agrees with the pool."""
    leader, follower = alive.leader(), alive.follower()
    until(lambda: len(alive.facts("often")) > 1, what="there is some history")
    term = leader.document()["leader"]["term"]
    code, said = say("status", alive.url)
    assert code == 0
    assert f"pid {leader.pid} leads term {term}" in said
    assert f"followers: {follower.pid}\n" in said
    assert "beats (seen" in said
    assert "often " in said
    assert f"pid {leader.pid} leads term {term}" in say("watch", alive.url)[1]
    code, said = say("runs", alive.url, "--job", "often")
    assert (code, "succeeded" in said) == (0, True)
    code, said = say("terms", alive.url)
    assert (code, f"{term}     {leader.pid}" in said) == (0, True)
    code, said = say("verify", alive.url)
    assert (code, "P1 to P4 held" in said) == (0, True)


def test_status_for_machines(alive: WorkerPool, ask: Callable[..., Any]) -> None:
    said, asked = ask("status", alive.url), alive.leader().document()
    for name in ("pool", "engine", "state", "workers", "problem"):
        assert said[name] == asked[name]
    assert said["leader"]["pid"] == asked["leader"]["pid"]


def test_a_living_pool_is_sound(alive: WorkerPool, say: Say) -> None:
    """The server, its settings, the leader, and the ledger: all good, and no result is about files."""
    leader = alive.leader()
    code, said = say("doctor", alive.url, "--json")
    assert code == 0
    assert findings(said, "warning") == []
    good = " ".join(findings(said, "good"))
    assert f"pid {leader.pid} on " in good
    assert "the ledger can be read: 2 jobs" in good
    wanted = ["PostgreSQL", "has version", "the advisory lock is held by"]
    if alive.url.startswith("redis"):
        wanted = ["append-only file", "holds the lease"]
    assert [text for text in wanted if text not in good] == []


def test_resign(alive: WorkerPool, say: Say) -> None:
    leader = alive.leader()
    term = leader.document()["leader"]["term"]
    code, said = say("resign", alive.url)
    assert (code, said) == (0, f"requested: pid {leader.pid} resigns from term {term}\n")
    heir = alive.leader(after=term)
    assert heir is not leader or heir.document()["last_takeover"]["vacant_s"] >= SAFETY_POLL_S, "the others' turn first"


# --- a pool that was stopped ------------------------------------------------------------------------------------------


@pytest.mark.extended
def test_a_stopped_pool_is_shown(stopped: str, say: Say) -> None:
    """Exit code 1 of status: nobody leads; the history stays readable."""
    code, said = say("status", stopped)
    assert (code, "nobody leads" in said, "bad " in said) == (1, True, True)
    assert "nobody leads; pid " in say("watch", stopped)[1]
    assert say("verify", stopped)[0] == 0
    assert say("terms", stopped)[1].count(" resigned\n") == 2
    code, said = say("skips", stopped, "--job", "good")
    assert (code, "paused" in said) == (0, True)
    code, said = say("resign", stopped)
    assert (code, "so nobody can resign" in said) == (2, True)


def test_a_stopped_pool_is_sound(stopped: str, say: Say) -> None:
    code, said = say("doctor", stopped, "--json")
    assert code == 0
    assert [text for text in findings(said, "warning") if "the last leader was pid" in text and "resigned" in text]
    assert "the ledger can be read: 2 jobs, 0 open runs -> None" in findings(said, "good")


# --- a pool that nobody has led ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("command", COMMANDS)
def test_nobody_has_led(command: str, url: str, say: Say) -> None:
    """The message names the missing part; a mistyped name is not reported as a pool whose promises held."""
    code, said = say(command, url)
    assert code == {"status": 1, "watch": 0, "doctor": 0}.get(command, 2), said
    told = {"doctor": "normal before the first election", "resign": "nobody leads", "watch": "and nobody has"}
    assert told.get(command, "has never been led, as it seems, and so has no history") in said
    if command == "doctor":
        assert "WRONG" not in said


def test_to_look_makes_nothing(say: Say, postgres_server: RunningPostgres, redis_server: RunningRedis) -> None:
    """A mistyped name leaves neither a schema nor a key behind."""
    for command in COMMANDS:
        say(command, postgres_server.url(pool="mistyped"))
        say(command, f"{redis_server.url}?pool=mistyped")
    assert postgres_server.execute("SELECT 1 FROM pg_namespace WHERE nspname = 'election_mistyped'") == []
    assert redis_server.ask("KEYS", "election:{mistyped}:*") == []


# --- what can be wrong ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("form", ["postgresql://app:{}@127.0.0.1:{}/app", "redis://app:{}@127.0.0.1:{}/0"])
@pytest.mark.parametrize("command", COMMANDS)
def test_a_server_that_is_away(command: str, form: str, say: Say) -> None:
    """P8: the leader is unknown, which is not reported as a vacancy."""
    code, said = say(command, form.format(PASSWORD, free_port()))
    assert code == {"watch": 0, "doctor": 1}.get(command, 2), said
    assert "onnect" in said or "nobody is known to lead" in said
    assert "nobody has" not in said
    assert "file" not in said
    if command == "doctor":
        assert "nobody leads until it can be reached" in said
        assert "no tick is run while it cannot be read" in said
    elif command != "watch":
        assert said.count("127.0.0.1:") <= 2, said  # the pool is named once, beside the driver's text


def test_a_schema_that_is_newer_than_the_code(say: Say, postgres_server: RunningPostgres, tmp_path: Path) -> None:
    """Writing could break it, and its rows may be misread."""
    url = postgres_server.url(user=f"postgres:{PASSWORD}", pool="newer")
    asyncio.run(live(url, pause=False))
    postgres_server.execute("UPDATE election_newer.meta SET schema_version = 99")
    for command in ("runs", "terms", "verify"):
        code, said = say(command, url)
        assert (code, "upgrade election in every worker" in said) == (2, True), said
    assert "upgrade election in every worker" in say("status", url)[1]
    code, said = say("doctor", url, "--json")
    assert code == 1
    assert all("upgrade election in every worker" in text for text in findings(said, "wrong"))


def test_a_ledger_that_makes_no_sense(
    say: Say, stopped: str, postgres_server: RunningPostgres, redis_server: RunningRedis
) -> None:
    """The advice fits a pool without files: nothing sets the ledger aside by itself."""
    name = stopped.rpartition("=")[2]
    job = f"election:{{{name}}}:job:good"
    if stopped.startswith("redis"):
        before = redis_server.ask("HGET", job, "trigger")
        redis_server.ask("HSET", job, "trigger", "{")
    else:
        before = postgres_server.execute(f"SELECT trigger FROM election_{name}.jobs WHERE id = 'good'")[0][0]
        postgres_server.execute(f"UPDATE election_{name}.jobs SET trigger = '{{' WHERE id = 'good'")
    try:
        code, said = say("doctor", stopped, "--json")
        (wrong,) = findings(said, "wrong")
        assert code == 1
        assert "the ledger has a row that no worker can have written" in wrong
        assert "nothing sets it aside: stop the pool, keep a copy of" in wrong
        assert f"election:{{{name}}}:" in wrong or f"pg_dump --schema=election_{name}" in wrong
    finally:
        if stopped.startswith("redis"):
            redis_server.ask("HSET", job, "trigger", before)
        else:
            postgres_server.execute(f"UPDATE election_{name}.jobs SET trigger = '{before}' WHERE id = 'good'")


def test_a_lease_without_end(say: Say, redis_server: RunningRedis) -> None:
    """Nobody could ever be elected again; the advice gives the remedy."""
    redis_server.ask("SET", "election:{tampered}:lease", "nobody:1")
    code, said = say("doctor", f"{redis_server.url}?pool=tampered", "--json")
    assert code == 1
    (wrong,) = findings(said, "wrong")
    assert "DEL election:{tampered}:lease" in wrong


def test_a_role_that_may_not_read(say: Say, postgres_server: RunningPostgres, stopped: str) -> None:
    if stopped.startswith("redis"):
        return
    postgres_server.execute(f"CREATE ROLE stranger_{WORKER} LOGIN")
    code, said = say("doctor", stopped.replace(f"postgres:{PASSWORD}", f"stranger_{WORKER}"), "--json")
    assert code == 1
    assert all("docs/engines/postgresql.md lists what the role needs" in text for text in findings(said, "wrong")[:1])


# --- a ledger that is elsewhere ---------------------------------------------------------------------------------------


def test_a_ledger_that_is_elsewhere(say: Say, redis_server: RunningRedis, postgres_server: RunningPostgres) -> None:
    """The pool's own server has no history; it is found with ``--ledger``, and named if it is not."""
    url, ledger = f"{redis_server.url}?pool=apart", postgres_server.url(user=f"postgres:{PASSWORD}", pool="apart")
    asyncio.run(live(url, pause=False, ledger=ledger))
    code, said = say("verify", url)
    assert code == 2
    assert "was led in term 1, which its ledger does not have" in said
    assert "name it with --ledger" in said
    assert "name it with --ledger" in say("status", url)[1]
    code, said = say("doctor", url, "--json")
    assert (code, [text for text in findings(said, "warning") if "name it with --ledger" in text] != []) == (0, True)
    code, said = say("verify", url, "--ledger", ledger)
    assert (code, "P1 to P4 held" in said) == (0, True)
    code, said = say("doctor", url, "--ledger", ledger, "--json")
    assert (code, "the ledger can be read: 2 jobs, 0 open runs -> None" in findings(said, "good")) == (0, True)


def test_only_redis_has_its_ledger_elsewhere(say: Say, postgres_server: RunningPostgres) -> None:
    url = postgres_server.url(pool="elsewhere")
    code, said = say("runs", url, "--ledger", url)
    assert (code, "ledger= is for pools on Redis" in said) == (2, True)
