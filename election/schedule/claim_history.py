"""Claims of a pool's whole history in compact arrays, as ``verify`` judges them."""

from __future__ import annotations

from array import array
from bisect import bisect_left, bisect_right
from collections import Counter
from collections.abc import Container, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from itertools import accumulate, groupby

from election.core.clock import EPOCH

from .history import ClaimRow

_MICROSECOND = timedelta(microseconds=1)


class Settlement:
    """Runs and skips of one job's schedule.

    Args:
        runs: Sorted due times of its runs, in microseconds since the epoch.
        skips: First and last due time of each skip.
    """

    def __init__(self, runs: Sequence[int], skips: Sequence[tuple[datetime, datetime]]) -> None:
        self._runs = runs
        ranges = sorted((_us(first), _us(last)) for first, last in skips)
        self._begins = [first for first, _ in ranges]
        self._ends = list(accumulate((last for _, last in ranges), max))

    def covers(self, due: datetime, jitter: timedelta) -> bool:
        """Whether the tick has a run, up to ``jitter`` later, or lies within a skip."""
        first = _us(due)
        last = first + jitter // _MICROSECOND
        at = bisect_left(self._runs, first)
        if at < len(self._runs) and self._runs[at] <= last:
            return True
        begun = bisect_right(self._begins, last)
        return begun > 0 and self._ends[begun - 1] >= first


@dataclass(slots=True)
class _Executions:
    """When the code of one job ran in one term, in microseconds of the leader's monotonic clock."""

    began: array[int] = field(default_factory=lambda: array("q"))
    ended: array[int] = field(default_factory=lambda: array("q"))
    limit: int = 0

    def most_at_once(self) -> int:
        """Largest number of executions at one instant; one that ends as another begins is no overlap."""
        steps = sorted([*((began, 1) for began in self.began), *((ended, -1) for ended in self.ended)])
        return max(accumulate(step for _, step in steps), default=0)


class ClaimHistory:
    """Claims of a pool, added latest first; some forty bytes for each."""

    def __init__(self) -> None:
        self._seqs, self._terms, self._first_terms = array("q"), array("q"), array("q")
        self._dues: dict[str, array[int]] = {}
        self._requests: list[tuple[str, datetime, int]] = []
        self._executions: dict[tuple[str, int], _Executions] = {}

    def add(self, claim: ClaimRow) -> None:
        """Add the next claim."""
        self._seqs.append(claim.seq)
        self._terms.append(claim.term)
        self._first_terms.append(claim.first_term)
        if claim.request:
            self._requests.append((claim.job_id, claim.due, claim.request))
        else:
            self._dues.setdefault(claim.job_id, array("q")).append(_us(claim.due))
        if claim.span is not None and claim.max_instances is not None:
            executions = self._executions.setdefault((claim.job_id, claim.term), _Executions())
            executions.began.append(claim.span.began_us)
            executions.ended.append(claim.span.ended_us)
            executions.limit = max(executions.limit, claim.max_instances)

    def dues(self, job_id: str) -> Sequence[int]:
        """Sorted due times of the runs of a job's schedule, in microseconds since the epoch."""
        return sorted(self._dues.get(job_id, ()))

    def late(self) -> Iterator[int]:
        """Numbers of the claims that were granted to a term after a later term had claimed."""
        latest = 0
        for seq, term in zip(reversed(self._seqs), reversed(self._first_terms), strict=True):
            if term < latest:
                yield seq
            latest = max(latest, term)

    def homeless(self, begun: Container[int]) -> list[int]:
        """Numbers of the claims of terms that are not in ``begun``."""
        unknown = {term for term in set(self._terms) if term not in begun}
        return [seq for seq, term in zip(self._seqs, self._terms, strict=True) if term in unknown] if unknown else []

    def repeated(self) -> Iterator[tuple[str, datetime, int]]:
        """Job, due time and number of claims of each tick, and of each request, that was claimed more than once."""
        for job_id in self._dues:
            for due, group in groupby(self.dues(job_id)):
                if (times := len(list(group))) > 1:
                    yield job_id, EPOCH + due * _MICROSECOND, times
        for (job_id, asked, _), times in Counter(self._requests).items():
            if times > 1:
                yield job_id, asked, times

    def overlaps(self) -> Iterator[tuple[str, int, int, int]]:
        """Job, term, executions at one instant and ``max_instances``, where they were more than that allows."""
        for (job_id, term), executions in self._executions.items():
            if (most := executions.most_at_once()) > executions.limit:
                yield job_id, term, most, executions.limit


def _us(moment: datetime) -> int:
    return (moment - EPOCH) // _MICROSECOND
