"""A bucket of any vendor as a store driver, over obstore: what S3, GCS and Azure have in common.

What they don't share is a `Vendor`: how it is connected to, how an object of unknown length is uploaded, what a
condition is called, what its refusals mean, and how its URLs are signed.
"""

from __future__ import annotations

import asyncio
import math
import re
from collections.abc import AsyncGenerator, AsyncIterator, Iterator, Mapping, Sequence
from contextlib import aclosing, contextmanager, suppress
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Final, Protocol, TypeAlias

import msgspec
from obstore import exceptions as vendors

from penstock.errors import Conflict, Invalid, Misconfigured, NotFound, PenstockError, Unavailable
from penstock.model.ids import Clock

from .driver import ALWAYS, Features, Info, Put, SignedUrl

if TYPE_CHECKING:
    from obstore import ObjectMeta, PutMode
    from obstore.store import AzureStore, ClientConfig, GCSStore, RetryConfig, S3Store

    Objects: TypeAlias = S3Store | GCSStore | AzureStore

__all__ = ["NO_RETRIES", "BucketStore", "Refusal", "Upload", "Vendor", "client_options", "code_in", "refused"]

_PART: Final = 6 << 20
_LARGE_PART: Final = 64 << 20  # a vendor takes at most 10,000 parts: from 12 GB on they are larger
_SMALL_PARTS: Final = 2000
_CHUNK: Final = 1 << 18
_PAGE: Final = 1000
_CONNECT_S: Final = 5.0
_SILENCE_S: Final = 20.0
_WHOLE_S: Final = 6 * 3600.0  # a stream may be read as slowly as its reader likes
_STATUS: Final = re.compile(r"status code: (\d{3})")
_CODE: Final = re.compile(r"<Code>(\w+)</Code>")

_PAST_THE_END: Final = "Wanted range starting at"

# The portable store decides how often to try.
NO_RETRIES: Final[RetryConfig] = {"max_retries": 0, "retry_timeout": timedelta(seconds=60)}


class Refusal(msgspec.Struct, frozen=True):
    """What a vendor said when it refused: the HTTP status (0 = no answer) and its own code ("" = none)."""

    status: int
    code: str


class Upload(Protocol):
    """An object that is sent in parts; nobody sees it before `finish`."""

    async def begin(self) -> None:
        """Announce it."""
        ...

    async def part(self, data: bytes | bytearray) -> None:
        """Send the next part."""
        ...

    async def finish(self) -> str:
        """Make an object of the parts, if its condition holds; gives its etag."""
        ...

    async def abort(self) -> None:
        """Have the vendor forget the parts."""
        ...


class Vendor(Protocol):
    """What is particular to one vendor. Its errors are those of `driver.Driver`; etags are in quotes here, as in HTTP."""

    features: Features
    place: str  # for messages: "the bucket models on S3"

    def open(self) -> None:
        """Begin."""
        ...

    async def objects(self) -> Objects:
        """Give obstore's view of the bucket: the same as long as the keys to it are."""
        ...

    async def close(self) -> None:
        """Let go of connections."""
        ...

    def meaning(self, refusal: Refusal) -> PenstockError | None:
        """Give what a refusal means, where only this vendor knows."""
        ...

    async def mode(self, objects: Objects, path: str, condition: Put) -> PutMode:
        """Give a condition in obstore's words."""
        ...

    async def upload(self, objects: Objects, path: str, condition: Put) -> Upload:
        """Give an upload of an object that appears only if the condition holds; it is not begun yet."""
        ...

    async def sign(self, method: str, path: str, expires_s: float, *, size: int | None, create: bool) -> SignedUrl:
        """Give a URL for one verb on one object, and the headers without which it does not hold."""
        ...


class BucketStore:
    """The objects under a prefix of one bucket."""

    def __init__(self, vendor: Vendor, prefix: str, clock: Clock) -> None:
        self.features = vendor.features
        self._vendor = vendor
        self._prefix = f"{prefix.strip('/')}/" if prefix.strip("/") else ""
        self._clock = clock
        self._open = False

    async def open(self) -> None:
        """Connect, and see that the bucket is there and lets itself be listed."""
        if self._open:
            return
        self._vendor.open()
        self._open = True
        try:
            await self.list("", limit=1)
        except BaseException:
            await self.close()
            raise

    async def close(self) -> None:
        """Let go."""
        self._open = False
        await self._vendor.close()

    # -------------------------------------------------------------- writing

    async def put(self, key: str, data: bytes | AsyncIterator[bytes], condition: Put = ALWAYS) -> Info:
        """Write an object: in one request if it is small, else in parts that become an object all at once."""
        if condition.match is not None:
            condition = Put(match=f'"{condition.match}"')
        if isinstance(data, bytes | bytearray | memoryview):
            return await self._put(key, bytes(data), condition)
        async with aclosing(_parts(data)) as parts:
            first = await anext(parts, bytearray())
            if len(first) < _PART:
                return await self._put(key, bytes(first), condition)
            return await self._put_parts(key, first, parts, condition)

    async def _put(self, key: str, data: bytes, condition: Put) -> Info:
        objects, path = await self._objects(), self._prefix + key
        with self._translated(key):
            mode = await self._vendor.mode(objects, path, condition)
            result = await objects.put_async(path, data, mode=mode, use_multipart=False)
        return Info(key, len(data), _plain(result["e_tag"]), math.floor(self._clock.now()))

    async def _put_parts(
        self, key: str, first: bytearray, parts: AsyncGenerator[bytearray, None], condition: Put
    ) -> Info:
        """Send a part while the next is gathered, so that two are in memory."""
        objects, path = await self._objects(), self._prefix + key
        with self._translated(key):
            upload = await self._vendor.upload(objects, path, condition)
        size, sending = 0, None
        try:
            await upload.begin()
            part: bytearray | None = first
            while part is not None:
                size += len(part)
                sending = asyncio.create_task(upload.part(part))
                part = await anext(parts, None)
                await sending
            etag = await upload.finish()
        except BaseException:
            await _given_up(upload, sending)
            raise
        return Info(key, size, _plain(etag), math.floor(self._clock.now()))

    async def delete(self, key: str) -> None:
        """Remove an object."""
        objects = await self._objects()
        try:
            with self._translated(key):
                await objects.delete_async(self._prefix + key)
        except NotFound:
            return

    # -------------------------------------------------------------- reading

    async def get(self, key: str, start: int = 0, end: int | None = None) -> bytes:
        """Give an object's bytes."""
        if start == end:
            await self.head(key)  # a range of nothing can't be asked for
            return b""
        objects = await self._objects()
        try:
            with self._translated(key):
                found = await objects.get_async(self._prefix + key, options=_range(start, end))
                return bytes(await found.bytes_async())
        except _PastTheEnd:
            return b""

    async def stream(self, key: str, start: int = 0, end: int | None = None) -> AsyncGenerator[bytes, None]:
        """Give an object's bytes as they come."""
        if start == end:
            await self.head(key)
            return
        objects = await self._objects()
        try:
            with self._translated(key):
                found = await objects.get_async(self._prefix + key, options=_range(start, end))
                async for chunk in found.stream(min_chunk_size=_CHUNK):
                    yield bytes(chunk)
        except _PastTheEnd:
            return

    async def head(self, key: str) -> Info:
        """Give what is known of an object."""
        objects = await self._objects()
        with self._translated(key):
            return self._info(await objects.head_async(self._prefix + key))

    async def list(self, prefix: str, *, after: str = "", limit: int = 1000) -> list[Info]:
        """List objects in key order. What lies beside the prefix in its folder is read and passed over."""
        objects, whole, past = await self._objects(), self._prefix + prefix, self._prefix + after if after else ""
        folder, offset = whole.rpartition("/")[0], max(past, _just_before(whole))
        found: list[Info] = []
        with self._translated(prefix):
            async for page in objects.list(folder or None, offset=offset or None, chunk_size=min(limit, _PAGE)):
                # obstore drops a slash at the offset's end, so it may begin too early.
                found += [self._info(meta) for meta in page if meta["path"].startswith(whole) and meta["path"] > past]
                last = page[-1]["path"]
                if len(found) >= limit or (last > whole and not last.startswith(whole)):
                    break
        return found[:limit]

    # -------------------------------------------------------------- signing

    async def sign(
        self, method: str, key: str, expires_s: float, *, size: int | None = None, create: bool = False
    ) -> SignedUrl | None:
        """Give the vendor's URL."""
        self._must_be_open()
        return await self._vendor.sign(method, self._prefix + key, expires_s, size=size, create=create)

    # -------------------------------------------------------------- the vendor's words

    async def _objects(self) -> Objects:
        self._must_be_open()
        return await self._vendor.objects()

    def _must_be_open(self) -> None:
        if not self._open:
            raise Unavailable("the store is closed")

    def _info(self, meta: ObjectMeta) -> Info:
        """Read a record; times are to the second, which is all that some answers have."""
        modified_at = math.floor(meta["last_modified"].timestamp())
        return Info(meta["path"].removeprefix(self._prefix), meta["size"], _plain(meta["e_tag"]), modified_at)

    @contextmanager
    def _translated(self, key: str) -> Iterator[None]:
        try:
            yield
        except (vendors.BaseError, FileNotFoundError, ValueError) as error:
            raise refused(self._vendor, _refusal_in(error), key) from _brief(error)


class _PastTheEnd(Exception):
    """A range begins where the object has ended."""


def refused(vendor: Vendor, refusal: Refusal, key: str) -> Exception:
    """Give what a vendor's refusal means."""
    if own := vendor.meaning(refusal):
        return own
    said = f"{refusal.code or 'it'} ({refusal.status})" if refusal.status else "no answer"
    kind, text = _MEANINGS.get(refusal.status, (Unavailable, "{place} is not available: {said}"))
    return kind(text.format(place=vendor.place, said=said, key=key))


_CONFLICT: Final = (Conflict, "{key} is not in the state that the condition asks for")
_NO_RIGHT: Final = (
    Misconfigured,
    "{place} refused us ({said}): check the keys, and that they may list, read, write and delete objects there",
)
_MISREAD: Final = (Misconfigured, "{place} did not understand us ({said}): check its region, endpoint and style")
_MEANINGS: Final[Mapping[int, tuple[type[Exception], str]]] = {
    **dict.fromkeys((304, 409, 412), _CONFLICT),
    **dict.fromkeys((401, 403), _NO_RIGHT),
    **dict.fromkeys((301, 307, 400, 405, 411, 501), _MISREAD),
    404: (NotFound, "there is no object {key}"),
    414: (Invalid, "{place} can't hold so long a key"),
    416: (_PastTheEnd, "{key} ends before"),
}
_STATUS_OF: Final[Sequence[tuple[type[Exception], int]]] = (
    (FileNotFoundError, 404),
    (vendors.AlreadyExistsError, 412),
    (vendors.PreconditionError, 412),
    (vendors.PermissionDeniedError, 403),
    (vendors.UnauthenticatedError, 401),
)


def _refusal_in(error: Exception) -> Refusal:
    """Read a refusal out of obstore's error, whose text holds the vendor's answer."""
    text = str(error)
    code = code_in(text)
    for kind, status in _STATUS_OF:
        if isinstance(error, kind):
            return Refusal(status, code)
    if _PAST_THE_END in text:  # the server took it for a range of nothing
        return Refusal(416, code)
    return Refusal(int(match[1]) if (match := _STATUS.search(text)) else 0, code)


def _plain(etag: str | None) -> str:
    """Give an etag without its quotes, which not all answers of one vendor have."""
    return (etag or "").strip('"')


def code_in(text: str) -> str:
    """Give the vendor's own code for an error, out of its XML; "" where it gave none."""
    return match[1] if (match := _CODE.search(text)) else ""


def _brief(error: Exception) -> Exception:
    """Give obstore's error without its pages of debugging."""
    return type(error)(str(error).partition("\n\nDebug source")[0])


def client_options(*, plain_http: bool) -> ClientConfig:
    """Give how to speak HTTP: a server that is silent is given up on, a slow one is not."""
    return {
        "allow_http": plain_http,
        "connect_timeout": timedelta(seconds=_CONNECT_S),
        "read_timeout": timedelta(seconds=_SILENCE_S),
        "timeout": timedelta(seconds=_WHOLE_S),
    }


def _range(start: int, end: int | None) -> Any:
    if end is not None:
        return {"range": (start, end)}
    return {"range": {"offset": start}} if start else None


def _just_before(prefix: str) -> str:
    """Give a text that no key under the prefix comes before, and few other keys come after."""
    if not prefix or prefix[-1] == "/":
        return ""
    last = prefix[-1]
    return prefix[:-1] + (f"{chr(ord(last) - 1)}~" if last.isascii() and last.isalnum() else "")


async def _parts(data: AsyncIterator[bytes]) -> AsyncGenerator[bytearray, None]:
    """Gather chunks into parts; all but the last are of full size."""
    part, number = bytearray(), 1
    async for chunk in data:
        part += chunk
        while len(part) >= (size := _PART if number <= _SMALL_PARTS else _LARGE_PART):
            whole, part = (part, bytearray()) if len(part) == size else (part[:size], part[size:])
            yield whole
            number += 1
    if part:
        yield part


async def _given_up(upload: Upload, sending: asyncio.Task[None] | None) -> None:
    """Have the vendor forget an upload, though the caller be cancelled; if that fails, the bucket's rules clean up."""

    async def give_up() -> None:
        if sending is not None:
            sending.cancel()
            await asyncio.gather(sending, return_exceptions=True)
        with suppress(PenstockError):
            await upload.abort()

    task = asyncio.create_task(give_up())
    while not task.done():
        with suppress(asyncio.CancelledError):
            await asyncio.wait([task])
