"""The endpoints that describe all the others."""

from __future__ import annotations

from functools import lru_cache
from typing import Final

import msgspec

from .call import Call
from .endpoint import PUBLIC, Answer, Endpoint, Media
from .openapi import describe, page
from .reply import JSON, Reply

__all__ = ["self_describing"]

_HTML: Final = (b"content-type", b"text/html; charset=utf-8")
_NO_SCRIPT: Final = (b"content-security-policy", b"default-src 'none'; style-src 'unsafe-inline'")


def self_describing(endpoints: tuple[Endpoint, ...]) -> tuple[Endpoint, ...]:
    """Give the endpoints and two more, that describe them all: as data and as a page."""

    @lru_cache(maxsize=4)
    def described(public_url: str) -> tuple[bytes, bytes]:
        document = describe(everything, public_url)
        return msgspec.json.encode(document), page(document)

    async def description(call: Call) -> Reply:
        """`GET /openapi.json`: every route with its scope, its types and its errors."""
        return Reply(200, [JSON], described(call.services.settings.public_url)[0])

    async def docs(call: Call) -> Reply:
        """`GET /docs`: the same, to read."""
        return Reply(200, [_HTML, _NO_SCRIPT], described(call.services.settings.public_url)[1])

    everything = (
        *endpoints,
        Endpoint(
            method="GET",
            path="/openapi.json",
            handler=description,
            scope=PUBLIC,
            tag="About",
            summary="This description",
            answers=(Answer(200, Media("application/json"), "OpenAPI 3.1."),),
        ),
        Endpoint(
            method="GET",
            path="/docs",
            handler=docs,
            scope=PUBLIC,
            tag="About",
            summary="This description, to read",
            answers=(Answer(200, Media("text/html"), "A page."),),
        ),
    )
    return everything
