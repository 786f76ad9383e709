"""Choosing among the places where a worker could start; each that is not chosen says why."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

import msgspec

from penstock.model.placement import Drop

__all__ = ["LOCAL", "Choice", "Offer", "choose"]


class Offer(msgspec.Struct, frozen=True, gc=False):
    """A candidate as it stands now: its key, and why it can't be used just now, if so."""

    key: str
    dropped: Drop | None = None


class Choice(msgspec.Struct, frozen=True, gc=False):
    """What became of each candidate: one chosen (None = nothing was possible), some would have done, some dropped."""

    chosen: str | None
    survivors: tuple[str, ...]
    dropped: dict[str, Drop]


LOCAL: Final = Offer("local")  # the deployment's own compute, where an app names no candidate


def choose(offers: Iterable[Offer]) -> Choice:
    """Give the first candidate, in the order of the spec, that is not dropped."""
    survivors: list[str] = []
    dropped: dict[str, Drop] = {}
    for offer in offers:
        if offer.dropped is None:
            survivors.append(offer.key)
        else:
            dropped[offer.key] = offer.dropped
    return Choice(survivors[0] if survivors else None, tuple(survivors), dropped)
