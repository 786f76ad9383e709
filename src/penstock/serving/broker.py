"""Giving work to workers and taking back what became of it: lease, settle, extend, and the end of a worker."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Iterable, Sequence
from contextlib import suppress
from typing import Any, Final

from penstock.errors import NotFound, Stale, TooLarge, Unavailable
from penstock.identity import Keyring, WorkerClaims
from penstock.ledger import Ledger
from penstock.ledger.commands import (
    Checkpoint,
    EndWorker,
    Extend,
    ExtendCode,
    Grant,
    GrantExit,
    Lease,
    SeeWorkers,
    Settle,
    SettleCode,
)
from penstock.model import wire
from penstock.model.app import App, DesiredState
from penstock.model.fleet import ENDED, WorkerState
from penstock.model.ids import Clock
from penstock.model.run import Lane, Outcome, Payload, Reason, Report, Run, State
from penstock.queue import Message, Queue
from penstock.store import Store

from .catalog import Catalog
from .credits import LONGEST_WAIT_S, Credits, lane_of
from .notices import Notices
from .proof import Proof
from .results import Results

__all__ = ["Broker"]

_MUST_GO: Final = frozenset({WorkerState.DRAINING, *ENDED})
_NOTHING: Final = wire.LeaseReply()
_GO: Final = wire.LeaseReply(exit=True)


class Broker:
    """The only way by which a worker gets and settles runs. Every call names the worker, from its verified token."""

    def __init__(
        self,
        ledger: Ledger,
        queue: Queue,
        store: Store,
        catalog: Catalog,
        keyring: Keyring,
        notices: Notices,
        *,
        clock: Clock,
        inline_max_bytes: int = 32 * 1024,
    ) -> None:
        self._ledger = ledger
        self._credits = Credits(queue)
        self._results = Results(store, catalog, inline_max_bytes)
        self._proof = Proof(ledger, keyring)
        self._catalog = catalog
        self._keyring = keyring
        self._notices = notices
        self._clock = clock
        self._seen: set[str] = set()
        self._app_changes = asyncio.Event()
        self._unfinished: set[asyncio.Future[object]] = set()
        catalog.subscribe(self._app_changed)

    # -------------------------------------------------------------- lease

    async def lease(self, worker: WorkerClaims, ask: wire.Want, replica: int = 0) -> wire.LeaseReply:
        """Give a worker up to `ask.max` runs, waiting up to `ask.wait_s` seconds for the first."""
        self._seen.add(worker.uid)
        app = await self._open_app(worker.app, min(ask.wait_s, LONGEST_WAIT_S))
        if app is None:
            return _GO if self._catalog.find(worker.app) is None else _NOTHING
        messages = await self._credits.at_hand(app, ask.lanes, ask.max)
        if not messages:
            if not await self._may_wait(worker):
                return _GO
            messages = await self._credits.first(app, ask.lanes, ask.max, ask.wait_s)
        if not messages:
            return _NOTHING if await self._may_wait(worker) else _GO
        if self._paused(worker.app):  # since it began to wait
            await self._credits.spend(messages, again=len(messages))
            return _NOTHING
        return await self._to_the_end(worker, self._spend(worker, ask, replica, messages))

    def _paused(self, name: str) -> bool:
        entry = self._catalog.find(name)
        return entry is not None and entry.app.desired_state is DesiredState.PAUSED

    async def _open_app(self, name: str, wait_s: float) -> App | None:
        """Give the app once it may lease; None when it is unknown, or still paused after `wait_s` seconds."""
        deadline = self._clock.monotonic() + wait_s
        with suppress(NotFound):  # it may be so new that only the process knows it through which it came
            await self._catalog.seek(name)
        while (entry := self._catalog.find(name)) is not None:
            if entry.app.desired_state is not DesiredState.PAUSED:
                return entry.app
            changed = self._app_changes
            try:
                async with asyncio.timeout(deadline - self._clock.monotonic()):
                    await changed.wait()
            except TimeoutError:
                return None
        return None

    async def _may_wait(self, worker: WorkerClaims) -> bool:
        """Tell whether a worker without work should stay; one that asks for the first time is up from now on."""
        row = await self._ledger.worker(worker.uid)
        if row is None or row.state in _MUST_GO:
            return False
        if row.state is WorkerState.STARTING:
            await self._ledger.lease(Lease(worker_uid=worker.uid, app=worker.app, lane=Lane.INFER, count=0))
        return True

    async def _to_the_end(self, worker: WorkerClaims, leasing: Coroutine[Any, Any, wire.LeaseReply]) -> wire.LeaseReply:
        """Finish a lease that has begun even if its asker hangs up meanwhile; then what it gave goes back at once."""
        task = asyncio.ensure_future(leasing)
        try:
            return await asyncio.shield(task)
        except asyncio.CancelledError:
            self._keep(self._take_back(worker, task))
            raise

    async def _take_back(self, worker: WorkerClaims, leasing: asyncio.Task[wire.LeaseReply]) -> None:
        await asyncio.wait((leasing,))
        if leasing.cancelled() or leasing.exception():
            return
        for held in leasing.result().attempts:
            item = wire.SettleItem(run_id=held.run_id, epoch=held.epoch, token=held.token, outcome=Outcome.RELEASED)
            await self._settle_one(worker, item)

    def _keep(self, work: Coroutine[Any, Any, object]) -> None:
        task = asyncio.ensure_future(work)
        self._unfinished.add(task)
        task.add_done_callback(self._unfinished.discard)

    async def _spend(
        self, worker: WorkerClaims, ask: wire.Want, replica: int, messages: Sequence[Message]
    ) -> wire.LeaseReply:
        """Turn credits into attempts: as many runs, but the first in the ledger's order; give back what is unused."""
        wanted = Lease(
            worker_uid=worker.uid,
            app=worker.app,
            lane=lane_of(messages),
            count=len(messages),
            replica=replica,
            idle=ask.idle,
        )
        try:
            leased = await self._ledger.lease(wanted)
        except Unavailable:
            await self._credits.spend(messages, again=len(messages))
            raise
        unused = len(messages) - len(leased.grants)
        await self._credits.spend(messages, again=unused if leased.refused else min(unused, leased.left))
        if leased.refused:
            return _GO
        for grant in leased.grants:
            self._notices.publish(grant.run)
        attempts = tuple([await self._assign(worker, grant) for grant in leased.grants])
        return wire.LeaseReply(attempts=attempts, drain_first=leased.alone_waits)

    async def _assign(self, worker: WorkerClaims, grant: Grant) -> wire.Assignment:
        run = grant.run
        url = await self._results.body_url(run)
        return wire.Assignment(
            run_id=run.id,
            epoch=run.epoch,
            token=self._proof.give(worker, run.id, run.epoch),
            tenant=run.tenant,
            key=run.key,
            lane=run.lane,
            lease_s=run.terms.lease_seconds,
            deadline_s=run.terms.run_deadline_seconds,
            alone=grant.alone,
            content_type=run.body.content_type,
            body=None if url else run.body.inline or b"",
            body_url=url,
            checkpoint=grant.checkpoint,
            attempts_left=max(0, run.terms.max_attempts - run.failures),
            traceparent=run.traceparent,
        )

    # -------------------------------------------------------------- settle

    async def settle(self, worker: WorkerClaims, ask: wire.SettleRequest) -> wire.SettleReply:
        """Take the ends of attempts, item by item, and give the next work in the same round trip."""
        # Shielded: who waits for these runs must be told even if the worker hangs up meanwhile.
        settling = asyncio.shield(asyncio.gather(*(self._settle_one(worker, item) for item in ask.done)))
        if ask.want is None:
            return wire.SettleReply(done=tuple(await settling))
        # Both go into one group commit where work is waiting already; the ledger settles before it leases.
        leasing = asyncio.create_task(self.lease(worker, ask.want, ask.replica))
        try:
            done, more = await settling, await leasing
        except BaseException:  # nobody will hear of what is leased beside reports that can't be taken
            leasing.cancel()
            self._keep(self._take_back(worker, leasing))
            raise
        return wire.SettleReply(done=tuple(done), attempts=more.attempts, drain_first=more.drain_first, exit=more.exit)

    async def _settle_one(self, worker: WorkerClaims, item: wire.SettleItem) -> wire.SettleStatus:
        if not await self._proof.holds(worker, "settle", item):
            return wire.SettleStatus(run_id=item.run_id, code=SettleCode.STALE)
        report = await self._report(item)
        settled = await self._ledger.settle(Settle(run_id=item.run_id, epoch=item.epoch, report=report))
        if settled.code is SettleCode.OK and settled.run is not None:
            await self._tell(settled.run)
        elif settled.code is SettleCode.STALE:
            await self._proof.was_stale(worker, "settle", item)
        return wire.SettleStatus(run_id=item.run_id, code=settled.code)

    async def _report(self, item: wire.SettleItem) -> Report:
        """Give the ledger's form of a worker's report, with a result that is durable before any record names it."""
        outcome, reason, message, result = item.outcome, item.reason, item.message, None
        if outcome is Outcome.SUCCEEDED:
            try:
                result = await self._result(item)
            except TooLarge as error:
                outcome, reason, message = Outcome.FAILED, Reason.RESULT_TOO_LARGE, error.detail
            except NotFound:
                outcome, reason, message = Outcome.RETRY, Reason.HANDLER_ERROR, "the result was not uploaded"
            except Stale:
                pass  # nothing is published any more; what became of the attempt is for the ledger to say
        return Report(outcome, reason, message, result, item.retry_after)

    async def _result(self, item: wire.SettleItem) -> Payload:
        small = self._results.inline(item)
        return small or await self._results.stored(await self._current(item.run_id, item.epoch), item)

    async def _current(self, run_id: str, epoch: int) -> Run:
        run = await self._ledger.run(run_id)
        if run is None or run.epoch != epoch or run.state is not State.RUNNING:
            raise Stale("this attempt is no longer the current one; drop it")
        return run

    # -------------------------------------------------------------- heartbeats

    async def extend(self, worker: WorkerClaims, ask: wire.ExtendRequest) -> wire.ExtendReply:
        """Renew the leases of what a worker holds; tells it what is lost or cancelled, and gives a fresh token."""
        self._seen.add(worker.uid)
        codes = await asyncio.gather(*(self._extend_one(worker, item) for item in ask.attempts))
        verdicts = list(zip(ask.attempts, codes, strict=True))
        row = await self._ledger.worker(worker.uid)
        return wire.ExtendReply(
            lost=tuple(item.run_id for item, code in verdicts if code is ExtendCode.LOST),
            cancelled=tuple(item.run_id for item, code in verdicts if code is ExtendCode.CANCELLED),
            exit=row is None or row.state in _MUST_GO,
            token=self._keyring.mint_worker(worker.uid, worker.app),
        )

    async def _extend_one(self, worker: WorkerClaims, item: wire.ExtendItem) -> ExtendCode:
        if not await self._proof.holds(worker, "extend", item):
            return ExtendCode.LOST
        code = await self._ledger.extend(
            Extend(run_id=item.run_id, epoch=item.epoch, progress=item.progress, note=item.note)
        )
        if code is ExtendCode.LOST:
            await self._proof.was_stale(worker, "extend", item)
        elif item.progress is not None and (run := await self._ledger.run(item.run_id)) is not None:
            self._notices.publish(run)
        return code

    async def checkpoint(self, worker: WorkerClaims, ask: wire.CheckpointRequest) -> wire.CheckpointReply:
        """Save bytes from which a later attempt of the run resumes."""
        if not await self._proof.holds(worker, "checkpoint", ask):
            return wire.CheckpointReply(code=ExtendCode.LOST)
        code = await self._ledger.checkpoint(Checkpoint(run_id=ask.run_id, epoch=ask.epoch, data=ask.data))
        if code is ExtendCode.LOST:
            await self._proof.was_stale(worker, "checkpoint", ask)
        return wire.CheckpointReply(code=code)

    async def urls(self, worker: WorkerClaims, ask: wire.UrlsRequest) -> wire.UrlsReply:
        """Give fresh signed URLs for a live attempt. Raises `Stale` when it is no longer the current one."""
        if not await self._proof.holds(worker, "urls", ask):
            raise Stale("this attempt was not handed to this worker")
        try:
            run = await self._current(ask.run_id, ask.epoch)
        except Stale:
            await self._proof.was_stale(worker, "urls", ask)
            raise
        body_url = await self._results.body_url(run)
        if ask.result_bytes is None:
            return wire.UrlsReply(body_url=body_url)
        put = await self._results.url(run, ask.result_bytes)
        return wire.UrlsReply(
            body_url=body_url, result_url=put.url, result_key=self._results.key(run), result_headers=put.headers
        )

    # -------------------------------------------------------------- the end of a worker

    async def exit(self, worker: WorkerClaims) -> wire.ExitReply:
        """Let an idle worker go, unless work is in line or it is one of those to keep."""
        entry = self._catalog.find(worker.app)
        keep = entry.app.scaling.min_instances if entry else 0
        return wire.ExitReply(granted=await self._ledger.grant_exit(GrantExit(uid=worker.uid, keep=keep)))

    async def replica_died(self, worker: WorkerClaims, died: wire.ReplicaDied) -> None:
        """Take back at once what a worker's dead replica held."""
        runs = await self._ledger.end_worker(
            EndWorker(
                uid=worker.uid,
                state=WorkerState.FAILED,
                replica=died.replica,
                exit_code=died.exit_code,
                message=died.message,
            )
        )
        await self.returned(runs)

    async def returned(self, runs: Iterable[Run]) -> None:
        """Pass on runs that a repair changed: the ended ones to those who wait, the queued ones to the queue."""
        for run in runs:
            await self._tell(run)

    async def note_seen(self) -> None:
        """Record which workers called since the last time; the wiring calls it every few seconds."""
        if self._seen:
            uids, self._seen = tuple(self._seen), set()
            await self._ledger.see_workers(SeeWorkers(uids=uids))

    async def _tell(self, run: Run) -> None:
        self._notices.publish(run)
        if run.state is not State.QUEUED or run.not_before > await self._ledger.now():
            return  # one that waits out a back-off gets its hint when it is due
        entry = self._catalog.find(run.app)
        await self._credits.send(entry.app.queue_ref if entry else run.app, run.lane, run.id)

    @property
    def stale(self) -> int:
        """How many claims were to attempts that were no longer the current one."""
        return self._proof.stale

    @property
    def forged(self) -> int:
        """How many tokens were shown by others than the worker they were handed to."""
        return self._proof.forged

    @property
    def lost_hints(self) -> int:
        """How many credits the queue did not take."""
        return self._credits.lost

    def _app_changed(self, _name: str) -> None:
        self._app_changes.set()
        self._app_changes = asyncio.Event()
