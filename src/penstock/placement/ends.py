"""Recording that a worker is no more, once, whoever saw it first."""

from __future__ import annotations

from typing import Final

import structlog
from msgspec.structs import replace

from penstock.ledger.commands import EndWorker, Remember
from penstock.model.fleet import LIVE, Worker, WorkerState
from penstock.model.last_words import last_words
from penstock.model.placement import AppEvent

from .parts import Parts
from .snapshot import Ended

__all__ = ["Ends"]

_log = structlog.get_logger("penstock.controller")

_EVENTS: Final = {
    WorkerState.EXITED: "WorkerExited",
    WorkerState.FAILED: "WorkerFailed",
    WorkerState.LOST: "WorkerLost",
}


class Ends:
    """Writes ends of workers to the ledger, takes back what they held, and remembers what it says about their app."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts
        self._writing: set[str] = set()

    async def seen(self, ended: Ended) -> Worker | None:
        """Record an end that compute saw, and have compute forget it; gives the last record if this call wrote it.

        A worker that was told to go, or exits with 0 and empty hands, ends clean. One that exits with 0 while it holds
        runs was ended by one of them (`sys.exit` has many spellings), else they would come back to it for ever; one
        that exits with 0 before it ever asked for work did not start.
        """
        row = await self._parts.ledger.worker(ended.uid)
        written = None
        if row is not None and row.state in LIVE:
            clean = row.state is WorkerState.DRAINING or (ended.exit_code == 0 and not row.held)
            good = clean and row.state is not WorkerState.STARTING
            state = WorkerState.EXITED if good else WorkerState.FAILED
            message = last_words(ended.message) or (_UNSTARTED if clean and not good else "")
            last = replace(row, state=state, exit_code=ended.exit_code, reason=ended.reason, message=message)
            written = await self.write(last, clean=clean)
        await self._parts.compute.forget(ended.uid)
        return written

    async def write(self, last: Worker, *, clean: bool = False) -> Worker | None:
        """Record the end of a worker as its `last` record says; None when another call is at it."""
        if last.uid in self._writing:
            return None
        self._writing.add(last.uid)
        try:
            return await self._write(last, clean=clean)
        finally:
            self._writing.discard(last.uid)

    async def refused(self, row: Worker, detail: str) -> None:
        """Record that a worker can't start as ordered."""
        last = replace(row, state=WorkerState.FAILED, reason="CONFIG", message=detail)
        await self._end(last, clean=False)
        await self._tell(last, opened=self._parts.recall.refused(last, self._parts.clock.now()))

    async def _write(self, last: Worker, *, clean: bool) -> Worker | None:
        row = await self._parts.ledger.worker(last.uid)
        if row is None or row.state not in LIVE:
            return None
        last = replace(last, leases=row.leases, ready_at=row.ready_at)
        await self._end(last, clean=clean)
        await self._tell(last, opened=self._parts.recall.ended(last, self._parts.clock.now()))
        return last

    async def _end(self, last: Worker, *, clean: bool) -> None:
        runs = await self._parts.ledger.end_worker(
            EndWorker(
                uid=last.uid,
                state=last.state,
                clean=clean,
                exit_code=last.exit_code,
                reason=last.reason,
                message=last.message,
            )
        )
        await self._parts.broker.returned(runs)

    async def _tell(self, last: Worker, *, opened: bool) -> None:
        kind = _EVENTS[last.state]
        _log.info(
            "worker.ended", app=last.app, worker=last.uid, state=last.state, exit_code=last.exit_code, why=last.reason
        )
        at = self._parts.clock.now()
        said = last.message or (f"exit code {last.exit_code}" if last.exit_code is not None else last.reason)
        events = [AppEvent(app=last.app, at=at, kind=kind, message=said, worker_uid=last.uid)]
        if opened:
            events.append(AppEvent(app=last.app, at=at, kind="CircuitOpened", message=said, worker_uid=last.uid))
        await self._parts.ledger.remember(Remember(events=tuple(events)))


_UNSTARTED: Final = "it exited with 0 before it asked for work"
