"""URLs of pools: the driver gets what the user wrote, and no message or name has a part of a password."""

from __future__ import annotations

import os
from pathlib import Path

import psycopg
import pytest
from psycopg.conninfo import conninfo_to_dict

from election import Election
from election.core.errors import ConfigurationError, PoolPathError
from election.engines import open_engine
from election.engines.postgres import connection
from election.engines.postgres.address import parse

PASSWORDS = ["plain", "pa#ss", "pa?ss", "p[wd", "p[w]d", "1234#ss", "a:b", "a%2Fb", "a&b=c", "ß€"]


@pytest.mark.parametrize("password", PASSWORDS)
def test_postgresql_reads_a_url_as_libpq_does(password: str) -> None:
    url = f"postgresql://app:{password}@db.internal:6543/orders"
    address = parse(f"{url}?pool=billing&sslmode=require")
    expected = conninfo_to_dict(f"{url}?sslmode=require")
    assert conninfo_to_dict(address.url) == expected
    assert (expected["host"], expected["port"], expected["dbname"]) == ("db.internal", "6543", "orders")
    assert address.pool == "postgresql://db.internal:6543/orders?pool=billing"


@pytest.mark.parametrize(
    ("url", "host"),
    [
        ("postgresql://db/orders", "db"),
        ("postgresql://[::1]:5432/orders", "::1"),
        ("postgresql://u@a,b:6432/orders", "a,b"),
        ("postgresql://%2Frun%2Fpostgresql/orders", "/run/postgresql"),
        ("postgresql:///orders?host=/run/postgresql", "/run/postgresql"),
        ("postgresql://db/a@b", "db"),
    ],
)
def test_other_forms_of_postgresql_urls(url: str, host: str) -> None:
    assert conninfo_to_dict(parse(url).url) == conninfo_to_dict(url)
    assert conninfo_to_dict(url)["host"] == host


@pytest.mark.parametrize("cut", ["abc/def", "123/def", "abc#def", "123#def", "abc?def", "123?def", "[abc", "a[b]c"])
def test_redis_refuses_a_password_that_its_url_cuts_and_does_not_show_it(cut: str) -> None:
    with pytest.raises(ConfigurationError, match="special characters of a password as %23") as refused:
        Election(f"redis://app:{cut}@h/0")
    assert not any(part in str(refused.value) for part in ("abc", "def", "123"))
    assert refused.value.__cause__ is None


@pytest.mark.parametrize(
    "url", ['"postgresql://u:secret@h/db"', " postgresql://u:secret@h/db", "'redis://:secret@h/0'", "://secret@h"]
)
def test_what_looks_like_a_url_is_no_directory(url: str) -> None:
    with pytest.raises(ConfigurationError, match="are there quotes or blanks around it") as refused:
        Election(url)
    assert "secret" not in str(refused.value)


@pytest.mark.parametrize("url", ["PostgreSQL://db/orders", "POSTGRESQL://db/orders", "REDIS://h/0"])
def test_the_scheme_may_have_large_letters(url: str) -> None:
    assert open_engine(url, heartbeat=0.5, safety_poll=1.0).pool.partition("://")[0] == url.partition("://")[0].lower()


def test_a_directory_whose_name_is_no_utf_8_is_refused(tmp_path: Path) -> None:
    with pytest.raises(PoolPathError, match="is no UTF-8"):
        Election(f"{tmp_path}/{os.fsdecode(bytes([255]))}")


@pytest.mark.parametrize(
    ("url", "environment", "expected"),
    [
        ("postgresql://one,two/app", {}, ("one,one,two", "5432,5432,5432", "1.1.1.1,1.1.1.2,2.2.2.2")),
        ("postgresql://one:7,two:8/app", {}, ("one,one,two", "7,7,8", "1.1.1.1,1.1.1.2,2.2.2.2")),
        ("postgresql://gone,two/app", {}, ("two", "5432", "2.2.2.2")),
        ("postgresql:///app", {"PGHOST": "two", "PGPORT": "9"}, ("two", "9", "2.2.2.2")),
        ("postgresql:///app", {}, None),
        ("postgresql:///app?host=/run/postgresql", {}, None),
    ],
)
@pytest.mark.anyio
async def test_no_name_is_left_to_the_driver(
    monkeypatch: pytest.MonkeyPatch, url: str, environment: dict[str, str], expected: tuple[str, ...] | None
) -> None:
    """It would look the name up in the application's threads, which a failover may find all busy."""

    async def look_up(host: str, port: object) -> list[str]:
        if host == "gone":
            raise OSError(2, "Name or service not known")
        return {"one": ["1.1.1.1", "1.1.1.2"], "two": ["2.2.2.2"]}[host]

    for name in ("PGHOST", "PGPORT", "PGHOSTADDR"):
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(connection, "resolve", look_up)
    found = await connection._addresses(url)
    assert found == ({} if expected is None else dict(zip(("host", "port", "hostaddr"), expected, strict=True)))
    with pytest.raises(psycopg.OperationalError, match="gone: Name or service not known"):
        await connection._addresses("postgresql://gone/app")
