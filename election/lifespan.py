"""Taking part in a pool for as long as an ASGI application lives."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any

ExistingLifespan = Callable[[Any], AbstractAsyncContextManager[Any]]


class Lifespan:
    """The lifespan of an application that takes part in a pool: ``FastAPI(lifespan=election.lifespan)``.

    ``election.lifespan.inside(existing)`` opens the election within a lifespan that the application has already, so
    that jobs find what that one provides, and have ended before it is taken away.
    """

    def __init__(self, election: AbstractAsyncContextManager[Any]) -> None:
        self._election = election

    @asynccontextmanager
    async def __call__(self, app: Any) -> AsyncIterator[None]:
        async with self._election:
            yield

    def inside(self, existing: ExistingLifespan) -> ExistingLifespan:
        """A lifespan that is ``existing`` with the election running inside; what ``existing`` yields is passed on."""

        @asynccontextmanager
        async def both(app: Any) -> AsyncIterator[Any]:
            async with existing(app) as state, self._election:
                yield state

        return both
