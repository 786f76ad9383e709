"""Request bodies: read as a stream, never past their limit."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import suppress
from functools import lru_cache
from typing import Any, Final, TypeVar, cast

import msgspec

from penstock.errors import Fault, Invalid, Malformed, TooLarge
from penstock.model import shape

from .asgi import Receive
from .call import Call
from .refusals import UnsupportedMedia

__all__ = ["DOCUMENT_MAX_BYTES", "chunks", "decoded", "discard", "read"]

T = TypeVar("T", bound=msgspec.Struct)

DOCUMENT_MAX_BYTES: Final = 1024 * 1024
_DISCARD_BYTES: Final = 16 * 1024 * 1024
_DISCARD_S: Final = 1.0


async def read(call: Call, limit: int) -> bytes:
    """Give the whole body.

    Raises:
        TooLarge: it has more than `limit` bytes; if it says so itself, none of it is read.
        Malformed: the client hung up in the middle of it.
    """
    _refuse_declared(call, limit)
    message = await call.receive()
    if message["type"] == "http.request" and not message.get("more_body"):  # the common case: all of it at once
        body: bytes = message.get("body", b"")
        if len(body) > limit:
            raise _too_large(limit)
        return body
    parts = [part async for part in _rest(call, message, limit)]
    return b"".join(parts)


async def chunks(call: Call, limit: int) -> AsyncGenerator[bytes]:
    """Give the body piece by piece. Raises as `read` does."""
    _refuse_declared(call, limit)
    async for chunk in _rest(call, await call.receive(), limit):
        yield chunk


async def _rest(call: Call, message: Any, limit: int) -> AsyncGenerator[bytes]:
    size = 0
    while True:
        if message["type"] == "http.disconnect":
            raise Malformed("the client hung up before the end of its body")
        chunk: bytes = message.get("body", b"")
        size += len(chunk)
        if size > limit:
            raise _too_large(limit)
        if chunk:
            yield chunk
        if not message.get("more_body"):
            return
        message = await call.receive()


def _refuse_declared(call: Call, limit: int) -> None:
    declared = call.headers.get(b"content-length")
    if declared is not None and int(declared) > limit:
        raise _too_large(limit)


def _too_large(limit: int) -> TooLarge:
    return TooLarge(f"the body may have at most {limit} bytes")


async def decoded(call: Call, kind: type[T], *, optional: bool = False) -> T:
    """Give the JSON body as a record of this kind; an empty one counts as {} where it is `optional`.

    Raises:
        Malformed: it is no JSON.
        Invalid: it is another kind of thing; every fault is named by its JSON Pointer.
        UnsupportedMedia: it says that it is something else.
    """
    data = await read(call, DOCUMENT_MAX_BYTES)
    if optional and not data:
        return kind()  # of what type nothing is does not matter; clients say all kinds of things
    media_type = call.headers.get(b"content-type", b"application/json").partition(b";")[0].strip().lower()
    if media_type not in (b"application/json", b"application/x-www-form-urlencoded") and not media_type.endswith(
        b"+json"
    ):
        # curl -d says "form" unless told otherwise, and means JSON.
        raise UnsupportedMedia("send the body as application/json")
    try:
        return cast("T", _decoder(kind).decode(data))
    except msgspec.ValidationError as error:
        raise Invalid(str(error), faults=_faults(data, kind)) from error
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise Malformed(f"the body is no JSON: {error}") from error
    except RecursionError as error:
        raise Malformed("the body is nested too deeply") from error


def _faults(data: bytes, kind: type[msgspec.Struct]) -> list[Fault]:
    try:
        return shape.faults(msgspec.json.decode(data), kind)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise Malformed(f"the body is no JSON: {error}") from error


@lru_cache(maxsize=64)
def _decoder(kind: type[T]) -> msgspec.json.Decoder[T]:
    return msgspec.json.Decoder(kind)


async def discard(receive: Receive) -> None:
    """Drop what comes of a refused body, for a second or 16 MiB at most.

    A connection that is closed on unread bytes is reset, and a client that is still writing would then never read why
    it was refused.
    """
    size = 0
    with suppress(TimeoutError):
        async with asyncio.timeout(_DISCARD_S):
            while size < _DISCARD_BYTES:
                message = await receive()
                size += len(message.get("body", b""))
                if message["type"] == "http.disconnect" or not message.get("more_body"):
                    return
