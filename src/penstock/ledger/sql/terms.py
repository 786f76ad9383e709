"""The terms of a run as one short text: a JSON array of its numbers, in their order in `model.run.Terms`.

The runs of one app's generation share their terms, so both directions are remembered.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Final

import msgspec

from penstock.model.run import Terms

__all__ = ["decode_terms", "encode_terms"]

_MOST_REMEMBERED: Final = 10_000


@lru_cache(_MOST_REMEMBERED)
def encode_terms(terms: Terms) -> str:
    """Give the text of terms."""
    return msgspec.json.encode(msgspec.structs.astuple(terms)).decode()


@lru_cache(_MOST_REMEMBERED)
def decode_terms(text: str) -> Terms:
    """Give the terms of a text; numbers that it lacks, being older, take their defaults."""
    return Terms(*msgspec.json.decode(text))
