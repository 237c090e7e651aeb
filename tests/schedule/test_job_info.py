"""A job's name, description and tags: limits, and writes to the ledger for changes only."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import pytest

from election.core.errors import JobDefinitionError, what_went_wrong
from election.schedule.commands import DescribeJob
from election.schedule.job_info import changed_descriptions
from election.schedule.jobs import Job, JobRegistry
from election.schedule.model import JobInfo, State
from election.schedule.stored import StoredJobLoader, to_store
from tests.schedule.making import make_job, state_of
from tests.schedule.stored_functions import remember


def with_words() -> None:
    """Send due reminders.

    And a detail for readers of the code.
    """


def without_words() -> None: ...


class Caller:
    """Function that the job calls."""

    def __call__(self) -> None: ...


@pytest.mark.parametrize(
    ("func", "description"),
    [
        (with_words, "Send due reminders."),
        (functools.partial(functools.partial(with_words)), "Send due reminders."),
        (without_words, None),
        (Caller(), "Function that the job calls."),
        (lambda: None, None),
    ],
)
def test_the_docstring_speaks_for_a_job_that_says_nothing(func: Callable[..., Any], description: str | None) -> None:
    assert make_job(func=func, seconds=1).description == description


def test_what_is_said_goes_before_the_docstring() -> None:
    job = make_job(
        func=with_words, seconds=1, name="bills", description=" Bills. ", tags=["billing", "größe", "billing"]
    )
    assert job.info == JobInfo("bills", "Bills.", ("billing", "größe"))
    assert make_job(func=with_words, seconds=1, description="").description is None


def test_what_is_not_said_is_as_apscheduler_has_it() -> None:
    assert make_job(func=without_words, seconds=1).info == JobInfo("without_words", None, ())


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"tags": "billing"}, r"tags is a list: tags=\['billing', 'nightly'\]; not 'billing'"),
        ({"tags": {"billing"}}, "tags is a list"),
        ({"tags": 7}, "tags is a list"),
        ({"tags": ["a b"]}, "'a b' is no tag: a tag is one word"),
        ({"tags": ["a,b"]}, "give several as a list"),
        ({"tags": [""]}, "'' is no tag"),
        ({"tags": ["x" * 51]}, "up to 50 characters"),
        ({"tags": ["a\x1b[31m"]}, "is no tag"),
        ({"tags": [["a"]]}, "is no tag"),
        ({"tags": [None]}, "None is no tag"),
        ({"tags": ["\ud800"]}, "is no tag"),
        ({"description": 7}, "description is text for people, not 7"),
        ({"description": "\ud800"}, "cannot be sent to anybody"),
        ({"name": "\ud800"}, "cannot be sent to anybody"),
        ({"description": "before\0after"}, "has a NUL"),
        ({"name": ""}, "name"),
        ({"name": 7}, "name"),
    ],
)
def test_what_cannot_be_shown_is_refused_with_the_way_out(arguments: dict[str, Any], words: str) -> None:
    """At registration, in every worker."""
    with pytest.raises(JobDefinitionError, match=rf"job 'job'.*{words}"):
        make_job(seconds=1, **arguments)


def test_a_stored_job_says_the_same_wherever_it_is_loaded() -> None:
    registry = JobRegistry({"timezone": "UTC"})
    arguments = {"name": "bills", "description": "Bills.", "tags": ("billing",)}
    schedule, stored = to_store(registry, remember, "interval", id="job", seconds=5, **arguments)
    assert stored.options == {**arguments, "tags": ["billing"]}
    state = state_of(make_job("interval", seconds=5), stored=stored)
    assert state.trigger == schedule
    assert StoredJobLoader(registry).load(state).info == JobInfo("bills", "Bills.", ("billing",))


# --- what the ledger is told -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("known", "told"),
    [
        pytest.param(JobInfo("one", "Words.", ("a",)), [], id="known"),
        pytest.param(None, ["job"], id="never told"),
        pytest.param(JobInfo("other", "Words.", ("a",)), ["job"], id="another name"),
        pytest.param(JobInfo("one", None, ("a",)), ["job"], id="another description"),
        pytest.param(JobInfo("one", "Words.", ()), ["job"], id="other tags"),
    ],
)
def test_the_ledger_is_told_of_what_changed_and_no_more(known: JobInfo | None, told: list[str]) -> None:
    job: Job = make_job(seconds=1, name="one", description="Words.", tags=["a"])
    entries = changed_descriptions({"job": job.info}, State([state_of(job, info=known)], [], []))
    assert entries == [DescribeJob(name, job.info) for name in told]


def test_the_ledger_is_told_of_a_job_that_it_has_never_seen() -> None:
    assert changed_descriptions({"new": JobInfo("new")}, State([], [], [])) == [DescribeJob("new", JobInfo("new"))]


def test_a_docstring_with_a_nul_is_described_without_it() -> None:
    """PostgreSQL stores none in JSON, and then no job of the pool could be found by its tag."""

    def split() -> None:
        """Split records at \0."""

    assert make_job(func=split, id="split", seconds=1).info.description == "Split records at \ufffd."
    assert what_went_wrong(ValueError("bad \0")) == "ValueError: bad \ufffd"
