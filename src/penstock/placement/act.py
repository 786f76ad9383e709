"""Doing what a plan says: dull, idempotent, and guarded by what the ledger says at that moment."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any, assert_never

import structlog

from penstock.compute import Order
from penstock.errors import Misconfigured, PenstockError
from penstock.ledger.commands import AddWorker, NoteWorker, Remember
from penstock.model.app import App
from penstock.model.fleet import Worker, WorkerState
from penstock.model.placement import AppEvent, Decision

from .actions import Action, CreateWorker, NotePhase, ReapWorker, RetireWorker, StartWorkers
from .afar import PHASE_CHANGED, told
from .ends import Ends
from .parts import Parts
from .plan import AppPlan

__all__ = ["Actor"]

_log = structlog.get_logger("penstock.controller")


class Actor:
    """Carries plans out, app by app."""

    def __init__(self, parts: Parts, ends: Ends) -> None:
        self._parts = parts
        self._ends = ends

    async def act(self, planned: AppPlan) -> str:
        """Carry out one app's plan; gives what went wrong in words, empty when nothing did. Never raises a refusal."""
        faults: list[str] = []
        for action in planned.actions:
            try:
                await self._do(action, planned)
            except PenstockError as error:
                faults.append(error.detail)
                _log.warning("action.failed", app=planned.view.app.name, action=type(action).__name__, why=error.detail)
        return "; ".join(faults)

    async def _do(self, action: Action, planned: AppPlan) -> None:
        match action:
            case StartWorkers():
                await self._start(action, planned.view.app)
            case CreateWorker():
                await self._create_again(action)
            case RetireWorker():
                await self._retire(action)
            case ReapWorker():
                await self._ends.seen(action.ended)
            case NotePhase():
                await self._note(action)
            case _:
                assert_never(action)

    # -------------------------------------------------------------- start

    async def _start(self, action: StartWorkers, app: App) -> None:
        """Commit the rows and the reason for them, then create: what is created always has a row to belong to."""
        ledger, now = self._parts.ledger, self._parts.clock.now()
        rows = [self._row(action, app, now) for _ in range(action.count)]
        uids = tuple(row.uid for row in rows)
        book = Remember(decisions=(_decision(action, uids, now),), events=(_scaled_up(action, now),))
        await asyncio.gather(*(ledger.add_worker(AddWorker(worker=row)) for row in rows), ledger.remember(book))
        self._parts.recall.started(action.app, action.count, now)
        _log.info("app.scaled_up", app=action.app, workers=uids, candidate=action.candidate, why=action.why)
        await _all(*(self._create(row, app) for row in rows))

    def _row(self, action: StartWorkers, app: App, now: float) -> Worker:
        return Worker(
            uid=self._parts.ids.worker(action.app),
            app=action.app,
            spec_generation=action.spec_generation,
            state=WorkerState.STARTING,
            candidate=action.candidate,
            instances=app.worker.instances,
            started_at=now,
        )

    async def _create_again(self, action: CreateWorker) -> None:
        row = await self._parts.ledger.worker(action.uid)
        if row is None or row.state is not WorkerState.STARTING:
            return  # it has ended, or come up, since it was looked at
        await self._create(row, await self._parts.catalog.at_generation(action.app, action.spec_generation))

    async def _create(self, row: Worker, app: App) -> None:
        """Create a worker. If that fails for now its row stays, and the next tick creates it again under its uid."""
        outfit = self._parts.outfit
        env = {
            "PENSTOCK_API": outfit.api,
            "PENSTOCK_WORKER_UID": row.uid,
            "PENSTOCK_WORKER_TOKEN": self._parts.keyring.mint_worker(row.uid, row.app),
            "PENSTOCK_INLINE_MAX_BYTES": str(outfit.inline_max_bytes),
        }
        try:
            await self._parts.compute.create(Order(uid=row.uid, app=app, spec_generation=row.spec_generation, env=env))
        except Misconfigured as error:
            await self._ends.refused(row, error.detail)
            raise

    # -------------------------------------------------------------- retire

    async def _retire(self, action: RetireWorker) -> None:
        """Let a worker get no new lease; one that holds nothing is asked to go, for it can be given nothing any more."""
        if not await self._parts.ledger.note_worker(NoteWorker(uid=action.uid, state=WorkerState.DRAINING)):
            return
        _log.info("worker.retired", app=action.app, worker=action.uid, why=action.why)
        row = await self._parts.ledger.worker(action.uid)
        if row is not None and row.state is WorkerState.DRAINING and row.held == 0:
            await self._parts.compute.drain(action.uid)

    # -------------------------------------------------------------- tell

    async def _note(self, action: NotePhase) -> None:
        _log.info(
            "app.phase",
            app=action.app,
            before=action.before,
            phase=action.phase,
            reason=action.reason,
            why=action.message,
        )
        message = told(action.before, action.phase, action.message)
        event = AppEvent(app=action.app, at=self._parts.clock.now(), kind=PHASE_CHANGED, message=message)
        await self._parts.ledger.remember(Remember(events=(event,)))


async def _all(*creating: Coroutine[Any, Any, None]) -> None:
    """Await all; then raise the first refusal, if any, so that one failed start spoils no other."""
    outcomes = await asyncio.gather(*creating, return_exceptions=True)
    for outcome in outcomes:
        if isinstance(outcome, BaseException):
            raise outcome


def _decision(action: StartWorkers, uids: tuple[str, ...], now: float) -> Decision:
    choice = action.choice
    return Decision(
        app=action.app,
        spec_generation=action.spec_generation,
        made_at=now,
        chosen=action.candidate,
        workers=uids,
        survivors=choice.survivors,
        dropped=choice.dropped,
        notes=(action.why,),
    )


def _scaled_up(action: StartWorkers, now: float) -> AppEvent:
    text = f"{action.count} more on {action.candidate}: {action.why}"
    return AppEvent(app=action.app, at=now, kind="ScaledUp", message=text)
