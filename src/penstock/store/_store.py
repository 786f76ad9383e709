"""The portable half of a store: checks of keys, retries, measures and signed URLs, the same on every driver."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Mapping
from contextlib import aclosing
from functools import partial
from typing import Final, Literal, Self, TypeAlias, TypeVar

import msgspec

from penstock.errors import Conflict, Forbidden, Invalid, Misconfigured, NotFound, PenstockError, Unavailable
from penstock.model.ids import Clock, Randomness, short_id

from . import keys
from .driver import ALWAYS, Driver, Features, Info, Put, SignedUrl
from .signing import Grant, Permission, Signer

__all__ = ["PATIENT", "Observe", "Patience", "Store"]

T = TypeVar("T")
Observe: TypeAlias = Callable[[str, float, str], None]
_PAGE: Final = 1000


class Patience(msgspec.Struct, frozen=True):
    """How often a call is tried while the store is unavailable, and how long it pauses between, in seconds.

    The pauses double and are spread evenly below their bound ("full jitter"), so that callers who failed together
    don't come again together.
    """

    tries: int = 4
    first_s: float = 0.05
    longest_s: float = 2.0

    def pause(self, failed: int, random: Randomness) -> float:
        """Give the seconds to wait after so many failures."""
        bound = min(self.longest_s, self.first_s * 2.0 ** min(failed - 1, 30))
        return bound * int.from_bytes(random(4), "big") / 0xFFFF_FFFF


PATIENT: Final = Patience()


class Store:
    """Named objects, written whole. Opened by `open_store`.

    Every call checks its key (`Invalid`) and tries again while the driver is `Unavailable`, as far as the call can be
    repeated. The errors are those of `driver.Driver`.
    """

    def __init__(
        self,
        driver: Driver,
        *,
        clock: Clock,
        random: Randomness,
        signer: Signer | None = None,
        sleep: Callable[[float], Awaitable[object]] | None = None,
        patience: Patience = PATIENT,
        observe: Observe | None = None,
    ) -> None:
        self._driver = driver
        self._clock = clock
        self._random = random
        self._signer = signer
        self._sleep = sleep or asyncio.sleep
        self._patience = patience
        self._observe = observe

    @property
    def features(self) -> Features:
        """What the driver can do."""
        return self._driver.features

    async def open(self) -> None:
        """Connect."""
        await self._driver.open()

    async def close(self) -> None:
        """Let go; a second call does nothing."""
        await self._driver.close()

    async def __aenter__(self) -> Self:
        await self.open()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    # -------------------------------------------------------------- objects

    async def put(self, key: str, data: bytes | AsyncIterator[bytes], condition: Put = ALWAYS) -> Info:
        """Write an object whole and durably; an iterator is written in bounded memory, and is tried once only.

        Raises:
            Conflict: the condition does not hold; nothing changed.
        """
        keys.checked(key)
        if condition.create and condition.match is not None:
            raise Invalid("a put either creates or replaces a given version, not both")
        if isinstance(data, bytes | bytearray | memoryview):
            return await self._put_bytes(key, bytes(data), condition)
        return await self._measured("put", partial(self._driver.put, key, data, condition))

    async def get(self, key: str, start: int = 0, end: int | None = None) -> bytes:
        """Give an object's bytes from `start` up to but without `end`, as far as there are any.

        Raises:
            NotFound: there is none.
        """
        _check_range(keys.checked(key), start, end)
        return await self._tried("get", partial(self._driver.get, key, start, end))

    async def stream(self, key: str, start: int = 0, end: int | None = None) -> AsyncGenerator[bytes, None]:
        """Give the same as `get`, in chunks. A failure after the first chunk is the caller's to resume."""
        _check_range(keys.checked(key), start, end)
        first, rest = await self._tried("stream", partial(self._begin, key, start, end))
        async with aclosing(rest):
            if first:
                yield first
            async for chunk in rest:
                yield chunk

    async def head(self, key: str) -> Info:
        """Give what is known of an object.

        Raises:
            NotFound: there is none.
        """
        return await self._tried("head", partial(self._driver.head, keys.checked(key)))

    async def delete(self, key: str) -> None:
        """Remove an object; an absent one is fine."""
        await self._tried("delete", partial(self._driver.delete, keys.checked(key)))

    async def list(self, prefix: str, *, after: str = "", limit: int = _PAGE) -> list[Info]:
        """Give at most `limit` objects under a prefix, in key order, from after a key."""
        if limit < 1:
            raise Invalid("a list is of at least one object")
        return await self._tried("list", partial(self._driver.list, prefix, after=after, limit=limit))

    async def walk(self, prefix: str) -> AsyncGenerator[Info, None]:
        """Give every object under a prefix, in key order, page by page."""
        after = ""
        while page := await self.list(prefix, after=after):
            for info in page:
                yield info
            after = page[-1].key

    async def probe(self) -> None:
        """Write, read and delete a small object; raises what went wrong. For readiness checks."""
        key, data = f"penstock/probe/{short_id(self._random(16))}", self._random(16)
        await self.put(key, data, Put(create=True))
        try:
            if await self.get(key) != data:
                raise Unavailable("the store gave back other bytes than were written")
        finally:
            await self.delete(key)

    # -------------------------------------------------------------- signed URLs

    async def url(
        self,
        method: Literal["GET", "PUT"],
        key: str,
        expires_s: float,
        *,
        size: int | None = None,
        max_bytes: int | None = None,
        create: bool = False,
    ) -> SignedUrl:
        """Give an absolute URL for one verb on one object: the vendor's, or one of ours that the gateway serves.

        Args:
            method: "GET" or "PUT".
            key: the object.
            expires_s: how long it holds, in seconds.
            size: the exact size of a PUT in bytes.
            max_bytes: the most that a PUT may bring; vendors that can't hold to it need a look at the size afterwards.
            create: whether a PUT must find the object absent.

        Raises:
            Misconfigured: the driver can't sign and no signer was given.
        """
        keys.checked(key)
        if not self._driver.features.signs:
            return self._own_signer().url(
                Grant(method=method, key=key, size=size, max_bytes=max_bytes, create=create), expires_s
            )
        sign = partial(self._driver.sign, method, key, expires_s, size=size, create=create)
        if (signed := await self._tried("sign", sign)) is None:
            raise Misconfigured("this store says that it signs URLs and does not; check its credentials")
        return signed

    def verify(self, method: str, path_key: str, query: Mapping[str, str]) -> Permission:
        """Give what one of our own URLs permits, from its verb, its unquoted key and its query.

        Raises:
            Forbidden: the signature does not hold, is another verb's, or this store's URLs are the vendor's.
            Gone: it held, and its time is over.
        """
        if self._driver.features.signs:
            raise Forbidden("this store signs its own URLs: the gateway serves no files")
        return self._own_signer().verify(method, path_key, query)

    def _own_signer(self) -> Signer:
        if self._signer is None:
            raise Misconfigured("this store can't sign URLs: give it a public URL and a secret for URLs of our own")
        return self._signer

    # -------------------------------------------------------------- trying and measuring

    async def _put_bytes(self, key: str, data: bytes, condition: Put) -> Info:
        lost = False

        async def attempt() -> Info:
            nonlocal lost
            try:
                return await self._driver.put(key, data, condition)
            except Unavailable:
                lost = True
                raise

        try:
            return await self._tried("put", attempt)
        except Conflict:
            # After a lost reply the object that is in the way may be our own, written by the try before.
            if lost and (own := await self._same(key, data)):
                return own
            raise

    async def _same(self, key: str, data: bytes) -> Info | None:
        try:
            info = await self.head(key)
            return info if info.size == len(data) and await self.get(key) == data else None
        except NotFound:
            return None

    async def _begin(self, key: str, start: int, end: int | None) -> tuple[bytes, AsyncGenerator[bytes, None]]:
        chunks = self._driver.stream(key, start, end)
        return await anext(chunks, b""), chunks

    async def _tried(self, operation: str, call: Callable[[], Awaitable[T]]) -> T:
        failed = 0
        while True:
            try:
                return await self._measured(operation, call)
            except Unavailable:
                failed += 1
                if failed >= self._patience.tries:
                    raise
            await self._sleep(self._patience.pause(failed, self._random))

    async def _measured(self, operation: str, call: Callable[[], Awaitable[T]]) -> T:
        if self._observe is None:
            return await call()
        began, outcome = self._clock.monotonic(), "ERROR"
        try:
            value = await call()
            outcome = "ok"
        except PenstockError as error:
            outcome = error.code
            raise
        finally:
            self._observe(operation, self._clock.monotonic() - began, outcome)
        return value


def _check_range(key: str, start: int, end: int | None) -> None:
    if start < 0 or (end is not None and end < start):
        raise Invalid(f"{start}..{end} is no range of {key}")
