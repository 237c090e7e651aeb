"""Name, description and tags of a job.

The code of the workers defines them, and the leader writes them to the ledger, for readers without that code (the
command line, a worker of another version). They are no part of the schedule: a change restarts no schedule.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

from election.core.callables import without_partial
from election.core.errors import JobDefinitionError

from .commands import DescribeJob
from .model import JobInfo, JobState, NewJob, State

MAX_TAG_LENGTH = 50
"""Characters of a tag: it is a word to search for, shown beside others in a narrow column."""


MAX_NAME_LENGTH = 255
MAX_DESCRIPTION_LENGTH = 4000
"""Characters of a description. The first line of a docstring is shortened to this length."""

MAX_NAMED = 5
"""Ids that a message names."""


def make_job_info(job_id: str, func: Callable[..., Any], name: str, description: object, tags: object) -> JobInfo:
    """Check name, description and tags of a job; the default description is the first line of the docstring.

    Raises ``JobDefinitionError`` with the way out.
    """
    if description is None:
        description = _first_line(func)
    elif not isinstance(description, str):
        raise JobDefinitionError(f"job {job_id!r}: description is text for people, not {description!r}")
    if isinstance(tags, str) or not isinstance(tags, Sequence):
        raise JobDefinitionError(f"job {job_id!r}: tags is a list: tags=['billing', 'nightly']; not {tags!r}")
    for tag in tags:
        if not _is_tag(tag):
            raise JobDefinitionError(
                f"job {job_id!r}: {tag!r} is no tag: a tag is one word of up to {MAX_TAG_LENGTH} characters, without"
                " spaces or commas; give several as a list: tags=['billing', 'nightly']"
            )
    if not isinstance(name, str) or len(name) > MAX_NAME_LENGTH:
        raise JobDefinitionError(f"job {job_id!r}: name is text of up to {MAX_NAME_LENGTH} characters")
    if len(description or "") > MAX_DESCRIPTION_LENGTH:
        raise JobDefinitionError(f"job {job_id!r}: description has more than {MAX_DESCRIPTION_LENGTH} characters")
    for text in (name, description or "", *tags):
        _check_text(job_id, text)
    return JobInfo(name, (description or "").strip() or None, tuple(dict.fromkeys(tags)))


def changed_descriptions(said: Mapping[str, JobInfo], state: State) -> list[DescribeJob]:
    """Return the commands that bring the descriptions in the ledger, by job id, in line with the code."""
    known = {found.id: found.info for found in state.jobs}
    return [DescribeJob(job_id, told) for job_id, told in said.items() if known.get(job_id) != told]


def new_description(job: NewJob, found: JobState | None) -> list[DescribeJob]:
    """Return the command that describes a job that is being added, so that it is found by its name and tags at once.

    found: the job that it replaces.
    """
    info = job.stored.info
    return [] if info is None or (found is not None and found.info == info) else [DescribeJob(job.id, info)]


def _first_line(func: Callable[..., Any]) -> str | None:
    words = (inspect.getdoc(without_partial(func)) or "").partition("\n")[0]
    return words[:MAX_DESCRIPTION_LENGTH].replace("\0", "\ufffd").encode(errors="replace").decode() or None


def _is_tag(tag: object) -> bool:
    return (
        isinstance(tag, str)
        and 0 < len(tag) <= MAX_TAG_LENGTH
        and tag.isprintable()
        and not any(letter == "," or letter.isspace() for letter in tag)
    )


def _check_text(job_id: str, text: str) -> None:
    if "\0" in text:
        raise JobDefinitionError(f"job {job_id!r}: {text!r} has a NUL, which not every ledger can store")
    try:
        text.encode()
    except UnicodeEncodeError as error:  # it would break every answer that contains it
        raise JobDefinitionError(f"job {job_id!r}: {text!r} cannot be sent to anybody: {error.reason}") from error


def name_few(job_ids: Collection[str]) -> str:
    """The first ids, quoted and in order, and how many more there are."""
    more = f" and {len(job_ids) - MAX_NAMED} more" if len(job_ids) > MAX_NAMED else ""
    return ", ".join(map(repr, sorted(job_ids)[:MAX_NAMED])) + more
