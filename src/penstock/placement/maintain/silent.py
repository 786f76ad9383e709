"""Workers that no longer call."""

from __future__ import annotations

from typing import Final

from penstock.ledger.commands import NoteWorker
from penstock.model.fleet import Worker, WorkerState
from penstock.placement.parts import Parts

from .removal import Removal, remove

__all__ = ["Silent"]

_LEAST_S: Final = 90.0  # a long poll takes up to 60 s, and a call is noted within 5 s
_LEASES: Final = 3


class Silent:
    """Removes workers that hold no lease and have not called for minutes: they hang, and keep a GPU from others.

    Their silence counts from our own start at the earliest, for while we were down nobody could call. One that holds a
    lease is left alone: it ends with its heartbeats, and the run comes back by itself.
    """

    name = "silent"
    period_s = 10.0

    def __init__(self, parts: Parts) -> None:
        self._parts = parts
        self._listening_since: float | None = None

    async def run(self) -> int:
        """Look at all that have come up; gives how many were removed."""
        now = await self._parts.ledger.now()
        if self._listening_since is None:
            self._listening_since = now
        rows = (await self._parts.lookout.recent()).workers
        return sum([await self._remove(row) for row in rows if self._hangs(row, now)])

    def _hangs(self, row: Worker, now: float) -> bool:
        if row.held or row.state is WorkerState.STARTING:
            return False
        heard_at = max(row.seen_at or 0.0, row.ready_at or 0.0, row.started_at, self._listening_since or 0.0)
        return now - heard_at > self._patience_s(row)

    def _patience_s(self, row: Worker) -> float:
        entry = self._parts.catalog.find(row.app)
        return max(_LEAST_S, _LEASES * entry.app.deadlines.lease_seconds if entry else 0.0)

    async def _remove(self, row: Worker) -> bool:
        """Close the door first, then look again: one that was given a run in this moment keeps it."""
        await self._parts.ledger.note_worker(NoteWorker(uid=row.uid, state=WorkerState.DRAINING))
        now = await self._parts.ledger.worker(row.uid)
        if now is None or now.held or now.state is not WorkerState.DRAINING or now.seen_at != row.seen_at:
            return False
        await remove(self._parts, Removal(row.app, row.uid, f"it has not called for {self._patience_s(row):g} s"))
        return True
