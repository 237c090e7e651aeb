"""One worker's part in the election.

Promises: P1 and P5 as far as order can keep them. The work of a term is opened inside the heartbeat, the heartbeat
inside the seat: the work ends first, the seat goes last. Not promised: that nobody else holds the seat; that is the
seat's own part.

The whole life is one loop: *campaign; if won, lead until resigned or lost, then release; else wait for a vacancy.*
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager

from .clock import Clock, first, yield_to_loop
from .errors import SeatLostError, UnfinishedJobsError, describe_error, traceback_if_unexpected
from .events import Deposed, Elected, Event, Fenced, Resigned, TookOver, described, named
from .roles import Role, Transition, next_role
from .seat import Seat
from .term import Reason, Standing, Term

log = logging.getLogger("election")

Lead = Callable[[Term, asyncio.Event], AbstractAsyncContextManager[None]]
"""Opens the work of a term. Its exit is the drain: with grace, or at once when the event says that the term is lost.
It returns only when no job code runs, or raises ``UnfinishedJobsError`` if it was not allowed to wait for that."""

RETRY_AT_MOST = 5.0
"""Seconds between two tries at a seat that cannot be reached."""

SIGNAL_GRACE = 0.2
"""Seconds a leader that was told to stop goes on, so that its whole pool has been told too before it resigns."""


class Elector:
    """Campaigns, leads and follows for one worker until told to stop.

    seat: what the workers contend for.
    lead: opens the work of a term.
    clock: the time to live by.
    heartbeat: seconds between two signs of life of a leader.
    problem: what keeps the work of the term from being done, in words, if anything does.
    oversee: called when somebody else has the seat, to look after that one; returns the seconds until its next look.
    tell: told of what happens.
    alarm: returns when the seat may be lost, so that the next heartbeat should not wait; None if that is never known.
    """

    def __init__(
        self,
        seat: Seat,
        lead: Lead,
        *,
        clock: Clock,
        heartbeat: float,
        problem: Callable[[], str | None] = lambda: None,
        supervise: Callable[[], Awaitable[float]] | None = None,
        tell: Callable[[Event], None] = lambda _: None,
        alarm: Callable[[], Awaitable[None]] | None = None,
    ) -> None:
        self._seat = seat
        self._lead = lead
        self._clock = clock
        self._heartbeat = heartbeat
        self._problem = problem
        self._supervise = supervise
        self._tell, self._alarm = tell, alarm
        self._resign = asyncio.Event()
        self._withdrawn = asyncio.Event()
        self._released = asyncio.Event()
        self._failures = 0
        self.role = Role.FOLLOWER
        self.trouble: str | None = None
        """Why the seat cannot be reached at the moment, in words; None when it can."""

    async def run(self) -> None:
        """Take part in elections until withdrawn. Raises nothing but ``CancelledError``."""
        vacancy_noticed_at = self._clock.monotonic()
        while not self._withdrawn.is_set():
            try:
                term = await self._seat.campaign()
                if term is not None and self._withdrawn.is_set():
                    await self._seat.release(Standing.RESIGNED)  # told to stop while it won: no work begins
                elif term is not None:
                    await self._serve(term, vacancy_noticed_at)
                if term is not None or (self._failures and self._seat.observe().led):
                    self._succeeded()  # not by a refusal alone: whoever was quicker may fail as we did
                if term is None and self._supervise is not None:
                    look_again = await self._supervise()
                    await first(self._seat.vacancy(), self._clock.sleep(look_again), self._withdrawn.wait())
                else:
                    await first(self._seat.vacancy(), self._withdrawn.wait())
            except UnfinishedJobsError as error:
                log.error("term ends with its process: %s", error, extra=named("release_deferred"))
                return  # without a release: the seat goes when the process goes (P5)
            except Exception as error:
                self._failed(error)
                this = asyncio.current_task()
                if this is not None and this.cancelling():
                    raise asyncio.CancelledError from error  # which the error, on its way out, had replaced
                await first(self._clock.sleep(self._backoff()), self._withdrawn.wait())
            vacancy_noticed_at = self._clock.monotonic()
        self._transition(Transition.STOP)

    def stop(self) -> None:
        """No more campaigns, and resign if leading; ``run`` returns when the seat is given up."""
        self._withdrawn.set()
        self._resign.set()

    async def stop_with_the_pool(self) -> None:
        """Stop as a worker whose whole pool may be stopping: campaign no more from now on, but go on leading until
        the others have heard of it too, or one of them would begin a term on the way down (docs/pitfalls.md#34)."""
        self._withdrawn.set()
        await self._clock.sleep(SIGNAL_GRACE)
        self._resign.set()

    async def resign(self) -> bool:
        """Give the seat up in good order. Returns, once it is given up, whether there was one to give up."""
        if not self.request_resignation():
            return False
        await self._released.wait()
        return True

    def request_resignation(self) -> bool:
        """Begin to give the seat up; returns whether there is one to give up."""
        if self.role not in {Role.LEADER, Role.RESIGNING}:
            return False
        self._resign.set()
        return True

    async def _serve(self, term: Term, vacancy_noticed_at: float) -> None:
        """Lead: from here to the end of this function the seat is ours."""
        lost = asyncio.Event()
        if not self._withdrawn.is_set():
            self._resign.clear()
        self._released.clear()
        self._transition(Transition.WON)
        try:
            async with self._beating(lost):  # beats through the drain as well
                async with self._lead(term, lost):  # its exit is the drain
                    takeover_ms = (self._clock.monotonic() - vacancy_noticed_at) * 1000
                    await yield_to_loop()  # what is due goes first, and what is to be told of it after
                    await self._seat.confirm(takeover_ms)
                    self._succeeded()
                    self._announce(term, takeover_ms)
                    await first(self._resign.wait(), lost.wait())
                    self._leave(lost)
        except UnfinishedJobsError:
            self._leave(lost)
            raise
        except BaseException:
            self._leave(lost)
            await self._release(term, lost)
            raise
        await self._release(term, lost)

    async def _release(self, term: Term, lost: asyncio.Event) -> None:
        standing = Standing.LOST if lost.is_set() else Standing.RESIGNED
        try:
            await self._seat.release(standing)
        finally:  # even if it fails: the work has ended, and only a follower can campaign again
            self._transition(Transition.RELEASED)
            self._released.set()
        over = Deposed if standing is Standing.LOST else Resigned
        event = over(self._clock.now(), term.number, term.takeover.to_pid)
        log.info("term %d ended: %s", term.number, standing, extra=described(event))
        self._tell(event)

    def _leave(self, lost: asyncio.Event) -> None:
        if self.role is Role.LEADER:
            self._transition(Transition.LOSE if lost.is_set() else Transition.RESIGN)

    @asynccontextmanager
    async def _beating(self, lost: asyncio.Event) -> AsyncIterator[None]:
        """Show life, and set ``lost`` as soon as the seat is seen to be no longer ours."""

        async def beat() -> None:
            missed = 0
            while True:
                try:
                    await self._seat.beat(self._problem())
                except SeatLostError as error:  # beat on: it keeps the others off until our work has ended
                    if not lost.is_set():
                        log.error("term lost: %s", error, extra=named("term_lost"))
                        if self.role is Role.RESIGNING:
                            self._transition(Transition.LOSE)
                        lost.set()
                except Exception as error:  # whatever it is, the next heartbeat may find more
                    missed += 1
                    self.trouble = describe_error(error)
                    if missed == 1:
                        log.warning("heartbeat failed: %s", self.trouble,
                                    exc_info=traceback_if_unexpected(error),
                                    extra=named("heartbeat_failed"))  # fmt: skip
                    elif missed % 10 == 0:
                        log.warning("heartbeat failed, %d times: %s", missed, self.trouble,
                                    extra=named("heartbeat_failed"))  # fmt: skip
                else:
                    missed, self.trouble = 0, None
                pause = self._clock.sleep(self._heartbeat)
                await (pause if self._alarm is None else first(pause, self._alarm()))

        task = asyncio.create_task(beat(), name="election heartbeat")
        try:
            yield
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    def _announce(self, term: Term, takeover_ms: float) -> None:
        now, pid, takeover = self._clock.now(), term.takeover.to_pid, term.takeover
        elected = Elected(now, term.number, pid)
        self._tell(elected)
        if takeover.reason is Reason.STARTED:
            log.info("elected: this worker (pid %d) leads term %d", pid, term.number, extra=described(elected))
            return
        if takeover.reason is Reason.FENCED:
            self._tell(Fenced(now, term.number - 1, takeover.from_pid))
        event = TookOver(now, term.number, pid, takeover.from_pid, takeover.reason, round(takeover_ms, 2))
        log.info(
            "elected: this worker (pid %d) leads term %d; took over from pid %s, which %s, in %.1f ms",
            pid, term.number, takeover.from_pid, _PAST[takeover.reason], takeover_ms, extra=described(event),
        )  # fmt: skip
        self._tell(event)

    def _transition(self, transition: Transition) -> None:
        self.role = next_role(self.role, transition)

    def _failed(self, error: Exception) -> None:
        """Once in full, then as a count at every tenth failure."""
        self._failures += 1
        self.trouble = describe_error(error)
        if self._failures == 1:
            log.error("no leadership here: %s", self.trouble,
                      exc_info=traceback_if_unexpected(error), extra=named("campaign_failed"))  # fmt: skip
        elif self._failures % 10 == 0:
            log.error("no leadership here, %d tries: %s", self._failures, self.trouble, extra=named("campaign_failed"))

    def _succeeded(self) -> None:
        if self._failures:
            log.info("the seat can be reached again, after %d failed tries", self._failures,
                     extra=named("campaign_recovered"))  # fmt: skip
        self._failures, self.trouble = 0, None

    def _backoff(self) -> float:
        return min(self._heartbeat * 2.0 ** min(self._failures - 1, 10), RETRY_AT_MOST)


_PAST = {Reason.DIED: "died", Reason.RESIGNED: "resigned", Reason.FENCED: "was fenced", Reason.LOST: "lost its seat"}
