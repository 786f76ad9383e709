"""A state machine that does the same things to a ledger and to the plain model, and compares what comes of them.

class MyLedgerMachine(LedgerMachine):
    def make(self) -> LedgerStage: ...

TestMyLedger = MyLedgerMachine.TestCase
"""

from __future__ import annotations

import asyncio
from abc import abstractmethod
from collections.abc import Coroutine
from typing import Any, Final, TypeVar

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule
from msgspec.structs import replace

from penstock.errors import PenstockError
from penstock.ledger.commands import (
    Accept,
    Accepted,
    Again,
    Cancel,
    Checkpoint,
    Command,
    EndWorker,
    Extend,
    Gap,
    Lease,
    Leased,
    Mend,
    Settle,
    Sweep,
)
from penstock.model.fleet import WorkerState
from penstock.model.run import MACHINE, Lane, Outcome, Payload, Report, State
from penstock.testing.suites.ledger.plain import PlainLedger, PlainRun
from penstock.testing.suites.ledger.scene import APP, TERMS, LedgerStage, Scene

__all__ = ["LedgerMachine"]

T = TypeVar("T")

TENANTS: Final = ("acme", "umbrella")
WORKERS: Final = ("w-1", "w-2", "w-3")
KEYS: Final = tuple(f"k{number}" for number in range(6))
HASTY: Final = replace(TERMS, max_attempts=2, lease_seconds=10.0, run_deadline_seconds=40.0)
PURGED_IN_TIME: Final = replace(TERMS, queue_ttl_seconds=60.0, result_ttl_seconds=100.0)

proposals: Final = st.tuples(
    st.sampled_from(TENANTS),
    st.sampled_from(KEYS),
    st.sampled_from((0, 5, 9)),
    st.booleans(),
    st.sampled_from((TERMS, HASTY, PURGED_IN_TIME)),
)


class LedgerMachine(RuleBasedStateMachine):
    """Submits, duplicates, leases, crashes, zombies, cancels, sweeps, jumps of the clock and restarts.

    Which tenant's turn it is depends on measured time; what is compared is that each tenant is served in its order,
    that as many are granted as can be, and that every run is afterwards what the model says.
    """

    def __init__(self) -> None:
        super().__init__()
        self._runner = asyncio.Runner()
        stage = self.make()
        self._scene = Scene(stage, stage.ledger())
        self._clock = stage.clock
        self._plain = PlainLedger(stage.clock)
        self._lives = dict.fromkeys(WORKERS, 0)  # each death of a worker gives its name to a successor
        self._seen: dict[str, State] = {}
        self._run(self._scene.ledger.open())
        for name in WORKERS:
            self._run(self._scene.worker(self._uid(name)))

    @abstractmethod
    def make(self) -> LedgerStage:
        """Give a fresh place for a ledger."""

    def teardown(self) -> None:
        """Close the ledger."""
        self._run(self._scene.ledger.close())
        self._runner.close()

    # ---------------------------------------------------------------- gateways

    @rule(asked=st.lists(proposals, min_size=1, max_size=6))
    def submit(self, asked: list[tuple[str, str, int, bool, Any]]) -> None:
        """Submit runs at the same moment, duplicates among them."""
        commands = [
            Accept(run=self._scene.proposal(key, tenant=tenant, priority=priority, terms=terms), reuse=reuse)
            for tenant, key, priority, reuse, terms in asked
        ]
        wanted = [self._plain.accept(command) for command in commands]
        for accepted, (how, run) in zip(self._do_all(commands), wanted, strict=True):
            assert (accepted.how, accepted.run.id, accepted.run.generation) == (how, run.id, run.generation)

    @precondition(lambda self: self._plain.runs)
    @rule(data=st.data())
    def start_again(self, data: st.DataObject) -> None:
        """Start a run again, failed or not."""
        command = Again(run_id=self._any_run(data).id, new_id=self._scene.ids.run())
        wanted = self._plain.again(command.run_id, command.new_id)
        try:
            accepted: Accepted = self._do(command)
        except PenstockError as error:
            assert type(error).__name__ == wanted  # either may be wanted
        else:
            assert (accepted.how, accepted.run.id) == (wanted[0], getattr(wanted[1], "id", None))

    @precondition(lambda self: self._plain.runs)
    @rule(data=st.data())
    def cancel(self, data: st.DataObject) -> None:
        """Cancel a run, whatever its state."""
        run = self._any_run(data)
        assert self._do(Cancel(run_id=run.id)).changed == self._plain.cancel(run.id)

    # ---------------------------------------------------------------- workers

    @rule(worker=st.sampled_from(WORKERS), replica=st.integers(0, 1), count=st.integers(1, 4), idle=st.booleans())
    def lease(self, worker: str, replica: int, count: int, idle: bool) -> None:
        """Lease, and check that each tenant is served in its order and nobody is passed over."""
        command = Lease(worker_uid=self._uid(worker), app=APP, lane=Lane.INFER, count=count, replica=replica, idle=idle)
        before = {tenant: self._plain.line(tenant) for tenant in TENANTS}
        leased = self._do(command)
        self._check_order(leased, before)
        self._check_count(leased, command, before)
        for grant in leased.grants:
            run = self._plain.lease(grant.run.id, command)
            assert (grant.run.epoch, grant.alone, grant.checkpoint) == (run.epoch, run.alone, run.checkpoint)
            assert (grant.lease_until, grant.deadline_at) == (run.latest.lease_until, run.latest.deadline_at)

    def _check_order(self, leased: Leased, before: dict[str, list[PlainRun]]) -> None:
        for tenant, line in before.items():
            granted = [grant.run.id for grant in leased.grants if grant.run.tenant == tenant]
            assert granted == [run.id for run in line[: len(granted)]]

    def _check_count(self, leased: Leased, command: Lease, before: dict[str, list[PlainRun]]) -> None:
        waiting = sum(len(line) for line in before.values())
        granted = len(leased.grants)
        assert leased.left == waiting - granted
        if any(grant.alone for grant in leased.grants):
            assert granted == 1
            assert command.idle
        elif granted < min(command.count, waiting):
            # Someone who must be alone is next of one of the tenants, and only that may stop a lease.
            taken = {t: sum(grant.run.tenant == t for grant in leased.grants) for t in before}
            assert any(line[taken[t] :][:1] and line[taken[t]].alone for t, line in before.items())
            assert leased.alone_waits == (granted == 0)
            assert granted or not command.idle

    @precondition(lambda self: self._attempted())
    @rule(
        data=st.data(),
        outcome=st.sampled_from(Outcome),
        retry_after=st.sampled_from((None, None, 0.0, 25.0)),
    )
    def settle(self, data: st.DataObject, outcome: Outcome, retry_after: float | None) -> None:
        """Report of any attempt there ever was: current, lost, cancelled, or settled before."""
        run = data.draw(st.sampled_from(self._attempted()))
        epoch = data.draw(st.integers(max(1, run.epoch - 1), run.epoch))
        text = b"%d" % epoch
        report = Report(outcome, result=Payload(inline=text, size=len(text)), retry_after=retry_after)
        settled = self._do(Settle(run_id=run.id, epoch=epoch, report=report))
        assert settled.code is self._plain.settle(run.id, epoch, outcome, retry_after)

    @precondition(lambda self: self._attempted())
    @rule(data=st.data(), saved=st.sampled_from((None, b"one", b"two")))
    def extend(self, data: st.DataObject, saved: bytes | None) -> None:
        """A heartbeat or a checkpoint of any attempt there ever was."""
        run = data.draw(st.sampled_from(self._attempted()))
        epoch = data.draw(st.integers(max(1, run.epoch - 1), run.epoch))
        command: Command[Any] = Extend(run_id=run.id, epoch=epoch, progress=0.5)
        if saved is not None:
            command = Checkpoint(run_id=run.id, epoch=epoch, data=saved)
        assert self._do(command) is self._plain.extend(run.id, epoch, saved)

    @rule(name=st.sampled_from(WORKERS), clean=st.booleans())
    def crash(self, name: str, clean: bool) -> None:
        """A worker ends, with what it held, and another takes its place."""
        uid = self._uid(name)
        moved = self._do(EndWorker(uid=uid, state=WorkerState.FAILED, clean=clean))
        assert {run.id for run in moved} == self._plain.end_worker(uid, None, clean=clean)
        assert self._do(EndWorker(uid=uid, state=WorkerState.LOST)) == ()
        self._lives[name] += 1
        self._run(self._scene.worker(self._uid(name)))

    @rule(name=st.sampled_from(WORKERS), replica=st.integers(0, 1))
    def crash_replica(self, name: str, replica: int) -> None:
        """One replica of a worker ends."""
        uid = self._uid(name)
        moved = self._do(EndWorker(uid=uid, state=WorkerState.FAILED, replica=replica))
        assert {run.id for run in moved} == self._plain.end_worker(uid, replica, clean=False)

    # ---------------------------------------------------------------- the maintainer, time, restarts

    @rule(duty=st.sampled_from([sweep for sweep in Sweep if sweep is not Sweep.TOMBSTONES]))
    def sweep(self, duty: Sweep) -> None:
        """Do a duty, twice: the second time nothing is left to do."""
        wanted = getattr(self._plain, f"sweep_{duty.value}")()
        assert {run.id for run in self._do(Mend(sweep=duty))} == wanted
        assert self._do(Mend(sweep=duty)) == ()

    @rule(forgive=st.booleans())
    def note_gap(self, forgive: bool) -> None:
        """Note that the broker is alive, and forgive an outage or not."""
        assert self._do(Gap(forgive=forgive)) == self._plain.gap(forgive=forgive)

    @rule(seconds=st.sampled_from((0.5, 5.0, 10.0, 31.0, 120.0)))
    def wait(self, seconds: float) -> None:
        """Let time pass."""
        self._clock.advance(seconds)

    @rule(seconds=st.sampled_from((-3600.0, -7.0, 7.0, 900.0)))
    def bend_the_clock(self, seconds: float) -> None:
        """The wall clock jumps."""
        self._clock.jump(seconds)

    @precondition(lambda self: self._scene.ledger.features.survives_restart)
    @rule()
    def restart(self) -> None:
        """Open the ledger anew."""
        self._run(self._scene.reopen())

    # ---------------------------------------------------------------- what always holds

    @invariant()
    def every_run_is_what_the_model_says(self) -> None:
        """Field by field, and each step was an edge of the machine."""
        for plain in self._plain.runs.values():
            run = self._run(self._scene.run(plain.id))
            for name in ("state", "reason", "epoch", "failures", "deaths", "head", "alone", "priority", "generation"):
                assert getattr(run, name) == getattr(plain, name), (name, plain.key)
            assert (run.finished_at, run.purged_at, run.expires_at) == (
                plain.finished_at,
                plain.purged_at,
                plain.expires_at,
            )
            assert (run.result and run.result.inline) == plain.result
            before = self._seen.get(run.id, State.QUEUED)
            assert _reachable(before, run.state), f"{before} -> {run.state}"
            self._seen[run.id] = run.state

    @invariant()
    def one_live_run_per_key(self) -> None:
        """However it was started."""
        live = [(run.tenant, run.key) for run in self._plain.runs.values() if run.live]
        assert len(live) == len(set(live))

    @invariant()
    def counters_count(self) -> None:
        """Every counter is what counting gives."""
        self._run(self._scene.check())
        runs = self._plain.runs.values()
        for count in self._run(self._scene.ledger.lanes()):
            assert count.in_line == sum(run.in_line for run in runs)

    @invariant()
    def workers_hold_what_they_hold(self) -> None:
        """A worker's number of live attempts is the model's."""
        for name in WORKERS:
            worker = self._run(self._scene.ledger.worker(self._uid(name)))
            assert worker is not None
            assert worker.held == len(self._plain.held_by(worker.uid))

    # ---------------------------------------------------------------- words of this machine

    def _uid(self, name: str) -> str:
        return f"{name}-{self._lives[name]}"

    def _any_run(self, data: st.DataObject) -> PlainRun:
        return data.draw(st.sampled_from(list(self._plain.runs.values())))

    def _attempted(self) -> list[PlainRun]:
        return [run for run in self._plain.runs.values() if run.attempts]

    def _do(self, command: Command[T]) -> T:
        return self._run(self._scene.ledger.do(command))

    def _do_all(self, commands: list[Accept]) -> list[Accepted]:
        async def together() -> list[Accepted]:
            return await asyncio.gather(*(self._scene.ledger.do(command) for command in commands))

        return self._run(together())

    def _run(self, call: Coroutine[Any, Any, T]) -> T:
        return self._runner.run(call)


def _reachable(before: State, after: State) -> bool:
    """Tell whether edges lead from one state to the other; a rule may take more than one."""
    seen = {before}
    while reached := {state for known in seen for state in MACHINE[known]} - seen:
        seen |= reached
    return after in seen
