"""What the cases play on: a place for ledgers with a back door, and short words for what gateways and workers do."""

from __future__ import annotations

import abc
import hashlib
from typing import Any

from penstock.ledger import Ledger
from penstock.ledger.commands import (
    Accept,
    Accepted,
    AddWorker,
    Lease,
    Leased,
    Mend,
    NewRun,
    RunFilter,
    Settle,
    SettleCode,
    Settled,
    Sweep,
)
from penstock.model.fleet import Worker, WorkerState
from penstock.model.ids import Ids
from penstock.model.run import Lane, Outcome, Payload, Reason, Report, Run, State, Terms
from penstock.testing.clock import ManualClock, seeded

__all__ = ["APP", "TERMS", "LedgerStage", "Scene"]

APP = "digits"
TERMS = Terms(
    max_attempts=3,
    backoff_seconds=10.0,
    backoff_max_seconds=60.0,
    queue_ttl_seconds=1000.0,
    run_deadline_seconds=300.0,
    lease_seconds=30.0,
    result_ttl_seconds=5000.0,
)


class LedgerStage(abc.ABC):
    """One place where a ledger lives, and its back door, so that nothing is confirmed by the driver alone."""

    def __init__(self) -> None:
        self.clock = ManualClock()

    @property
    @abc.abstractmethod
    def url(self) -> str:
        """The URL that other processes open it by."""

    @abc.abstractmethod
    def ledger(self) -> Ledger:
        """Give another `Ledger` on this same place, not opened yet; at most one is open at a time."""

    @abc.abstractmethod
    async def stored(self, run_id: str) -> tuple[str, int] | None:
        """Give the state and the epoch of a run as they are really stored, read around the driver."""


class Scene:
    """A ledger in play. `ledger` is the open one; `reopen` puts another in its place, as a restart does."""

    def __init__(self, stage: LedgerStage, ledger: Ledger) -> None:
        self.stage = stage
        self.clock = stage.clock
        self.ledger = ledger
        self.ids = Ids(stage.clock, seeded("ledger suite"))

    async def reopen(self) -> None:
        """Close the ledger and open it again."""
        await self.ledger.close()
        self.ledger = self.stage.ledger()
        await self.ledger.open()

    # ---------------------------------------------------------------- gateways

    def proposal(self, key: str = "k", *, terms: Terms = TERMS, **fields: Any) -> NewRun:
        """Give a run as a gateway proposes it."""
        given: dict[str, Any] = {
            "id": self.ids.run(),
            "tenant": "acme",
            "app": APP,
            "lane": Lane.INFER,
            "spec_generation": 1,
            "body": Payload(inline=key.encode(), size=len(key), content_type="text/plain"),
            "sha256": hashlib.sha256(key.encode()).hexdigest(),
            **fields,
        }
        return NewRun(key=key, terms=terms, **given)

    async def submit(self, key: str = "k", **fields: Any) -> Accepted:
        """Submit a run."""
        return await self.ledger.accept(Accept(run=self.proposal(key, **fields)))

    async def submitted(self, *keys: str, **fields: Any) -> list[Run]:
        """Submit runs one after the other."""
        return [(await self.submit(key, **fields)).run for key in keys]

    async def run(self, run_id: str) -> Run:
        """Give a run that is there."""
        found = await self.ledger.run(run_id)
        assert found is not None, f"run {run_id} is gone"
        return found

    async def states(self) -> dict[str, State]:
        """Give the state of the newest generation of each key."""
        runs = await self.ledger.runs(RunFilter(limit=1000))
        return {run.key: run.state for run in reversed(runs)}

    # ---------------------------------------------------------------- workers

    async def worker(self, uid: str = "w-1", *, app: str = APP, instances: int = 1) -> str:
        """Add a worker."""
        row = Worker(uid=uid, app=app, spec_generation=1, state=WorkerState.STARTING, instances=instances)
        await self.ledger.add_worker(AddWorker(worker=row))
        return uid

    async def lease(self, count: int = 1, *, worker: str = "w-1", **fields: Any) -> Leased:
        """Lease for a worker, which is added if need be."""
        if await self.ledger.worker(worker) is None:
            await self.worker(worker)
        given: dict[str, Any] = {"app": APP, "lane": Lane.INFER, **fields}
        return await self.ledger.lease(Lease(worker_uid=worker, count=count, **given))

    async def leased(self, count: int = 1, *, worker: str = "w-1", **fields: Any) -> list[Run]:
        """Give the runs that a lease granted."""
        return [grant.run for grant in (await self.lease(count, worker=worker, **fields)).grants]

    async def running(self, key: str = "k", **fields: Any) -> Run:
        """Submit a run and lease it, alone in line."""
        await self.submit(key, **fields)
        (run,) = await self.leased()
        return run

    async def report(self, run: Run, outcome: Outcome, **fields: Any) -> Settled:
        """Settle the attempt that a run, as it was leased, stands for."""
        return await self.ledger.settle(Settle(run_id=run.id, epoch=run.epoch, report=Report(outcome, **fields)))

    async def succeed(self, run: Run, result: bytes = b"done") -> Settled:
        """Settle with a result."""
        return await self.report(run, Outcome.SUCCEEDED, result=Payload(inline=result, size=len(result)))

    async def fail(self, run: Run, reason: Reason = Reason.INVALID_INPUT) -> Run:
        """Settle with a failure for good; gives the run."""
        settled = await self.report(run, Outcome.FAILED, reason=reason, message="no good")
        assert settled.code is SettleCode.OK
        return await self.run(run.id)

    # ---------------------------------------------------------------- the maintainer

    async def sweep(self, sweep: Sweep, limit: int = 500) -> tuple[Run, ...]:
        """Do one duty."""
        return await self.ledger.mend(Mend(sweep=sweep, limit=limit))

    async def check(self) -> None:
        """Assert that every counter is what counting would give, and that what the driver says is what is stored."""
        for run in await self.check_counters():
            assert await self.stage.stored(run.id) == (run.state.value, run.epoch)

    async def check_counters(self) -> list[Run]:
        """Assert that every counter is what counting would give; gives the runs that were counted."""
        runs = await self.ledger.runs(RunFilter(limit=100_000))
        for count in await self.ledger.lanes():
            of_line = [run for run in runs if run.app == count.app and run.lane is count.lane]
            queued = [run for run in of_line if run.state is State.QUEUED]
            assert count.queued == len(queued)
            assert count.running == sum(run.state is State.RUNNING for run in of_line)
            assert count.in_line <= count.queued
            assert count.oldest_queued_at == min((run.queued_at for run in queued), default=None)
        return runs
