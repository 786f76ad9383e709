"""The maintainer's duties on real parts: each repairs what it is there for, once, and touches nothing else."""

from __future__ import annotations

import asyncio

import pytest
from controller_stage import BUSY, DRAINING, FAILED, IDLE, LOST, STARTING, Stage, an_app, on_stage, running
from msgspec.structs import replace

from penstock.compute import Order
from penstock.compute.memory import Climate, Span
from penstock.errors import Unavailable
from penstock.identity import WorkerClaims
from penstock.ledger.commands import Settle
from penstock.model import wire
from penstock.model.app import App, Deadlines, Queue, Results, Retry, Scaling
from penstock.model.run import Lane, Outcome, Payload, Report
from penstock.placement.maintain import Duty, Maintainer, duties
from penstock.queue import queue_name

A_MOMENT_S = 2.0  # after which nobody relies on what the last tick saw
BIG = b"x" * 100_000  # above what travels inline


@pytest.fixture
async def stage(tmp_path):
    async with on_stage(tmp_path) as stage:
        app = an_app(deadlines=Deadlines(lease_seconds=30.0, run_deadline_seconds=100.0, queue_ttl_seconds=500.0))
        await stage.apply(app)
        yield stage


class Quiet:
    """Workers that never hear a SIGTERM."""

    def start(self, life):
        pass

    def terminate(self, life):
        pass

    def kill(self, life):
        pass


async def a_worker_with_work(stage: Stage):
    (run,) = await stage.submit()
    await stage.controller.tick()
    (worker,) = await stage.workers()
    (attempt,) = (await stage.lease(worker)).attempts
    stage.clock.advance(A_MOMENT_S)
    return worker, run, attempt


def duty(stage: Stage, name: str) -> Duty:
    return next(one for one in duties(stage.parts, stage.controller._ends) if one.name == name)


async def depth(stage: Stage) -> int:
    return await stage.parts.queue.depth(queue_name("digits", Lane.INFER))


# ------------------------------------------------------------------ runs


async def test_a_lease_that_ran_out_brings_the_run_back_with_a_hint(stage):
    _, run, _ = await a_worker_with_work(stage)
    stage.clock.advance(27.0)
    assert await duty(stage, "leases").run() == 0
    stage.clock.advance(2.0)
    assert await duty(stage, "leases").run() == 1
    assert await stage.state(run) == "QUEUED"
    assert await depth(stage) == 1
    assert await duty(stage, "leases").run() == 0


async def test_a_run_past_its_deadline_has_a_terminal_record(stage):
    worker, run, attempt = await a_worker_with_work(stage)
    for _ in range(10):
        stage.clock.advance(10.1)
        await stage.heartbeat(worker, attempt)
    assert await duty(stage, "deadlines").run() == 1
    ended = await stage.parts.ledger.run(run.id)
    assert (ended.state, ended.reason) == ("FAILED", "DEADLINE_EXCEEDED")


async def test_a_run_that_waited_too_long_has_a_terminal_record(stage):
    (run,) = await stage.submit()
    stage.clock.advance(501.0)
    assert await duty(stage, "queue_ttl").run() == 1
    ended = await stage.parts.ledger.run(run.id)
    assert (ended.state, ended.reason) == ("FAILED", "QUEUE_EXPIRED")


async def test_a_run_whose_back_off_is_over_is_in_line_again_with_a_hint(stage):
    await stage.change("digits", retry=Retry(backoff_seconds=7.0))
    _, run, attempt = await a_worker_with_work(stage)
    await stage.parts.ledger.settle(Settle(run_id=run.id, epoch=attempt.epoch, report=Report(Outcome.RETRY)))
    assert await duty(stage, "due").run() == 0
    assert await depth(stage) == 0
    stage.clock.advance(7.0)
    assert await duty(stage, "due").run() == 1
    assert await depth(stage) == 1


async def test_a_result_past_its_time_is_purged_with_its_objects(stage):
    await stage.change("digits", results=Results(ttl_hours=1.0))
    _, run, attempt = await a_worker_with_work(stage)
    key = "AppData/digits/results/one.gz"
    await stage.parts.store.put(key, BIG)
    result = a_stored_result(key)
    report = Report(Outcome.SUCCEEDED, result=result)
    await stage.parts.ledger.settle(Settle(run_id=run.id, epoch=attempt.epoch, report=report))
    assert await duty(stage, "results").run() == 0
    stage.clock.advance(3601.0)
    assert await duty(stage, "results").run() == 1
    assert (await stage.parts.ledger.run(run.id)).purged_at is not None
    assert not await stage.parts.store.list("AppData/digits/results/")
    assert await duty(stage, "results").run() == 0
    stage.clock.advance(7 * 86_400.0 + 1.0)
    assert await duty(stage, "tombstones").run() == 1
    assert await stage.parts.ledger.run(run.id) is None


def a_stored_result(key: str):
    return Payload(key=key, size=len(BIG))


async def test_an_object_that_the_store_keeps_does_not_stop_the_purge(stage):
    await stage.change("digits", results=Results(ttl_hours=1.0))
    _, run, attempt = await a_worker_with_work(stage)
    report = Report(Outcome.SUCCEEDED, result=a_stored_result("AppData/digits/results/gone.gz"))
    await stage.parts.ledger.settle(Settle(run_id=run.id, epoch=attempt.epoch, report=report))
    stage.clock.advance(3601.0)

    async def down(key):
        raise Unavailable(f"the bucket did not answer for {key}")

    stage.parts.store.delete = down
    assert await duty(stage, "results").run() == 1
    assert (await stage.parts.ledger.run(run.id)).purged_at is not None


# ------------------------------------------------------------------ hints


async def test_a_lost_hint_is_sent_again_once_it_was_missed_twice(stage):
    await stage.submit(count=3)
    hints = duty(stage, "hints")
    assert await hints.run() == 0
    await stage.parts.queue.ack(await stage.parts.queue.receive("digits-infer", 2))
    assert await hints.run() == 0  # one that is being sent just now looks the same
    assert await hints.run() == 2
    assert await depth(stage) == 3
    assert await hints.run() == 0


async def test_hints_that_did_not_survive_a_restart_are_sent_at_once(stage):
    await stage.submit(count=5)
    await stage.parts.queue.ack(await stage.parts.queue.receive("digits-infer", 5))
    assert await duty(stage, "hints").run() == 5
    assert await depth(stage) == 5


async def test_a_line_with_enough_hints_gets_no_more(stage):
    await stage.submit(count=2)
    await stage.parts.queue.send("digits-infer", ["extra"] * 5)
    hints = duty(stage, "hints")
    assert [await hints.run() for _ in range(3)] == [0, 0, 0]


async def test_a_queue_that_is_down_is_left_for_later(stage):
    await stage.submit()
    await stage.parts.queue.ack(await stage.parts.queue.receive("digits-infer", 1))
    honest = stage.parts.queue.depth

    async def down(queue):
        raise Unavailable(f"{queue} is down")

    hints = duty(stage, "hints")
    stage.parts.queue.depth = down
    assert await hints.run() == 0
    stage.parts.queue.depth = honest
    assert [await hints.run(), await hints.run()] == [0, 1]


async def test_apps_that_share_a_queue_are_counted_together(stage):
    for name in ("one", "two"):
        await stage.apply(App(name=name, handler="m:M", queue=Queue(ref="shared"), scaling=Scaling()))
        await stage.submit(name, count=2)
    await stage.parts.queue.ack(await stage.parts.queue.receive("shared-infer", 3))
    assert await duty(stage, "hints").run() == 3


# ------------------------------------------------------------------ workers that belong to nothing


async def test_a_worker_without_a_record_is_removed_and_the_reason_is_told(stage):
    await stage.compute.create(Order(uid="w-digits-ghost", app=an_app(), spec_generation=1, env={}))
    assert await duty(stage, "orphans").run() == 1
    assert not stage.running
    (event,) = [one for one in await stage.parts.ledger.events("digits") if one.kind == "WorkerRemoved"]
    assert event.worker_uid == "w-digits-ghost"
    assert "no record" in event.message


async def test_a_worker_with_a_live_record_is_left_alone(stage):
    worker, _, _ = await a_worker_with_work(stage)
    assert await duty(stage, "orphans").run() == 0
    assert stage.running == {worker.uid}


async def test_a_worker_that_was_given_up_and_came_back_is_removed(stage):
    worker, _, _ = await a_worker_with_work(stage)
    await stage.controller._ends.write(replace(worker, state=LOST))
    assert await duty(stage, "orphans").run() == 1
    assert not stage.running


async def test_a_record_that_appears_meanwhile_saves_its_worker(stage):
    await stage.submit()
    honest = stage.parts.ledger.workers

    async def nobody_yet(**_):
        return []

    await stage.controller.tick()
    stage.clock.advance(A_MOMENT_S)
    stage.parts.ledger.workers = nobody_yet
    assert await duty(stage, "orphans").run() == 0
    stage.parts.ledger.workers = honest
    assert len(stage.running) == 1


async def test_an_ended_worker_whose_end_is_on_record_is_forgotten(stage):
    worker, _, _ = await a_worker_with_work(stage)
    await stage.controller._ends.write(replace(worker, state=FAILED))
    stage.ends(worker.uid, 1)
    assert await duty(stage, "orphans").run() == 0
    assert not stage.cluster.sightings()


async def test_a_worker_that_compute_no_longer_knows_is_lost_after_a_grace(stage):
    worker, run, _ = await a_worker_with_work(stage)
    stage.ends(worker.uid, None)
    await stage.compute.forget(worker.uid)
    vanished = duty(stage, "vanished")
    assert await vanished.run() == 0
    stage.clock.advance(9.0)
    assert await vanished.run() == 0
    stage.clock.advance(1.0)
    assert await vanished.run() == 1
    assert (await stage.worker(worker.uid)).state is LOST
    assert await stage.state(run) == "QUEUED"


async def test_a_worker_that_is_seen_again_is_not_lost(stage):
    worker, _, _ = await a_worker_with_work(stage)
    vanished = duty(stage, "vanished")
    honest = stage.compute.list

    async def nothing():
        return []

    stage.compute.list = nothing
    assert await vanished.run() == 0
    stage.compute.list = honest
    stage.clock.advance(9.0)
    assert await vanished.run() == 0
    stage.compute.list = nothing
    stage.clock.advance(9.0)
    assert await vanished.run() == 0
    assert (await stage.worker(worker.uid)).state is BUSY


async def test_workers_of_a_deleted_app_get_nothing_more_and_leave_when_done(stage):
    worker, _, attempt = await a_worker_with_work(stage)
    await stage.catalog.delete("digits")
    strays = duty(stage, "strays")
    assert await strays.run() == 1
    assert (await stage.worker(worker.uid)).state is DRAINING
    assert stage.running == {worker.uid}
    await stage.finish(worker, attempt)
    stage.clock.advance(A_MOMENT_S)
    assert await strays.run() == 0
    assert not stage.running


# ------------------------------------------------------------------ workers that hang


async def test_a_worker_that_never_comes_up_is_given_up_and_counts_as_failed(tmp_path):
    async with on_stage(tmp_path, climate=Climate(pull=Span(9_000.0, 9_000.0))) as stage:
        await stage.apply(an_app(startup_grace_seconds=300.0))
        await stage.submit()
        await stage.controller.tick()
        (worker,) = await stage.workers()
        stuck = duty(stage, "stuck")
        stage.clock.advance(300.0)
        assert await stuck.run() == 0
        stage.clock.advance(1.0)
        assert await stuck.run() == 1
        row = await stage.worker(worker.uid)
        assert (row.state, row.message) == (FAILED, "it did not come up within 300 s")
        assert not stage.running
        assert stage.parts.recall.of("digits").circuit.crashes == 1
        assert await stuck.run() == 0


async def test_a_worker_that_comes_up_as_it_is_given_up_keeps_what_it_got(stage):
    await stage.submit()
    await stage.controller.tick()
    (worker,) = await stage.workers()
    stage.clock.advance(301.0)
    honest = stage.parts.ledger.note_worker

    async def leases_first(command):
        if command.uid == worker.uid:
            assert len((await stage.lease(worker)).attempts) == 1
        return await honest(command)

    stage.parts.ledger.note_worker = leases_first
    assert await duty(stage, "stuck").run() == 0
    row = await stage.worker(worker.uid)
    assert (row.state, row.held) == (DRAINING, 1)
    assert stage.running == {worker.uid}


async def test_a_worker_that_holds_nothing_and_no_longer_calls_is_removed(stage):
    worker, _, attempt = await a_worker_with_work(stage)
    await stage.finish(worker, attempt)
    silent = duty(stage, "silent")
    assert await silent.run() == 0
    stage.clock.advance(89.0)
    await stage.lease(worker)
    await stage.broker.note_seen()
    stage.clock.advance(89.0)
    assert await silent.run() == 0
    stage.clock.advance(2.0)
    assert await silent.run() == 1
    assert not stage.running


async def test_a_silent_worker_that_holds_a_lease_is_left_to_the_lease(stage):
    await stage.change("digits", deadlines=Deadlines(lease_seconds=1_000.0))
    worker, _, _ = await a_worker_with_work(stage)
    silent = duty(stage, "silent")
    await silent.run()
    stage.clock.advance(999.0)
    assert await silent.run() == 0
    assert stage.running == {worker.uid}


async def test_silence_counts_from_our_own_start(stage):
    worker, _, attempt = await a_worker_with_work(stage)
    await stage.finish(worker, attempt)
    stage.clock.advance(10_000.0)  # nobody was there to be called
    assert await duty(stage, "silent").run() == 0
    assert (await stage.worker(worker.uid)).state is IDLE


async def test_a_worker_that_calls_in_the_last_moment_stays(stage):
    worker, _, attempt = await a_worker_with_work(stage)
    await stage.finish(worker, attempt)
    silent = duty(stage, "silent")
    await silent.run()
    stage.clock.advance(200.0)
    honest = stage.parts.ledger.note_worker

    async def calls_first(command):
        await stage.lease(worker)
        await stage.broker.note_seen()
        return await honest(command)

    stage.parts.ledger.note_worker = calls_first
    assert await silent.run() == 0
    assert stage.running == {worker.uid}


# ------------------------------------------------------------------ what nobody wants any more


async def test_a_worker_that_does_not_stop_a_cancelled_run_is_removed(stage):
    stage.cluster.behaviour = Quiet()
    worker, run, _ = await a_worker_with_work(stage)
    await stage.intake.cancel(run)
    cancelled = duty(stage, "cancelled")
    stage.clock.advance(19.0)
    assert await cancelled.run() == 0  # a heartbeat to hear of it, and ten seconds to stop
    stage.clock.advance(1.0)
    assert await cancelled.run() == 1
    assert (await stage.worker(worker.uid)).state is DRAINING
    assert await cancelled.run() == 0
    stage.clock.advance(10.0)
    stage.cluster.tick()
    assert not stage.running
    (event,) = [one for one in await stage.parts.ledger.events("digits") if one.kind == "WorkerRemoved"]
    assert run.id in event.message


async def test_a_worker_that_answered_is_left_alone(stage):
    worker, run, attempt = await a_worker_with_work(stage)
    await stage.intake.cancel(run)
    assert (await stage.heartbeat(worker, attempt)).cancelled == (run.id,)
    item = wire.SettleItem(run_id=run.id, epoch=attempt.epoch, token=attempt.token, outcome=Outcome.RELEASED)
    await stage.broker.settle(WorkerClaims(uid=worker.uid, app="digits"), wire.SettleRequest(done=(item,)))
    stage.clock.advance(20.0)
    assert await duty(stage, "cancelled").run() == 0
    assert stage.running == {worker.uid}


async def test_a_worker_that_overruns_the_run_deadline_is_removed_too(stage):
    worker, _, attempt = await a_worker_with_work(stage)
    for _ in range(10):
        stage.clock.advance(10.1)
        await stage.heartbeat(worker, attempt)
    await duty(stage, "deadlines").run()
    stage.clock.advance(20.0)
    assert await duty(stage, "cancelled").run() == 1
    assert not stage.running


# ------------------------------------------------------------------ together


async def test_a_whole_turn_on_a_healthy_platform_changes_nothing(stage):
    worker, run, attempt = await a_worker_with_work(stage)
    await stage.submit(count=3)
    assert await stage.controller.maintain() == 0
    assert await stage.controller.maintain() == 0
    assert stage.running == {worker.uid}
    await stage.finish(worker, attempt)
    assert await stage.state(run) == "SUCCEEDED"


async def test_a_duty_that_fails_stops_no_other(stage):
    _, run, _ = await a_worker_with_work(stage)
    stage.clock.advance(31.0)
    stage.cluster.cut()

    async def broken():
        raise ZeroDivisionError

    stage.parts.ledger.lanes = broken
    assert await stage.controller.maintain() >= 1
    assert await stage.state(run) == "QUEUED"


async def test_sweeps_go_on_while_the_cluster_hangs(stage):
    async def hangs():
        await asyncio.Event().wait()

    _, run, _ = await a_worker_with_work(stage)
    async with running(stage):
        stage.compute.list = hangs
        await stage.pass_time(33.0)
        assert await stage.state(run) == "QUEUED"


async def test_duties_wait_for_the_lead(stage):
    done = []

    class Counted:
        name = "counted"
        period_s = 1.0

        async def run(self):
            done.append(stage.clock.monotonic())
            return 1

    leading, repaired = asyncio.Event(), []
    maintainer = Maintainer(
        [Counted()], leading=leading.wait, repaired=lambda: repaired.append(1), sleep=stage.clock.sleep
    )
    task = asyncio.create_task(maintainer.run())
    await stage.pass_time(3.0)
    assert done == []
    leading.set()
    await stage.pass_time(3.0)
    leading.clear()
    await stage.pass_time(3.0)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    assert len(done) == len(repaired)
    assert 3 <= len(done) <= 5


async def test_a_restart_forgives_the_outage_before_it_sweeps(stage):
    worker, run, attempt = await a_worker_with_work(stage)
    await stage.controller.close()
    stage.clock.advance(3_600.0)
    stage.controller = stage.another_controller()
    async with running(stage):
        await stage.pass_time(2.0)
        assert await stage.state(run) == "RUNNING"
        await stage.finish(worker, attempt)
        assert await stage.state(run) == "SUCCEEDED"


async def test_starting_workers_are_not_mistaken_for_lost_ones(stage):
    await stage.submit()
    stage.cluster.cut()
    await stage.controller.tick()
    stage.cluster.mend()
    vanished = duty(stage, "vanished")
    await vanished.run()
    stage.clock.advance(60.0)
    assert await vanished.run() == 0
    (worker,) = await stage.workers()
    assert worker.state is STARTING
