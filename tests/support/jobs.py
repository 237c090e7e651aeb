"""Jobs of served pools by name: some write facts, some take long, some harm their worker."""

from __future__ import annotations

import asyncio
import ctypes
import logging
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from election import current_run
from tests.support import misbehaviour
from tests.support.facts import write_fact

HOSTILE = "<img src=x onerror=document.title='hurt'>&\"'</script><script>document.title='hurt'</script>"
"""Id and error that would do harm as markup."""


@contextmanager
def facts() -> Iterator[None]:
    """Write a fact at the begin and one at the end of the current run."""
    run = current_run()
    fields = {"job": run.job_id, "term": run.term, "due": run.due.isoformat(), "attempt": run.attempt}
    write_fact("begin", **fields)
    yield
    write_fact("end", **fields)


async def leave_facts() -> None:
    with facts():
        pass


async def note(text: str = "") -> None:
    """Write a single fact; tests also store this job by reference."""
    run = current_run()
    write_fact("ran", job=run.job_id, due=run.due.isoformat(), term=run.term, key=run.key, text=text)


async def held_for_two_terms() -> None:
    """Run without an end in the first two terms."""
    with facts():
        if current_run().term <= 2:
            await asyncio.Event().wait()


def two_seconds_in_a_thread() -> None:
    with facts():
        time.sleep(2)


def never_ends() -> None:
    with facts():
        threading.Event().wait()


async def blocks_the_loop() -> None:
    with facts():
        time.sleep(4)


async def hangs_in_a_call() -> None:
    """Hang in the first term only, so that the pool recovers."""
    if current_run().term == 1:
        with facts():
            time.sleep(3600)


async def hangs_with_the_gil() -> None:
    """Keep the GIL, like a faulty C extension: no other thread of this interpreter can run."""
    if current_run().term == 1:
        with facts():
            ctypes.PyDLL(None).sleep(3600)


async def nothing() -> None: ...


async def takes_a_while() -> None:
    await asyncio.sleep(0.4)


def takes_too_long_at_times() -> None:
    """Sometimes take longer than the time to the next tick."""
    time.sleep(5.5 if current_run().due.second % 20 < 4 else 1.2)


async def fails_at_times() -> None:
    if current_run().due.second % 2:
        raise ConnectionError("mail.example:25 refused the connection")


def charge_cards(batch: int, api_token: str) -> None:
    """Charge the cards whose payment is due."""
    logging.getLogger("shop.payments").warning("charging %d cards, attempt %d", batch, current_run().attempt)
    raise TimeoutError("payments.example did not answer within 2 s")


async def raises_markup() -> None:
    raise ValueError(HOSTILE)


A_RUN_EACH = {"coalesce": False, "misfire_grace_time": None, "max_instances": 1000}
"""Options of a job whose every tick must have a run, even after a long standstill of the machine."""

_LEFT_OUT = {"month": 3, "day": 28, "minute": 30, **A_RUN_EACH}
"""A time in the hour that the clocks leave out."""

_AT_ITS_END = {"month": 10, "day": 31, "minute": 59, "second": 55, **A_RUN_EACH}
"""A time near the end of an hour that the clocks repeat."""

Job = tuple[Callable[..., Any], str, dict[str, Any]]

JOBS: dict[str, Job] = {
    "tick": (leave_facts, "cron", {"second": "*", **A_RUN_EACH}),
    "every_second": (leave_facts, "interval", {"seconds": 1, **A_RUN_EACH}),
    "coalescing": (leave_facts, "cron", {"second": "*"}),
    "once": (leave_facts, "date", {}),
    "held_for_two_terms": (held_for_two_terms, "cron", {"second": "*"}),
    "two_seconds_in_a_thread": (two_seconds_in_a_thread, "interval", {"seconds": 3}),
    "never_ends": (never_ends, "date", {}),
    "blocks_the_loop": (blocks_the_loop, "date", {}),
    "hangs_in_a_call": (hangs_in_a_call, "date", {}),
    "hangs_with_the_gil": (hangs_with_the_gil, "date", {}),
    "misbehave": (misbehaviour.misbehave, "cron", {"second": "*"}),
    "often": (note, "interval", {"seconds": 0.25}),
    "now and/then": (note, "interval", {"hours": 1}),
    "report": (nothing, "interval", {"seconds": 1}),
    "refresh_prices": (takes_a_while, "interval", {"seconds": 3}),
    "sync_inventory": (takes_too_long_at_times, "interval", {"seconds": 4, "max_instances": 1}),
    "send_invoices": (fails_at_times, "interval", {"seconds": 7}),
    "charge_cards": (
        charge_cards,
        "cron",
        {
            **{"second": "*/3", "timezone": "Europe/Berlin", "tags": ["billing"], "retries": 1, "retry_backoff": 0.05},
            "kwargs": {"batch": 50, "api_token": "s3cret"},
        },
    ),
    "berlin_seconds": (leave_facts, "cron", {"second": "*/2", "timezone": "Europe/Berlin", **A_RUN_EACH}),
    "london_seconds": (leave_facts, "cron", {"second": "*/2", "timezone": "Europe/London", **A_RUN_EACH}),
    "berlin_left_out": (
        leave_facts,
        "cron",
        {**_LEFT_OUT, "hour": 2, "timezone": "Europe/Berlin"},
    ),
    "london_left_out": (
        leave_facts,
        "cron",
        {**_LEFT_OUT, "hour": 1, "timezone": "Europe/London"},
    ),
    "berlin_twice": (leave_facts, "cron", {**_AT_ITS_END, "hour": 2, "timezone": "Europe/Berlin"}),
    "london_twice": (leave_facts, "cron", {**_AT_ITS_END, "hour": 1, "timezone": "Europe/London"}),
    "noon": (leave_facts, "cron", {"hour": 12, "timezone": "Europe/Berlin", **A_RUN_EACH}),
    "someday": (leave_facts, "date", {"run_date": "2100-01-01T00:00:00+00:00", **A_RUN_EACH}),
    "hostile": (raises_markup, "interval", {"seconds": 1, "id": HOSTILE, "name": HOSTILE}),
}
