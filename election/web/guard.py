"""Protection of the routes: cross-site requests are refused, and changes need a token, or what the application requires
in its place, and have a rate limit.

The token comes in a header, which no form can send; a request that is marked as cross-site is refused all the same. A
page of another site cannot read the answers of a worker on its visitor's machine, unless its host name is resolved to
that machine (DNS rebinding), and then the request has that host name. Jupyter Server's ``allow_remote_access`` is the
source of the check of host names.
"""

from __future__ import annotations

import hmac
import ipaddress
import math
import os
import socket
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Collection
from typing import Annotated, Any
from urllib.parse import urlsplit

from fastapi import Depends, Header, HTTPException, Request
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer

from election.core.clock import Clock
from election.core.errors import ConfigurationError
from election.schedule.audit import identify

from .models import Problem
from .view import PoolView

MIN_TOKEN_LENGTH = 16
"""Characters of a token; a shorter one could be guessed."""

MAX_FAILURES_PER_MINUTE = 10
"""Wrong tokens a minute from one address before it has to wait; a right token is never refused for that."""

MAX_CHANGES_PER_MINUTE = 120
"""Changes a minute that one worker accepts."""

MAX_KEYS = 1024
"""Addresses whose failures are counted; the one that failed least recently makes room for a new one."""

ANY_HOST = "*"

BY_TOKEN, BY_APPLICATION = "token", "application"
"""Identities of changes where no name is known: by the token, or accepted by the application without a name."""

CONTROL_HEADER = "X-Election-Control"
"""Header of changes under the application's authentication."""

_bearer = HTTPBearer(auto_error=False, scheme_name="admin token", description="what $ELECTION_ADMIN_TOKEN holds")


def build_leader_only(view: PoolView, is_leader: Callable[[], bool]) -> Callable[[], Awaitable[None]]:
    """Return a dependency that lets only the leader answer: 421 with the leader from others, 503 without a leader."""

    async def leader_only() -> None:
        if is_leader():
            return
        document = await view.document()
        leader = document.leader
        if leader is None or (leader.pid, leader.host) == (os.getpid(), socket.gethostname()):
            # This worker is about to lead, or leads no longer.
            raise HTTPException(503, document.problem or "nobody is known to lead", headers={"Retry-After": "1"})
        detail = {
            "message": f"pid {leader.pid} on {leader.host} leads, and only the leader answers this",
            "leader": leader.model_dump(mode="json", include={"pid", "host", "term"}),
        }
        raise HTTPException(421, detail)

    return leader_only


def check_allowed_hosts(allowed: Collection[str]) -> tuple[str, ...]:
    """Return the host names. Raises ``ConfigurationError`` if ``allowed`` is no collection of host names."""
    if isinstance(allowed, str) or not isinstance(allowed, Collection):
        raise ConfigurationError(f"allowed_hosts is a list of host names: [{allowed!r}]")
    for host in allowed:
        if not isinstance(host, str) or (host != ANY_HOST and _name(host) != host.lower()):
            raise ConfigurationError(f"allowed_hosts has {host!r}: a host name alone, without scheme, port and path")
    return tuple(allowed)


def only_known_hosts(allowed: Collection[str]) -> dict[str, Any]:
    """Return arguments of a router that answers 421 to a request over loopback with a foreign host name.

    Args:
        allowed: Host names beside localhost, this machine's own and addresses; ``*`` for any.
    """
    known = {host.lower() for host in allowed} | {"localhost", socket.gethostname().lower()}

    async def checked(request: Request) -> None:
        host = request.headers.get("host")
        if host is None or ANY_HOST in known or not _is_loopback(request):
            return
        name = _name(host)
        if name is None or not (name in known or name.endswith(".localhost") or _is_address(name)):
            raise HTTPException(
                421,
                f"over a loopback address this worker accepts localhost and IP addresses as the host, and not {host!r}:"
                " behind a proxy that keeps the host name, add it to Election(allowed_hosts=[…])",
            )

    refused = {"model": Problem, "description": "The host name is not one of this worker"}
    return {"dependencies": [Depends(checked)], "responses": {421: refused}}


def _is_loopback(request: Request) -> bool:
    """Whether the request came in over a loopback address; a Unix socket has no address, and no browser uses one."""
    address, _ = request.scope.get("server") or (None, None)
    return address is not None and _is_address(address) and ipaddress.ip_address(address).is_loopback


def _is_address(text: str) -> bool:
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return True


def _name(host: str) -> str | None:
    """Return the name in a Host header in lower case; None if the header cannot be parsed."""
    try:
        return urlsplit(f"//{host}").hostname
    except ValueError:
        return None


def check_token(token: str) -> None:
    """Raise ``ConfigurationError`` for a token that could be guessed."""
    if len(token) < MIN_TOKEN_LENGTH:
        raise ConfigurationError(
            f"$ELECTION_ADMIN_TOKEN has {len(token)} characters, and could be guessed: give it at least"
            f" {MIN_TOKEN_LENGTH} (python -c 'import secrets; print(secrets.token_urlsafe())'), or unset it"
        )


def check_dependency(name: str, dependency: object) -> None:
    """Raise ``ConfigurationError`` for a dependency that is neither None nor a function."""
    if dependency is not None and not callable(dependency):
        raise ConfigurationError(
            f"{name} is a dependency function, {name}=admin, not {dependency!r}: leave Depends out"
        )


def guarded_by_token(token: str, clock: Clock) -> Callable[..., Awaitable[str]]:
    """Return a dependency that accepts authorized changes only, and returns the identity to record.

    Raises 401, 403 and 429 otherwise.
    """
    failures, changes = (
        RateLimit(times, per=60, clock=clock.monotonic) for times in (MAX_FAILURES_PER_MINUTE, MAX_CHANGES_PER_MINUTE)
    )

    async def authorized(
        request: Request, given: Annotated[HTTPAuthorizationCredentials | None, Depends(_bearer)]
    ) -> str:
        _refuse_cross_site(request)
        # Headers are read as latin-1 and the environment as the filesystem's encoding: compare the bytes.
        if given is None or not hmac.compare_digest(given.credentials.encode("latin-1"), os.fsencode(token)):
            _refuse_too_many(failures.take(request.client.host if request.client else ""))
            raise HTTPException(401, "the admin token is missing or wrong", {"WWW-Authenticate": "Bearer"})
        _refuse_too_many(changes.take())
        return BY_TOKEN

    return authorized


def guarded_by_application(control: Callable[..., Any], clock: Clock) -> Callable[..., Awaitable[str]]:
    """Return a dependency that accepts changes that the application's ``control`` accepts, and returns the identity.

    Cookies come with requests of forms of other sites, too, so a header is required that no form can send: a script of
    another site needs a permission of this one for it (CORS). Raises 403 and 429, and what ``control`` raises.
    """
    changes = RateLimit(MAX_CHANGES_PER_MINUTE, per=60, clock=clock.monotonic)

    async def from_this_site(
        request: Request,
        marked: Annotated[
            str | None, Header(alias=CONTROL_HEADER, description="any value; a form of another site cannot send it")
        ] = None,
    ) -> None:
        _refuse_cross_site(request)
        if marked is None:
            raise HTTPException(403, f"a change needs the header {CONTROL_HEADER}, with any value: {CONTROL_HEADER}: 1")

    same_site, given = Depends(from_this_site), Depends(control)

    async def authorized(_: None = same_site, found: Any = given) -> str:
        _refuse_too_many(changes.take())
        if found is None:
            return BY_APPLICATION
        if not isinstance(found, str):
            raise ConfigurationError(
                f"the dependency for control returned a {type(found).__qualname__}: return the name to record, as text,"
                " or None"
            )
        try:
            return identify(found)
        except ConfigurationError as error:
            raise HTTPException(403, str(error)) from error

    return authorized


def _refuse_cross_site(request: Request) -> None:
    if is_cross_site(request.headers.get("Sec-Fetch-Site"), request.headers.get("Origin"), request.url.netloc):
        raise HTTPException(403, "requests from other sites are refused")


def is_cross_site(fetch_site: str | None, origin: str | None, host: str) -> bool:
    """Whether a browser marks the request as sent by a page of another site.

    The browser itself sets ``Sec-Fetch-Site``, and a proxy that changes ``Host`` does not change that header; browsers
    that are too old to send it send an ``Origin``.
    """
    if fetch_site is not None:
        return fetch_site not in {"same-origin", "none"}
    return origin is not None and urlsplit(origin).netloc != host


def _refuse_too_many(wait: float | None) -> None:
    if wait is not None:
        raise HTTPException(429, "too many requests", {"Retry-After": str(math.ceil(wait))})


class RateLimit:
    """Token bucket for each key: ``times`` at once, and as many again within each ``per`` seconds.

    clock: gives monotonic seconds.
    """

    def __init__(self, times: int, *, per: float, clock: Callable[[], float]) -> None:
        self._times = times
        self._rate = times / per
        self._clock = clock
        self._buckets: OrderedDict[str, tuple[float, float]] = OrderedDict()

    def take(self, key: str = "") -> float | None:
        """Take one token. Returns None if there was one, else the seconds until the next."""
        now = self._clock()
        left, since = self._buckets.pop(key, (float(self._times), now))
        left = min(float(self._times), left + (now - since) * self._rate)
        allowed = left >= 1
        self._buckets[key] = (left - allowed, now)
        if len(self._buckets) > MAX_KEYS:
            self._buckets.popitem(last=False)
        return None if allowed else (1 - left) / self._rate
