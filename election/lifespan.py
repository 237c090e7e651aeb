"""Taking part in a pool for as long as an ASGI application lives."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any

from election.core.events import named

from .core.logs import log

ExistingLifespan = Callable[[Any], AbstractAsyncContextManager[Any]]


class Lifespan:
    """The lifespan of an application that takes part in a pool: ``FastAPI(lifespan=election.lifespan)``.

    ``election.lifespan.inside(existing)`` opens the election within a lifespan that the application has already, so
    that jobs can use the resources of that lifespan, and have ended before it closes them.
    """

    def __init__(self, election: AbstractAsyncContextManager[Any], use: Callable[[Any], None] = lambda _: None) -> None:
        self._election = election
        self._use = use

    @asynccontextmanager
    async def __call__(self, app: Any) -> AsyncIterator[None]:
        _warn_of_handlers(app)
        self._use(app)
        async with self._election:
            yield

    def inside(self, existing: ExistingLifespan) -> ExistingLifespan:
        """Return ``existing`` with the election running inside; the value that ``existing`` yields is passed on."""

        @asynccontextmanager
        async def both(app: Any) -> AsyncIterator[Any]:
            if type(existing).__name__ != "_DefaultLifespan":  # Starlette's own, which calls the handlers
                _warn_of_handlers(app)
            self._use(app)
            async with existing(app) as state, self._election:
                yield state

        return both


def _warn_of_handlers(app: Any) -> None:
    """Warn of handlers that an application with a lifespan does not call."""
    router = getattr(app, "router", None)
    handlers = [*getattr(router, "on_startup", ()), *getattr(router, "on_shutdown", ())]
    if handlers:
        log.warning(
            "these handlers of @app.on_event are not called, because an application with lifespan=… ignores them: %s;"
            " move what they do into a lifespan of yours, and pass lifespan=election.lifespan.inside(yours)",
            ", ".join(getattr(handler, "__qualname__", repr(handler)) for handler in handlers),
            extra=named("handlers_ignored"),
        )
