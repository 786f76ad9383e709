"""What to do while the broker can't be reached: how long to wait between tries, and when to give up."""

from __future__ import annotations

from typing import Final

from penstock.model.ids import Randomness

__all__ = ["Outage"]

FIRST_S: Final = 0.1
LONGEST_S: Final = 5.0
WITH_RESULT_S: Final = 3600.0  # a result in hand is worth waiting for


class Outage:
    """Counts failures in a row. Waits double from 0.1 s to 5 s, each shortened by up to half so that workers spread."""

    def __init__(self, patience_s: float, random: Randomness) -> None:
        self._patience_s = patience_s
        self._random = random
        self._since: float | None = None
        self._tries = 0

    def failed(self, now: float) -> float:
        """Note a failure; gives the seconds to wait before the next try."""
        if self._since is None:
            self._since = now
        step = min(LONGEST_S, FIRST_S * 2.0 ** min(self._tries, 10))
        self._tries += 1
        return step * (0.5 + 0.5 * self._random(1)[0] / 255)

    def over(self) -> None:
        """Note that the broker answered."""
        self._since = None
        self._tries = 0

    def hopeless(self, now: float, *, with_result: bool) -> bool:
        """Tell whether to give up: after `idleExitSeconds`, or after an hour with a result in hand."""
        return self._since is not None and now - self._since > (WITH_RESULT_S if with_result else self._patience_s)
