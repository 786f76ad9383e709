"""The run machine, exhaustively within bounds: every state, every command, every pair of commands."""

import asyncio
import itertools

import pytest

from penstock.ledger import open_ledger
from penstock.ledger.commands import (
    Accept,
    Again,
    Cancel,
    Checkpoint,
    Clear,
    EndWorker,
    Extend,
    Fail,
    Gap,
    Lease,
    Mend,
    Settle,
    Sweep,
)
from penstock.model.fleet import WorkerState
from penstock.model.run import (
    MACHINE,
    TERMINAL,
    Attempt,
    AttemptState,
    Lane,
    Outcome,
    Payload,
    Reason,
    Report,
    State,
    Terms,
    after_death,
    after_report,
    allowed,
    backoff,
)
from penstock.testing.suites.ledger import APP, TERMS, LedgerStage, Scene

# ------------------------------------------------------------------ the pure rules


def test_the_machine_is_the_picture():
    edges = {(before, after) for before in State for after in State if allowed(before, after)}
    assert edges == {
        (State.QUEUED, State.RUNNING),
        (State.QUEUED, State.FAILED),
        (State.QUEUED, State.CANCELLED),
        (State.RUNNING, State.QUEUED),
        (State.RUNNING, State.SUCCEEDED),
        (State.RUNNING, State.FAILED),
        (State.RUNNING, State.CANCELLED),
    }
    assert all(MACHINE[state] == frozenset() for state in TERMINAL)


COUNTS = [
    (Terms(max_attempts=most), failures, deaths, alone)
    for most in (1, 2, 3)
    for failures in range(most)
    for deaths in range(most)
    for alone in (False, True)
]


@pytest.mark.parametrize(("terms", "failures", "deaths", "alone"), COUNTS)
@pytest.mark.parametrize("outcome", Outcome)
def test_a_report_follows_an_edge_and_never_forgets(outcome, terms, failures, deaths, alone):
    verdict = after_report(terms, Report(outcome), failures=failures, deaths=deaths, alone=alone)
    assert allowed(State.RUNNING, verdict.state)
    assert verdict.failures in {failures, failures + 1}
    assert verdict.deaths == deaths
    assert (verdict.state is State.SUCCEEDED) == (outcome is Outcome.SUCCEEDED)
    if verdict.state is State.QUEUED:
        assert verdict.failures < terms.max_attempts, "it would be tried for ever"
    if outcome is Outcome.RELEASED:
        assert (verdict.state, verdict.failures, verdict.delay) == (State.QUEUED, failures, 0.0)


@pytest.mark.parametrize(("terms", "failures", "deaths", "alone"), COUNTS)
@pytest.mark.parametrize("killed", [False, True])
def test_a_death_counts_only_alone_and_ends(killed, terms, failures, deaths, alone):
    verdict = after_death(terms, failures=failures, deaths=deaths, alone=alone, killed=killed)
    assert allowed(State.RUNNING, verdict.state)
    assert (verdict.failures, verdict.deaths) == (failures, deaths + alone)
    assert (verdict.state is State.FAILED) == (verdict.deaths >= terms.max_attempts)
    assert verdict.state is State.FAILED or verdict.alone
    if verdict.state is State.FAILED:
        assert verdict.reason is (Reason.POISON if killed else Reason.ATTEMPTS_EXHAUSTED)


def test_the_back_off_doubles_up_to_its_cap():
    terms = Terms(backoff_seconds=1.5, backoff_max_seconds=10.0)
    assert [backoff(terms, failures) for failures in range(6)] == [0.0, 1.5, 3.0, 6.0, 10.0, 10.0]
    assert backoff(terms, 10**6) == 10.0


def test_one_attempt_allowed_keeps_its_own_reason():
    report = Report(Outcome.RETRY, Reason.OOM)
    assert after_report(Terms(max_attempts=1), report, failures=0, deaths=0, alone=False).reason is Reason.OOM


# ------------------------------------------------------------------ every state x every command


class InMemory(LedgerStage):
    url = "sqlite://"

    def ledger(self):
        return open_ledger(self.url, clock=self.clock)

    async def stored(self, run_id):
        raise NotImplementedError


async def in_line(scene):
    return (await scene.submit()).run


async def backing_off(scene):
    run = await scene.running()
    await scene.report(run, Outcome.RETRY)
    return run


async def due(scene):
    run = await backing_off(scene)
    scene.clock.advance(TERMS.backoff_max_seconds)
    return run


async def expired(scene):
    run = await in_line(scene)
    scene.clock.advance(TERMS.queue_ttl_seconds)
    return run


async def suspect(scene):
    run = await silent(scene)
    await scene.sweep(Sweep.LEASES)
    return run


async def running(scene):
    return await scene.running()


async def silent(scene):
    run = await scene.running()
    scene.clock.advance(TERMS.lease_seconds)
    return run


async def overdue(scene):
    run = await scene.running()
    for _ in range(20):
        scene.clock.advance(TERMS.run_deadline_seconds / 20)
        await scene.ledger.extend(Extend(run_id=run.id, epoch=run.epoch))
    return run


async def taken_over(scene):
    await suspect(scene)
    (run,) = await scene.leased(worker="w-2")
    return run


async def succeeded(scene):
    run = await scene.running()
    await scene.succeed(run)
    return run


async def failed(scene):
    run = await scene.running()
    return await scene.fail(run)


async def cancelled(scene):
    run = await scene.running()
    await scene.ledger.cancel(Cancel(run_id=run.id))
    return run


async def timed_out(scene):
    run = await overdue(scene)
    await scene.sweep(Sweep.DEADLINES)
    return run


async def purged(scene):
    run = await succeeded(scene)
    scene.clock.advance(TERMS.result_ttl_seconds)
    await scene.sweep(Sweep.RESULTS)
    return run


PLACES = (
    in_line,
    backing_off,
    due,
    expired,
    suspect,
    running,
    silent,
    overdue,
    taken_over,
    succeeded,
    failed,
    cancelled,
    timed_out,
    purged,
)

RESULT = Payload(inline=b"r", size=1)


def commands(scene, run):
    """Give every command that can touch a run, with every value that its guard may look at."""
    name = run.id
    yield Accept(run=scene.proposal(priority=9, webhook="https://x.test/"))
    yield Accept(run=scene.proposal(), reuse=False)
    yield Again(run_id=name, new_id=scene.ids.run())
    for worker, idle in itertools.product(("w-1", "w-2"), (False, True)):
        yield Lease(worker_uid=worker, app=APP, lane=Lane.INFER, count=3, idle=idle)
    for epoch, outcome in itertools.product((1, 2), Outcome):
        yield Settle(run_id=name, epoch=epoch, report=Report(outcome, result=RESULT))
    for epoch in (1, 2):
        yield Extend(run_id=name, epoch=epoch, progress=1.0)
        yield Checkpoint(run_id=name, epoch=epoch, data=b"c")
    yield Cancel(run_id=name)
    yield Fail(run_id=name, reason=Reason.UNPLACEABLE)
    yield Clear(app=APP)
    for sweep in Sweep:
        yield Mend(sweep=sweep)
    yield Gap(forgive=True)
    for replica, clean in itertools.product((None, 0, 1), (False, True)):
        yield EndWorker(uid="w-1", state=WorkerState.FAILED, replica=replica, clean=clean)


FINAL = ("state", "reason", "message", "epoch", "failures", "deaths", "result", "finished_at", "progress")


async def step(scene, run, command):
    """Apply one command and check the edge that the run took; gives it as it is now."""
    before = await scene.run(run.id)
    await asyncio.gather(scene.ledger.do(command), return_exceptions=True)
    after = await scene.run(run.id)
    assert after.state is before.state or allowed(before.state, after.state), command
    assert after.epoch - before.epoch == (before.state is State.QUEUED and after.state is State.RUNNING), command
    if before.terminal:
        kept = [name for name in FINAL if name != "result" or after.purged_at is None]
        assert [getattr(after, name) for name in kept] == [getattr(before, name) for name in kept], command
    assert (after.finished_at is not None) == after.terminal
    assert after.result is None or after.state is State.SUCCEEDED
    await check_attempts(scene, after)
    return after


async def check_attempts(scene, run):
    """Only the latest attempt is live, and only of a run that is RUNNING."""
    attempts: list[Attempt] = await scene.ledger.attempts(run.id)
    assert [attempt.epoch for attempt in attempts] == list(range(1, run.epoch + 1))
    live = [one.epoch for one in attempts if one.state in {AttemptState.LEASED, AttemptState.RUNNING}]
    assert live == ([run.epoch] if run.state is State.RUNNING else [])


async def play(place, choices):
    """Bring a run to a place and apply commands by their numbers; tells whether the last one changed anything."""
    stage = InMemory()
    async with stage.ledger() as ledger:
        scene = Scene(stage, ledger)
        for uid in ("w-1", "w-2"):
            await scene.worker(uid)
        run = await place(scene)
        for choice in choices:
            before = await everything(scene, run)
            run = await step(scene, run, list(commands(scene, run))[choice])
        await scene.check_counters()
        return before != await everything(scene, run)


async def everything(scene, run):
    """Give all that a later command's guard could look at."""
    return (
        await scene.run(run.id),
        await scene.ledger.attempts(run.id),
        await scene.ledger.workers(live=False),
        await scene.ledger.latest(run.tenant, run.app, run.key),
    )


COMMANDS = 35


def test_no_command_is_left_out():
    scene = Scene(InMemory(), None)
    run = scene.proposal()
    assert len(list(commands(scene, run))) == COMMANDS


@pytest.mark.parametrize("place", PLACES)
async def test_every_command_follows_the_machine(place):
    for command in range(COMMANDS):
        await play(place, (command,))


@pytest.mark.parametrize("place", [due, expired, silent, overdue, taken_over])  # one command leads to the others
async def test_every_pair_of_commands_follows_the_machine(place):
    for first in range(COMMANDS):
        if await play(place, (first,)):  # after one that changed nothing, the second is a first again
            for second in range(COMMANDS):
                await play(place, (first, second))
