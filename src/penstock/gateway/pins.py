"""`Idempotency-Key`: the same key and the same request get the same answer, for 24 hours."""

from __future__ import annotations

import hashlib
import re
from dataclasses import replace
from typing import Final

from penstock.errors import Conflict, Invalid
from penstock.ledger.commands import Answer, KeepPin, Pin, TakePin

from .asgi import Message, Receive
from .body import DOCUMENT_MAX_BYTES, read
from .call import Call
from .endpoint import Endpoint, Handler
from .reply import Reply

__all__ = ["pin_key", "pinned"]

_KEY: Final = re.compile(r"[ -~]{1,255}")


def pin_key(call: Call) -> str | None:
    """Give the Idempotency-Key, without the quotes it may stand in. Raises `Invalid` for one that is not usable."""
    value = call.text(b"idempotency-key")
    if value is None:
        return None
    value = value.strip()
    key = value[1:-1] if len(value) > 1 and value[0] == value[-1] == '"' else value
    if not _KEY.fullmatch(key):
        raise Invalid("Idempotency-Key is 1 to 255 printable ASCII characters, quoted or bare")
    return key


def pinned(endpoint: Endpoint) -> Endpoint:
    """Give the endpoint made to repeat its answer to a request that comes again with its Idempotency-Key."""

    async def pinning(call: Call) -> Reply:
        key = pin_key(call)
        if key is None:
            return await endpoint.handler(call)
        body = await read(call, DOCUMENT_MAX_BYTES)
        call.receive = _again(body)
        scope = f"{call.tenant} {endpoint.method} {endpoint.path}"
        return await _once(call, endpoint.handler, Pin(scope, key, _fingerprint(call, body)))

    return replace(endpoint, handler=pinning)


async def _once(call: Call, handler: Handler, pin: Pin) -> Reply:
    ledger = call.services.ledger
    taken = await ledger.take_pin(TakePin(pin=pin))
    if taken.how == "mismatch":
        raise Invalid("this Idempotency-Key came with another request before; use a fresh key for a new request")
    if taken.how == "busy":
        raise Conflict("the first request with this Idempotency-Key is still in progress; ask again in a moment")
    if taken.answer is not None:
        return Reply(taken.answer.status, [(b"content-type", taken.answer.content_type.encode())], taken.answer.body)
    kept = None
    try:
        reply = await handler(call)
        if isinstance(reply.body, bytes):
            kept = Answer(reply.status, reply.body, dict(reply.headers).get(b"content-type", b"").decode())
        return reply
    finally:
        await ledger.keep_pin(KeepPin(pin=pin, answer=kept))


def _fingerprint(call: Call, body: bytes) -> str:
    query: bytes = call.scope["query_string"]
    return hashlib.sha256(b"%s?%s\n%s" % (call.path.encode("utf-8", "surrogatepass"), query, body)).hexdigest()


def _again(body: bytes) -> Receive:
    async def receive() -> Message:
        return {"type": "http.request", "body": body, "more_body": False}

    return receive
