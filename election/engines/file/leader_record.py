"""Leader record on disk: ``leader.json``, whose content names the leader and whose mtime is the heartbeat.

A record describes, it proves nothing: only the lock decides (docs/pitfalls.md#10, #14, #15). An observer looks for
*changes* of the mtime only, and times them on its own monotonic clock.
"""

from __future__ import annotations

import errno
import os
import time
from datetime import UTC, datetime

from pydantic import TypeAdapter, ValidationError

from election.core.clock import Clock
from election.core.errors import SeatLostError
from election.core.events import named
from election.core.logs import log
from election.core.term import LeaderRecord, Standing

from .atomic_files import create_file, read_file, replace_file

_FORMAT = TypeAdapter(LeaderRecord)

Stamp = tuple[int, int, int]
"""Inode, size and mtime (ns): changes with each new record or heartbeat. No single field is enough: ext4 gives a
replacement the inode before last, so that two replacements in a row look like none."""

FRESH_NS = 20_000_000
"""Nanoseconds after a change in which another one may leave the same stamp: up to Linux 6.12, the mtime is that of the
kernel's last tick, which is 10 ms ago at most. Git treats the entries of its index in the same way ("racy git")."""

_NO_PLAIN_FILE = {errno.ELOOP, errno.ENXIO, errno.EAGAIN}
"""Errors of opening a symbolic link, a socket or a FIFO in place of the record: there is no record then."""


class LeaderRecordFile:
    """Reads and writes the leader record of one pool directory."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._written: bytes | None = None
        self._touched: Stamp | None = None
        self._seen: Stamp | None = None
        self._content: bytes | None = None
        self._record: LeaderRecord | None = None
        self._complained: bytes | None = None

    def read(self) -> LeaderRecord | None:
        """Current record; None if there is none, or none that can be parsed."""
        return self._parse(self._read())

    def _read(self) -> bytes | None:
        try:
            return read_file(self._path)
        except OSError as error:
            if error.errno in _NO_PLAIN_FILE:
                return None
            raise

    def _parse(self, content: bytes | None) -> LeaderRecord | None:
        if content is None:
            return None
        try:
            return _FORMAT.validate_json(content)
        except ValidationError as error:
            if content != self._complained:
                self._complained = content
                log.warning(
                    "%s holds no leader record, so it is ignored: %s",
                    self._path,
                    _short(error),
                    extra=named("record_unreadable"),
                )
            return None

    def look(self) -> tuple[LeaderRecord | None, Stamp | None]:
        """Current record and its stamp, read again only after a heartbeat or a replacement; otherwise one ``stat``.

        A change that is younger than ``FRESH_NS`` is read again by the next look.
        """
        stamp = self._stamp()
        if stamp is None or stamp != self._seen:
            content = None if stamp is None else self._read()
            if content != self._content:
                self._content, self._record = content, self._parse(content)
            self._seen = None if stamp is None or time.time_ns() - stamp[2] < FRESH_NS else stamp
        return self._record, stamp

    def write(self, record: LeaderRecord) -> None:
        """Replace the record; only the holder of the seat may call this. Raises ``OSError``."""
        content = _FORMAT.dump_json(record, indent=1) + b"\n"
        replace_file(self._path, content)
        self._written, self._touched = content, None

    def write_if_absent(self, record: LeaderRecord) -> bool:
        """Write the record unless there is one, never over another worker's; returns whether it was written."""
        return create_file(self._path, _FORMAT.dump_json(record, indent=1) + b"\n")

    def end(self, over: LeaderRecord) -> None:
        """Write the last record of our term, but only over our own: another record may be of a new leader."""
        try:
            if self.is_ours():
                self.write(over)
            else:
                self.write_if_absent(over)
        except OSError as error:
            log.warning(
                "the end of term %d could not be recorded: %s",
                over.term,
                error,
                extra=named("term_end_unrecorded"),
            )

    def beat(self) -> None:
        """Write a heartbeat: touch the record. Raises ``SeatLostError`` if it is not the one that we wrote."""
        # Unchanged since our last beat: a read would need a descriptor, and there may be none left.
        if (self._touched is None or self._stamp() != self._touched) and not self.is_ours():
            raise SeatLostError(f"{self._path}: the leader record was removed or changed by somebody else")
        os.utime(self._path, follow_symlinks=False)
        self._touched = self._stamp()

    def beaten_at(self) -> datetime | None:
        """Time of the last heartbeat on the wall clock; None if there is no record."""
        stamp = self._stamp()
        return None if stamp is None else datetime.fromtimestamp(stamp[2] / 1e9, UTC)

    def is_ours(self) -> bool:
        """Whether the record on disk is, byte for byte, the one that this process wrote last."""
        return self._written is not None and self._read() == self._written

    def _stamp(self) -> Stamp | None:
        try:
            found = os.stat(self._path, follow_symlinks=False)
        except OSError:
            return None
        return found.st_ino, found.st_size, found.st_mtime_ns


class RecordObserver:
    """View of the leader record as one worker has seen it, kept beyond the loss of the file."""

    def __init__(self, record_file: LeaderRecordFile, clock: Clock) -> None:
        self._file = record_file
        self._clock = clock
        self._pulse: tuple[Stamp, float] | None = None
        self.record: LeaderRecord | None = None
        """Record at the last read; None if there was none."""
        self.last_seen: LeaderRecord | None = None
        """Last record that was read, kept when the file is lost."""
        self.largest = 0
        """Largest term number that this worker has seen (P2)."""

    def look(self) -> LeaderRecord | None:
        """Current record; None if there is none. Raises ``OSError`` if it cannot be read."""
        record, stamp = self._file.look()
        self.record = record
        if stamp is not None and (self._pulse is None or self._pulse[0] != stamp):
            self._pulse = (stamp, self._clock.monotonic())
        if record is not None:
            self.last_seen, self.largest = record, max(self.largest, record.term)
        return record

    def heartbeat_age(self) -> float | None:
        """Seconds since a change of the heartbeat was last observed; None if no heartbeat was observed."""
        return None if self._pulse is None else self._clock.monotonic() - self._pulse[1]

    def beats_within(self, seconds: float) -> bool:
        """Whether a change of the heartbeat was observed in the last ``seconds``."""
        self.look()
        age = self.heartbeat_age()
        return age is not None and age < seconds


def is_led(record: LeaderRecord | None) -> bool:
    """Whether the record names a leader that is not known to be dead; False when in doubt about the record (P8)."""
    return record is not None and record.standing is Standing.LEADING and record.holder.is_alive() is not False


def _short(error: ValidationError) -> str:
    first = error.errors(include_url=False, include_input=False)[0]
    return f"{first['msg']} at {'.'.join(map(str, first['loc'])) or 'the top'}"
