"""Which requests are carried out, and the ends of the others."""

from __future__ import annotations

import pytest

from election.schedule.commands import CompleteRequest
from election.schedule.model import Action, Copied, JobState, Request, RequestOutcome, State
from election.schedule.requests import MAX_AGE, sort_requests
from tests.schedule.making import NOW, at

MINUTES = MAX_AGE.total_seconds()
BROKEN = JobState("broken", {}, NOW, NOW, broken="app:gone cannot be imported")


def _sort(
    action: Action, job_id: str | None, term: int | None, age: float
) -> tuple[list[CompleteRequest], list[Request]]:
    request = Request(1, action, job_id, term, NOW)
    return sort_requests(State([BROKEN], [request], []), {"job"}, {"pending"}, term=7, now=at(age))


@pytest.mark.parametrize(
    ("action", "job_id", "term", "age", "outcome", "reason", "is_carried_out"),
    [
        (Action.RUN, "job", None, 1, None, None, True),
        (Action.RUN, "job", None, MINUTES, None, None, True),
        (Action.RUN, "job", None, MINUTES + 1, "expired", "no leader read it within 10 minutes", False),
        (Action.RUN, "pending", None, 1, None, None, False),
        (Action.RUN, "pending", None, MINUTES + 1, "expired", "no leader read it within 10 minutes", False),
        (Action.RUN, "gone", None, 1, "refused", "there is no job 'gone' any more", False),
        (Action.RUN, "broken", None, 1, "refused", "app:gone cannot be imported", False),
        (Action.RESIGN, None, 7, 1, "resigned", None, True),
        (Action.RESIGN, None, 6, 1, "refused", "term 6 was over", False),
        (Action.RESIGN, None, 7, MINUTES + 1, "expired", "no leader read it within 10 minutes", False),
    ],
)
def test_requests(
    action: Action,
    job_id: str | None,
    term: int | None,
    age: float,
    outcome: str | None,
    reason: str | None,
    is_carried_out: bool,
) -> None:
    completed, wanted = _sort(action, job_id, term, age)
    expected = [] if outcome is None else [CompleteRequest(1, at(age), RequestOutcome(outcome), reason)]
    assert completed == expected
    assert [request.id for request in wanted] == ([1] if is_carried_out else [])


def test_a_request_to_the_original_is_not_carried_out_in_a_copy() -> None:
    earlier, later = Request(1, Action.RUN, "job", None, NOW), Request(2, Action.RUN, "job", None, at(2))
    state = State([], [earlier, later], [], Copied(at(1), 7))
    completed, wanted = sort_requests(state, {"job"}, (), term=7, now=at(3))
    assert wanted == [later]
    reason = "the request was made in the ledger of which this one is a copy"
    assert completed == [CompleteRequest(1, at(3), RequestOutcome.REFUSED, reason)]
