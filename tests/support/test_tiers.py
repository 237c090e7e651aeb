"""The order of tests for pytest-xdist."""

from __future__ import annotations

import pytest

from .tiers import deal


@pytest.mark.parametrize("count", [1, 2, 3, 4, 7])
@pytest.mark.parametrize(("size", "every"), [(0, 1), (5, 2), (100, 1), (100, 7), (101, 1000), (3304, 6)])
def test_every_share_begins_with_as_many_long_tests(size: int, every: int, count: int) -> None:
    def long(item: int) -> bool:
        return item % every == 0

    dealt = deal(range(size), count, long=long)
    assert sorted(dealt) == list(range(size)), "none is lost and none is doubled"
    shares = [dealt[share * size // count : (share + 1) * size // count] for share in range(count)]
    lengths = [sum(map(long, share)) for share in shares]
    assert max(lengths) - min(lengths) <= 1
    for share, length in zip(shares, lengths, strict=True):
        assert all(map(long, share[:length])), "the long ones come first"
        assert share[:length] == sorted(share[:length])
        assert share[length:] == sorted(share[length:])
