"""What will happen in a pretend cluster, and when."""

from __future__ import annotations

import heapq
import itertools
from collections.abc import Callable

from penstock.model.ids import Clock

__all__ = ["Agenda"]


class Agenda:
    """Actions by their time, in seconds of the clock's `monotonic`; those of one time in the order of their entry.

    `at` is the time that it is in the cluster: while an action runs, the one that it was due at.
    """

    def __init__(self, clock: Clock) -> None:
        self.at = clock.monotonic()
        self._clock = clock
        self._due: list[tuple[float, int, Callable[[], None]]] = []
        self._order = itertools.count()
        self._ticking = False

    @property
    def wall(self) -> float:
        """The time in the cluster as seconds since 1970."""
        return self._clock.now() - (self._clock.monotonic() - self.at)

    @property
    def next_at(self) -> float | None:
        """When something is due next."""
        return self._due[0][0] if self._due else None

    def later(self, seconds: float, action: Callable[[], None]) -> None:
        """Have something happen so many seconds after the time in the cluster."""
        heapq.heappush(self._due, (self.at + seconds, next(self._order), action))

    def tick(self) -> None:
        """Do all that is due by the clock, each at its own time; asked for by an action, it is under way already."""
        if self._ticking:
            return
        self._ticking = True
        try:
            self._do(self._clock.monotonic())
        finally:
            self._ticking = False

    def _do(self, now: float) -> None:
        while self._due and self._due[0][0] <= now:
            at, _, action = heapq.heappop(self._due)
            self.at = max(self.at, at)
            action()
        self.at = max(self.at, now)
