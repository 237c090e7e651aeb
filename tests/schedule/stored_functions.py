"""Functions that the tests of stored jobs refer to by name."""

from __future__ import annotations

CALLS: list[object] = []


def remember(value: object = None) -> None:
    CALLS.append(value)


async def remember_soon(value: object = None) -> None:
    CALLS.append(value)


async def raise_error() -> None:
    raise ValueError("it cannot be done")


class FakeStore:
    @staticmethod
    def put(value: object = None) -> None:
        CALLS.append(value)

    def take(self) -> None: ...


class Store:
    @classmethod
    def count(cls) -> None: ...


class SmallStore(Store):
    pass


a_lambda = lambda: None  # noqa: E731

NOT_CALLABLE = 42


def keep_quiet(password: str) -> None:
    """A job with secret arguments."""
