"""Wall clock arithmetic: from a wall clock time to UTC, and the clock changes of a time zone.

A wall clock time is a naive ``datetime``. The rule for clock changes is that of Debian's cron: a time that the clocks
leave out becomes the first moment after the gap, and a time that comes twice becomes the first of the two moments.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, tzinfo

CHANGE_WINDOW = timedelta(days=2)
"""No zone changes its offset twice within this time; the shortest distance since 1970 is 6.9 days (Recife, 2000)."""

_DAY = timedelta(days=1)


def offset_at(moment: datetime, zone: tzinfo) -> timedelta:
    """Return the zone's distance from UTC at ``moment``."""
    return moment.astimezone(zone).utcoffset() or timedelta(0)


def wall_time(moment: datetime, zone: tzinfo) -> datetime:
    """Return what a clock in ``zone`` shows at ``moment``: naive, with ``fold`` in a repeated hour."""
    return moment.astimezone(zone).replace(tzinfo=None)


def to_utc(wall: datetime, zone: tzinfo) -> datetime:
    """Return the moment, in UTC, at which a clock in ``zone`` shows ``wall``.

    The end of the gap for a time that does not exist. Of two moments, the one that the ``fold`` of ``wall`` names.
    """
    moment = wall.replace(tzinfo=zone).astimezone(UTC)
    if wall_time(moment, zone) == wall:
        return moment
    return next_change(moment - _DAY, moment + _DAY, zone) or moment


def next_change(after: datetime, until: datetime, zone: tzinfo) -> datetime | None:
    """Return the first moment later than ``after``, up to ``until``, with another offset; in UTC, to the second.

    None if the offset is the same at both ends: the two are at most ``CHANGE_WINDOW`` apart.
    """
    offset = offset_at(after, zone)
    if offset_at(until, zone) == offset:
        return None
    early, late = int(after.timestamp()), -int(-until.timestamp() // 1)
    while late - early > 1:
        middle = (early + late) // 2
        if offset_at(datetime.fromtimestamp(middle, UTC), zone) == offset:
            early = middle
        else:
            late = middle
    return datetime.fromtimestamp(late, UTC)
