"""Seat backend of the file engine: a flock, and what makes a flock enough.

Promises P1 on one host, P2, P6, P7 and P8. Winning the flock is not yet leading: the lock file may have been swapped
while its holder leads on, so a winner leads only if the record allows it (``split_brain.py`` decides).

Order of a term: flock, judgement, flock on the number file, judgement unchanged, FIFO held, number on the disk, record
written, lock file still the same. Order of its end: record written, flock free, FIFO closed.
"""

from __future__ import annotations

import contextlib
import logging
import os
from dataclasses import replace

from election.core.backend import Grant, Refusal, SeatTiming, Snapshot, Worker
from election.core.clock import Clock
from election.core.errors import PoolPathError, SeatError, SeatLostError
from election.core.events import named
from election.core.process import ProcessIdentity
from election.core.term import LeaderRecord, Standing

from .atomic_files import DurableNumber, read_file, run_to_completion
from .directory import PoolDirectory
from .leader_record import LeaderRecordFile, RecordObserver, is_led
from .lock import Identity, LockFile
from .orphans import MIN_REFUSAL_S, OrphanDetector
from .presence import Presence
from .split_brain import describe_split_brain, is_flocked, is_rival, seat_id
from .vacancy import AliveFifo, VacancyWatcher

log = logging.getLogger("election")

TERM_IN_PROGRESS = "another worker is about to begin or end a term, and nobody else does before"

SETTLE_HEARTBEATS = 2.0
"""Heartbeats that a winner waits if it finds no record, so that a leader whose directory was removed has noticed."""


class FileBackend:
    """Implements ``election.core.backend.SeatBackend`` on a directory.

    Args:
        directory: Directory of the pool.
        timing: Seconds, as in ``Election``.
        clock: Time of terms and waits.
    """

    doubt = None  # only a heartbeat finds a loss

    def __init__(self, directory: PoolDirectory, *, timing: SeatTiming, clock: Clock) -> None:
        self.pool = directory.path
        self.directory = directory
        self.lock = LockFile(directory.lock)
        self.record_file = LeaderRecordFile(directory.record)
        self.observer = RecordObserver(self.record_file, clock)
        self.fifo = AliveFifo(directory.alive)
        self.watcher = VacancyWatcher(self.fifo, safety_poll=timing.safety_poll, clock=clock)
        self._timing = timing
        self._clock = clock
        self._number = DurableNumber(directory.term)
        self._presence = Presence(directory.workers, clock)
        min_refusal_s = MIN_REFUSAL_S + SETTLE_HEARTBEATS * timing.heartbeat
        self._orphans = OrphanDetector(directory.lock, min_refusal_s=min_refusal_s, timing=timing, clock=clock)
        self._process: ProcessIdentity | None = None
        self._published: LeaderRecord | None = None
        self._split_brain: str | None = None
        self._logged_split_brain: str | None = None
        self._logged_error: str | None = None
        self._compared: tuple[LeaderRecord, bool] | None = None

    def open(self, worker: Worker) -> None:
        self._process, self._published = worker.process, None
        self._presence.enter(worker)

    async def close(self) -> None:
        self.watcher.close()
        self._presence.leave()

    # --- the beginning of a term ------------------------------------------------------------------------------------

    async def try_acquire(self) -> Grant | Refusal:
        self._split_brain = None
        try:
            self.directory.prepare()
            self._presence.renew()
            held = self.lock.acquire()
            if held is None:
                await self._orphans.refused(self.observer.look(), self._presence.workers)
                return Refusal.TAKEN
            self._orphans.clear()
            grant = None
            try:
                grant = await self._judge(held)
            finally:
                if grant is None:
                    self._give_up()
            return grant or Refusal.NOT_YET
        except OSError as error:
            raise self._seat_error(error) from error

    async def _judge(self, held: Identity) -> Grant | None:
        """From the flock to the permission to begin a term; then the flock on the number file is held, too."""
        latest, found = self._number.read(), self.record_file.read()
        if found is None:
            await self._clock.sleep(SETTLE_HEARTBEATS * self._timing.heartbeat)
            found = self.record_file.read()
        before = found or self.observer.last_seen
        if not self._may_lead(before, held):
            return None
        if not self._number.try_lock():
            self._split_brain = TERM_IN_PROGRESS
            return None
        if (self._number.read(), self.record_file.read()) != (latest, found) or not self.lock.is_current():
            return None  # not as it was when that was judged
        self.fifo.hold()  # before the record can be read, so that no follower misses the hang-up
        fenced = before is not None and before.standing is Standing.LEADING and self._hang_trace() is not None
        return Grant(seat_id(held), before, latest, fenced=fenced, silent_s=self._silent_s())

    def _may_lead(self, before: LeaderRecord | None, held: Identity) -> bool:
        if before is None or before.seat_id == seat_id(held) or before.holder == self._process:
            return True  # a worker that campaigns does not lead, though its own record may still say so
        alive = before.holder.is_alive()
        flocked = None if alive is None else is_flocked(before.seat_id, held)
        if alive is None:  # in another container, whose locks are not listed here either: the heartbeat decides
            alive = self.observer.beats_within(4 * self._timing.heartbeat)
        if not is_rival(before, held, alive=alive, flocked=flocked):
            return True
        self._split_brain = describe_split_brain(self.directory.lock, before)
        if self._split_brain != self._logged_split_brain:
            log.error("%s", self._split_brain, extra=named("lock_file_replaced"))
        self._logged_split_brain = self._split_brain
        return False

    def _hang_trace(self) -> str | None:
        """Traceback that ``faulthandler`` wrote at the end of a hung leader; None if there is none."""
        with contextlib.suppress(OSError):
            return (read_file(self.directory.hang_trace) or b"").decode(errors="replace").strip() or None
        return None

    def _log_hang_trace(self, pid: int | None) -> None:
        """Log the traceback of the leader before, once, and remove its file."""
        trace = self._hang_trace()
        with contextlib.suppress(OSError):
            os.unlink(self.directory.hang_trace)
        if trace is not None:
            text = "pid %s hung, and ended itself; its threads were here: %s"
            log.error(text, pid, f"\n{trace}", extra=named("hang_traced"))

    def _silent_s(self) -> float | None:
        beaten_at = self.record_file.beaten_at()
        return None if beaten_at is None else max(0.0, (self._clock.now() - beaten_at).total_seconds())

    async def reserve(self, number: int) -> None:
        try:
            await run_to_completion(lambda: self._number.write(number))
        except OSError as error:
            raise self._seat_error(error) from error

    async def publish(self, record: LeaderRecord) -> bool:
        try:
            begun = await run_to_completion(lambda: self._write_first(record))
        except BaseException as error:
            await run_to_completion(lambda: self._take_back(record))
            if isinstance(error, OSError):
                raise self._seat_error(error) from error
            raise
        self.observer.last_seen = record  # also without a term: two that remember each other could wait for ever
        if begun:
            self._published = record
            self._number.unlock()
        return begun

    def _write_first(self, record: LeaderRecord) -> bool:
        self.record_file.write(record)
        if self.lock.is_current():  # checked only now: a worker that wins another lock file later reads our record
            self._log_hang_trace(record.takeover.from_pid)
            return True
        self._end(record, Standing.LOST)
        return False

    def _take_back(self, record: LeaderRecord) -> None:
        with contextlib.suppress(OSError):
            if self.record_file.read() == record:
                self._end(record, Standing.RESIGNED)

    def _end(self, record: LeaderRecord, standing: Standing) -> None:
        self.record_file.end(replace(record, standing=standing, ended_at=self._clock.now()))

    # --- the term ---------------------------------------------------------------------------------------------------

    def holds(self) -> bool:
        return self.lock.is_current()

    async def renew(self, record: LeaderRecord) -> None:
        try:
            self.lock.check()
            self.record_file.beat()
        except SeatLostError:
            self._keep_others_off()
            raise
        if record != self._published:
            self._rewrite(record)
        self._presence.renew()

    def _rewrite(self, record: LeaderRecord) -> None:
        """Publish changes of the record. A failure is no reason to end a term; the next heartbeat tries again."""
        try:
            if self.record_file.is_ours():
                self.record_file.write(record)
                self._published, self._logged_error = record, None
        except OSError as error:
            if str(error) != self._logged_error:
                log.warning("the record could not be told news: %s", error, extra=named("record_not_updated"))
            self._logged_error = str(error)

    def _keep_others_off(self) -> None:
        """Put a lost record back, so that no worker leads on another lock file before our work has ended."""
        assert self._published is not None
        with contextlib.suppress(OSError, SeatError, PoolPathError):
            self.directory.prepare()
            if not self.record_file.write_if_absent(self._published) and self.record_file.read() is None:
                self.record_file.write(self._published)  # over what no worker can parse
            self.record_file.beat()  # for workers that cannot look at our process

    # --- the end of a term ------------------------------------------------------------------------------------------

    async def release(self, record: LeaderRecord | None) -> None:
        try:
            if record is not None:
                await run_to_completion(lambda: self._write_last(record))
        finally:
            self._give_up()

    def _write_last(self, record: LeaderRecord) -> None:
        """Publish the end of the term. Never raises ``OSError``, because the seat has to be freed all the same.

        Not while another worker begins a term on another lock file: our write could replace its record.
        """
        why: object = "another worker begins one"
        try:
            with self._number.locked() as alone:
                if alone:
                    self.record_file.end(record)
                    return
        except OSError as error:
            why = error
        log.warning(
            "the record could not be told that term %d ended: %s", record.term, why, extra=named("term_end_unrecorded")
        )

    def _give_up(self) -> None:
        self._published = None
        self._number.unlock()
        try:
            self.lock.release()
        finally:
            self.fifo.let_go()  # after the flock: a follower that is woken finds the seat free

    # --- following --------------------------------------------------------------------------------------------------

    async def wait_for_vacancy(self) -> None:
        try:
            await self.watcher.vacancy(self.observer.look)
        except OSError:  # no descriptors left, for example; the next campaign reports it
            await self._clock.sleep(self._timing.safety_poll)

    def snapshot(self) -> Snapshot:
        try:
            record = self.observer.look()
            led = is_led(record) and self._names_our_lock(record)
        except OSError as error:
            return Snapshot(None, False, problem=f"the leader record cannot be read: {error.strerror}")
        return Snapshot(record, led, self.observer.heartbeat_age(), self._split_brain or self._orphans.problem)

    def _names_our_lock(self, record: LeaderRecord | None) -> bool:
        """Whether the record is about this directory's lock file, and not about that of the directory it came from.

        The leader of a directory that was copied is not to be ended by a fence here.
        """
        if record is None:
            return False
        if self._compared is None or self._compared[0] is not record:  # once for each record: it costs a system call
            current = self.lock.current()  # None if it was removed: the leader notices at its next heartbeat
            self._compared = record, current is None or record.seat_id == seat_id(current)
        return self._compared[1]

    def workers(self) -> list[Worker]:
        return self._presence.workers()

    def _seat_error(self, error: OSError) -> SeatError:
        return SeatError(f"{error.strerror}: {error.filename or self.pool}")
