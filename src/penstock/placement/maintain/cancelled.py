"""Attempts that nobody wants any more, and whose worker does not stop."""

from __future__ import annotations

from typing import Final

from penstock.ledger.commands import NoteWorker
from penstock.model.fleet import LIVE, Worker, WorkerState
from penstock.model.run import Attempt
from penstock.placement.parts import Parts

from .removal import Removal, remove

__all__ = ["Cancelled"]

_GRACE_S: Final = 10.0  # to stop in, once told
_MARGIN_S: Final = 2.0
_LEASE_S: Final = 30.0


class Cancelled:
    """Removes workers that were told to stop an attempt (cancelled, or past its deadline) and did not answer in time.

    What else such a worker holds goes back to the head of its lane.
    """

    name = "cancelled"
    period_s = 1.0

    def __init__(self, parts: Parts) -> None:
        self._parts = parts
        self._removed: set[str] = set()

    async def run(self) -> int:
        """Look at what was ended over its worker's head; gives how many workers were removed."""
        found = await self._parts.ledger.unanswered(_MARGIN_S)
        self._removed &= {attempt.worker_uid for attempt in found}
        if not found:
            return 0
        now = await self._parts.ledger.now()
        return sum([await self._look_at(attempt, now) for attempt in found])

    async def _look_at(self, attempt: Attempt, now: float) -> bool:
        row = await self._parts.ledger.worker(attempt.worker_uid)
        if row is None or row.state not in LIVE or row.uid in self._removed:
            return False
        if now - (attempt.finished_at or now) < self._patience_s(attempt, row):
            return False
        self._removed.add(row.uid)
        await self._parts.ledger.note_worker(NoteWorker(uid=row.uid, state=WorkerState.DRAINING))
        why = f"it did not stop run {attempt.run_id}, which had ended: {attempt.reason or attempt.state}"
        await remove(self._parts, Removal(row.app, row.uid, why))
        return True

    def _patience_s(self, attempt: Attempt, row: Worker) -> float:
        """Give the time until the worker has heard of it, at its next heartbeat, and has had its grace.

        With the lease the ledger lets go of the attempt, so there is no use in waiting longer than that.
        """
        entry = self._parts.catalog.find(row.app)
        heartbeat_s = (entry.app.deadlines.lease_seconds if entry else _LEASE_S) / 3.0
        left_s = attempt.lease_until - (attempt.finished_at or 0.0) - _MARGIN_S
        return max(heartbeat_s + _MARGIN_S, min(heartbeat_s + _GRACE_S, left_s))
