"""What a handler is given: one request, who makes it, and the services that may answer it."""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING, Final, TypeVar
from urllib.parse import parse_qsl

import msgspec

from penstock.errors import Invalid, Malformed
from penstock.identity import Principal, WorkerClaims
from penstock.model import shape

from .asgi import HeaderPair, Receive, Scope

if TYPE_CHECKING:
    from .meters import Meters
    from .services import Services

__all__ = ["Call"]

T = TypeVar("T", bound=msgspec.Struct)

_NOBODY: Final = Principal(tenant="", subject="")
_NO_WORKER: Final = WorkerClaims(uid="", app="")
_MOST_FIELDS: Final = 100


class Call:
    """One request. Bodies are read by `body`, never here."""

    __slots__ = (
        "headers",
        "meters",
        "method",
        "params",
        "path",
        "principal",
        "receive",
        "request_id",
        "scope",
        "services",
        "worker",
    )

    def __init__(self, scope: Scope, receive: Receive, services: Services, meters: Meters) -> None:
        pairs: list[HeaderPair] = scope["headers"]
        headers = dict(pairs)
        self.headers = headers if len(headers) == len(pairs) else _joined(pairs)
        self.method: str = scope["method"]
        self.path: str = scope["path"]
        self.scope = scope
        self.receive = receive
        self.services = services
        self.meters = meters
        self.params: dict[str, str] = {}
        self.principal = _NOBODY
        self.worker = _NO_WORKER
        self.request_id = b""

    def text(self, name: bytes) -> str | None:
        """Give a header's value as text, or None if there is none."""
        value = self.headers.get(name)
        return None if value is None else value.decode("latin-1")

    @property
    def tenant(self) -> str:
        """Whose runs this call sees."""
        return self.principal.tenant

    def plain_query(self) -> dict[str, str]:
        """Give the query's fields. Raises `Malformed` for a field that stands there twice, or too many."""
        raw: bytes = self.scope["query_string"]
        if not raw:
            return {}
        try:
            pairs = parse_qsl(raw.decode("ascii"), keep_blank_values=True, errors="strict", max_num_fields=_MOST_FIELDS)
        except ValueError as error:
            raise Malformed(
                "the query can't be read: it must be percent-encoded UTF-8 of at most 100 fields"
            ) from error
        fields = dict(pairs)
        if len(fields) != len(pairs):
            raise Malformed("the query names a field twice")
        return fields

    def query(self, kind: type[T]) -> T:
        """Give the query as a record. Raises `Invalid`, naming each field that is unknown or wrong."""
        fields = self.plain_query()
        try:
            wanted = msgspec.convert({k: v for k, v in fields.items() if v != ""}, kind, strict=False)
        except msgspec.ValidationError as error:
            raise Invalid(f"the query is wrong: {error}") from error
        if unknown := fields.keys() - _known(kind):
            name = min(unknown)
            raise Invalid(f"the query's field {name[:40]!r} is unknown{shape.meant(name, _known(kind))}")
        return wanted

    def url(self, path: str) -> str:
        """Give the absolute URL of a path of this API, as seen from outside."""
        return self.services.settings.public_url + path


@lru_cache(maxsize=64)
def _known(kind: type[msgspec.Struct]) -> frozenset[str]:
    return frozenset(kind.__struct_encode_fields__)


def _joined(pairs: list[HeaderPair]) -> dict[bytes, bytes]:
    """Give the headers with repeated ones made one, as RFC 9110 (5.3) allows."""
    headers: dict[bytes, bytes] = {}
    for name, value in pairs:
        headers[name] = headers[name] + b", " + value if name in headers else value
    return headers
