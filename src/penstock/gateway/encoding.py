"""Content coding: whether a client takes gzip, and results made plain for one that does not."""

from __future__ import annotations

import zlib
from collections.abc import AsyncGenerator, AsyncIterator
from functools import lru_cache
from typing import Final

__all__ = ["inflate", "inflated", "takes_gzip"]

_GZIP: Final = 31  # zlib's window for a gzip wrapper
_PIECE: Final = 256 * 1024


@lru_cache(maxsize=256)
def takes_gzip(header: bytes | None) -> bool:
    """Tell whether an Accept-Encoding header (RFC 9110, 12.5.3) allows gzip; no header means that plain is wanted."""
    if not header:
        return False
    weights: dict[str, float] = {}
    for part in header.decode("latin-1").lower().split(","):
        coding, *parameters = (piece.strip() for piece in part.split(";"))
        weights[coding] = _weight(parameters)
    for coding in ("gzip", "x-gzip", "*"):
        if coding in weights:
            return weights[coding] > 0 and weights[coding] >= weights.get("identity", 0.0)
    return False


def _weight(parameters: list[str]) -> float:
    for parameter in parameters:
        name, _, value = parameter.partition("=")
        if name.strip() == "q":
            try:
                return float(value)
            except ValueError:
                return 0.0
    return 1.0


def inflate(data: bytes) -> bytes:
    """Give the plain bytes of gzip data. Raises `zlib.error` when it is none."""
    return zlib.decompress(data, _GZIP)


async def inflated(chunks: AsyncIterator[bytes]) -> AsyncGenerator[bytes]:
    """Give the plain bytes of a gzip stream of any number of members, in pieces of bounded size."""
    inflater = zlib.decompressobj(_GZIP)
    async for chunk in chunks:
        rest = chunk
        while rest:
            if inflater.eof:
                inflater = zlib.decompressobj(_GZIP)
            if piece := inflater.decompress(rest, _PIECE):
                yield piece
            rest = inflater.unused_data if inflater.eof else inflater.unconsumed_tail
    if piece := inflater.flush():
        yield piece
