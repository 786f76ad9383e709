"""The controller's loops on real parts: what wakes it, what it starts, and what it never does."""

from __future__ import annotations

import asyncio

import pytest
from controller_stage import BUSY, DRAINING, EXITED, FAILED, IDLE, LOST, STARTING, Stage, an_app, on_stage, running

from penstock.compute.memory import Climate, Span
from penstock.model.app import Deadlines, DesiredState
from penstock.model.placement import Phase


@pytest.fixture
async def stage(tmp_path):
    async with on_stage(tmp_path) as stage:
        await stage.apply(an_app())
        yield stage


async def a_worker_with_work(stage: Stage):
    """Give a worker that the controller started and that holds a run."""
    (run,) = await stage.submit()
    await stage.controller.tick()
    (worker,) = await stage.workers()
    (attempt,) = (await stage.lease(worker)).attempts
    return worker, run, attempt


# ------------------------------------------------------------------ up from zero


async def test_a_submit_at_zero_starts_a_worker_without_waiting_for_a_tick(stage):
    async with running(stage):
        await stage.pass_time(30.0)
        assert not stage.running
        await stage.submit()
        await stage.until(lambda: stage.running)  # the clock stands still
        await stage.settle_down()
        (worker,) = await stage.workers()
        assert stage.running == {worker.uid}
        assert stage.controller.status("digits").phase is Phase.SCALING


async def test_a_thousand_submits_at_once_start_what_one_cycle_may(stage):
    async with running(stage):
        await stage.submit(count=1_000)
        await stage.settle_down()
        await stage.pass_time(5.0)
        assert len(await stage.workers()) <= 1 + 3  # the very first sees one run, the next tick sees the rest
        assert len(stage.running) == len(await stage.workers())


async def test_a_worker_gets_its_address_book_and_a_credential_of_its_own(stage):
    await stage.submit()
    await stage.controller.tick()
    (worker,) = await stage.workers()
    env = stage.cluster.life(worker.uid).order.env
    assert env["PENSTOCK_API"] == "http://127.0.0.1:1"
    assert env["PENSTOCK_WORKER_UID"] == worker.uid
    assert env["PENSTOCK_INLINE_MAX_BYTES"] == "32768"
    claims = stage.parts.keyring.verify_worker(env["PENSTOCK_WORKER_TOKEN"])
    assert (claims.uid, claims.app) == (worker.uid, "digits")


async def test_every_start_is_explained(stage):
    await stage.submit()
    await stage.controller.tick()
    (worker,) = await stage.workers()
    (decision,) = await stage.parts.ledger.decisions("digits")
    assert (decision.chosen, decision.workers, decision.survivors) == ("local", (worker.uid,), ("local",))
    assert "1 wanted" in decision.notes[0]
    assert await stage.events() == ["ScaledUp", "PhaseChanged"]


async def test_the_least_is_there_before_any_work(stage):
    await stage.apply(an_app("warm", min_instances=2))
    await stage.controller.tick()
    assert len(await stage.workers("warm")) == 2
    assert not await stage.workers("digits")


async def test_pending_workers_count_so_a_five_minute_pull_buys_once(tmp_path):
    async with on_stage(tmp_path, climate=Climate(pull=Span(300.0, 300.0))) as stage:
        await stage.apply(an_app(scale_up_cooldown_seconds=0.0, startup_grace_seconds=900.0))
        async with running(stage):
            await stage.submit(count=30)
            await stage.pass_time(290.0, step_s=1.0)
            assert len(await stage.workers(live=False)) == 3
            assert {worker.state for worker in await stage.workers()} == {STARTING}


# ------------------------------------------------------------------ ends


async def test_an_observed_end_returns_the_run_at_once_and_starts_another_worker(stage):
    worker, run, _ = await a_worker_with_work(stage)
    async with running(stage):
        stage.ends(worker.uid, -9, "Killed")
        await stage.until(lambda: stage.running - {worker.uid})
        await stage.settle_down()
        assert (await stage.worker(worker.uid)).state is FAILED
        assert (await stage.worker(worker.uid)).exit_code == -9
        (fresh,) = await stage.workers()
        (attempt,) = (await stage.lease(fresh)).attempts
        assert (attempt.run_id, attempt.epoch, attempt.alone) == (run.id, 2, True)


async def test_a_worker_that_was_let_go_ends_clean(stage):
    worker, _, attempt = await a_worker_with_work(stage)
    await stage.finish(worker, attempt)
    async with running(stage):
        assert await stage.ask_to_exit(worker)
        stage.ends(worker.uid)
        await stage.settle_down()
        assert (await stage.worker(worker.uid)).state is EXITED
        assert not await stage.workers()
        await stage.pass_time(10.0)
        assert stage.controller.status("digits").phase is Phase.READY
        assert not stage.running
    assert "WorkerExited" in await stage.events()


async def test_an_exit_that_races_a_new_run_leaves_nobody_waiting(stage):
    worker, _, attempt = await a_worker_with_work(stage)
    await stage.finish(worker, attempt)
    async with running(stage):
        assert await stage.ask_to_exit(worker)  # committed to leave ...
        (run,) = await stage.submit()  # ... as a run comes in
        stage.ends(worker.uid)
        await stage.until(lambda: stage.running - {worker.uid})
        await stage.settle_down()
        (fresh,) = await stage.workers()
        assert [one.run_id for one in (await stage.lease(fresh)).attempts] == [run.id]


async def test_an_exit_is_refused_while_a_run_is_in_line(stage):
    worker, _, attempt = await a_worker_with_work(stage)
    await stage.finish(worker, attempt)
    await stage.submit()
    assert not await stage.ask_to_exit(worker)


async def test_an_end_that_nobody_was_told_of_is_found_by_the_tick(stage):
    worker, _, _ = await a_worker_with_work(stage)
    async with running(stage):
        stage.cluster.drop_sightings()
        stage.ends(worker.uid, 1)
        await stage.settle_down()
        assert (await stage.worker(worker.uid)).state is BUSY
        await stage.pass_time(1.5)
        assert (await stage.worker(worker.uid)).state is FAILED


async def test_an_end_is_counted_once_however_often_it_is_seen(stage):
    await stage.submit()
    await stage.controller.tick()
    (worker,) = await stage.workers()
    stage.ends(worker.uid, 1)
    (sighting,) = stage.cluster.sightings()
    await asyncio.gather(*(stage.controller.ended(sighting) for _ in range(5)))
    assert stage.parts.recall.of("digits").circuit.crashes == 1
    assert (await stage.events()).count("WorkerFailed") == 1


async def test_what_compute_learns_of_a_running_worker_is_on_record(stage):
    async with running(stage):
        await stage.submit()
        await stage.settle_down()
        (worker,) = await stage.workers()
        assert worker.node == "node-1" or worker.node


# ------------------------------------------------------------------ what is never stopped


async def test_a_spec_update_does_not_stop_running_work(stage):
    worker, run, attempt = await a_worker_with_work(stage)
    async with running(stage):
        await stage.change("digits", env={"MODEL": "v2"})
        for _ in range(20):
            await stage.heartbeat(worker, attempt)
            await stage.pass_time(5.0)
        assert worker.uid in stage.running
        await stage.finish(worker, attempt)
        assert await stage.state(run) == "SUCCEEDED"
        await stage.pass_time(3.0)
        assert worker.uid not in stage.running  # idle, of a former generation: it was asked to go
        assert (await stage.worker(worker.uid)).state is EXITED


async def test_a_controller_restart_does_not_stop_running_work(stage):
    worker, run, attempt = await a_worker_with_work(stage)
    await stage.controller.close()
    stage.clock.advance(120.0)  # four leases long, nobody was there to be called
    stage.controller = stage.another_controller()
    assert await stage.controller.lead()
    async with running(stage):
        await stage.pass_time(5.0)
        assert stage.running == {worker.uid}
        assert await stage.state(run) == "RUNNING"
        await stage.finish(worker, attempt)
        assert await stage.state(run) == "SUCCEEDED"


async def test_a_pause_stops_nothing_that_runs_and_starts_nothing_new(stage):
    worker, run, attempt = await a_worker_with_work(stage)
    async with running(stage):
        await stage.wish("digits", DesiredState.PAUSED)
        await stage.submit(count=50)
        await stage.pass_time(10.0)
        assert stage.running == {worker.uid}
        assert stage.controller.status("digits").phase is Phase.PAUSED
        await stage.finish(worker, attempt)
        assert await stage.state(run) == "SUCCEEDED"
        assert (await stage.lease(worker)).attempts == ()
        await stage.pass_time(60.0)  # of cooldown, since the one that runs was started
        await stage.wish("digits", DesiredState.READY)
        await stage.settle_down()
        assert len(stage.running) > 1


async def test_a_drain_finishes_the_queue_and_keeps_nobody(stage):
    await stage.submit(count=5)
    await stage.wish("digits", DesiredState.DRAINING)
    async with running(stage):
        await stage.settle_down()
        (worker,) = await stage.workers()
        reply = await stage.lease(worker, 5)
        assert len(reply.attempts) == 5
        await stage.finish(worker, *reply.attempts)
        assert await stage.ask_to_exit(worker)


# ------------------------------------------------------------------ what goes wrong on the way


async def test_a_lost_reply_starts_one_worker_not_two(stage):
    stage.cluster.lose_replies()
    async with running(stage):
        await stage.submit()
        await stage.settle_down()
        await stage.pass_time(10.0)
        assert len(stage.running) == len(await stage.workers(live=False)) == 1


async def test_a_row_whose_create_never_happened_is_created_by_the_next_controller(stage):
    await stage.submit()
    stage.cluster.cut()
    await stage.controller.tick()
    (worker,) = await stage.workers()
    assert not stage.running
    stage.cluster.mend()
    successor = stage.another_controller()
    assert await successor.lead()
    await successor.tick()
    assert stage.running == {worker.uid}
    assert len(await stage.workers(live=False)) == 1


async def test_a_cluster_that_is_down_is_told_and_tried_again(stage):
    async with running(stage):
        await stage.submit()
        stage.cluster.cut()
        await stage.settle_down()
        await stage.pass_time(1.0)
        assert "can't be reached" in stage.controller.status("digits").last_error
        stage.cluster.mend()
        await stage.pass_time(2.0)
        assert len(stage.running) == 1
        await stage.pass_time(2.0)
        assert stage.controller.status("digits").last_error == ""


async def test_a_crash_loop_is_held_probed_and_shown_with_its_last_lines(stage):
    stage.cluster.crash_loop("digits", code=3, message="Traceback: CUDA driver not found")
    async with running(stage):
        await stage.submit()
        await stage.pass_time(60.0)
        rows = await stage.workers(live=False)
        assert 4 <= len(rows) <= 6  # three, then probes after 10, 20, 40 s
        status = stage.controller.status("digits")
        assert status.phase is Phase.HELD
        assert "CUDA driver not found" in status.message
        assert "CircuitOpened" in await stage.events()
        stage.cluster.heal("digits")
        await stage.pass_time(60.0)
        (worker,) = await stage.workers()
        await stage.lease(worker)
        await stage.pass_time(2.0)
        assert stage.controller.status("digits").phase is Phase.READY


async def test_a_poisonous_run_never_closes_its_app(stage):
    (run,) = await stage.submit()
    async with running(stage):
        for _ in range(3):
            await stage.pass_time(2.0)
            (worker,) = await stage.workers()
            (attempt,) = (await stage.lease(worker)).attempts
            assert attempt.run_id == run.id
            stage.ends(worker.uid, -11, "Segmentation fault")
            await stage.settle_down()
        assert await stage.state(run) == "FAILED"
        assert (await stage.parts.ledger.run(run.id)).reason == "POISON"
        assert not stage.parts.recall.of("digits").circuit.tripped


async def test_an_order_that_can_never_start_is_held_as_config(stage):
    name = "x" * 300  # no pod, file or label can be called so
    await stage.submit()
    stage.parts.ids.worker = lambda app: f"w-{name}-{stage.parts.ids.run()}"
    async with running(stage):
        await stage.pass_time(3.0)
        status = stage.controller.status("digits")
        assert (status.phase, status.reason) == (Phase.HELD, "CONFIG")
        assert len(await stage.workers(live=False)) == 1
        assert not await stage.workers()


async def test_one_bad_app_stops_the_loop_for_none(stage):
    await stage.apply(an_app("broken"))
    await stage.apply(an_app("good"))
    await stage.submit("broken")
    await stage.submit("good")
    honest = stage.parts.ids.worker

    def worker(app: str) -> str:
        if app == "broken":
            raise ValueError("no such thing")
        return honest(app)

    stage.parts.ids.worker = worker
    async with running(stage):
        await stage.pass_time(3.0)
        assert len(await stage.workers("good")) == 1
        assert "no such thing" in stage.controller.status("broken").last_error
        stage.parts.ids.worker = honest
        await stage.pass_time(2.0)
        assert len(await stage.workers("broken")) == 1


async def test_a_slow_start_of_one_app_delays_no_other(stage):
    await stage.apply(an_app("slow"))
    await stage.apply(an_app("quick"))
    gate = asyncio.Event()
    create = stage.compute.create

    async def slow_for_one(order):
        if order.app.name == "slow":
            await gate.wait()
        await create(order)

    stage.compute.create = slow_for_one
    async with running(stage):
        await stage.submit("slow")
        await stage.settle_down()
        await stage.submit("quick")
        await stage.until(lambda: stage.running)
        await stage.pass_time(10.0)
        assert len(await stage.workers("slow")) == 1  # not ordered over and over meanwhile
        gate.set()
        await stage.settle_down()
        assert len(stage.running) == 2


# ------------------------------------------------------------------ leading


async def test_of_two_controllers_one_acts_and_the_other_takes_over_in_ten_seconds(stage):
    other = stage.another_controller("other")
    await stage.submit()
    await stage.controller.lead()
    assert not await other.lead()
    await other.tick()
    assert not stage.running
    await stage.controller.tick()
    assert len(stage.running) == 1
    stage.clock.advance(4.0)
    assert not await other.lead()
    stage.clock.advance(5.0)
    assert await other.lead()
    assert not await stage.controller.lead()


async def test_a_controller_that_stops_lets_another_lead_at_once(stage):
    other = stage.another_controller("other")
    assert not await other.lead()
    await stage.controller.close()
    stage.clock.advance(0.01)
    assert await other.lead()


async def test_a_lead_that_could_not_be_prepared_is_prepared_at_the_next_try(stage):
    fresh = stage.another_controller()
    gap = stage.parts.ledger.gap
    calls = []

    async def failing(command):
        calls.append(command)
        if len(calls) == 1:
            raise OSError("gone")
        return await gap(command)

    stage.parts.ledger.gap = failing
    with pytest.raises(OSError, match="gone"):
        await fresh.lead()
    assert not fresh._leading.is_set()
    assert await fresh.lead()
    assert fresh._leading.is_set()
    assert calls[1].forgive


@pytest.mark.parametrize("how", ["stopped", "asleep"])
async def test_leases_outlast_a_process_that_stood_still(stage, how):
    """SIGSTOP, or the lid of a laptop: nobody could send a heartbeat, so nobody is judged by its silence."""
    (run,) = await stage.submit()
    async with running(stage):
        await stage.pass_time(1.0)
        (worker,) = await stage.workers()
        held = await stage.lease(worker)
        if how == "stopped":
            stage.clock.advance(3600.0)
        else:
            stage.clock.jump(3600.0)
        await stage.pass_time(5.0)
        await stage.finish(worker, *held.attempts)
    assert await stage.state(run) == "SUCCEEDED"


# ------------------------------------------------------------------ what it shows


async def test_the_status_is_known_for_every_app_and_for_none_that_is_not(stage):
    assert stage.controller.status("nothing") is None
    assert stage.controller.status("digits").phase is Phase.READY
    await stage.wish("digits", DesiredState.PAUSED)
    assert stage.controller.status("digits").phase is Phase.PAUSED


async def test_an_app_at_rest_costs_nothing(stage):
    for number in range(50):
        await stage.apply(an_app(f"quiet-{number}"))
    made = await stage.controller.tick()
    assert made.apps == {}


async def test_an_app_that_calms_down_is_dropped_from_the_plans_once_that_was_told(stage):
    worker, _, attempt = await a_worker_with_work(stage)
    await stage.finish(worker, attempt)
    assert await stage.ask_to_exit(worker)
    stage.ends(worker.uid)
    for _ in range(4):
        made = await stage.controller.tick()
    assert made.apps == {}
    changes = [event.message for event in await stage.parts.ledger.events("digits") if event.kind == "PhaseChanged"]
    assert [text.split(":")[0] for text in changes] == ["Ready -> Scaling", "Ready"]


async def test_a_deleted_app_is_forgotten_and_its_workers_leave(stage):
    worker, _, attempt = await a_worker_with_work(stage)
    await stage.catalog.delete("digits")
    async with running(stage):
        await stage.pass_time(6.0)
        assert (await stage.worker(worker.uid)).state is DRAINING
        assert worker.uid in stage.running  # it still holds a run
        await stage.finish(worker, attempt)
        await stage.pass_time(6.0)
        assert not stage.running
        assert stage.controller.status("digits") is None


async def test_a_worker_that_is_gone_with_its_node_is_replaced(stage):
    await stage.change("digits", deadlines=Deadlines(lease_seconds=600.0))
    worker, run, _ = await a_worker_with_work(stage)
    async with running(stage):
        stage.cluster.lose_node((await stage.worker(worker.uid)).node or stage.cluster.life(worker.uid).node)
        await stage.settle_down()
        await stage.pass_time(2.0)
        assert (await stage.worker(worker.uid)).state in (LOST, FAILED)
        (fresh,) = await stage.workers()
        assert [one.run_id for one in (await stage.lease(fresh)).attempts] == [run.id]
        assert fresh.state in (STARTING, IDLE)
