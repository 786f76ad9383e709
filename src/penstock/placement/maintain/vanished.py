"""Workers on record that compute does not know (any more)."""

from __future__ import annotations

from typing import Final

from msgspec.structs import replace

from penstock.model.fleet import Worker, WorkerState
from penstock.placement.ends import Ends
from penstock.placement.parts import Parts

__all__ = ["Vanished"]

_GRACE_S: Final = 10.0


class Vanished:
    """Records as LOST the workers that compute has not known for a while. One that is STARTING is created again instead."""

    name = "vanished"
    period_s = 2.0

    def __init__(self, parts: Parts, ends: Ends) -> None:
        self._parts = parts
        self._ends = ends
        self._missing_since: dict[str, float] = {}

    async def run(self) -> int:
        """Compare the rows with the sightings; gives how many were recorded as lost."""
        fleet = await self._parts.lookout.recent()
        if fleet.sightings is None:
            return 0
        seen = {sighting.uid for sighting in fleet.sightings}
        missing = [row for row in fleet.workers if row.uid not in seen and row.state is not WorkerState.STARTING]
        now = self._parts.clock.monotonic()
        self._missing_since = {row.uid: self._missing_since.get(row.uid, now) for row in missing}
        gone = [row for row in missing if now - self._missing_since[row.uid] >= _GRACE_S]
        for row in gone:
            await self._ends.write(_lost(row))
        return len(gone)


def _lost(row: Worker) -> Worker:
    return replace(
        row, state=WorkerState.LOST, reason="", message="it is gone from where it ran, and left no exit code"
    )
