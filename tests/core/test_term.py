"""Values that workers exchange: term, record, takeover."""

from __future__ import annotations

import dataclasses
from datetime import UTC, datetime

import pytest
from pydantic import TypeAdapter, ValidationError

from election.core.process import ProcessIdentity
from election.core.seat import Worker
from election.core.term import LeaderRecord, Reason, Standing, Takeover, Term, reason_after

AT = datetime(2026, 11, 23, 4, 0, 0, 123456, tzinfo=UTC)
PROCESS = ProcessIdentity(4242, 123456789, "boot", "pid:[4026531836]", "web1")
TAKEOVER = Takeover(7, 4241, 4242, Reason.DIED, AT, 4.1)
RECORD = LeaderRecord(7, PROCESS, "2049:1234", AT, TAKEOVER)


@pytest.mark.parametrize(
    "record",
    [
        RECORD,
        dataclasses.replace(RECORD, standing=Standing.LOST, ended_at=AT),
        dataclasses.replace(RECORD, takeover=Takeover(7, None, 4242, Reason.STARTED, AT)),
    ],
)
def test_a_record_survives_its_way_through_json(record: LeaderRecord) -> None:
    """P2 and docs/pitfalls.md#10: a record is read as it was written, to the microsecond and the last digit."""
    form = TypeAdapter(LeaderRecord)
    assert form.validate_json(form.dump_json(record)) == record


@pytest.mark.parametrize("content", [b"", b"null", b"{}", b'{"term": 7}', b"\0" * 100])
def test_garbage_is_no_record(content: bytes) -> None:
    """docs/pitfalls.md#14: a truncated record is no record."""
    with pytest.raises(ValidationError):
        TypeAdapter(LeaderRecord).validate_json(content)


@pytest.mark.parametrize("value", [PROCESS, TAKEOVER, RECORD, Term(7, AT, TAKEOVER), Worker(PROCESS, AT)])
def test_values_are_frozen(value: object) -> None:
    """Terms are immutable."""
    name = dataclasses.fields(value)[0].name  # type: ignore[arg-type]
    with pytest.raises(dataclasses.FrozenInstanceError):
        setattr(value, name, None)
    assert not hasattr(value, "__dict__")


@pytest.mark.parametrize(
    ("standing", "known", "reason"),
    [
        (None, {}, Reason.STARTED),
        (Standing.LEADING, {}, Reason.DIED),
        (Standing.LEADING, {"died": False}, Reason.LOST),
        (Standing.LEADING, {"fenced": True}, Reason.FENCED),
        (Standing.LEADING, {"fenced": True, "died": False}, Reason.FENCED),
        (Standing.LOST, {"fenced": True}, Reason.LOST),
        (Standing.RESIGNED, {}, Reason.RESIGNED),
        (Standing.RESIGNED, {"followed": False}, Reason.STARTED),
        (Standing.LOST, {"followed": False}, Reason.LOST),
        (Standing.LEADING, {"followed": False}, Reason.DIED),
    ],
)
def test_why_a_seat_was_vacant(standing: Standing | None, known: dict[str, bool], reason: Reason) -> None:
    """The reason ``died`` is only given for a process that counts as dead."""
    before = None if standing is None else dataclasses.replace(RECORD, standing=standing)
    assert reason_after(before, **{"followed": True, **known}) is reason
