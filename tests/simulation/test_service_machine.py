"""Whatever clients, workers, operators and time do in whatever order, the service keeps its promises.

The same moves are made in a plain model; after each, everything that a client could see is compared with it.
`PENSTOCK_SERVICE_EXAMPLES` says how many stories are played on each set of drivers, and makes them new ones each time.
"""

from __future__ import annotations

import asyncio
import os
import tempfile
from collections.abc import Coroutine
from pathlib import Path
from typing import Any, TypeVar

import msgspec
import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from penstock.errors import Conflict, Gone, NotFound
from penstock.ledger.commands import Accept, Acceptance, Lease, NewRun, RunFilter, SettleCode, Sweep
from penstock.model import wire
from penstock.model.app import DesiredState
from penstock.model.run import TERMINAL, Lane, Outcome, Payload, Run, State
from penstock.queue import queue_name
from penstock.serving.intake import terms_of
from penstock.testing.suites.ledger.plain import PlainLedger, PlainRun
from service_world import APP, INLINE, Held, Urls, World, an_app

T = TypeVar("T")

ASKED = os.environ.get("PENSTOCK_SERVICE_EXAMPLES")
EXAMPLES = int(ASKED or "40")
TENANTS = ("acme", "umbrella")
WORKERS = ("w-1", "w-2", "w-3")
KEYS = ("k1", "k2", "k3", "k4", "k5")
SIZES = (0, INLINE * 2)
SPECS = (
    an_app(),
    an_app(max_attempts=1, lease_s=5.0),
    an_app(max_attempts=2, result_ttl_s=60.0),
    an_app(cache=False),
)
SWEEPS = [sweep for sweep in Sweep if sweep is not Sweep.TOMBSTONES]


class ServiceMachine(RuleBasedStateMachine):
    """One deployment with two tenants and three workers that crash, freeze and come back as zombies."""

    urls = Urls()

    def __init__(self) -> None:
        super().__init__()
        self.runner = asyncio.Runner()
        self.folder = tempfile.TemporaryDirectory()
        path = Path(self.folder.name)
        filled = Urls(self.urls.queue.format(folder=path), self.urls.store.format(folder=path))
        self.world = World(path, filled)
        self.plain = PlainLedger(self.world.clock)
        self.bodies: dict[str, bytes] = {}  # what a run was accepted with, by its id
        self.results: dict[str, bytes] = {}  # what was acknowledged as its result
        self.ends: dict[str, tuple[Any, ...]] = {}  # how it was first seen to end
        self.held: list[Held] = []
        self.lives = dict.fromkeys(WORKERS, 0)
        self.paused = False

    @initialize()
    def open(self) -> None:
        self.do(self.world.open())
        for name in WORKERS:
            self.do(self.world.add_worker(self.uid(name)))

    def teardown(self) -> None:
        self.do(self.world.close())
        self.runner.close()
        self.folder.cleanup()

    # ---------------------------------------------------------------- clients

    @rule(
        tenant=st.sampled_from(TENANTS),
        key=st.sampled_from(KEYS),
        version=st.integers(1, 2),
        size=st.sampled_from(SIZES),
        priority=st.sampled_from((0, 5, 9)),
        waits=st.booleans(),
    )
    def submit(self, tenant: str, key: str, version: int, size: int, priority: int, waits: bool) -> None:
        body = msgspec.json.encode({"_rid": key, "version": version, "pad": "x" * size})
        accepted = self.do(self.world.submit(tenant, body, priority))
        wanted = self.plain.accept(self.proposal(accepted.run.id, tenant, key, priority))
        assert (accepted.how, accepted.run.id) == (wanted[0], wanted[1].id)
        if accepted.how is Acceptance.CREATED:
            self.bodies[accepted.run.id] = body
        if waits:
            self.do(self.watch(accepted.run))

    def proposal(self, run_id: str, tenant: str, key: str, priority: int) -> Accept:
        app = self.world.catalog.get(APP).app
        run = NewRun(
            id=run_id,
            tenant=tenant,
            app=APP,
            lane=Lane.INFER,
            key=key,
            spec_generation=1,
            body=Payload(),
            sha256="",
            priority=priority,
            terms=terms_of(app),
        )
        return Accept(run=run, reuse=app.results.cache)

    async def watch(self, run: Run) -> None:
        self.world.wait_for(run)

    @precondition(lambda self: self.plain.runs)
    @rule(data=st.data())
    def cancel(self, data: st.DataObject) -> None:
        plain = self.any_run(data)
        cancelled = self.do(self.world.runs.cancel(plain.tenant, plain.id))
        assert cancelled.changed == self.plain.cancel(plain.id)
        assert cancelled.run is not None
        assert cancelled.run.state is plain.state

    @precondition(lambda self: self.plain.runs)
    @rule(data=st.data())
    def retry(self, data: st.DataObject) -> None:
        plain = self.any_run(data)
        if plain.purged_at is not None or plain.state is not State.FAILED:
            with pytest.raises(Gone if plain.purged_at is not None else Conflict):
                self.do(self.world.runs.retry(plain.tenant, plain.id))
            return
        accepted = self.do(self.world.runs.retry(plain.tenant, plain.id))
        how, run = self.plain.again(plain.id, accepted.run.id)
        assert (accepted.how, accepted.run.id) == (how, run.id)
        if how is Acceptance.CREATED:
            run.terms = terms_of(self.world.catalog.get(APP).app)
            run.expires_at = self.world.clock.now() + run.terms.queue_ttl_seconds
            self.bodies[run.id] = self.bodies[plain.id]

    # ---------------------------------------------------------------- workers

    @rule(name=st.sampled_from(WORKERS), most=st.integers(1, 3), idle=st.booleans())
    def lease(self, name: str, most: int, idle: bool) -> None:
        uid = self.uid(name)
        waiting = sum(len(self.plain.line(tenant)) for tenant in TENANTS)
        credit = self.do(self.world.queue.depth(queue_name(APP, Lane.INFER)))
        reply = self.do(self.world.lease(uid, most, idle=idle))
        assert len(reply.attempts) <= min(most, waiting)
        if self.paused:
            assert not reply.attempts
        elif waiting and credit:
            assert reply.attempts or reply.drain_first
        self.take(uid, idle, reply)

    def take(self, uid: str, idle: bool, reply: wire.LeaseReply) -> None:
        """Take note of what a worker was given: in its tenant's order, and with the body that was accepted."""
        lines = {tenant: self.plain.line(tenant) for tenant in TENANTS}
        for given in reply.attempts:
            wanted = lines[given.tenant].pop(0)
            assert given.run_id == wanted.id
            command = Lease(worker_uid=uid, app=APP, lane=Lane.INFER, count=1, idle=idle)
            run = self.plain.lease(given.run_id, command)
            assert (given.epoch, given.alone) == (run.epoch, run.alone)
            if given.body is not None:
                assert given.body == self.bodies[run.id]
            else:
                assert given.body_url is not None
            self.held.append(Held(uid, given))
        if any(given.alone for given in reply.attempts):
            assert len(reply.attempts) == 1
            assert idle

    @precondition(lambda self: self.held)
    @rule(
        data=st.data(),
        outcome=st.sampled_from([Outcome.SUCCEEDED, *Outcome]),
        size=st.sampled_from(SIZES),
        retry_after=st.sampled_from((None, None, 0.0, 25.0)),
        wants=st.booleans(),
    )
    def settle(self, data: st.DataObject, outcome: Outcome, size: int, retry_after: float | None, wants: bool) -> None:
        """Report of any attempt that was ever given: current, lost, cancelled, or settled before."""
        held = data.draw(st.sampled_from(self.held))
        run_id, epoch = held.given.run_id, held.given.epoch
        result = f"{run_id}/{epoch}/{len(self.ends)}".encode().ljust(size)
        before = self.record(run_id)
        want = wire.Want(max=1, wait_s=0.0, idle=False) if wants else None
        reply = self.do(self.world.settle(held.uid, held.item(outcome, result, retry_after), want=want))
        (status,) = reply.done
        assert status.code == self.plain.settle(run_id, epoch, outcome, retry_after)
        if status.code == SettleCode.OK and outcome is Outcome.SUCCEEDED:
            assert run_id not in self.results, "published twice"
            self.results[run_id] = result
        self.take(held.uid, False, reply)
        if status.code != SettleCode.OK and not reply.attempts:
            assert self.record(run_id) == before

    @precondition(lambda self: self.held)
    @rule(data=st.data(), thief=st.sampled_from(WORKERS))
    def steal(self, data: st.DataObject, thief: str) -> None:
        """A worker shows a token that another was given."""
        held = data.draw(st.sampled_from(self.held))
        if held.uid == self.uid(thief):
            return
        before = self.record(held.given.run_id)
        reply = self.do(self.world.settle(self.uid(thief), held.item(Outcome.SUCCEEDED, b"stolen")))
        assert reply.done[0].code == SettleCode.STALE
        assert self.do(self.world.extend(self.uid(thief), held.beat(0.9))).lost == (held.given.run_id,)
        assert self.record(held.given.run_id) == before

    @precondition(lambda self: self.held)
    @rule(data=st.data(), progress=st.sampled_from((0.1, 0.5, 1.0)))
    def extend(self, data: st.DataObject, progress: float) -> None:
        held = data.draw(st.sampled_from(self.held))
        run_id = held.given.run_id
        before = self.record(run_id)
        reply = self.do(self.world.extend(held.uid, held.beat(progress)))
        code = self.plain.extend(run_id, held.given.epoch)
        assert reply.lost == ((run_id,) if code == "lost" else ())
        assert reply.cancelled == ((run_id,) if code == "cancelled" else ())
        if code != "ok":
            assert self.record(run_id) == before

    @rule(name=st.sampled_from(WORKERS), clean=st.booleans())
    def crash(self, name: str, clean: bool) -> None:
        """A worker ends with what it held, and a successor comes; its reports may still arrive."""
        uid = self.uid(name)
        self.do(self.world.crash(uid, clean=clean))
        self.plain.end_worker(uid, None, clean=clean)
        assert self.do(self.world.lease(uid, 3, idle=True)).exit or self.paused
        self.lives[name] += 1
        self.do(self.world.add_worker(self.uid(name)))

    # ---------------------------------------------------------------- time, maintainer, operator, restarts

    @rule(seconds=st.sampled_from((0.5, 6.0, 11.0, 31.0, 120.0, 1100.0)))
    def wait(self, seconds: float) -> None:
        self.world.clock.advance(seconds)

    @rule(seconds=st.sampled_from((-300.0, -7.0, 7.0, 900.0)))
    def bend_the_clock(self, seconds: float) -> None:
        self.world.clock.jump(seconds)

    @rule(sweep=st.sampled_from(SWEEPS))
    def sweep(self, sweep: Sweep) -> None:
        self.do(self.world.sweep(sweep))
        getattr(self.plain, f"sweep_{sweep.value}")()

    @rule()
    def maintain(self) -> None:
        """Every duty once: then nothing is beyond its time, and nothing in line lacks a hint."""
        for sweep in (Sweep.LEASES, Sweep.DEADLINES, Sweep.QUEUE_TTL, Sweep.DUE, Sweep.RESULTS):
            self.sweep(sweep)
        self.do(self.world.top_up())
        now = self.world.clock.now()
        for run in self.do(self.world.ledger.runs(RunFilter(limit=1000))):
            if run.state is State.QUEUED:
                assert run.expires_at > now
            elif run.state is State.RUNNING:
                latest = self.do(self.world.ledger.attempts(run.id))[-1]
                assert min(latest.lease_until, latest.deadline_at) > now
        waiting = sum(len(self.plain.line(tenant)) for tenant in TENANTS)
        assert self.do(self.world.queue.depth(queue_name(APP, Lane.INFER))) >= waiting

    @rule()
    def restart(self) -> None:
        before = self.states()
        self.do(self.world.restart())
        self.plain.gap(forgive=True)
        assert self.states() == before

    @rule(pause=st.booleans())
    def wish(self, pause: bool) -> None:
        before = self.states()
        self.do(self.world.wish(DesiredState.PAUSED if pause else DesiredState.READY))
        self.paused = pause
        assert self.states() == before

    @rule(spec=st.sampled_from(SPECS))
    def change_spec(self, spec: Any) -> None:
        before = self.states()
        self.do(self.world.change(spec))
        assert self.states() == before

    # ---------------------------------------------------------------- what always holds

    @invariant()
    def acceptance_and_the_model(self) -> None:
        """Every accepted run is there with its body, and is what the model says."""
        for plain in self.plain.runs.values():
            run = self.record(plain.id)
            for name in ("state", "reason", "epoch", "failures", "deaths", "head", "alone", "priority", "generation"):
                assert getattr(run, name) == getattr(plain, name), (name, plain.key)
            if plain.purged_at is None:
                assert self.do(self.world.intake.read(run.body)) == self.bodies[plain.id]

    @invariant()
    def publication_and_first_terminal_wins(self) -> None:
        """A run that was seen to end stays as it ended, and shows the one result that was acknowledged."""
        for plain in self.plain.runs.values():
            run = self.record(plain.id)
            if run.state not in TERMINAL:
                assert run.id not in self.ends
                continue
            end = (run.state, run.reason, run.epoch, run.finished_at)
            assert self.ends.setdefault(run.id, end) == end
            assert (run.state is State.SUCCEEDED) == (run.id in self.results)
            if run.state is State.SUCCEEDED and run.purged_at is None:
                assert self.do(self.world.result(run)) == self.results[run.id]
                assert self.results[run.id].startswith(f"{run.id}/{run.epoch}/".encode())

    @invariant()
    def one_success_and_one_live_run_a_key(self) -> None:
        for tenant in TENANTS:
            for key in KEYS:
                states = [run.state for run in self.plain.of_key(tenant, key)]
                assert sum(state not in TERMINAL for state in states) <= 1

    @invariant()
    def a_ticket_tells_unknown_purged_and_known_apart(self) -> None:
        for tenant in TENANTS:
            for key in KEYS:
                generations = self.plain.of_key(tenant, key)
                if not generations:
                    self.refused(NotFound, tenant, key)
                elif generations[-1].purged_at is not None:
                    self.refused(Gone, tenant, key)
                else:
                    found = self.do(self.world.intake.find(tenant, APP, key))
                    assert (found.id, found.state) == (generations[-1].id, generations[-1].state)

    def refused(self, kind: type[Exception], tenant: str, key: str) -> None:
        with pytest.raises(kind):
            self.do(self.world.intake.find(tenant, APP, key))

    @invariant()
    def who_waits_is_told(self) -> None:
        for wait in list(self.world.waits):
            run = self.record(wait.run_id)
            assert wait.task.done() == run.terminal, run.state
            if wait.task.done():
                assert wait.task.result().state is run.state
                self.world.waits.remove(wait)

    @invariant()
    def counters_are_what_counting_gives(self) -> None:
        runs = self.do(self.world.ledger.runs(RunFilter(limit=1000)))
        for lane in self.do(self.world.ledger.lanes()):
            assert lane.queued == sum(run.state is State.QUEUED for run in runs)
            assert lane.running == sum(run.state is State.RUNNING for run in runs)
            assert lane.in_line == sum(len(self.plain.line(tenant)) for tenant in TENANTS)

    # ---------------------------------------------------------------- words of this machine

    def uid(self, name: str) -> str:
        return f"{name}-{self.lives[name]}"

    def any_run(self, data: st.DataObject) -> PlainRun:
        return data.draw(st.sampled_from(list(self.plain.runs.values())))

    def record(self, run_id: str) -> Run:
        run = self.do(self.world.ledger.run(run_id))
        assert run is not None, "an accepted run is gone"
        return run

    def states(self) -> list[tuple[str, State, int]]:
        return [(run.id, run.state, run.epoch) for run in self.do(self.world.ledger.runs(RunFilter(limit=1000)))]

    def do(self, call: Coroutine[Any, Any, T]) -> T:
        async def done() -> T:
            result = await call
            if self.world.waits:
                await self.world.be_still()
            return result

        return self.runner.run(done())


class OnFiles(ServiceMachine):
    """The same over a queue in a file and a store in a folder: hints survive a restart."""

    urls = Urls("sql:///{folder}/queue.db", "file://{folder}/store")


def played(machine: type[ServiceMachine], examples: int) -> Any:
    case = machine.TestCase
    case.settings = settings(
        max_examples=examples,
        stateful_step_count=40,
        deadline=None,
        derandomize=ASKED is None,  # the same stories every time, unless more are asked for
        phases=[Phase.generate, *([Phase.shrink] if ASKED else [])],  # a story is made shorter where there is time
        report_multiple_bugs=False,
        suppress_health_check=list(HealthCheck),
    )
    return case


TestServiceInMemory = played(ServiceMachine, EXAMPLES * 2)
TestServiceOnFiles = played(OnFiles, EXAMPLES)
