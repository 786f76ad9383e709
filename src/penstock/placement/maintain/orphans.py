"""What compute still runs although nothing owns it."""

from __future__ import annotations

import asyncio

from penstock.compute import Phase, Sighting
from penstock.model.fleet import LIVE
from penstock.placement.parts import Parts

from .removal import Removal, remove

__all__ = ["Orphans"]


class Orphans:
    """Removes workers that have no live row, and has compute forget ended ones whose end is on record."""

    name = "orphans"
    period_s = 5.0

    def __init__(self, parts: Parts) -> None:
        self._parts = parts

    async def run(self) -> int:
        """Look at every worker that compute knows; gives how many were removed."""
        fleet = await self._parts.lookout.recent()
        rows = {worker.uid for worker in fleet.workers}
        unowned = [sighting for sighting in fleet.sightings or () if sighting.uid not in rows]
        return sum(await asyncio.gather(*(self._settle(sighting) for sighting in unowned)))

    async def _settle(self, sighting: Sighting) -> int:
        row = await self._parts.ledger.worker(sighting.uid)  # again, right before: it may have come meanwhile
        if row is not None and row.state in LIVE:
            return 0
        if sighting.phase is Phase.ENDED:
            await self._parts.compute.forget(sighting.uid)
            return 0
        why = "it has no record in this deployment" if row is None else f"its record says that it is {row.state}"
        await remove(self._parts, Removal(sighting.app, sighting.uid, why))
        return 1
