"""The controller with real parts around it: a ledger, a queue and a store in memory, and a pretend cluster.

Time is a clock in the test's hand; nothing waits for real.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

from msgspec.structs import replace

from penstock.compute import Compute, Phase, open_compute
from penstock.compute.memory import CALM, Climate, Cluster, Group
from penstock.identity import WorkerClaims, open_keyring
from penstock.ledger import open_ledger
from penstock.model import wire
from penstock.model.app import App, Deadlines, DesiredState, Scaling
from penstock.model.fleet import Worker, WorkerState
from penstock.model.ids import Ids
from penstock.model.run import Outcome, Run
from penstock.placement import Controller, Outfit, Parts
from penstock.queue import open_queue
from penstock.serving import Broker, Catalog, Intake, Notices, Submission
from penstock.store import open_store
from penstock.testing.clock import ManualClock, seeded

ROOMY = (Group(name="node", least=4, most=4),)
TURNS = 300  # of the event loop: more than any chain of calls here takes


def an_app(name: str = "digits", *, deadlines: Deadlines | None = None, **scaling: float) -> App:
    return App(name=name, handler="digits:Digits", scaling=Scaling(**scaling), deadlines=deadlines or Deadlines())


class Stage:
    """Everything that is on the stage, and the few moves that tests make."""

    clock: ManualClock
    cluster: Cluster
    compute: Compute
    catalog: Catalog
    broker: Broker
    intake: Intake
    controller: Controller
    parts: Parts

    def another_controller(self, holder: str = "") -> Controller:
        """Give a controller of a process that was just started: it remembers nothing."""
        parts = self.parts
        fresh = Parts(
            ledger=parts.ledger,
            queue=parts.queue,
            store=parts.store,
            compute=parts.compute,
            catalog=parts.catalog,
            broker=parts.broker,
            keyring=parts.keyring,
            ids=parts.ids,
            clock=parts.clock,
            outfit=parts.outfit,
        )
        return Controller(fresh, sleep=self.clock.sleep, holder=holder)

    def wake(self, app: str) -> None:
        """Nudge whichever controller is on the stage by now."""
        self.controller.nudge(app)

    # ---------------------------------------------------------------- apps and runs

    async def apply(self, app: App) -> None:
        await self.catalog.apply(app)

    async def wish(self, name: str, wish: DesiredState) -> None:
        await self.catalog.set_desired_state(name, wish)

    async def change(self, name: str, **fields: object) -> None:
        await self.catalog.apply(replace(self.catalog.get(name).app, **fields))

    async def submit(self, app: str = "digits", count: int = 1) -> list[Run]:
        bodies = [f"{app}-{self.clock.now()}-{number}-{self.parts.ids.run()}".encode() for number in range(count)]
        taken = [await self.intake.accept(Submission(tenant="default", app=app, body=body)) for body in bodies]
        return [one.run for one in taken]

    async def state(self, run: Run) -> str:
        now = await self.parts.ledger.run(run.id)
        assert now is not None
        return now.state.value

    # ---------------------------------------------------------------- workers

    async def workers(self, app: str | None = None, *, live: bool = True) -> list[Worker]:
        return await self.parts.ledger.workers(app=app, live=live)

    async def worker(self, uid: str) -> Worker:
        row = await self.parts.ledger.worker(uid)
        assert row is not None
        return row

    async def lease(self, worker: Worker, count: int = 1) -> wire.LeaseReply:
        claims = WorkerClaims(uid=worker.uid, app=worker.app)
        return await self.broker.lease(claims, wire.LeaseRequest(max=count, wait_s=0.0))

    async def finish(self, worker: Worker, *attempts: wire.Assignment) -> None:
        done = tuple(
            wire.SettleItem(run_id=one.run_id, epoch=one.epoch, token=one.token, outcome=Outcome.SUCCEEDED, result=b"7")
            for one in attempts
        )
        claims = WorkerClaims(uid=worker.uid, app=worker.app)
        reply = await self.broker.settle(claims, wire.SettleRequest(done=done))
        assert [status.code for status in reply.done] == ["ok"] * len(done)

    async def heartbeat(self, worker: Worker, *attempts: wire.Assignment) -> wire.ExtendReply:
        items = tuple(wire.ExtendItem(run_id=one.run_id, epoch=one.epoch, token=one.token) for one in attempts)
        claims = WorkerClaims(uid=worker.uid, app=worker.app)
        return await self.broker.extend(claims, wire.ExtendRequest(attempts=items))

    async def ask_to_exit(self, worker: Worker) -> bool:
        return (await self.broker.exit(WorkerClaims(uid=worker.uid, app=worker.app))).granted

    @property
    def running(self) -> set[str]:
        """The uids that the cluster runs, whatever the ledger says."""
        return {one.uid for one in self.cluster.sightings() if one.phase is not Phase.ENDED}

    def ends(self, uid: str, code: int = 0, message: str = "") -> None:
        self.cluster.end(uid, code, message=message)

    # ---------------------------------------------------------------- time

    async def until(self, holds: Callable[[], object]) -> None:
        """Let tasks go on, without any time passing, until something holds."""
        for _ in range(TURNS):
            if holds():
                return
            await asyncio.sleep(0)
        raise AssertionError("it did not come to hold without time passing")

    async def settle_down(self) -> None:
        for _ in range(TURNS):
            await asyncio.sleep(0)

    async def pass_time(self, seconds: float, step_s: float = 0.5) -> None:
        """Let time pass in steps, with everything that runs by this clock."""
        for _ in range(round(seconds / step_s)):
            self.clock.advance(step_s)
            self.cluster.tick()
            for _ in range(60):
                await asyncio.sleep(0)

    async def events(self, app: str = "digits") -> list[str]:
        return [event.kind for event in await self.parts.ledger.events(app)]


@asynccontextmanager
async def on_stage(folder: Path, *, climate: Climate = CALM) -> AsyncIterator[Stage]:
    """Give a stage with one controller that leads; its loops do not run until `running` is entered."""
    stage = Stage()
    clock = stage.clock = ManualClock()
    stage.cluster = Cluster(clock=clock, randomness=seeded("cluster"), groups=ROOMY, climate=climate)
    async with AsyncExitStack() as stack:
        ledger = await stack.enter_async_context(open_ledger("sqlite://", clock=clock))
        queue = await stack.enter_async_context(open_queue("memory:", clock=clock))
        store = await stack.enter_async_context(open_store("memory:", clock=clock, random=seeded("store")))
        stage.compute = await stack.enter_async_context(
            open_compute("memory:", clock=clock, randomness=seeded("compute"), cluster=stage.cluster)
        )
        keyring = open_keyring(folder / "keys.json", clock=clock)
        notices, ids = Notices(), Ids(clock, seeded("ids"))
        catalog = stage.catalog = Catalog(store, clock)
        stage.broker = Broker(ledger, queue, store, catalog, keyring, notices, clock=clock)
        stage.parts = Parts(
            ledger=ledger,
            queue=queue,
            store=store,
            compute=stage.compute,
            catalog=catalog,
            broker=stage.broker,
            keyring=keyring,
            ids=ids,
            clock=clock,
            outfit=Outfit(api="http://127.0.0.1:1"),
        )
        stage.controller = Controller(stage.parts, sleep=clock.sleep)
        stage.intake = Intake(ledger, queue, store, catalog, notices, ids=ids, clock=clock, wake=stage.wake)
        assert await stage.controller.lead()
        yield stage


@asynccontextmanager
async def running(stage: Stage) -> AsyncIterator[Stage]:
    """Have the stage's controller run its loops."""
    task = asyncio.create_task(stage.controller.run())
    await stage.settle_down()
    try:
        yield stage
    finally:
        await stage.controller.close()
        assert task.done()


STARTING, IDLE, BUSY, DRAINING = WorkerState.STARTING, WorkerState.IDLE, WorkerState.BUSY, WorkerState.DRAINING
EXITED, FAILED, LOST = WorkerState.EXITED, WorkerState.FAILED, WorkerState.LOST
