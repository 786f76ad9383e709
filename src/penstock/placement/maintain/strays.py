"""Workers of an app that was deleted."""

from __future__ import annotations

from penstock.ledger.commands import NoteWorker
from penstock.model.fleet import Worker, WorkerState
from penstock.placement.parts import Parts

__all__ = ["Strays"]


class Strays:
    """Lets the workers of apps that are no more finish what they hold and go: they get no new lease."""

    name = "strays"
    period_s = 5.0

    def __init__(self, parts: Parts) -> None:
        self._parts = parts

    async def run(self) -> int:
        """Look for workers without an app; gives how many were told to go."""
        rows = (await self._parts.lookout.recent()).workers
        strays = [row for row in rows if self._parts.catalog.find(row.app) is None]
        return sum([await self._let_go(row) for row in strays])

    async def _let_go(self, row: Worker) -> bool:
        new = row.state is not WorkerState.DRAINING
        if new:
            await self._parts.ledger.note_worker(NoteWorker(uid=row.uid, state=WorkerState.DRAINING))
        now = await self._parts.ledger.worker(row.uid)
        if now is not None and not now.held:
            await self._parts.compute.drain(row.uid)
        return new
