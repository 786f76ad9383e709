"""Objects in the memory of one process (`memory:`): for tests, simulations, and as the model of every other driver."""

from __future__ import annotations

import itertools
from bisect import bisect_right
from collections.abc import AsyncGenerator, AsyncIterator, Mapping

from penstock.errors import Conflict, NotFound, Unavailable
from penstock.model.ids import Clock

from .driver import ALWAYS, Features, Info, Put, SignedUrl

__all__ = ["MemoryStore", "connect"]

_CHUNK = 1 << 18


def connect(url: str, clock: Clock, environ: Mapping[str, str]) -> MemoryStore:
    """Give a store of its own that lives as long as this object; the URL says no more than `memory:`."""
    del url, environ
    return MemoryStore(clock)


class MemoryStore:
    """A dictionary with the manners of a bucket."""

    features = Features(
        durability="nothing survives the process", survives_restart=False, many_processes=False, signs=False
    )

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._objects: dict[str, tuple[Info, bytes]] = {}
        self._etags = itertools.count(1)
        self._open = False

    async def open(self) -> None:
        """Begin, with what the last opening left."""
        self._open = True

    async def close(self) -> None:
        """Refuse work from now on."""
        self._open = False

    async def put(self, key: str, data: bytes | AsyncIterator[bytes], condition: Put = ALWAYS) -> Info:
        """Keep an object."""
        whole = bytes(data) if isinstance(data, bytes | bytearray | memoryview) else await _joined(data)
        self._must_be_open()
        present = self._objects.get(key)
        if condition.create and present:
            raise Conflict(f"{key} exists")
        if condition.match is not None and (present is None or present[0].etag != condition.match):
            raise Conflict(f"{key} is not the version that was to be replaced")
        info = Info(key, len(whole), f"{next(self._etags):x}", self._clock.now())
        self._objects[key] = (info, whole)
        return info

    async def get(self, key: str, start: int = 0, end: int | None = None) -> bytes:
        """Give an object's bytes."""
        return self._found(key)[1][start:end]

    async def stream(self, key: str, start: int = 0, end: int | None = None) -> AsyncGenerator[bytes, None]:
        """Give an object's bytes in chunks."""
        data = self._found(key)[1][start:end]
        for offset in range(0, len(data), _CHUNK):
            yield data[offset : offset + _CHUNK]

    async def head(self, key: str) -> Info:
        """Give what is known of an object."""
        return self._found(key)[0]

    async def delete(self, key: str) -> None:
        """Drop an object."""
        self._must_be_open()
        self._objects.pop(key, None)

    async def list(self, prefix: str, *, after: str = "", limit: int = 1000) -> list[Info]:
        """List objects in key order."""
        self._must_be_open()
        names = sorted(key for key in self._objects if key.startswith(prefix))
        first = bisect_right(names, after)
        return [self._objects[key][0] for key in names[first : first + limit]]

    async def sign(
        self, method: str, key: str, expires_s: float, *, size: int | None = None, create: bool = False
    ) -> SignedUrl | None:
        """Give None: it has no server of its own."""
        del method, key, expires_s, size, create
        return None

    def _found(self, key: str) -> tuple[Info, bytes]:
        self._must_be_open()
        if (present := self._objects.get(key)) is None:
            raise NotFound(f"there is no object {key}")
        return present

    def _must_be_open(self) -> None:
        if not self._open:
            raise Unavailable("the store is closed")


async def _joined(chunks: AsyncIterator[bytes]) -> bytes:
    whole = bytearray()
    async for chunk in chunks:
        whole += chunk
    return bytes(whole)
