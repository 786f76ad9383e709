"""How many workers may start now, and why no more."""

from __future__ import annotations

from math import inf

import msgspec

from penstock.model.placement import Phase
from penstock.model.run import Reason

__all__ = ["Limit"]


class Limit(msgspec.Struct, frozen=True, gc=False):
    """At most so many starts now. `phase` and the words are what the app shows when this is what holds it back.

    `until` is when the limit lifts by itself, in seconds since 1970.
    """

    at_most: int
    phase: Phase
    reason: Reason
    message: str
    until: float = inf
