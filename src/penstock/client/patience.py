"""Whether and when to try again."""

from __future__ import annotations

import msgspec

from penstock.model.ids import Randomness

__all__ = ["Patience"]

_MOST_HEEDED_S = 60.0


class Patience(msgspec.Struct, frozen=True):
    """How often a request is tried, and how long it pauses between, in seconds.

    Only what may be repeated is: a GET, and a POST that carries a key. The pauses double and are spread evenly below
    their bound ("full jitter"); a Retry-After is the least pause, and one above a minute is not waited for.
    """

    tries: int = 5
    first_s: float = 0.2
    longest_s: float = 5.0

    def pause(self, failed: int, retry_after: float | None, random: Randomness) -> float | None:
        """Give the seconds to wait after so many failures, or None to give up."""
        if failed >= self.tries or (retry_after or 0.0) > _MOST_HEEDED_S:
            return None
        bound = min(self.longest_s, self.first_s * 2.0 ** min(failed - 1, 30))
        return (retry_after or 0.0) + bound * int.from_bytes(random(4), "big") / 0xFFFF_FFFF
