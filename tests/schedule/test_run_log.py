"""Log of an attempt: kept lines and part of a traceback; collecting them has no side effects."""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import logging
import threading
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from typing import Any

import pytest

from election.schedule.model import RunLog
from election.schedule.run_log import (
    MAX_LENGTH,
    MAX_LINE_LENGTH,
    MAX_LINES,
    MAX_TRACEBACK_LENGTH,
    LineCollector,
    collect_lines,
    format_traceback,
    shorten,
)
from tests.schedule.making import NOW
from tests.schedule.term_bench import TermBench

pytestmark = pytest.mark.anyio

log = logging.getLogger("app.jobs")


async def _logs(bench: TermBench, work: Callable[..., Any], **arguments: Any) -> list[RunLog]:
    """Logs of the only run of ``work``."""
    bench.registry.add(work, "date", run_date=NOW, id="job", **arguments)
    async with bench.term():
        await bench.until(bench.runs)
        await bench.until(lambda: all_ended(bench))
    [run] = await bench.runs()
    return await bench.others.logs(run.seq)


async def all_ended(bench: TermBench) -> bool:
    return all(run.outcome is not None for run in await bench.runs())


def _fail() -> None:
    number = 17
    raise KeyError(f"{number} is not there")


async def _logs_in_coroutine() -> None:
    log.warning("read %d rows", 3)
    await asyncio.sleep(0)
    await asyncio.to_thread(log.error, "from a thread of its own")


def _logs_in_thread() -> None:
    log.warning("read %d rows", 3)
    log.error("from a thread of its own")


@pytest.mark.parametrize("work", [_logs_in_coroutine, _logs_in_thread])
async def test_the_lines_of_a_run_are_kept(bench: TermBench, work: Callable[..., Any]) -> None:
    [kept] = await _logs(bench, work)
    assert [(line.level, line.logger, line.text) for line in kept.lines] == [
        ("WARNING", "app.jobs", "read 3 rows"),
        ("ERROR", "app.jobs", "from a thread of its own"),
    ]
    assert (kept.attempt, kept.traceback, kept.dropped) == (1, None, 0)


async def test_a_run_that_logs_nothing_keeps_nothing(bench: TermBench) -> None:
    assert await _logs(bench, lambda: log.debug("below the level of the logger")) == []


@pytest.mark.parametrize("is_coroutine", [False, True])
async def test_a_traceback_begins_with_the_job_and_ends_with_the_error(bench: TermBench, is_coroutine: bool) -> None:
    async def coroutine() -> None:
        _fail()

    [kept] = await _logs(bench, coroutine if is_coroutine else _fail)
    assert kept.traceback is not None
    head, *middle, last = kept.traceback.splitlines()
    assert head == "Traceback (most recent call last):"
    assert last == "KeyError: '17 is not there'"
    frames = [line for line in middle if line.startswith("  File ")]
    assert all(__file__ in frame for frame in frames)
    assert frames[-1].endswith("in _fail")


async def test_each_attempt_has_its_own(bench: TermBench) -> None:
    attempts = []

    def job() -> None:
        attempts.append(True)
        log.warning("attempt %d", len(attempts))
        if len(attempts) < 3:
            raise ValueError(len(attempts))

    logs = await _logs(bench, job, retries=3, retry_backoff=0.0)
    assert [(each.attempt, each.lines[0].text) for each in logs] == [(n, f"attempt {n}") for n in (1, 2, 3)]
    assert [each.traceback and each.traceback.splitlines()[-1] for each in logs] == [
        "ValueError: 1", "ValueError: 2", None,
    ]  # fmt: skip


async def test_a_timeout_says_where_the_job_stood(bench: TermBench) -> None:
    async def job() -> None:
        log.warning("begun")
        await asyncio.sleep(3600)

    [kept] = await _logs(bench, job, timeout=5)
    assert [line.text for line in kept.lines] == ["begun"]
    assert kept.traceback is not None
    assert "await asyncio.sleep(3600)" in kept.traceback
    assert "job_runner" not in kept.traceback
    assert "TimeoutError: timed out" in kept.traceback.splitlines()[-1]


async def test_without_keep_log_only_the_traceback_is_kept(bench: TermBench) -> None:
    def job() -> None:
        log.warning("a secret")
        _fail()

    [kept] = await _logs(bench, job, keep_log=False)
    assert kept.lines == ()
    assert kept.traceback is not None


async def test_lines_of_others_are_not_kept(bench: TermBench) -> None:
    """Lines of another task, of the code that started the run, and of another run."""
    both = asyncio.Event()
    running = []

    async def job() -> None:
        running.append(True)
        if len(running) == 2:
            both.set()
        await both.wait()
        log.warning("from %s", asyncio.current_task().get_name())  # type: ignore[union-attr]

    for job_id in ("one", "two"):
        bench.registry.add(job, "date", run_date=NOW, id=job_id)
    async with bench.term():
        await bench.until(bench.runs)
        log.warning("from outside")
        await bench.until(lambda: all_ended(bench))
    for run in await bench.runs():
        [kept] = await bench.others.logs(run.seq)
        assert [line.text for line in kept.lines] == [f"from job {run.job_id}"]


# --- bounds -----------------------------------------------------------------------------------------------------------


def _collected(write: Callable[[], object], error: BaseException | None = None) -> RunLog | None:
    """Return the log of the lines that ``write`` logs."""
    collector = LineCollector()

    def collect() -> None:
        collect_lines(collector)
        write()

    contextvars.copy_context().run(collect)
    return collector.close(1, error)


def test_the_latest_lines_are_kept() -> None:
    kept = _collected(lambda: [log.warning("line %d", number) for number in range(MAX_LINES + 50)])
    assert kept is not None
    assert [line.text for line in kept.lines] == [f"line {number}" for number in range(50, MAX_LINES + 50)]
    assert kept.dropped == 50


def test_long_lines_are_shortened_and_bounded_in_all() -> None:
    kept = _collected(lambda: [log.warning("x" * 100_000) for _ in range(100)])
    assert kept is not None
    assert all(len(line.text) < MAX_LINE_LENGTH + 50 for line in kept.lines)
    assert sum(len(line.text) for line in kept.lines) <= MAX_LENGTH
    assert len(kept.lines) + kept.dropped == 100


def test_a_long_traceback_keeps_its_innermost_part() -> None:
    def deeper(depth: int) -> None:
        if depth == 0:
            raise ValueError("x" * 1_000_000)
        if depth % 2:
            deeper(depth - 1)
        else:
            exec("deeper(depth - 1)", {"deeper": deeper, "depth": depth})  # no two frames are equal

    with pytest.raises(ValueError, match="x") as raised:
        deeper(400)
    text = format_traceback(raised.value)
    assert len(text) <= MAX_TRACEBACK_LENGTH + 100
    assert "outer frames left out" in text.splitlines()[0]
    assert "raise ValueError" in text
    assert text.splitlines()[-1].startswith("ValueError: xxx")


def test_a_line_has_the_traceback_that_it_was_logged_with() -> None:
    def write() -> None:
        try:
            _fail()
        except KeyError:
            log.exception("it failed")

    kept = _collected(write)
    assert kept is not None
    [line] = kept.lines
    assert line.text.startswith("it failed\nTraceback")
    assert line.text.endswith("KeyError: '17 is not there'")


# --- what must not be disturbed ---------------------------------------------------------------------------------------


class _UnprintableError(Exception):
    def __str__(self) -> str:
        raise RuntimeError("no")

    __repr__ = __str__


class _Logs:
    """An argument of a message that logs when it is formatted."""

    def __str__(self) -> str:
        log.warning("within")
        return "printed"


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (("%d rows", "three"), "%d rows (cannot be formatted: TypeError)"),
        (("%s", _UnprintableError()), "%s (cannot be formatted: RuntimeError)"),
        (("a \ud83d b",), "a \\ud83d b"),
    ],
    ids=["wrong argument", "unprintable", "surrogate"],
)
def test_a_line_that_cannot_be_formatted(
    arguments: tuple[Any, ...], text: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(logging, "raiseExceptions", False)
    monkeypatch.setattr(log, "propagate", False)  # pytest's own handler would raise
    kept = _collected(lambda: log.warning(*arguments))
    assert kept is not None
    assert [line.text for line in kept.lines] == [text]


def test_an_error_that_cannot_be_printed() -> None:
    kept = _collected(lambda: None, _UnprintableError())
    assert kept is not None and kept.traceback is not None
    assert "_UnprintableError" in kept.traceback


def test_a_message_that_logs_itself_ends() -> None:
    kept = _collected(lambda: [log.warning("%s", _Logs()) for _ in range(3)])
    assert kept is not None
    assert "printed" in [line.text for line in kept.lines]


def test_filters_may_redact_a_record() -> None:
    def redact(record: logging.LogRecord) -> bool:
        record.msg, record.args = "password: …", ()
        return True

    log.addFilter(redact)
    try:
        kept = _collected(lambda: [log.warning("password: %s", secret) for secret in ("a", "b")])
    finally:
        log.removeFilter(redact)
    assert kept is not None
    assert [line.text for line in kept.lines] == ["password: …"] * 2


def test_another_record_factory_goes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    """A factory set before ours, and one set after it that calls it; no line is kept twice."""
    _collected(lambda: None)
    ours = logging.getLogRecordFactory()

    def factory(*args: Any, **kwargs: Any) -> logging.LogRecord:
        record = ours(*args, **kwargs)
        record.request_id = "r1"
        return record

    seen: list[Any] = []
    handler = logging.Handler()
    handler.emit = lambda record: seen.append(record.request_id)  # type: ignore[attr-defined,method-assign]
    log.addHandler(handler)
    logging.setLogRecordFactory(factory)
    try:
        kept = _collected(lambda: log.warning("once"))
    finally:
        logging.setLogRecordFactory(ours)
        log.removeHandler(handler)
    assert kept is not None
    assert [line.text for line in kept.lines] == ["once"]
    assert seen == ["r1"]


def test_logging_is_left_as_it_was() -> None:
    """No handler is added: ``basicConfig`` and the handler of last resort work as without an election."""
    before = list(logging.getLogger().handlers)
    inside: list[list[logging.Handler]] = []
    _collected(lambda: inside.append(list(logging.getLogger().handlers)))
    assert inside == [before]
    assert list(logging.getLogger().handlers) == before


def test_threads_of_a_run_may_log_at_once() -> None:
    collector = LineCollector()

    def write() -> None:
        collect_lines(collector)
        for _ in range(MAX_LINES // 10):
            log.warning("line")

    threads = [threading.Thread(target=write) for _ in range(10)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    kept = collector.close(1, None)
    assert kept is not None
    assert len(kept.lines) == MAX_LINES
    assert kept.dropped == 0


@pytest.mark.parametrize("length", [9, 10, 11, 100])
def test_shorten(length: int) -> None:
    text = shorten("0123456789", length)
    assert text.startswith("0123") and text.endswith("6789")
    assert ("…" in text) is (length < 10)


async def test_a_level_or_a_name_that_is_no_text_is_kept_as_text(bench: TermBench) -> None:
    """A filter may have put any object there, which no ledger can hold: it stopped all jobs of the term."""

    class Level:
        def __str__(self) -> str:
            return "LOUD"

    class Nameless:
        def __str__(self) -> str:
            raise ValueError("no name")

    def redact(record: logging.LogRecord) -> bool:
        record.levelname, record.name = Level(), Nameless()  # type: ignore[assignment]
        return True

    async def work() -> None:
        log.addFilter(redact)
        try:
            log.warning("one line")
        finally:
            log.removeFilter(redact)

    [kept] = await _logs(bench, work)
    assert [(line.level, line.logger, line.text) for line in kept.lines] == [("LOUD", "?", "one line")]


class _Wrong(str):
    """A text that cannot be used as one."""

    def _raise(self, *_: object) -> Any:
        raise asyncio.CancelledError

    __str__ = __format__ = __len__ = __mod__ = __add__ = encode = _raise


class _Gone:
    """A value that is removed from the record."""


@contextlib.contextmanager
def _filtered(**values: Any) -> Iterator[None]:
    """Within the scope, a filter changes these attributes of records."""

    def change(record: logging.LogRecord) -> bool:
        for name, value in values.items():
            if isinstance(value, _Gone):
                delattr(record, name)
            else:
                setattr(record, name, value)
        return False  # no handler is to fail

    log.addFilter(change)
    try:
        yield
    finally:
        log.removeFilter(change)


@pytest.mark.parametrize("count", [1, 2])
@pytest.mark.parametrize(
    "created", [NOW.timestamp() * 1000, float("nan"), float("-inf"), "soon", None, _Gone()],
    ids=["milliseconds", "nan", "infinity", "text", "None", "gone"],
)  # fmt: skip
async def test_a_time_that_is_none_changes_nothing_for_the_run(bench: TermBench, count: int, created: object) -> None:
    """The second line raised in the job; a single one kept the run from being settled."""

    def work() -> None:
        with _filtered(created=created):
            for _ in range(count):
                log.warning("line")

    before = datetime.now(UTC)
    [kept] = await _logs(bench, work)
    [run] = await bench.runs()
    assert run.outcome == "succeeded"
    assert [line.text for line in kept.lines] == ["line"] * count
    assert all(before <= line.at <= datetime.now(UTC) for line in kept.lines), "when the record was made"


def test_a_time_that_a_filter_has_moved_is_kept() -> None:
    with _filtered(created=NOW.timestamp()):
        kept = _collected(lambda: log.warning("line"))
    assert kept is not None
    assert [line.at for line in kept.lines] == [NOW]


@pytest.mark.parametrize(
    "value", [_Gone(), None, 17, True, _Wrong("wrong"), _UnprintableError()], ids=lambda value: type(value).__name__
)
@pytest.mark.parametrize("attribute", ["created", "levelname", "name", "exc_info", "msg", "args"])
def test_no_attribute_that_a_filter_changes_raises(attribute: str, value: object) -> None:
    collector = LineCollector()
    records = [logging.LogRecord("app", logging.WARNING, "job.py", 1, "%s rows", ("3",), None) for _ in range(2)]
    for record in records:
        collector.add(record)
        if isinstance(value, _Gone):
            delattr(record, attribute)
        else:
            setattr(record, attribute, value)
    kept = collector.close(1, None)
    assert kept is not None and len(kept.lines) == 2
    for line in kept.lines:
        assert [type(each) for each in (line.at, line.level, line.logger, line.text)] == [datetime, str, str, str]
        "".join([line.level, line.logger, line.text]).encode()


def test_a_record_that_was_made_without_a_time_has_the_present_one() -> None:
    """As by a log record factory of the application."""
    record = logging.LogRecord("app", logging.WARNING, "job.py", 1, "line", None, None)
    del record.created
    collector, before = LineCollector(), datetime.now(UTC)
    collector.add(record)
    kept = collector.close(1, None)
    assert kept is not None
    assert before <= kept.lines[0].at <= datetime.now(UTC)


def test_a_level_that_cannot_be_encoded_is_kept_as_characters_that_can() -> None:
    with _filtered(levelname="LOUD \ud83d", name="x" * 100_000):
        kept = _collected(lambda: log.warning("line"))
    assert kept is not None
    assert kept.lines[0].level == "LOUD \\ud83d"
    assert len(kept.lines[0].logger) < MAX_LINE_LENGTH + 50
