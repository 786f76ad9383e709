"""The ledger's own repairs: it finds and mends the runs, here it is only asked to, often enough."""

from __future__ import annotations

from typing import Final

from penstock.ledger.commands import Mend, Sweep
from penstock.placement.parts import Parts

__all__ = ["SWEEPS", "Sweeper"]

_AT_ONCE: Final = 500
_ROUNDS: Final = 20  # a long arrear is worked off over several turns, so that nothing else waits for it

# (what, how often in seconds): each look costs a tenth of a millisecond, and an idle platform does nothing else
SWEEPS: Final = (
    (Sweep.DUE, 0.5),
    (Sweep.LEASES, 1.0),
    (Sweep.DEADLINES, 1.0),
    (Sweep.QUEUE_TTL, 2.0),
    (Sweep.TOMBSTONES, 10.0),
)


class Sweeper:
    """One of the ledger's repairs over runs. What it changed is told to those who wait."""

    def __init__(self, parts: Parts, sweep: Sweep, period_s: float) -> None:
        self._parts = parts
        self._sweep = sweep
        self.name = sweep.value
        self.period_s = period_s

    async def run(self) -> int:
        """Mend all there is, or as much as one turn may take; gives how many runs were changed."""
        mended = 0
        for _ in range(_ROUNDS):
            runs = await self._parts.ledger.mend(Mend(sweep=self._sweep, limit=_AT_ONCE))
            mended += len(runs)
            if self._sweep is not Sweep.TOMBSTONES:
                await self._parts.broker.returned(runs)
            if len(runs) < _AT_ONCE:
                break
        return mended
