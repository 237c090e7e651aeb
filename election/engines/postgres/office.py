"""A term of the PostgreSQL engine in words: the one row of ``leader``, its number, and who may write it.

Promises P2: the number is larger than any that the row or the ledger know, and on the server's disk before anybody can
see it. Whoever calls this holds the lock.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime

from pydantic import ValidationError

from election.core.clock import Clock
from election.core.errors import SeatError
from election.core.process import ProcessIdentity
from election.core.term import LeaderRecord, Standing, Takeover, Term, reason_after

from .address import Address
from .lock import SeatLock
from .watch import RECORD, Watch

_BEFORE = (
    "SELECT record, term, greatest(0, extract(epoch FROM clock_timestamp() - beaten_at))::double precision,"
    " %s < beaten_at,"
    " EXISTS (SELECT 1 FROM pg_stat_get_activity(watch) AS it WHERE it.backend_start = watch_start),"
    " EXISTS (SELECT 1 FROM fences WHERE fences.term = leader.term),"
    " coalesce((SELECT max(term) FROM terms), 0)"
    " FROM (SELECT 1) AS always LEFT JOIN leader ON TRUE"
)
_BEGIN = (  # on the server's disk before anybody can see it (P2), whatever the session has set
    "WITH durable AS MATERIALIZED (SELECT set_config('synchronous_commit', 'on', true))"
    " INSERT INTO leader (term, record, beaten_at, backend, backend_start, watch, watch_start)"
    " SELECT %s, %s, clock_timestamp(), %s, %s, %s, %s FROM durable"
    " ON CONFLICT (only_row) DO UPDATE SET (term, record, beat, beaten_at, problem, backend, backend_start, watch,"
    " watch_start) = (excluded.term, excluded.record, leader.beat + 1, excluded.beaten_at, NULL, excluded.backend,"
    " excluded.backend_start, excluded.watch, excluded.watch_start) WHERE leader.term < excluded.term"
    " RETURNING pg_notify(%s, '')"
)
BEAT = (
    "UPDATE leader SET beat = beat + 1, beaten_at = clock_timestamp(), watch = %s, watch_start = %s"
    " WHERE term = %s AND backend = pg_backend_pid() RETURNING 1"
)
BEAT_ON = "UPDATE leader SET beat = beat + 1, beaten_at = clock_timestamp() WHERE term = %s"
PROBLEM = "UPDATE leader SET problem = %s WHERE term = %s RETURNING pg_notify(%s, '')"
SAY = "UPDATE leader SET record = %s WHERE term = %s RETURNING pg_notify(%s, '')"


@dataclass(frozen=True, slots=True)
class Before:
    """What was there when the lock came to us.

    latest: the largest number of a term. fenced: whether somebody set out to fence the recorded one.
    silent: seconds since the last heartbeat, by the server's clock. witnessed: whether our session is older than that
    heartbeat, and so saw the other one's end. watched: whether another session of that leader's process is open.
    """

    record: LeaderRecord | None
    latest: int
    fenced: bool = False
    silent: float = 0.0
    witnessed: bool = False
    watched: bool = False


def died(before: Before) -> bool:
    """Whether the recorded leader is dead: by the system's word, or, on another host, because all of its sessions ended
    while we looked on. (Its host may as well have been cut off; nobody can tell.) Decides only."""
    assert before.record is not None
    holder = before.record.holder
    return holder.is_known_dead() or (not holder.is_neighbour() and before.witnessed and not before.watched)


def doubt(before: Before, ours: ProcessIdentity, limit: float) -> float:
    """Seconds for which the recorded leader may still believe in its seat though the lock is ours. Decides only.

    Its session has ended. If its process is dead, or has said that its term is over, there is no doubt. Else the server
    may have ended the one session, and the leader may not have heard of it.
    """
    if before.record is None or before.record.standing is not Standing.LEADING:
        return 0.0
    if before.record.holder == ours or died(before):
        return 0.0
    return max(0.0, limit - before.silent)


def in_doubt(record: LeaderRecord, wait: float) -> str:
    """Why nobody leads for ``wait`` seconds at most, in words."""
    return (
        f"the server has ended the session of pid {record.holder.pid} on {record.holder.host}, which may not know that"
        f" its term {record.term} is over; nobody else leads before it says so, or {wait:.1f} s have passed"
    )


def ended_itself(before: Before, fence_after: float | None, heartbeat: float) -> bool:
    """Whether the recorded leader's own switch has ended it, as the length of its silence shows. Decides only.

    The switch counts from its last press, which may precede the last heartbeat on the server by the interval between
    two presses, one heartbeat; half of another is for a loop that was late.
    """
    if fence_after is None or before.record is None:
        return False
    return before.record.holder.is_neighbour() and before.silent >= fence_after - 1.5 * heartbeat


class Office:
    """What the holder of the lock says of its term.

    fence_after: seconds after which a leader that hangs ends itself. heartbeat: seconds between two signs of life.
    """

    def __init__(
        self,
        address: Address,
        lock: SeatLock,
        watch: Watch,
        clock: Clock,
        *,
        fence_after: float | None,
        heartbeat: float,
    ) -> None:
        self._channel = address.channel
        self._pool = address.pool
        self.lock = lock
        self._watch = watch
        self._clock = clock
        self._fence_after = fence_after
        self._heartbeat = heartbeat
        self.record: LeaderRecord | None = None
        """What the pool was told last; None without a term."""
        self._untold: tuple[str, int, str] | None = None

    async def before(self) -> Before:
        """What the lock's new holder finds. Raises ``psycopg.Error``."""
        [(text, number, silent, witnessed, watched, fenced, last)] = await self.lock.ask(
            _BEFORE, (self.lock.session[1],)
        )
        if text is None:
            return Before(None, last)
        try:
            record = RECORD.validate_json(text)
        except ValidationError:  # somebody else's words
            return Before(None, max(number, last))
        return Before(record, max(number, last), fenced, silent, witnessed, watched)

    async def take(self, process: ProcessIdentity, before: Before, *, followed: bool) -> Term:
        """Begin a term. Raises ``psycopg.Error`` and ``SeatError``."""
        now, earlier, number = self._clock.now(), before.record, max(before.latest, self._watch.latest) + 1
        fenced = before.fenced or ended_itself(before, self._fence_after, self._heartbeat)
        reason = reason_after(earlier, followed=followed, fenced=fenced, died=earlier is not None and died(before))
        takeover = Takeover(
            number,
            earlier.holder.pid if earlier else None,
            process.pid,
            reason,
            now,
            vacant_s=_vacant(before, now),
        )
        watch = self._watch.session or (None, None)
        record = LeaderRecord(number, process, f"{self._pool} {self.lock.session[0]}", now, takeover)
        if not await self.lock.ask(_BEGIN, (number, _text(record), *self.lock.session, *watch, self._channel)):
            raise SeatError(f"{self._pool}: another worker has begun term {number} or a later one")
        self.record = record
        self._watch.saw(record)
        return Term(number, now, takeover)

    async def confirm(self, takeover_ms: float) -> None:
        """Say what the takeover took. Raises ``psycopg.Error``."""
        assert self.record is not None
        takeover = replace(self.record.takeover, takeover_ms=round(takeover_ms, 2))
        self.record = replace(self.record, takeover=takeover)
        await self.lock.ask(SAY, (_text(self.record), self.record.term, self._channel))
        self._watch.saw(self.record)
        await self.lock.listen()

    async def tell_problem(self, problem: str | None) -> None:
        """Tell the pool what keeps the leader from its work. Raises ``psycopg.Error``."""
        assert self.record is not None
        await self.lock.ask(PROBLEM, (problem, self.record.term, self._channel))
        self.record = replace(self.record, problem=problem)
        self._watch.saw(self.record)

    def end(self, standing: Standing) -> int:
        """Our term is over; ``tell_end`` tells. Returns its number."""
        assert self.record is not None
        over = replace(self.record, standing=standing, ended_at=self._clock.now())
        self._watch.saw(over)
        self._untold = _text(over), over.term, self._channel
        return over.term

    async def tell_end(self) -> None:
        """Tell the pool how our last term ended, if it was not told yet, and no later one has begun.

        Raises ``psycopg.Error``; then it is for the next campaign to tell.
        """
        if self._untold is None:
            return
        if self.lock.held:
            await self.lock.ask(SAY, self._untold)
        else:
            await self._watch.ask(SAY, self._untold, within=1.0)
        self._untold = None


def _vacant(before: Before, now: datetime) -> float | None:
    if before.record is None:
        return None
    ended = before.record.ended_at
    return round(before.silent if ended is None else max(0.0, (now - ended).total_seconds()), 3)


def _text(record: LeaderRecord) -> str:
    return RECORD.dump_json(replace(record, problem=None)).decode()
