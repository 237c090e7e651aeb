"""Elector: campaigns, leads and follows for one worker.

Keeps the order that P1 and P5 need: the work of a term is opened inside the heartbeat, the heartbeat inside the seat.
So the work ends first, and the seat is released last. ``Seat`` itself promises that no other worker holds the seat.

One loop: *campaign; if won, lead until resigned or lost, then release; else wait for a vacancy.*
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager

from .backoff import backoff_s, is_logged
from .clock import Clock, first, reraise_if_cancelled, yield_to_loop
from .errors import SeatLostError, UnfinishedJobsError, describe_error, traceback_if_unexpected
from .events import Deposed, Elected, Event, Fenced, Resigned, TookOver, described, named
from .logs import log
from .roles import Role, Transition, next_role
from .seat import Seat
from .term import Reason, Standing, Term
from .term_context import TermContext
from .watched_task import WatchedTask

Lead = Callable[[TermContext], AbstractAsyncContextManager[object]]
"""Opens the work of a term. Its exit is the drain: with grace, or at once when the term is lost. It returns when no job
code runs, or raises ``UnfinishedJobsError`` if it cannot wait for that."""

SIGNAL_GRACE_S = 0.2
"""Delay between a stop signal and the resignation, so that all workers receive the signal first."""


class Elector:
    """Campaigns, leads and follows until stopped.

    Args:
        seat: Exclusive resource that the workers compete for.
        lead: Opens the work of a term.
        clock: Time of waits and events.
        heartbeat: Seconds between two heartbeats of a leader.
        supervise: Checks the leader for a follower; returns the seconds until the next check.
        emit: Passes an event to the hooks.
    """

    def __init__(
        self,
        seat: Seat,
        lead: Lead,
        *,
        clock: Clock,
        heartbeat: float,
        supervise: Callable[[], Awaitable[float]] | None = None,
        emit: Callable[[Event], None] = lambda _: None,
    ) -> None:
        self._seat = seat
        self._lead = lead
        self._clock = clock
        self._heartbeat = heartbeat
        self._supervise = supervise
        self._emit = emit
        self._resign = asyncio.Event()
        self._stopping = asyncio.Event()
        self._released = asyncio.Event()
        self._campaign_began = 0.0
        self._failures = 0
        self.leading = asyncio.Event()
        """Set while the work of a term of this worker runs."""
        self.role = Role.FOLLOWER
        self.trouble: str | None = None
        """Why the seat cannot be reached now; None if it can."""

    async def run(self) -> None:
        """Take part in elections until stopped. Raises nothing but ``CancelledError``."""
        while not self._stopping.is_set():
            try:
                term = await self._campaign()
                if term is None:
                    await self._follow()
                else:
                    async with self._held(term) as context:
                        await self._work(context)
                    await self._recover()
                    await self._wait_for_vacancy()  # let other workers campaign
            except UnfinishedJobsError as error:
                log.error("the seat stays held until this process ends: %s", error, extra=named("release_deferred"))
                return  # without a release: the seat is free when the process has ended (P5)
            except (GeneratorExit, KeyboardInterrupt, SystemExit):
                raise
            except BaseException as error:  # also a stray CancelledError
                if isinstance(error, asyncio.CancelledError):
                    reraise_if_cancelled(error)
                self._fail(error)
                reraise_if_cancelled(error)
                await self._seat.report(self.trouble)
                await first(self._clock.sleep(backoff_s(self._heartbeat, self._failures - 1)), self._stopping.wait())
        self._transition(Transition.STOP)

    def stop(self) -> None:
        """End campaigns, and resign if leading; ``run`` returns when the seat is released."""
        self._stopping.set()
        self._resign.set()

    async def stop_with_the_pool(self) -> None:
        """Stop as a worker whose whole pool may be stopping: end campaigns now, and resign after a grace.

        During the grace the other workers receive the signal too, so that none begins a term while it shuts down
        (docs/pitfalls.md#34).
        """
        self._stopping.set()
        await self._clock.sleep(SIGNAL_GRACE_S)
        self._resign.set()

    async def resign(self) -> bool:
        """Drain and release the seat, then return True; return False at once if this worker does not lead."""
        if not self.request_resignation():
            return False
        await self._released.wait()
        return True

    def request_resignation(self) -> bool:
        """Begin to resign; returns whether this worker leads."""
        if self.role not in {Role.LEADER, Role.RESIGNING}:
            return False
        self._resign.set()
        return True

    async def _campaign(self) -> Term | None:
        """Try once to take the seat; None if another worker may lead, or this one was stopped meanwhile."""
        self._campaign_began = self._clock.monotonic()
        term = await self._seat.campaign()
        if term is not None and self._stopping.is_set():
            await self._seat.release(Standing.RESIGNED)  # before any work begins
            return None
        return term

    async def _follow(self) -> None:
        """Supervise the leader until a campaign is worth trying, or the next check is due."""
        if self._stopping.is_set():
            return
        if self._failures and (await self._seat.observe()).led:
            await self._recover()  # a lost campaign alone proves nothing: the winner may hit the same error
        if self._supervise is None:
            await self._wait_for_vacancy()
        else:
            next_look_s = await self._supervise()
            await first(self._seat.vacancy(), self._clock.sleep(next_look_s), self._stopping.wait())

    async def _wait_for_vacancy(self) -> None:
        await first(self._seat.vacancy(), self._stopping.wait())

    @asynccontextmanager
    async def _held(self, term: Term) -> AsyncIterator[TermContext]:
        """Hold the seat while the scope is open: heartbeats until its end, then the release.

        Does not release the seat if job code still runs.
        """
        context = TermContext(
            term,
            asyncio.Event(),
            lambda: self._holds(term),
            self.request_resignation,
            self._emit,
            self._seat.peers_differ,
        )
        if not self._stopping.is_set():
            self._resign.clear()
        self._released.clear()
        self._transition(Transition.WON)
        try:
            async with self._beating(context):
                yield context
        except UnfinishedJobsError:
            self._leave(context.lost)
            raise
        except BaseException:
            await self._release(term, context.lost)
            raise
        await self._release(term, context.lost)

    def _holds(self, term: Term) -> bool:
        held = self._seat.held()
        return held is not None and held.number == term.number

    async def _work(self, context: TermContext) -> None:
        """Do the work of the term until a resignation or the loss of the seat, and drain it."""
        async with self._lead(context):  # its exit is the drain
            context.takeover_ms = (self._clock.monotonic() - self._campaign_began) * 1000
            await yield_to_loop()  # let due jobs start before the takeover is announced
            await self._seat.confirm(context.takeover_ms)
            await self._recover()
            self._announce(context.term, context.takeover_ms)
            self.leading.set()
            await first(self._resign.wait(), context.lost.wait())
            self._leave(context.lost)

    async def _release(self, term: Term, lost: asyncio.Event) -> None:
        self._leave(lost)
        standing = Standing.LOST if lost.is_set() else Standing.RESIGNED
        try:
            await self._seat.release(standing)
        finally:  # even if the release fails: the work has ended, and only a follower can campaign again
            self._transition(Transition.RELEASED)
            self._released.set()
        over = Deposed if standing is Standing.LOST else Resigned
        event = over(self._clock.now(), term.number, term.takeover.to_pid)
        log.info("term %d ended: %s", term.number, standing, extra=described(event))
        self._emit(event)

    def _leave(self, lost: asyncio.Event) -> None:
        self.leading.clear()
        if self.role is Role.LEADER:
            self._transition(Transition.LOSE if lost.is_set() else Transition.RESIGN)

    @asynccontextmanager
    async def _beating(self, context: TermContext) -> AsyncIterator[None]:
        """Send heartbeats while the scope is open; set ``context.lost`` as soon as the seat is no longer ours."""
        lost = context.lost

        async def beat() -> None:
            missed = 0
            while True:  # the pause first: the record of the term has just been published
                pause, doubt = self._clock.sleep(self._heartbeat), self._seat.doubt
                await (pause if doubt is None else first(pause, doubt()))
                try:
                    await self._seat.beat(context.problem or context.warning, len(context.queued))
                except SeatLostError as error:  # go on: a heartbeat keeps the others off until our work has ended
                    if not lost.is_set():
                        log.error("term lost: %s", error, extra=named("term_lost"))
                        if self.role is Role.RESIGNING:
                            self._transition(Transition.LOSE)
                        lost.set()
                except Exception as error:  # the next heartbeat may succeed
                    missed += 1
                    self.trouble = describe_error(error)
                    if is_logged(missed):
                        log.warning("heartbeat failed%s: %s", _times(missed), self.trouble,
                                    exc_info=traceback_if_unexpected(error) if missed == 1 else None,
                                    extra=named("heartbeat_failed"))  # fmt: skip
                else:
                    missed, self.trouble = 0, None

        beating = WatchedTask(beat(), name="election heartbeat", on_death=self.request_resignation)
        try:
            yield
        finally:
            await beating.stop()

    def _announce(self, term: Term, takeover_ms: float) -> None:
        now, pid, takeover = self._clock.now(), term.takeover.to_pid, term.takeover
        elected = Elected(now, term.number, pid)
        self._emit(elected)
        if takeover.reason is Reason.STARTED:
            log.info("elected: this worker (pid %d) leads term %d", pid, term.number, extra=described(elected))
            return
        if takeover.reason is Reason.FENCED:
            self._emit(Fenced(now, term.number - 1, takeover.from_pid))
        event = TookOver(now, term.number, pid, takeover.from_pid, takeover.reason, round(takeover_ms, 2))
        log.info(
            "elected: this worker (pid %d) leads term %d; took over from pid %s, which %s, in %.1f ms",
            pid, term.number, takeover.from_pid, _PAST[takeover.reason], takeover_ms, extra=described(event),
        )  # fmt: skip
        self._emit(event)

    def _transition(self, transition: Transition) -> None:
        self.role = next_role(self.role, transition)

    def _fail(self, error: BaseException) -> None:
        """Count a failed try at the seat; log the first in full, then every tenth."""
        self._failures += 1
        self.trouble = describe_error(error)
        if is_logged(self._failures):
            log.error("the election failed in this worker, and is tried again%s: %s", _times(self._failures),
                      self.trouble, exc_info=traceback_if_unexpected(error) if self._failures == 1 else None,
                      extra=named("campaign_failed"))  # fmt: skip

    async def _recover(self) -> None:
        if self._failures:
            log.info("the seat can be reached again, after %d failed tries", self._failures,
                     extra=named("campaign_recovered"))  # fmt: skip
        self._failures, self.trouble = 0, None
        await self._seat.report(None)


def _times(failures: int) -> str:
    return "" if failures == 1 else f", {failures} times"


_PAST = {Reason.DIED: "died", Reason.RESIGNED: "resigned", Reason.FENCED: "was fenced", Reason.LOST: "lost its seat"}
