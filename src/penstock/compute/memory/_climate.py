"""How slow and how unreliable a pretend cluster is."""

from __future__ import annotations

from typing import Final

import msgspec

from penstock.model.ids import Randomness

__all__ = ["CALM", "Climate", "Dice", "Span"]


class Span(msgspec.Struct, frozen=True):
    """A duration in seconds, drawn evenly between two bounds."""

    least: float = 0.0
    most: float = 0.0


NONE: Final = Span()


class Climate(msgspec.Struct, frozen=True, kw_only=True):
    """What everything takes, and which share (0..1) of it goes wrong. The default is a cluster that never lets you down."""

    schedule: Span = NONE  # until the scheduler has looked at a new worker
    boot: Span = NONE  # until a node is there that a group was asked for
    pull: Span = NONE  # until a node has an image that it lacked
    start: Span = NONE  # from the image to the running process
    watch_lag: Span = NONE  # from a change to its sighting
    sightings_dropped: float = 0.0
    calls_refused: float = 0.0  # Unavailable, and nothing was done
    replies_lost: float = 0.0  # creates that were done and answered Unavailable
    preempted_per_hour: float = 0.0  # of running workers


CALM: Final = Climate()


class Dice:
    """Chance from bytes that are passed in. What can't happen costs no bytes, so it shifts no other throw."""

    def __init__(self, randomness: Randomness) -> None:
        self._randomness = randomness

    def share(self) -> float:
        """Give a number from 0 up to but without 1."""
        return (int.from_bytes(self._randomness(7), "big") >> 3) / 2**53

    def happens(self, chance: float) -> bool:
        """Tell whether something of this chance happens."""
        return chance > 0 and self.share() < chance

    def within(self, span: Span) -> float:
        """Give a duration in seconds."""
        if span.most <= span.least:
            return span.least
        return span.least + (span.most - span.least) * self.share()
