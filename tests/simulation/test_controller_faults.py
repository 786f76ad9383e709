"""What the controller does when its ports fail, and that it says so."""

from __future__ import annotations

import asyncio

import pytest
from controller_stage import BUSY, DRAINING, EXITED, FAILED, IDLE, an_app, on_stage, running
from msgspec.structs import replace

from penstock.compute import Order, Phase, Sighting
from penstock.errors import Unavailable
from penstock.ledger.commands import AddWorker, Clear, LaneCount, NoteWorker
from penstock.model.app import Batch, Deadlines, Results
from penstock.model.fleet import Worker, WorkerState
from penstock.model.run import Lane
from penstock.placement.act import Actor
from penstock.placement.actions import CreateWorker, RetireWorker
from penstock.placement.bell import Bell
from penstock.placement.history import History
from penstock.placement.maintain import duties
from penstock.placement.observe import Sight, assemble
from penstock.placement.plan import AppPlan
from penstock.placement.recall import Recall
from penstock.placement.snapshot import AppView
from penstock.placement.status import AppStatus
from penstock.serving import Entry


@pytest.fixture
async def stage(tmp_path):
    async with on_stage(tmp_path) as stage:
        await stage.apply(an_app())
        yield stage


async def down(*_: object, **__: object) -> None:
    raise Unavailable("the ledger is away")


def a_plan(*actions: object) -> AppPlan:
    return AppPlan(AppView(app=an_app(), generation=1), actions, AppStatus(), History())


# ------------------------------------------------------------------ the ledger fails


async def test_a_start_that_could_not_be_written_is_shown_and_tried_again(stage):
    honest = stage.parts.ledger.add_worker
    stage.parts.ledger.add_worker = down
    await stage.submit()
    await stage.controller.tick()
    assert stage.controller.status("digits").last_error == "the ledger is away"
    assert not stage.running  # nothing is created that has no record
    stage.parts.ledger.add_worker = honest
    await stage.controller.tick()
    assert len(stage.running) == 1
    await stage.controller.tick()
    assert stage.controller.status("digits").last_error == ""


async def test_a_ledger_that_is_away_stops_no_loop(stage):
    async with running(stage):
        honest = stage.parts.ledger.lanes
        stage.parts.ledger.lanes = down
        await stage.submit()
        await stage.pass_time(5.0)
        assert not stage.running
        stage.parts.ledger.lanes = honest
        await stage.pass_time(6.0)
        assert len(stage.running) == 1


async def test_a_tick_that_breaks_does_not_end_the_loop(stage):
    async with running(stage):
        honest = stage.parts.ledger.lanes

        async def broken():
            raise ZeroDivisionError

        stage.parts.ledger.lanes = broken
        await stage.submit()
        await stage.pass_time(5.0)
        stage.parts.ledger.lanes = honest
        await stage.pass_time(6.0)
        assert len(stage.running) == 1


async def test_a_lead_that_can_not_be_renewed_runs_out_and_is_taken_again(stage):
    async with running(stage):
        honest = stage.parts.ledger.take_lead
        stage.parts.ledger.take_lead = down
        await stage.pass_time(9.0)
        await stage.submit()
        await stage.pass_time(3.0)
        assert not stage.running  # another may lead by now
        stage.parts.ledger.take_lead = honest
        await stage.pass_time(3.0)
        assert len(stage.running) == 1


async def test_a_lead_that_can_not_be_given_up_is_left_to_run_out(stage):
    stage.parts.ledger.take_lead = down
    await stage.controller.close()
    assert not stage.controller._lead.held


async def test_the_queue_of_duties_goes_on_where_the_ledger_fails_one(stage):
    stage.parts.ledger.unanswered = down
    await stage.compute.create(Order(uid="w-digits-ghost", app=an_app(), spec_generation=1, env={}))
    assert await stage.controller.maintain() == 1
    assert not stage.running


# ------------------------------------------------------------------ an app that can't be planned


async def test_an_app_that_can_not_be_planned_is_shown_until_it_can(stage):
    await stage.submit()
    recall = stage.parts.recall
    recall._histories["digits"] = "no history"
    await stage.controller.tick()
    assert "AttributeError" in stage.controller.status("digits").last_error
    await stage.controller.tick()
    recall.forget("digits")
    await stage.controller.tick()
    await stage.controller.tick()
    assert stage.controller.status("digits").last_error == ""
    assert len(stage.running) == 1


# ------------------------------------------------------------------ acts that come too late


async def test_a_worker_that_has_ended_meanwhile_is_not_created_again(stage):
    await stage.parts.ledger.add_worker(AddWorker(worker=a_row("w-digits-old")))
    await stage.controller._ends.write(replace(a_row("w-digits-old"), state=FAILED))
    actor = Actor(stage.parts, stage.controller._ends)
    assert await actor.act(a_plan(CreateWorker("digits", 1, "w-digits-old"), CreateWorker("digits", 1, "w-none"))) == ""
    assert not stage.running


async def test_a_worker_that_has_ended_meanwhile_is_not_retired(stage):
    actor = Actor(stage.parts, stage.controller._ends)
    assert await actor.act(a_plan(RetireWorker("digits", "w-none", "a new generation takes over"))) == ""


async def test_a_worker_that_holds_a_run_is_retired_without_a_signal(stage):
    await stage.submit()
    await stage.controller.tick()
    (worker,) = await stage.workers()
    (attempt,) = (await stage.lease(worker)).attempts
    actor = Actor(stage.parts, stage.controller._ends)
    await actor.act(a_plan(RetireWorker("digits", worker.uid, "a new generation takes over")))
    row = await stage.worker(worker.uid)
    assert (row.state, row.held) == (DRAINING, 1)
    assert stage.running == {worker.uid}
    await stage.finish(worker, attempt)
    assert (await stage.lease(worker)).exit


def a_row(uid: str) -> Worker:
    return Worker(uid=uid, app="digits", spec_generation=1, state=WorkerState.STARTING)


# ------------------------------------------------------------------ ends


async def test_an_exit_with_0_before_any_work_did_not_start(stage):
    await stage.submit()
    await stage.controller.tick()
    (worker,) = await stage.workers()
    stage.ends(worker.uid, 0)
    (sighting,) = stage.cluster.sightings()
    await stage.controller.ended(sighting)
    row = await stage.worker(worker.uid)
    assert (row.state, row.message) == (FAILED, "it exited with 0 before it asked for work")


async def test_a_worker_that_was_told_to_go_while_it_started_is_no_failure(stage):
    await stage.submit()
    await stage.controller.tick()
    (worker,) = await stage.workers()
    await stage.parts.ledger.note_worker(NoteWorker(uid=worker.uid, state=DRAINING))
    stage.ends(worker.uid, -15)
    (sighting,) = stage.cluster.sightings()
    await stage.controller.ended(sighting)
    assert (await stage.worker(worker.uid)).state is EXITED
    assert stage.parts.recall.of("digits").circuit.crashes == 0


async def test_a_run_that_makes_its_worker_exit_with_0_does_not_come_back_for_ever(stage):
    (run,) = await stage.submit()
    async with running(stage):
        for _ in range(3):
            await stage.pass_time(2.0)
            (worker,) = await stage.workers()
            assert len((await stage.lease(worker)).attempts) == 1
            stage.ends(worker.uid, 0)
            await stage.settle_down()
            assert (await stage.worker(worker.uid)).state is FAILED
    assert await stage.state(run) == "FAILED"


async def test_the_end_of_a_stranger_is_forgotten(stage):
    await stage.controller.ended(Sighting(uid="w-nobody", app="digits", phase=Phase.ENDED))
    assert not await stage.workers(live=False)


async def test_a_process_id_is_put_on_record(stage):
    await stage.submit()
    await stage.controller.tick()
    (worker,) = await stage.workers()
    await stage.controller._saw(Sighting(uid=worker.uid, app="digits", phase=Phase.RUNNING, pid=4711))
    await stage.controller._saw(Sighting(uid=worker.uid, app="digits", phase=Phase.PENDING))
    assert (await stage.worker(worker.uid)).pid == 4711


async def test_a_controller_that_does_not_lead_leaves_what_it_sees_to_the_leader(stage):
    await stage.submit()
    await stage.controller.tick()
    (worker,) = await stage.workers()
    other = stage.another_controller("other")
    task = asyncio.create_task(other.run())
    await stage.settle_down()
    stage.ends(worker.uid, 1)
    await stage.settle_down()
    assert (await stage.worker(worker.uid)).state is not FAILED
    await other.close()
    assert task.done()


async def test_an_end_that_can_not_be_recorded_is_recorded_by_a_later_tick(stage):
    await stage.submit()
    await stage.controller.tick()
    (worker,) = await stage.workers()
    await stage.lease(worker)
    async with running(stage):
        honest = stage.parts.ledger.end_worker
        stage.parts.ledger.end_worker = down
        stage.ends(worker.uid, 1)
        await stage.pass_time(2.0)
        assert (await stage.worker(worker.uid)).state is BUSY
        assert stage.controller.status("digits").last_error == "the ledger is away"
        stage.parts.ledger.end_worker = honest
        await stage.pass_time(2.0)
        assert (await stage.worker(worker.uid)).state is FAILED
        assert len(stage.running) == 1


async def test_a_submit_for_an_app_that_is_held_hurries_nobody(stage):
    stage.cluster.crash_loop("digits", code=1)
    async with running(stage):
        await stage.submit()
        await stage.pass_time(4.0)
        looked = stage.parts.ledger.lanes
        looks = []

        async def counted():
            looks.append(1)
            return await looked()

        stage.parts.ledger.lanes = counted
        await stage.submit(count=50)
        await stage.settle_down()
        assert looks == []


async def test_a_run_that_only_leaving_workers_could_take_hurries_the_controller(stage):
    await stage.submit()
    await stage.controller.tick()
    (worker,) = await stage.workers()
    (attempt,) = (await stage.lease(worker)).attempts
    await stage.finish(worker, attempt)
    assert await stage.ask_to_exit(worker)
    async with running(stage):
        assert stage.controller.status("digits").draining == 1
        await stage.submit()
        await stage.until(lambda: stage.running - {worker.uid})


async def test_a_controller_that_is_closed_in_the_middle_of_an_act_leaves_the_rest_to_the_next(stage):
    honest, reached = stage.compute.create, asyncio.Event()

    async def hangs(_):
        reached.set()
        await asyncio.Event().wait()

    stage.compute.create = hangs
    async with running(stage):
        await stage.submit()
        await asyncio.wait_for(reached.wait(), 5.0)
    stage.compute.create = honest
    stage.controller = stage.another_controller()
    async with running(stage):
        assert len(stage.running) == len(await stage.workers(live=False)) == 1


# ------------------------------------------------------------------ arrears


async def test_a_long_arrear_is_worked_off_in_one_turn(stage):
    await stage.change("digits", deadlines=Deadlines(queue_ttl_seconds=10.0))
    await stage.submit(count=620)
    stage.clock.advance(11.0)
    expiry = next(duty for duty in duties(stage.parts, stage.controller._ends) if duty.name == "queue_ttl")
    assert await expiry.run() == 620


async def test_results_are_purged_as_fast_as_runs_can_end(stage):
    await stage.change("digits", results=Results(ttl_hours=1.0))
    await stage.submit(count=450)
    await stage.parts.ledger.clear(Clear(app="digits", limit=450))
    stage.clock.advance(3601.0)
    expiry = next(duty for duty in duties(stage.parts, stage.controller._ends) if duty.name == "results")
    assert await expiry.run() == 450


async def test_an_endless_arrear_lets_others_have_their_turn(stage):
    runs = await stage.submit()

    async def endless(_):
        return tuple(runs * 500)

    async def returned(_):
        pass

    stage.parts.ledger.mend = endless
    stage.parts.broker.returned = returned
    expiry = next(duty for duty in duties(stage.parts, stage.controller._ends) if duty.name == "queue_ttl")
    assert await expiry.run() == 20 * 500


# ------------------------------------------------------------------ small things


async def test_a_bell_that_was_rung_before_does_not_sleep():
    async def never(_: float) -> None:
        await asyncio.Event().wait()

    bell = Bell(never)
    bell.ring()
    await bell.wait(5.0)
    waiting = asyncio.create_task(bell.wait(5.0))
    await asyncio.sleep(0)
    assert not waiting.done()
    bell.ring()
    await waiting


def test_a_batch_lane_is_seen_with_its_age_and_an_unchanged_app_keeps_its_view():
    app = replace(an_app(), batch=Batch())
    entry = Entry(app, 1, "", 0.0, 0.0)
    lane = LaneCount(app="digits", lane=Lane.BATCH, queued=3, in_line=2, running=1, oldest_queued_at=40.0)
    crew = [Worker(uid="w-1", app="digits", spec_generation=1, state=BUSY, seen_at=1.0)]
    recall = Recall()
    (view,) = assemble([entry], Sight(100.0, [lane], crew), recall, {}).apps
    assert (view.batch.visible, view.batch.records_left, view.batch.age_s) == (2, 4, 60.0)
    before = {"digits": AppPlan(view, (), AppStatus(), History())}
    heard = [replace(crew[0], seen_at=9.0)]
    (same,) = assemble([entry], Sight(100.0, [lane], heard), recall, before).apps
    assert same is view
    (other,) = assemble([entry], Sight(100.0, [lane], [replace(crew[0], state=IDLE)]), recall, before).apps
    assert other is not view
