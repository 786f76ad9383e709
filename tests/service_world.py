"""The whole service over real ports in one process: intake, broker, catalog and the maintainer's duties.

Time stands still unless told, ids repeat, and a restart makes everything anew but the ledger and the store.
"""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path

import msgspec

from penstock.compute import open_compute
from penstock.compute.memory import Cluster, Group
from penstock.identity import Keyring, WorkerClaims, open_keyring
from penstock.ledger import Ledger, open_ledger
from penstock.ledger.commands import Accepted, AddWorker, EndWorker, Gap, Sweep
from penstock.model import wire
from penstock.model.app import App, Deadlines, DesiredState, Results, Retry
from penstock.model.fleet import Worker, WorkerState
from penstock.model.ids import Ids
from penstock.model.run import Run
from penstock.placement import Outfit, Parts
from penstock.placement.maintain.hints import Hints
from penstock.placement.maintain.results import Results as ResultsDuty
from penstock.placement.maintain.sweeps import Sweeper
from penstock.queue import Queue, open_queue
from penstock.serving import Broker, Catalog, Intake, Notices, Runs, Submission
from penstock.store import Signer, Store, open_store
from penstock.testing.clock import ManualClock, seeded

APP = "digits"
INLINE = 200  # bytes: what is larger goes through the store
STILL = 40  # turns of the loop after which nothing goes on any more


@dataclass(frozen=True)
class Urls:
    """Which drivers the world stands on."""

    queue: str = "memory:"
    store: str = "memory:"


@dataclass
class Wait:
    """Someone who waits for a run's end."""

    run_id: str
    task: asyncio.Task[Run]


def an_app(*, max_attempts: int = 3, lease_s: float = 30.0, result_ttl_s: float = 5000.0, cache: bool = True) -> App:
    return App(
        name=APP,
        handler="digits:Digits",
        retry=Retry(max_attempts=max_attempts, backoff_seconds=10.0),
        deadlines=Deadlines(queue_ttl_seconds=1000.0, run_deadline_seconds=100.0, lease_seconds=lease_s),
        results=Results(ttl_hours=result_ttl_s / 3600.0, cache=cache),
    )


class World:
    """Everything opened, and the moves of clients, workers, maintainer and operator."""

    clock: ManualClock
    ledger: Ledger
    queue: Queue
    store: Store
    keyring: Keyring
    catalog: Catalog
    notices: Notices
    intake: Intake
    broker: Broker
    runs: Runs
    parts: Parts

    def __init__(self, folder: Path, urls: Urls) -> None:
        self._folder = folder
        self._urls = urls
        self._kept = AsyncExitStack()
        self._process = AsyncExitStack()
        self.clock = ManualClock()
        self.ids = Ids(self.clock, seeded("ids"))
        self.waits: list[Wait] = []

    # ---------------------------------------------------------------- its life

    async def open(self) -> None:
        """Make what outlives a restart, and then the process."""
        clock = self.clock
        self.keyring = open_keyring(self._folder / "keys.json", clock=clock)
        signer = Signer("http://127.0.0.1:1", [self.keyring.url_secret], clock)
        self.ledger = await self._kept.enter_async_context(open_ledger("sqlite://", clock=clock))
        store = open_store(self._urls.store, clock=clock, random=seeded("store"), signer=signer)
        self.store = await self._kept.enter_async_context(store)
        await self._begin()
        await self.catalog.apply(an_app())

    async def close(self) -> None:
        await self._end()
        await self._kept.aclose()

    async def restart(self) -> None:
        """Another process takes over: a queue in memory is empty, and nobody knows who waited."""
        await self._end()
        await self._begin()
        await self.ledger.gap(Gap(forgive=True))

    async def _begin(self) -> None:
        clock, enter = self.clock, self._process.enter_async_context
        self.queue = await enter(open_queue(self._urls.queue, clock=clock))
        cluster = Cluster(clock=clock, randomness=seeded("cluster"), groups=(Group(name="node", least=1, most=1),))
        compute = await enter(open_compute("memory:", clock=clock, randomness=seeded("compute"), cluster=cluster))
        self.catalog, self.notices = Catalog(self.store, clock), Notices()
        await self.catalog.load()
        shared = (self.ledger, self.queue, self.store, self.catalog)
        self.intake = Intake(*shared, self.notices, ids=self.ids, clock=clock, inline_max_bytes=INLINE)
        self.broker = Broker(*shared, self.keyring, self.notices, clock=clock, inline_max_bytes=INLINE)
        self.runs = Runs(self.ledger, self.catalog, self.intake, self.notices, self.ids, lambda _app: None)
        self.parts = Parts(
            ledger=self.ledger,
            queue=self.queue,
            store=self.store,
            compute=compute,
            catalog=self.catalog,
            broker=self.broker,
            keyring=self.keyring,
            ids=self.ids,
            clock=clock,
            outfit=Outfit(api="http://127.0.0.1:1"),
        )
        self._hints = Hints(self.parts)

    async def _end(self) -> None:
        self.notices.release()
        for wait in self.waits:
            await wait.task
        self.waits = []
        await self._process.aclose()

    async def be_still(self) -> None:
        """Let whoever was woken go on."""
        for _ in range(STILL):
            await asyncio.sleep(0)

    # ---------------------------------------------------------------- clients

    async def submit(self, tenant: str, body: bytes, priority: int) -> Accepted:
        asked = Submission(tenant=tenant, app=APP, body=body, content_type="application/json", priority=priority)
        return await self.intake.accept(asked)

    def wait_for(self, run: Run) -> None:
        """Have someone wait for a run's end."""
        self.waits.append(Wait(run.id, asyncio.get_running_loop().create_task(self.intake.settled(run, 3600.0))))

    async def result(self, run: Run) -> bytes:
        """Give the result that a client would read."""
        assert run.result is not None
        return await self.intake.read(run.result)

    # ---------------------------------------------------------------- workers

    async def add_worker(self, uid: str) -> None:
        row = Worker(uid=uid, app=APP, spec_generation=1, state=WorkerState.STARTING)
        await self.ledger.add_worker(AddWorker(worker=row))

    async def lease(self, uid: str, most: int, *, idle: bool) -> wire.LeaseReply:
        ask = wire.Want(max=most, wait_s=0.0, idle=idle)
        return await self.broker.lease(WorkerClaims(uid=uid, app=APP), ask)

    async def settle(self, uid: str, *items: wire.SettleItem, want: wire.Want | None = None) -> wire.SettleReply:
        return await self.broker.settle(WorkerClaims(uid=uid, app=APP), wire.SettleRequest(done=items, want=want))

    async def extend(self, uid: str, item: wire.ExtendItem) -> wire.ExtendReply:
        return await self.broker.extend(WorkerClaims(uid=uid, app=APP), wire.ExtendRequest(attempts=(item,)))

    async def crash(self, uid: str, *, clean: bool) -> None:
        """End a worker as the controller does that saw it end."""
        runs = await self.ledger.end_worker(EndWorker(uid=uid, state=WorkerState.FAILED, clean=clean))
        await self.broker.returned(runs)

    # ---------------------------------------------------------------- maintainer and operator

    async def sweep(self, sweep: Sweep) -> None:
        duty = ResultsDuty(self.parts) if sweep is Sweep.RESULTS else Sweeper(self.parts, sweep, 0.0)
        await duty.run()

    async def top_up(self) -> None:
        """Let the maintainer look for lost hints, twice: what is short only for a moment is not lost."""
        for _ in range(2):
            await self._hints.run()

    async def wish(self, wish: DesiredState) -> None:
        await self.catalog.set_desired_state(APP, wish)

    async def change(self, app: App) -> None:
        """Apply another spec; what an operator wished stays."""
        wish = self.catalog.get(APP).app.desired_state
        await self.catalog.apply(msgspec.structs.replace(app, desired_state=wish))


@dataclass
class Held:
    """An attempt that a worker was given, be it long lost."""

    uid: str
    given: wire.Assignment

    def item(self, outcome: str, result: bytes = b"", retry_after: float | None = None) -> wire.SettleItem:
        given = self.given
        return wire.SettleItem(
            run_id=given.run_id,
            epoch=given.epoch,
            token=given.token,
            outcome=outcome,
            result=result,
            content_type="text/plain",
            retry_after=retry_after,
        )

    def beat(self, progress: float) -> wire.ExtendItem:
        given = self.given
        return wire.ExtendItem(run_id=given.run_id, epoch=given.epoch, token=given.token, progress=progress)
