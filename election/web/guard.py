"""Authorization of changes: a token, a rate limit, and no requests from other sites.

The token comes in a header, which no form can send; a request that says that it comes from another site is refused all
the same.
"""

from __future__ import annotations

import hmac
import math
import os
from collections.abc import Awaitable, Callable
from typing import Annotated
from urllib.parse import urlsplit

from fastapi import Depends, HTTPException, Request
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer

from election.core.clock import Clock
from election.core.errors import ConfigurationError

from .rate_limit import RateLimit

MIN_TOKEN_LENGTH = 16
"""Characters of a token; a shorter one could be guessed."""

MAX_FAILURES_PER_MINUTE = 10
"""Wrong tokens a minute from one address, until it has to wait; a right one is never refused for that."""

MAX_CHANGES_PER_MINUTE = 120
"""Changes a minute that one worker accepts."""

_bearer = HTTPBearer(auto_error=False, scheme_name="admin token", description="what $ELECTION_ADMIN_TOKEN holds")


def check_token(token: str) -> None:
    """Raises ``ConfigurationError`` for a token that could be guessed."""
    if len(token) < MIN_TOKEN_LENGTH:
        raise ConfigurationError(
            f"$ELECTION_ADMIN_TOKEN has {len(token)} characters, and could be guessed: give it at least"
            f" {MIN_TOKEN_LENGTH} (python -c 'import secrets; print(secrets.token_urlsafe())'), or unset it"
        )


def guarded_by(token: str, clock: Clock) -> Callable[..., Awaitable[None]]:
    """A dependency that lets pass who may change something. Raises 401, 403 and 429 otherwise."""
    failures, changes = (
        RateLimit(times, per=60, clock=clock.monotonic) for times in (MAX_FAILURES_PER_MINUTE, MAX_CHANGES_PER_MINUTE)
    )

    async def authorized(
        request: Request, given: Annotated[HTTPAuthorizationCredentials | None, Depends(_bearer)]
    ) -> None:
        if is_cross_site(request.headers.get("Sec-Fetch-Site"), request.headers.get("Origin"), request.url.netloc):
            raise HTTPException(403, "requests from other sites are refused")
        # Headers are read as latin-1 and the environment as the filesystem's encoding: the bytes are what was meant.
        if given is None or not hmac.compare_digest(given.credentials.encode("latin-1"), os.fsencode(token)):
            _refuse_too_many(failures.take(request.client.host if request.client else ""))
            raise HTTPException(401, "the admin token is missing or wrong", {"WWW-Authenticate": "Bearer"})
        _refuse_too_many(changes.take())

    return authorized


def is_cross_site(fetch_site: str | None, origin: str | None, host: str) -> bool:
    """Whether a browser says that a page of another site has sent this.

    ``Sec-Fetch-Site`` is what the browser itself has found, and a proxy that changes ``Host`` does not change it;
    browsers that are too old to send it send an ``Origin``.
    """
    if fetch_site is not None:
        return fetch_site not in {"same-origin", "none"}
    return origin is not None and urlsplit(origin).netloc != host


def _refuse_too_many(wait: float | None) -> None:
    if wait is not None:
        raise HTTPException(429, "too many requests", {"Retry-After": str(math.ceil(wait))})
