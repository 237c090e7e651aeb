"""The order of tests for pytest-xdist."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from .tiers import deal


@pytest.mark.parametrize("count", [1, 2, 3, 4, 7])
@pytest.mark.parametrize(("size", "every"), [(0, 1), (5, 2), (100, 1), (100, 7), (101, 1000), (3304, 6)])
def test_every_share_begins_with_as_many_long_tests(size: int, every: int, count: int) -> None:
    def rank(item: int) -> int:
        return 1 if item % every == 0 else 2

    dealt = deal(range(size), count, rank=rank)
    assert sorted(dealt) == list(range(size)), "none is lost and none is doubled"
    for share in check_shares(dealt, count, rank):
        assert len(share) in {size // count, size // count + 1}


@pytest.mark.parametrize("count", [1, 2, 6])
@pytest.mark.parametrize("size", [0, 1, 5, 100, 5160])
def test_and_first_of_all_with_the_longest(size: int, count: int) -> None:
    def rank(item: int) -> int:
        return 0 if item % 100 == 3 else 1 if item % 7 == 0 else 2

    dealt = deal(range(size), count, rank=rank)
    assert sorted(dealt) == list(range(size))
    check_shares(dealt, count, rank)


def check_shares(dealt: list[int], count: int, rank: Callable[[int], int]) -> list[list[int]]:
    """Check that each contiguous share is in order of ranks, and has as many of each as the others; returns them."""
    size = len(dealt)
    shares = [dealt[share * size // count : (share + 1) * size // count] for share in range(count)]
    for share in shares:
        assert share == sorted(share, key=lambda item: (rank(item), item)), "the long ones come first"
    for each in (0, 1):
        lengths = [sum(rank(item) == each for item in share) for share in shares]
        assert max(lengths) - min(lengths) <= 1
    return shares
