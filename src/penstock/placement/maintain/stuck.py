"""Workers that never come up."""

from __future__ import annotations

from typing import Final

from msgspec.structs import replace

from penstock.ledger.commands import NoteWorker
from penstock.model.fleet import Worker, WorkerState
from penstock.placement.ends import Ends
from penstock.placement.parts import Parts

from .removal import Removal, remove

__all__ = ["Stuck"]

_DEFAULT_GRACE_S: Final = 300.0


class Stuck:
    """Gives up on workers that are STARTING for longer than `startupGraceSeconds`: they count as failed."""

    name = "stuck"
    period_s = 2.0

    def __init__(self, parts: Parts, ends: Ends) -> None:
        self._parts = parts
        self._ends = ends

    async def run(self) -> int:
        """Look at all that start; gives how many were given up."""
        now = await self._parts.ledger.now()
        rows = (await self._parts.lookout.recent()).workers
        late = [row for row in rows if row.state is WorkerState.STARTING and now - row.started_at > self._grace_s(row)]
        return sum([await self._give_up(row) for row in late])

    def _grace_s(self, row: Worker) -> float:
        entry = self._parts.catalog.find(row.app)
        return entry.app.scaling.startup_grace_seconds if entry else _DEFAULT_GRACE_S

    async def _give_up(self, row: Worker) -> bool:
        """Close the door first: a worker that comes up in this very moment gets no run, or keeps the one it got."""
        await self._parts.ledger.note_worker(NoteWorker(uid=row.uid, state=WorkerState.DRAINING))
        now = await self._parts.ledger.worker(row.uid)
        if now is None or now.held or now.leases or now.ready_at is not None:
            return False
        why = f"it did not come up within {self._grace_s(row):g} s"
        last = replace(now, state=WorkerState.FAILED, message=why)
        if await self._ends.write(last) is None:
            return False
        await remove(self._parts, Removal(row.app, row.uid, why))
        return True
