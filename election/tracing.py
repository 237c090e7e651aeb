"""A span for each attempt at a run, with OpenTelemetry, the extra ``otel``.

Only this module imports ``opentelemetry``, and nothing of election imports this module.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager

from .core.distribution import install_command

try:
    from opentelemetry.context import Context
    from opentelemetry.trace import Link, SpanContext, Status, StatusCode, TracerProvider, get_tracer
except ImportError as error:
    raise ImportError(f"election.tracing needs opentelemetry-api ({error}): {install_command('otel')}") from error

from .election import Election
from .schedule.run import Run

__all__ = ["instrument"]

MAX_LINKED = 1000
"""Ticks whose last attempt is kept for the link from the next one."""


def instrument(election: Election, tracer_provider: TracerProvider | None = None) -> None:
    """Make a span of each attempt at a run, current while the job's code runs, in a coroutine or in a thread.

    A span is named after the job and begins a trace; another attempt at the same tick is linked to the one before. Its
    attributes are ``election.job``, ``election.due`` (ISO 8601, UTC), ``election.term``, ``election.attempt``,
    ``election.key``, ``election.lateness_s`` (seconds from due to this attempt) and at its end ``election.outcome``:
    ``succeeded``, ``failed`` or ``interrupted``. An exception of the job is recorded.

    tracer_provider: the global one if not given. Call this before the Election starts; a later call raises
    ``JobDefinitionError``.
    """
    tracer = get_tracer("election", tracer_provider=tracer_provider)
    spans: OrderedDict[str, SpanContext] = OrderedDict()

    @contextmanager
    def span_of(run: Run) -> Iterator[None]:
        last = spans.get(run.key)
        attributes: dict[str, str | int | float] = {
            "election.job": run.job_id,
            "election.due": run.due.isoformat(),
            "election.term": run.term,
            "election.attempt": run.attempt,
            "election.key": run.key,
            "election.lateness_s": (election._clock.now() - run.due).total_seconds(),
        }
        with tracer.start_as_current_span(
            run.job_id,
            context=Context(),  # a separate trace, in whatever context the scheduler was started
            attributes=attributes,
            links=[Link(last)] if last is not None else [],
            record_exception=False,
            set_status_on_exception=False,
        ) as span:
            spans[run.key] = span.get_span_context()
            if len(spans) > MAX_LINKED:
                spans.popitem(last=False)
            outcome = "interrupted"
            try:
                yield
                outcome = "succeeded"
            except asyncio.CancelledError:
                raise
            except BaseException as error:
                outcome = "failed"
                span.record_exception(error)
                span.set_status(Status(StatusCode.ERROR, type(error).__name__))
                raise
            finally:
                span.set_attribute("election.outcome", outcome)

    election.around_runs(span_of)
