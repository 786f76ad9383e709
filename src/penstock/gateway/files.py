"""Our own signed URLs, for stores that can't sign: one object, one verb, streamed."""

from __future__ import annotations

from typing import Final

from penstock.errors import Invalid, TooLarge
from penstock.store import ALWAYS, Permission, Put

from .asgi import HeaderPair
from .body import chunks, read
from .call import Call
from .ranges import span
from .refusals import LengthRequired
from .reply import NO_STORE, Reply, safe_value

__all__ = ["get", "put"]

_OCTETS: Final[HeaderPair] = (b"content-type", b"application/octet-stream")
_RANGES: Final[HeaderPair] = (b"accept-ranges", b"bytes")
_DOWNLOAD: Final[HeaderPair] = (b"content-disposition", b"attachment")
_UNBOUNDED: Final = 5 * 1024**4  # what a URL without a limit permits: as much as an object of S3 may have
_AT_ONCE: Final = 256 * 1024


async def get(call: Call) -> Reply:
    """`GET /files/{key}`: the object's bytes, or those of one range (206)."""
    key = call.params["key"]
    store = call.services.store
    store.verify(call.method, key, call.plain_query())
    info = await store.head(key)
    headers: list[HeaderPair] = [
        _OCTETS,
        _RANGES,
        _DOWNLOAD,
        NO_STORE,
        (b"etag", b'"%s"' % safe_value(info.etag, b"")),
    ]
    part = span(_range_of(call, info.etag), info.size)
    start, end = part or (0, info.size)
    if part is not None:
        headers.append((b"content-range", part.content_range(info.size)))
    status = 200 if part is None else 206
    if end - start <= _AT_ONCE and call.method == "GET":
        return Reply(status, headers, await store.get(key, start, end) if end > start else b"")
    return Reply(status, [*headers, (b"content-length", b"%d" % (end - start))], store.stream(key, start, end))


def _range_of(call: Call, etag: str) -> bytes | None:
    """Give the Range header, unless If-Range says that it was meant for another version of the object."""
    condition = call.text(b"if-range")
    return call.headers.get(b"range") if condition in (None, f'"{etag}"') else None


async def put(call: Call) -> Reply:
    """`PUT /files/{key}`: write the object, of the size that the URL permits; whole or not at all."""
    key = call.params["key"]
    store = call.services.store
    permission = store.verify(call.method, key, call.plain_query())
    declared = _declared(call, permission)
    condition = Put(create=True) if permission.create else ALWAYS
    limit = declared if declared is not None else permission.max_bytes or _UNBOUNDED
    data = await read(call, limit) if limit <= _AT_ONCE else chunks(call, limit)
    info = await store.put(key, data, condition)
    return Reply(201 if permission.create else 200, [(b"etag", b'"%s"' % safe_value(info.etag, b""))])


def _declared(call: Call, permission: Permission) -> int | None:
    """Give the body's length as declared. Raises where it is missing, or not what the URL permits."""
    text = call.headers.get(b"content-length")
    if text is None:
        if permission.size is not None:
            raise LengthRequired(f"this URL takes exactly {permission.size} bytes; send a Content-Length")
        return None
    size = int(text)
    if permission.size is not None and size > permission.size:
        raise TooLarge(f"this URL takes exactly {permission.size} bytes")
    if permission.size is not None and size < permission.size:
        raise Invalid(f"this URL takes exactly {permission.size} bytes, not {size}")
    if permission.max_bytes is not None and size > permission.max_bytes:
        raise TooLarge(f"this URL takes at most {permission.max_bytes} bytes")
    return size
