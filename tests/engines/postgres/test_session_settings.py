"""Settings of a role or a database do not reach the sessions of a pool (docs/pitfalls.md#67)."""

from __future__ import annotations

import pytest

from election.engines.postgres.address import parse
from election.engines.postgres.connection import connect, connect_async, settings

SETTINGS = {
    "statement_timeout": ("1h", "0"),
    "lock_timeout": ("1h", "0"),
    "idle_session_timeout": ("1h", "0"),
    "idle_in_transaction_session_timeout": ("1h", "0"),
    "transaction_timeout": ("1h", "0"),
    "default_transaction_isolation": ("serializable", "read committed"),
    "default_transaction_deferrable": ("on", "off"),
    "DateStyle": ("German, DMY", "ISO, MDY"),
    "IntervalStyle": ("iso_8601", "postgres"),
    "TimeZone": ("Asia/Kolkata", "UTC"),
    "standard_conforming_strings": ("off", "on"),
    "transform_null_equals": ("on", "off"),
    "extra_float_digits": ("-15", "1"),
}


@pytest.mark.anyio
@pytest.mark.parametrize("name", SETTINGS)
async def test_pitfall_67_what_the_role_has_is_set_for_the_session(url: str, name: str) -> None:
    of_the_role, ours = SETTINGS[name]
    with connect(parse(url).url) as connection:
        if connection.execute("SELECT 1 FROM pg_settings WHERE name = %s", (name,)).fetchone() is None:
            assert name == "transaction_timeout", "only older servers do not have this one"
            return
    address = parse(f"{url}&options=-c%20{name}%3D{of_the_role.replace(' ', '%5C%20')}")
    with connect(address.url) as connection:
        assert connection.execute(f"SHOW {name}").fetchone() == (of_the_role,)
    with connect(address.url, settings(address.schema)) as connection:
        assert connection.execute(f"SHOW {name}").fetchone() == (ours,)
    other = await connect_async(address.url, settings(address.schema, lock_timeout=7000))
    try:
        found = await (await other.execute(f"SHOW {name}")).fetchone()
        assert found == ("7s" if name == "lock_timeout" else ours,)
    finally:
        await other.close()
