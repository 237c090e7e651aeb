"""A span for each attempt of a run, with OpenTelemetry's own SDK, which is needed only with ``election.tracing``."""

from __future__ import annotations

import asyncio
import importlib
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import StatusCode

from election import Election, JobDefinitionError, Run, current_run
from election.testing import always_leader
from election.tracing import instrument
from tests.support.waiting import until


@pytest.fixture
def exporter() -> InMemorySpanExporter:
    return InMemorySpanExporter()


@pytest.fixture
def provider(exporter: InMemorySpanExporter) -> Iterator[TracerProvider]:
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    yield provider
    provider.shutdown()


@pytest.fixture
def election(tmp_path: Path, provider: TracerProvider) -> Election:
    election = Election(tmp_path / "pool", drain_timeout=0.1)
    instrument(election, provider)
    return election


def spans(
    election: Election, exporter: InMemorySpanExporter, func: Callable[..., Any], count: int = 1, **options: Any
) -> list[ReadableSpan]:
    """Run ``func`` once as the job ``work`` until it has that many spans; return them."""
    election.scheduled_job("date", id="work", **options)(func)

    def found() -> list[ReadableSpan]:
        return [span for span in exporter.get_finished_spans() if span.name == "work"]

    with always_leader(election), TestClient(FastAPI(lifespan=election.lifespan)):
        until(lambda: len(found()) == count)
    return found()


def attributes(span: ReadableSpan) -> dict[str, Any]:
    return {name.removeprefix("election."): value for name, value in (span.attributes or {}).items()}


def test_a_span_says_which_run_it_is(election: Election, exporter: InMemorySpanExporter) -> None:
    runs: list[Run] = []

    async def work() -> None:
        runs.append(current_run())

    (span,) = spans(election, exporter, work)
    (run,) = runs
    found = attributes(span)
    assert 0 <= found.pop("lateness_s") < 30
    assert found == {
        "job": "work",
        "due": run.due.isoformat(),
        "term": 1,
        "attempt": 1,
        "key": run.key,
        "outcome": "succeeded",
    }
    assert datetime.fromisoformat(str((span.attributes or {})["election.due"])).tzinfo is UTC
    assert span.parent is None
    assert span.status.status_code is StatusCode.UNSET


@pytest.mark.parametrize("kind", ["coroutine", "thread"])
def test_spans_of_the_jobs_own_code_are_its_children(
    election: Election, exporter: InMemorySpanExporter, provider: TracerProvider, kind: str
) -> None:
    tracer = provider.get_tracer("a job's")

    async def coroutine() -> None:
        with tracer.start_as_current_span("inside"):
            await asyncio.sleep(0)

    def thread() -> None:
        with tracer.start_as_current_span("inside"):
            pass

    (outer,) = spans(election, exporter, coroutine if kind == "coroutine" else thread)
    (inner,) = [span for span in exporter.get_finished_spans() if span.name == "inside"]
    assert outer.context is not None
    assert inner.context is not None
    assert inner.parent is not None
    assert inner.parent.span_id == outer.context.span_id
    assert inner.context.trace_id == outer.context.trace_id


@pytest.mark.parametrize("in_a_thread", [False, True])
def test_attempts_are_linked_and_what_was_raised_is_recorded(
    election: Election, exporter: InMemorySpanExporter, in_a_thread: bool
) -> None:
    def thread() -> None:
        if current_run().attempt == 1:
            raise ValueError("not yet")

    async def coroutine() -> None:
        thread()

    func = thread if in_a_thread else coroutine
    first, second = spans(election, exporter, func, 2, retries=2, retry_backoff=0.01)
    assert [attributes(span)["attempt"] for span in (first, second)] == [1, 2]
    assert [attributes(span)["outcome"] for span in (first, second)] == ["failed", "succeeded"]
    assert first.status.status_code is StatusCode.ERROR
    (raised,) = first.events
    assert (raised.attributes or {})["exception.message"] == "not yet"
    assert list(first.links) == []
    assert first.context is not None
    assert second.context is not None
    assert [link.context.span_id for link in second.links] == [first.context.span_id]
    assert second.context.trace_id != first.context.trace_id


def test_what_is_cut_off_is_interrupted(election: Election, exporter: InMemorySpanExporter) -> None:
    begun: list[int] = []

    async def work() -> None:
        begun.append(1)
        await asyncio.Event().wait()

    election.scheduled_job("date", id="work")(work)
    with always_leader(election), TestClient(FastAPI(lifespan=election.lifespan)):
        until(lambda: begun)
    (span,) = exporter.get_finished_spans()
    assert attributes(span)["outcome"] == "interrupted"


def test_what_is_around_runs_is_nested_as_it_was_given(tmp_path: Path) -> None:
    election = Election(tmp_path / "pool")
    seen: list[str] = []

    @election.around_runs
    @contextmanager
    def outer(run: Run) -> Iterator[None]:
        seen.append(f"into {run.job_id}")
        yield
        seen.append("out")

    @election.around_runs
    @contextmanager
    def inner(run: Run) -> Iterator[None]:
        raise RuntimeError("no")
        yield

    @election.scheduled_job("date", id="work")
    def work() -> None:
        seen.append("ran")

    failed: list[str] = []
    election.on_event(lambda event: failed.append(event.name))
    with always_leader(election), TestClient(FastAPI(lifespan=election.lifespan)):
        until(lambda: "run_failed" in failed)
        with pytest.raises(JobDefinitionError, match="before the Election starts"):
            election.around_runs(outer)
    assert seen == ["into work"], "what it raises fails the run"


def test_without_the_extra_there_is_a_way_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "election.tracing")
    monkeypatch.setitem(sys.modules, "opentelemetry.trace", None)
    with pytest.raises(ImportError, match=r"pip install 'fastapi-election\[otel\]'"):
        importlib.import_module("election.tracing")


def test_extras_are_imported_by_those_who_use_them() -> None:
    code = (  # FastAPI may import opentelemetry by itself
        "import sys, election; election.Election('pool').health;"
        "optional = {'prometheus_client', 'election.web.collector', 'election.tracing'};"
        "sys.exit(' '.join(optional & sys.modules.keys()))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False)
    assert done.stderr.strip() == "", done.stderr
