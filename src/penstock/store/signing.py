"""URLs of our own for stores that can't sign: one object, one verb, one size limit, for minutes.

    {public_url}/files/{key, quoted}?exp=1700000060&m=PUT&len=123&sig=...

`len` is the exact size of a PUT and `max` its limit, `new=1` permits only the creation of an absent object. `sig` is
HMAC-SHA256 over a line per field; no field that we sign holds a line break, so one that does never matches.
"""

from __future__ import annotations

import base64
import hmac
import math
from collections.abc import Mapping, Sequence
from typing import Final
from urllib.parse import quote, urlencode

import msgspec

from penstock.errors import Forbidden, Gone, Misconfigured
from penstock.model.ids import Clock

from . import keys
from .driver import SignedUrl

__all__ = ["FILES", "Grant", "Permission", "Signer"]

FILES: Final = "/files/"
_PURPOSE: Final = "penstock-files-1"  # the secret may serve other ends: a signature made there must not hold here
_FIELDS: Final = ("exp", "m", "len", "max", "new")
_MIN_SECRET_BYTES: Final = 16


class Grant(msgspec.Struct, frozen=True, kw_only=True):
    """What a URL shall permit: a verb on a key; for PUT its exact size, or its limit, and whether only to create."""

    method: str
    key: str
    size: int | None = None
    max_bytes: int | None = None
    create: bool = False


class Permission(Grant, frozen=True, kw_only=True):
    """What a verified URL permits. A HEAD counts as the GET that it is part of."""

    expires_at: float


class Signer:
    """Makes and verifies URLs under `public_url`. The first secret signs; all are honoured, so they rotate."""

    def __init__(self, public_url: str, secrets: Sequence[bytes], clock: Clock) -> None:
        if not secrets or any(len(secret) < _MIN_SECRET_BYTES for secret in secrets):
            raise Misconfigured(f"file URLs need a secret of at least {_MIN_SECRET_BYTES} bytes")
        self._base = public_url.rstrip("/") + FILES
        self._secrets = tuple(secrets)
        self._clock = clock

    def url(self, grant: Grant, expires_s: float) -> SignedUrl:
        """Give a URL that permits this for `expires_s` seconds."""
        expires_at = math.ceil(self._clock.now() + expires_s)
        fields = {"exp": str(expires_at), "m": grant.method}
        if grant.size is not None:
            fields["len"] = str(grant.size)
        elif grant.max_bytes is not None:
            fields["max"] = str(grant.max_bytes)
        if grant.create:
            fields["new"] = "1"
        fields["sig"] = _signature(self._secrets[0], grant.key, fields)
        return SignedUrl(
            f"{self._base}{quote(grant.key)}?{urlencode(fields)}",
            grant.method,
            headers_of(grant.size, create=grant.create),
            float(expires_at),
        )

    def verify(self, method: str, key: str, query: Mapping[str, str]) -> Permission:
        """Give what a URL permits, from its verb, its unquoted key and its query.

        Raises:
            Forbidden: the signature does not hold, or is another verb's or key's.
            Gone: it held, and its time is over.
        """
        given = query.get("sig", "").encode(errors="replace")
        matches = [hmac.compare_digest(_signature(secret, key, query).encode(), given) for secret in self._secrets]
        if not any(matches):
            raise Forbidden("this file URL's signature does not hold; ask for a fresh URL")
        permission = _permission(key, query)
        if permission.method != ("GET" if method == "HEAD" else method):
            raise Forbidden(f"this file URL permits {permission.method}, not {method}")
        if self._clock.now() >= permission.expires_at:
            raise Gone("this file URL has expired; ask for a fresh one")
        return permission


def headers_of(size: int | None, *, create: bool) -> dict[str, str]:
    """Give the headers that must go with a PUT of this exact size, or one that must not replace."""
    headers = {} if size is None else {"Content-Length": str(size)}
    return headers | {"If-None-Match": "*"} if create else headers


def _permission(key: str, query: Mapping[str, str]) -> Permission:
    """Read the fields of a query whose signature holds, so they are as we wrote them."""
    return Permission(
        method=query["m"],
        key=keys.checked(key),
        size=int(query["len"]) if query.get("len") else None,
        max_bytes=int(query["max"]) if query.get("max") else None,
        create=bool(query.get("new")),
        expires_at=float(query["exp"]),
    )


def _signature(secret: bytes, key: str, query: Mapping[str, str]) -> str:
    text = "\n".join((_PURPOSE, key, *(query.get(name, "") for name in _FIELDS)))
    digest = hmac.digest(secret, text.encode(errors="replace"), "sha256")
    return base64.urlsafe_b64encode(digest).rstrip(b"=").decode()
