"""How word of a change gets from a pretend cluster to whoever watches it: late, or not at all."""

from __future__ import annotations

from collections import deque
from typing import Final

import msgspec

from penstock.compute._feed import Feed
from penstock.compute.driver import Sighting

from ._agenda import Agenda
from ._climate import Climate, Dice

__all__ = ["Entry", "News"]

ENTRIES_KEPT: Final = 10_000


class Entry(msgspec.Struct, frozen=True):
    """One line of the cluster's story: when (monotonic seconds), what, to whom."""

    at: float
    what: str
    whom: str


class News:
    """The story as it is, and the sightings of it that reach the watchers."""

    def __init__(self, agenda: Agenda, dice: Dice) -> None:
        self.journal: deque[Entry] = deque(maxlen=ENTRIES_KEPT)
        self.feeds: dict[Feed, None] = {}  # in the order of their coming
        self.cut = False
        self.dropping = 0
        self._agenda = agenda
        self._dice = dice
        self._told_at: dict[str, float] = {}

    def note(self, what: str, whom: str) -> None:
        """Put a line into the journal."""
        self.journal.append(Entry(self._agenda.at, what, whom))

    def see(self, sighting: Sighting, climate: Climate) -> None:
        """Tell of a change as the climate has it, but never before an earlier one of the same worker."""
        if self.dropping:
            self.dropping -= 1
            return
        if self._dice.happens(climate.sightings_dropped):
            return
        now = self._agenda.at
        at = max(now + self._dice.within(climate.watch_lag), self._told_at.get(sighting.uid, now))
        self._told_at[sighting.uid] = at
        if at <= now:
            self._tell(sighting)
        else:
            self._agenda.later(at - now, lambda: self._tell(sighting))

    def forget(self, uid: str) -> None:
        """Drop what is kept of a worker."""
        self._told_at.pop(uid, None)

    def _tell(self, sighting: Sighting) -> None:
        if not self.cut:  # what happens behind a cut wire is never heard of
            for feed in self.feeds:
                feed.tell(sighting)
