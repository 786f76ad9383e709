"""What a handler gives back: a status, headers and a body that is at hand or comes in chunks."""

from __future__ import annotations

import re
from collections.abc import AsyncGenerator
from typing import Any, Final

import msgspec

from .asgi import HeaderPair

__all__ = ["JSON", "NO_STORE", "Reply", "document", "encode", "safe_value"]

JSON: Final[HeaderPair] = (b"content-type", b"application/json")
NO_STORE: Final[HeaderPair] = (b"cache-control", b"no-store")

encode: Final = msgspec.json.Encoder().encode
_UNSAFE: Final = re.compile(r"[^\x20-\x7e]")
_LONGEST: Final = 1024  # clients give up at 8 KiB or so


class Reply:
    """An answer. The gateway adds Content-Length (of a body at hand) and X-Request-ID.

    `close` ends the connection. A `live` body goes on for as long as there is something to tell, so it is ended when the
    gateway closes.
    """

    __slots__ = ("body", "close", "headers", "live", "status")

    def __init__(
        self,
        status: int,
        headers: list[HeaderPair],
        body: bytes | AsyncGenerator[bytes] = b"",
        *,
        close: bool = False,
        live: bool = False,
    ) -> None:
        self.status = status
        self.headers = headers
        self.body = body
        self.close = close
        self.live = live


def document(value: Any, status: int = 200, *more: HeaderPair) -> Reply:
    """Give a reply that carries a value as JSON."""
    return Reply(status, [JSON, *more], encode(value))


def safe_value(text: str, otherwise: bytes) -> bytes:
    """Give a text as a header's value, or `otherwise` if it could break out of one, or would make it unreadably long."""
    return otherwise if not 0 < len(text) <= _LONGEST or _UNSAFE.search(text) else text.encode("ascii")
