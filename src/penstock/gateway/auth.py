"""Who is calling, and whether they may: the one place where credentials are looked at."""

from __future__ import annotations

import ipaddress
from functools import lru_cache
from typing import Final, Protocol
from urllib.parse import urlsplit

from penstock.errors import Forbidden, Unauthenticated
from penstock.identity import Keyring, Principal

from .call import Call
from .endpoint import WORKER, Endpoint

__all__ = ["EVERYTHING", "SCOPES", "Gate", "OpenGate"]

SCOPES: Final = frozenset(
    [
        "jobs:submit",
        "jobs:read",
        "jobs:cancel",
        "apps:read",
        "apps:write",
        "admin:workers",
        "admin:tenants",
        "admin:keys",
        "audit:read",
    ]
)
EVERYTHING: Final = Principal(tenant="default", subject="anonymous", scopes=SCOPES)
"""Who everybody is while authentication is off."""

_BEARER: Final = b"Bearer "
_OWN_SITES: Final = (None, b"same-origin", b"none")


class Gate(Protocol):
    """Decides who passes. It says who calls (`call.principal` or `call.worker`), or refuses."""

    async def admit(self, call: Call, endpoint: Endpoint) -> None:
        """Let a call pass to an endpoint. Raises `Unauthenticated` and `Forbidden`."""
        ...


class OpenGate:
    """Authentication off, for a server on a loopback address: whoever can reach it may do everything.

    So that no web page can reach it through its reader's browser, the Host must be a loopback name (a DNS name that
    was bound anew has another) and a request that a browser marks as another site's is refused. Workers show their
    token here too.
    """

    def __init__(self, keyring: Keyring) -> None:
        self._keyring = keyring

    async def admit(self, call: Call, endpoint: Endpoint) -> None:
        """Let a local call pass. Raises `Unauthenticated` and `Forbidden`."""
        _refuse_foreign(call.headers)
        if endpoint.scope == WORKER:
            call.worker = self._keyring.verify_worker(bearer(call))
        else:
            call.principal = EVERYTHING


def bearer(call: Call) -> str:
    """Give the token of the Authorization header. Raises `Unauthenticated` if there is none."""
    value = call.headers.get(b"authorization", b"")
    if not value.startswith(_BEARER):
        raise Unauthenticated("send the worker's token: Authorization: Bearer ...")
    return value[len(_BEARER) :].decode("latin-1")


def _refuse_foreign(headers: dict[bytes, bytes]) -> None:
    host = headers.get(b"host", b"")
    if not _is_loopback(host):
        raise Forbidden("authentication is off, so only loopback names are served: use localhost or 127.0.0.1")
    origin = headers.get(b"origin")
    if origin is not None and not _same_origin(origin, host):
        raise Forbidden("authentication is off, so requests from other origins are refused")
    if headers.get(b"sec-fetch-site") not in _OWN_SITES:
        raise Forbidden("authentication is off, so requests from other sites are refused")


def _same_origin(origin: bytes, host: bytes) -> bool:
    scheme, _, authority = origin.partition(b"://")
    return scheme in (b"http", b"https") and authority.lower() == host.lower()


@lru_cache(maxsize=1024)
def _is_loopback(host: bytes) -> bool:
    try:
        name = urlsplit("//" + host.decode("ascii")).hostname or ""
        return name == "localhost" or name.endswith(".localhost") or ipaddress.ip_address(name).is_loopback
    except ValueError:
        return False
