"""Servers that cannot hold a pool are refused at the start, with a remedy; temporary faults are not."""

from __future__ import annotations

import logging
import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest

from election import Election
from election.core.errors import ConfigurationError
from election.engines.postgres.address import parse
from tests.engines.conformance.engines import engine_on
from tests.engines.conformance.pool import Pool
from tests.support.logs import logged
from tests.support.ports import free_port
from tests.support.postgres_server import RunningPostgres, give_to_server_user, run_as_server_user
from tests.support.processes import ForkServer
from tests.support.servers import WORKER
from tests.support.tools import needs
from tests.support.waiting import until

APP, LATIN = f"app_{WORKER}", f"latin_{WORKER}"
OWNER, READER = f"owner_{WORKER}", f"reader_{WORKER}"
"""Databases and roles, which all databases of a server share."""


@pytest.mark.parametrize(
    ("url", "pool", "schema"),
    [
        ("postgresql://u:p@db/app", "postgresql://db/app", "election"),
        ("postgres://db:5433/app?sslmode=require", "postgresql://db:5433/app", "election"),
        ("postgresql://u:p%40@h1,h2:5433/app?pool=jobs", "postgresql://h1,h2:5433/app?pool=jobs", "election_jobs"),
        (
            "postgresql:///app?host=/run/pg&schema=ours&pool=b",
            "postgresql:///app?host=/run/pg&pool=b&schema=ours",
            "ours_b",
        ),
        ("postgresql://db/app?password=secret&user=me", "postgresql://db/app", "election"),
    ],
)
def test_a_url_is_shown_without_secrets(url: str, pool: str, schema: str) -> None:
    address = parse(url)
    assert (address.pool, address.schema) == (pool, schema)
    assert Election(url)._engine.pool == pool


def test_pitfall_42_the_locks_number_is_the_same_for_ever() -> None:
    assert parse("postgresql://db/app").key("seat") == 6514589125775429897


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("postgresql://db/app?pool=A%20B", "'A B' is no name for a pool"),
        ('postgresql://db/app?schema=a"b', "is no name for a schema"),
        ("postgresql://db/app?nonsense=1", "the driver cannot read the pool's URL: .*nonsense"),
    ],
)
def test_a_url_without_meaning(url: str, words: str) -> None:
    with pytest.raises(ConfigurationError, match=words):
        Election(url)


def test_a_server_that_is_away_does_not_fail_the_start(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        engine_on("postgresql://user:secret@127.0.0.1:1/app").check()
    (line,) = logged(caplog, "pool_not_ready")
    assert "postgresql://127.0.0.1:1/app: connection failed" in line.getMessage()
    assert "secret" not in caplog.text


def test_what_is_not_there(postgres_server: RunningPostgres) -> None:
    with pytest.raises(ConfigurationError, match='database "nowhere" does not exist'):
        engine_on(postgres_server.url("nowhere")).check()
    with pytest.raises(ConfigurationError, match='role "nobody" does not exist'):
        engine_on(postgres_server.url(user="nobody")).check()


def test_an_encoding_that_cannot_hold_every_text(postgres_server: RunningPostgres) -> None:
    postgres_server.execute(f"CREATE DATABASE {LATIN} ENCODING 'LATIN1' TEMPLATE template0")
    with pytest.raises(ConfigurationError, match=r"encoding is LATIN1.*create one with ENCODING 'UTF8'"):
        engine_on(postgres_server.url(LATIN)).check()


@pytest.fixture(scope="module")
def roles(postgres_server: RunningPostgres) -> RunningPostgres:
    """A server with an empty database, and a role that may only connect."""
    for statement in (
        f"CREATE DATABASE {APP}",
        f"REVOKE ALL ON DATABASE {APP} FROM PUBLIC",
        f"CREATE ROLE {OWNER} LOGIN",
        f"CREATE ROLE {READER} LOGIN",
        f"GRANT CONNECT ON DATABASE {APP} TO {OWNER}, {READER}",
    ):
        postgres_server.execute(statement)
    return postgres_server


def test_what_a_role_may_not_do_is_said(roles: RunningPostgres) -> None:
    with pytest.raises(ConfigurationError, match=rf"permission denied for database {APP}; docs/engines/postgresql\.md"):
        engine_on(roles.url(APP, OWNER, pool="none")).check()
    engine_on(roles.url(APP, pool="theirs")).check()
    with pytest.raises(ConfigurationError, match=r"permission denied for schema|may not read and write"):
        engine_on(roles.url(APP, READER, pool="theirs")).check()
    roles.execute(f"GRANT USAGE ON SCHEMA election_theirs TO {READER}", APP)
    roles.execute(f"GRANT SELECT ON ALL TABLES IN SCHEMA election_theirs TO {READER}", APP)
    with pytest.raises(ConfigurationError, match=r"may not read and write .*GRANT SELECT, INSERT, UPDATE, DELETE"):
        engine_on(roles.url(APP, READER, pool="theirs")).check()
    roles.execute(f"GRANT INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA election_theirs TO {READER}", APP)
    engine_on(roles.url(APP, READER, pool="theirs")).check()
    roles.execute(f"REVOKE INSERT ON election_theirs.audit FROM {READER}", APP)
    with pytest.raises(ConfigurationError, match=r'may not read and write "election_theirs"\.audit;'):
        engine_on(roles.url(APP, READER, pool="theirs")).check()


@pytest.mark.parametrize("owns", [pytest.param("the schema", marks=pytest.mark.extended), "nothing"])
def test_the_least_privileges(roles: RunningPostgres, tmp_path: Path, workers: ForkServer, owns: str) -> None:
    """A schema of the role; or tables of another role with the rights to use them, and no more."""
    name = owns.rsplit(maxsplit=1)[-1]
    schema = f"election_{name}"
    if owns == "nothing":
        engine_on(roles.url(APP, pool=name)).check()
        for statement in (
            f"GRANT USAGE ON SCHEMA {schema} TO {OWNER}",
            f"GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA {schema} TO {OWNER}",
        ):
            roles.execute(statement, APP)
    else:
        roles.execute(f"CREATE SCHEMA {schema} AUTHORIZATION {OWNER}", APP)
    pool = Pool("postgres", roles.url(APP, OWNER, pool=name), tmp_path, workers)
    try:
        leader, follower = pool.worker(), pool.worker()
        leader.wins()
        follower.sees(1)
        until(lambda: len(follower.workers()) == 2)
        follower.process.ask("terminate")
        follower.wins()
    finally:
        pool.close()


@pytest.fixture
def pooled(postgres_server: RunningPostgres, tmp_path: Path) -> Iterator[Callable[..., str]]:
    """Start a PgBouncer; return the URL of a database behind it."""
    started: list[subprocess.Popen[bytes]] = []
    home = Path("/tmp") / f"election-bouncer-{os.getpid()}"
    home.mkdir()

    def start(mode: str, **settings: Any) -> str:
        port = free_port()
        wanted = {
            "listen_addr": "127.0.0.1", "listen_port": port, "unix_socket_dir": "", "auth_type": "trust",
            "auth_file": home / "users", "pool_mode": mode, **settings,
        }  # fmt: skip
        (home / "users").write_text('"postgres" ""\n')
        lines = [
            "[databases]",
            f"* = host=127.0.0.1 port={postgres_server.port}",
            "[pgbouncer]",
            *(f"{name} = {value}" for name, value in wanted.items()),
        ]
        (home / "ini").write_text("\n".join(lines))
        for path in (home, *home.iterdir()):
            give_to_server_user(path)
        started.append(
            subprocess.Popen(
                ["pgbouncer", home / "ini"],
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                **run_as_server_user(),
            )
        )
        url = f"postgresql://postgres@127.0.0.1:{port}/{postgres_server.database}?pool={mode}"

        def answers() -> bool:
            try:
                psycopg.connect(url.partition("?")[0]).close()
            except psycopg.OperationalError:
                return False
            return True

        until(answers, what="PgBouncer answers")
        return url

    yield start
    for process in started:
        process.kill()
        process.wait()
    shutil.rmtree(home)


@needs("pgbouncer")
@pytest.mark.parametrize("mode", ["transaction", "statement"])
@pytest.mark.parametrize("more", [{}, {"server_round_robin": 1, "min_pool_size": 4}], ids=["", "round robin"])
def test_p1_a_pooler_that_gives_each_transaction_another_session(
    pooled: Callable[..., str], mode: str, more: dict[str, int]
) -> None:
    with pytest.raises(ConfigurationError, match="pool_mode = session"):
        engine_on(pooled(mode, **more)).check()


@needs("pgbouncer")
def test_a_pooler_that_keeps_sessions_apart(pooled: Callable[..., str], tmp_path: Path, workers: ForkServer) -> None:
    pool = Pool("postgres", pooled("session"), tmp_path, workers)
    try:
        leader, follower = pool.worker(), pool.worker()
        leader.wins()
        assert follower.campaign() is None
        follower.waits()
        leader.kill()
        until(follower.woken, what="the follower is woken")
        assert follower.wins().number == 2
    finally:
        pool.close()
