"""Seat backend of the file engine: a flock, and the checks that make it sufficient.

Promises P1 on one host, P2, P6, P7 and P8. Winning the flock is not yet leading: the lock file may have been swapped
while its holder still leads, so a winner leads only if the record allows it (``split_brain.py`` decides).

Order of a term: flock, judgement, flock on the number file, judgement unchanged, FIFO held, number on the disk, record
written, lock file still the same. Order of its end: record written, flock free, FIFO closed.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial

from election.core.backend import CAMPAIGN_AGE_S, Grant, Refusal, SeatTiming, Snapshot, Worker
from election.core.clock import Clock
from election.core.errors import PoolPathError, SeatError, SeatLostError
from election.core.events import named
from election.core.logs import log
from election.core.process import ProcessIdentity
from election.core.term import LeaderRecord, Standing

from .atomic_files import DurableNumber, read_file
from .directory import PoolDirectory
from .file_thread import FileThread
from .leader_record import LeaderRecordFile, RecordObserver, is_led
from .lock import Identity, LockFile
from .orphans import MIN_REFUSAL_S, OrphanDetector
from .presence import Presence
from .split_brain import describe_split_brain, is_flocked, is_rival, seat_id
from .vacancy import AliveFifo, VacancyWatcher

TERM_IN_PROGRESS = "another worker is about to begin or end a term; no other worker can lead before that is done"

SETTLE_HEARTBEATS = 2.0
"""Heartbeats that a winner waits if it finds no record, so that a leader whose directory was removed detects it."""


@dataclass(frozen=True, slots=True)
class _Unsettled:
    """State under the flock.

    Attributes:
        held: Lock file whose flock is held.
        latest: Last term number on the disk; 0 if none.
        found: Leader record; None if there is none.
    """

    held: Identity
    latest: int
    found: LeaderRecord | None


class FileBackend:
    """Implements ``election.core.backend.SeatBackend`` on a directory.

    Every operation on the files runs in one thread; the event loop reads its results. Only calls on open descriptors
    (``flock``, ``fstat``, ``close``) and on ``/proc``, which no disk can delay, run on the loop.

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
        self._files = FileThread(directory.path)
        self._timing = timing
        self._clock = clock
        self._number = DurableNumber(directory.term)
        self._presence = Presence(directory.workers, clock)
        self.watcher = VacancyWatcher(
            self.fifo,
            timing=timing,
            clock=clock,
            files=self._files,
            list_elders=self._presence.list_elders,
        )
        min_refusal_s = MIN_REFUSAL_S + SETTLE_HEARTBEATS * timing.heartbeat
        self._unreadable: str | None = None
        self._orphans = OrphanDetector(
            directory.lock,
            min_refusal_s=min_refusal_s,
            timing=timing,
            clock=clock,
            workers=self._presence.look,
            files=self._files,
        )
        self._process: ProcessIdentity | None = None
        self._published: LeaderRecord | None = None
        self._split_brain: str | None = None
        self._logged_split_brain: str | None = None
        self._logged_error: str | None = None
        self._absence: str | None = None
        self._seen: tuple[LeaderRecord | None, bool] = None, False
        """Record at the last read, and whether it names this directory's lock file."""
        self._looked_at = float("-inf")

    async def open(self, worker: Worker) -> None:
        self._process, self._published = worker.process, None
        await self._files.run(lambda: self._say_present(lambda: self._presence.enter(worker)))

    async def close(self) -> None:
        self.watcher.close()
        with contextlib.suppress(OSError):  # the others look whether a worker lives
            await self._files.run(self._presence.leave)
        self._files.close()

    # --- the beginning of a term ------------------------------------------------------------------------------------

    async def attend(self) -> None:
        try:
            await self._files.run(self._attend)
        except OSError as error:
            raise self._seat_error(error) from error

    def _attend(self) -> None:
        self.directory.prepare()
        self._say_present(self._presence.renew)

    async def report(self, problem: str | None) -> None:
        with contextlib.suppress(OSError):
            await self._files.run(partial(self._presence.report, problem))

    async def try_acquire(self) -> Grant | Refusal:
        found: Grant | Refusal | _Unsettled | None = None
        try:
            found = await self._files.run(self._attempt)
            if isinstance(found, _Unsettled):
                await self._clock.sleep(SETTLE_HEARTBEATS * self._timing.heartbeat)
                found = await self._files.run(partial(self._judge, found))
            if found is Refusal.TAKEN:
                await self._orphans.refused(self.observer.record)
            else:
                self._orphans.clear()
            return found
        except OSError as error:
            raise self._seat_error(error) from error
        finally:
            if not isinstance(found, Grant):
                self._give_up()

    def _attempt(self) -> Grant | Refusal | _Unsettled:
        """Try the flock, and decide whether it allows a term; runs in the thread."""
        self._attend()
        held = self.lock.acquire()
        if held is None:
            self._split_brain = None
            self._look()
            return Refusal.TAKEN
        unsettled = _Unsettled(held, self._number.read(), self.record_file.read())
        return self._judge(unsettled) if unsettled.found is not None else unsettled

    def _judge(self, state: _Unsettled) -> Grant | Refusal:
        """Decide whether the flock permits a term; if so, the flock on the number file is held, too."""
        found = state.found or self.record_file.read()
        before = found or self.observer.last_seen
        obstacle = self._rival(before, state.held)
        if obstacle is None and not self._number.try_lock():
            obstacle = TERM_IN_PROGRESS
        self._split_brain = obstacle
        if obstacle is not None:
            return Refusal.NOT_YET
        unchanged = (self._number.read(), self.record_file.read()) == (state.latest, found)
        if not unchanged or not self.lock.is_current():
            return Refusal.NOT_YET  # the files changed after the check
        self.fifo.hold()  # before the record can be read, so that no follower misses the hang-up
        fenced = before is not None and before.standing is Standing.LEADING and self._hang_trace() is not None
        largest = max(state.latest, self.observer.largest)  # an older copy may have been put in the directory's place
        return Grant(seat_id(state.held), before, largest, fenced=fenced, silent_s=self._silent_s())

    def _rival(self, before: LeaderRecord | None, held: Identity) -> str | None:
        """Problem text that names a leader on another lock file; None if there is none."""
        if before is None or before.seat_id == seat_id(held) or before.holder == self._process:
            return None  # a worker that campaigns does not lead, even if its own record still names it
        alive = before.holder.is_alive()
        flocked = None if alive is None else is_flocked(before.seat_id, held)
        if alive is None:  # in another container, whose locks are not listed here either: the heartbeat decides
            alive = self.observer.beats_within(4 * self._timing.heartbeat)
        if not is_rival(before, held, alive=alive, flocked=flocked):
            return None
        rival = describe_split_brain(self.directory.lock, before)
        if rival != self._logged_split_brain:
            log.error("%s", rival, extra=named("lock_file_replaced"))
        self._logged_split_brain = rival
        return rival

    def _hang_trace(self) -> str | None:
        """Traceback that ``faulthandler`` wrote at the end of a hung leader; None if there is none."""
        with contextlib.suppress(OSError):
            return (read_file(self.directory.hang_trace) or b"").decode(errors="replace").strip() or None
        return None

    def _log_hang_trace(self, pid: int | None) -> None:
        """Log the former leader's traceback once, and remove its file."""
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
            await self._files.run(lambda: self._number.write(number))
        except OSError as error:
            raise self._seat_error(error) from error

    async def publish(self, record: LeaderRecord) -> bool:
        try:
            begun = await self._files.run(lambda: self._write_first(record))
        except BaseException as error:
            await self._files.run(lambda: self._take_back(record))
            if isinstance(error, OSError):
                raise self._seat_error(error) from error
            raise
        # Even without a term: two workers that each keep the record of the other could wait for ever.
        self.observer.last_seen = record
        if begun:
            self._published = record
            self._number.unlock()
        return begun

    def _write_first(self, record: LeaderRecord) -> bool:
        self.record_file.write(record)
        if self.lock.is_current():  # after the write: a worker that later wins another lock file reads our record
            self._log_hang_trace(record.takeover.from_pid)
            self._look()
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
        return self.lock.is_held()

    async def renew(self, record: LeaderRecord) -> None:
        await self._files.run(lambda: self._renew(record))

    def _renew(self, record: LeaderRecord) -> None:
        try:
            self.lock.check()
            self.record_file.beat()
        except SeatLostError:
            self._keep_others_off()
            raise
        if record != self._published:
            self._rewrite(record)
        self._say_present(self._presence.renew)

    def _rewrite(self, record: LeaderRecord) -> None:
        """Publish changes of the record. A failure does not end the term; the next heartbeat retries."""
        try:
            if self.record_file.is_ours():
                self.record_file.write(record)
                self._published, self._logged_error = record, None
        except OSError as error:
            if str(error) != self._logged_error:
                log.warning("the leader record could not be updated: %s", error, extra=named("record_not_updated"))
            self._logged_error = str(error)

    def _say_present(self, say: Callable[[], None]) -> None:
        """Publish this worker's presence. After a failure, the next campaign or heartbeat retries."""
        try:
            say()
        except OSError as error:
            absence = f"the presence of this worker cannot be published: {error}"
            if absence != self._absence:
                log.warning("%s", absence, extra=named("presence_failed"))
            self._absence = absence
        else:
            self._absence = None

    def _keep_others_off(self) -> None:
        """Put a lost record back, so that no worker leads on another lock file before our work has ended."""
        assert self._published is not None
        with contextlib.suppress(OSError, SeatError, PoolPathError):
            self.directory.prepare()
            if not self.record_file.write_if_absent(self._published) and self.record_file.read() is None:
                self.record_file.write(self._published)  # replaces content that no worker can parse
            self.record_file.beat()  # for workers that cannot inspect our process

    # --- the end of a term ------------------------------------------------------------------------------------------

    async def release(self, record: LeaderRecord | None) -> None:
        try:
            if record is not None:
                await self._files.run(lambda: self._write_last(record))
        finally:
            self._give_up()

    def _write_last(self, record: LeaderRecord) -> None:
        """Publish the end of the term. Never raises ``OSError``, because the seat has to be freed all the same.

        Skipped while another worker begins a term on another lock file: our write could replace its record.
        """
        why: object = "another worker begins a term"
        try:
            with self._number.locked() as alone:
                if alone:
                    self.record_file.end(record)
                    return
        except OSError as error:
            why = error
        log.warning(
            "the end of term %d could not be recorded: %s", record.term, why, extra=named("term_end_unrecorded")
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
            if self._clock.monotonic() - self._looked_at > CAMPAIGN_AGE_S:
                await self._files.run(self._look)
            await self.watcher.vacancy(self.observer.record, self.observer.look)
        except OSError:  # no descriptors left, for example; the next campaign reports it
            await self._clock.sleep(self._timing.safety_poll)

    async def snapshot(self, max_age_s: float = 0.0) -> Snapshot:
        if self._clock.monotonic() - self._looked_at > max_age_s:
            await self._files.run_briefly(self._look)
        if self._unreadable is not None:
            return Snapshot(None, False, problem=f"the leader record cannot be read: {self._unreadable}")
        record, is_ours = self._seen
        led = is_led(record) and is_ours
        problem = self._files.problem or self._split_brain or self._orphans.problem or self._absence
        return Snapshot(record, led, self.observer.heartbeat_age(), problem)

    async def refresh(self) -> None:
        """Read the files without a time limit, for a process that has nothing else to do."""
        await self._files.run(self._look)
        await self._files.run(self._presence.look)

    def _look(self) -> None:
        """Read record and lock file for the next snapshots; runs in the thread."""
        began = self._clock.monotonic()
        try:
            record = self.observer.look()
            if record is not self._seen[0]:  # once for each record: it costs a system call
                current = self.lock.current()
                # A copied directory has the record of another one, whose leader must not be fenced from here.
                # The leader detects a removed lock file at its next heartbeat.
                self._seen = record, record is not None and (current is None or record.seat_id == seat_id(current))
        except OSError as error:
            self._unreadable = error.strerror or str(error)
        else:
            self._unreadable = None
        self.lock.is_current()  # caches the result
        self._looked_at = began

    async def workers(self) -> list[Worker]:
        if not self._presence.is_fresh():
            await self._files.run_briefly(self._presence.look)
        return self._presence.listed

    def _seat_error(self, error: OSError) -> SeatError:
        return SeatError(f"{error.strerror}: {error.filename or self.pool}")
