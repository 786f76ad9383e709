"""The contract of a store driver: named objects, written whole.

Drivers are opened by URL and certified by `penstock.testing.suites.store`. Keys are made in `keys.py` only.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator
from typing import Final, Protocol

import msgspec

__all__ = ["ALWAYS", "Driver", "Features", "Info", "Put", "SignedUrl"]


class Features(msgspec.Struct, frozen=True):
    """What a driver can do. `durability` is the sentence that `penstock doctor` prints."""

    durability: str
    survives_restart: bool
    many_processes: bool
    signs: bool  # it can sign URLs itself; otherwise the gateway serves URLs of our own


class Info(msgspec.Struct, frozen=True, gc=False):
    """What is known of an object without reading it. `etag` changes with its content; `modified_at` in seconds.

    A put may give its own time, where the vendor tells its time to readers only.
    """

    key: str
    size: int
    etag: str
    modified_at: float


class Put(msgspec.Struct, frozen=True, gc=False):
    """Under which condition to write: always, only if absent (`create`), or only over a given etag (`match`)."""

    create: bool = False
    match: str | None = None


ALWAYS: Final = Put()


class SignedUrl(msgspec.Struct, frozen=True):
    """A URL for one verb on one object, with the headers that must go with it."""

    url: str
    method: str
    headers: dict[str, str] = {}
    expires_at: float = 0.0


class Driver(Protocol):
    """One bucket, or one folder.

    Vendors' errors are translated: `NotFound`, `Conflict` (a condition did not hold), `Unavailable`, `Misconfigured`,
    and `Invalid` for a key that this driver can't hold. A reader never sees half an object, and reads on in the one
    that it began, whatever is written meanwhile. A driver tries once: retries, checks of keys and measures belong to
    the portable `Store`.
    """

    features: Features

    async def open(self) -> None:
        """Connect."""
        ...

    async def close(self) -> None:
        """Let go; a second call does nothing."""
        ...

    async def put(self, key: str, data: bytes | AsyncIterator[bytes], condition: Put = ALWAYS) -> Info:
        """Write an object whole and durably. Raises `Conflict` when the condition does not hold; then nothing changed.

        A put that fails or is cancelled leaves the object as it was or writes it whole, and leaves nothing beside it.
        An iterator of any length is written in bounded memory; what it raises comes out unchanged.
        """
        ...

    async def get(self, key: str, start: int = 0, end: int | None = None) -> bytes:
        """Give an object's bytes from `start` up to but without `end`. Raises `NotFound`.

        A range that reaches past the object gives what there is of it, if only `b""`.
        """
        ...

    def stream(self, key: str, start: int = 0, end: int | None = None) -> AsyncGenerator[bytes, None]:
        """Give the same as `get`, in chunks, for objects of any size."""
        ...

    async def head(self, key: str) -> Info:
        """Give what is known of an object. Raises `NotFound`."""
        ...

    async def delete(self, key: str) -> None:
        """Remove an object; an absent one is fine."""
        ...

    async def list(self, prefix: str, *, after: str = "", limit: int = 1000) -> list[Info]:
        """List objects under a prefix in key order, from after a key. A prefix may end within a segment."""
        ...

    async def sign(
        self, method: str, key: str, expires_s: float, *, size: int | None = None, create: bool = False
    ) -> SignedUrl | None:
        """Give a vendor-signed URL for GET or PUT, or None if it can't sign.

        A PUT is of exactly `size` bytes where given, and with `create` only of an absent object.
        """
        ...
