"""How much work to hold: as much as runs at once, and a little ahead where calls are short and a backlog waits."""

from __future__ import annotations

from typing import Final

__all__ = ["QUICK", "Pace"]

QUICK: Final = 0.025  # seconds of work to hold ahead: what a run may lose by waiting here rather than in line
MOST_AHEAD: Final = 256  # runs
SMOOTHING: Final = 0.2


class Pace:
    """Learns how long calls take, and says how many runs may be in hand.

    With calls of 25 ms or more nothing is held that does not run: a leased run can't go to an idle neighbour. With
    shorter ones a round trip to the broker would cost more than a call, so the next are fetched during it.
    """

    def __init__(self, *, slots: int, batch_size: int) -> None:
        self._batch_size = batch_size
        self._seconds: float | None = None
        self._room = slots * batch_size  # runs that can be worked on at once

    def note(self, seconds: float) -> None:
        """Take in how long a call took. A longer one counts at once, a shorter one gradually."""
        known = self._seconds
        smooth = seconds if known is None else known + SMOOTHING * (seconds - known)
        self._seconds = max(seconds, smooth)

    @property
    def quick(self) -> bool:
        """Whether calls are so short that what runs now will be done before a question is answered."""
        return self._seconds is not None and self._seconds < QUICK

    @property
    def ahead(self) -> int:
        """How many runs may be in hand, those that run included."""
        if self._seconds is None or self._seconds >= QUICK / 2:
            return self._room
        calls = int(QUICK / max(self._seconds, 1e-6))
        return max(self._room, min(calls * self._batch_size, MOST_AHEAD))
