"""What one worker sees of its leader: the record, remembered beyond its file, and how its heart beats.

The record's mtime is the heartbeat. An observer looks for *change* only, and times that on its own monotonic clock.
"""

from __future__ import annotations

from election.core.clock import Clock
from election.core.term import LeaderRecord, Standing

from .records import LeaderRecords, Stamp


class Sight:
    """Looks at the record of one pool."""

    def __init__(self, records: LeaderRecords, clock: Clock) -> None:
        self._records = records
        self._clock = clock
        self._pulse: tuple[Stamp, float] | None = None
        self.last_seen: LeaderRecord | None = None
        """The last record that was there: a lost file is no reason to forget who leads."""

    def look(self) -> LeaderRecord | None:
        """The record as it stands; None if there is none. Raises ``OSError`` if it cannot be read."""
        record, stamp = self._records.look()
        if stamp is not None and (self._pulse is None or self._pulse[0] != stamp):
            self._pulse = (stamp, self._clock.monotonic())
        if record is not None:
            self.last_seen = record
        return record

    def heartbeat_age(self) -> float | None:
        """Seconds for which the heartbeat was not seen to move; None if none was ever seen."""
        return None if self._pulse is None else self._clock.monotonic() - self._pulse[1]

    def heart_beats(self, within: float) -> bool:
        """Whether the heartbeat was seen to move in the last ``within`` seconds."""
        self.look()
        age = self.heartbeat_age()
        return age is not None and age < within


def leads(record: LeaderRecord | None) -> bool:
    """Whether the record names a leader that is not known to be dead: when in doubt about the record, no (P8)."""
    return record is not None and record.standing is Standing.LEADING and record.holder.is_alive() is not False
