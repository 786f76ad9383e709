"""Where S3's keys come from."""

from __future__ import annotations

from typing import Protocol

from .presign import Keys

__all__ = ["Fixed", "Source"]


class Source(Protocol):
    """Gives keys that hold for a while yet."""

    async def keys(self) -> Keys:
        """Give the present keys."""
        ...


class Fixed:
    """Keys that were given and don't change."""

    def __init__(self, keys: Keys) -> None:
        self._keys = keys

    async def keys(self) -> Keys:
        """Give them."""
        return self._keys
