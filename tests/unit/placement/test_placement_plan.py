"""What is planned in one tick, and over several, for one app."""

from __future__ import annotations

from typing import get_args

from msgspec.structs import replace
from placement_worlds import (
    NOW,
    Life,
    a_view,
    an_app,
    created,
    phases,
    reaped,
    retired,
    starts,
    workers,
)

from penstock.model.app import Batch, DesiredState, Worker, WorkerType
from penstock.model.fleet import WorkerState
from penstock.model.placement import Code, Drop, Phase
from penstock.placement import actions
from penstock.placement.choice import Offer
from penstock.placement.history import History, with_end
from penstock.placement.plan import plan, plan_app
from penstock.placement.rules import RULES
from penstock.placement.snapshot import Backlog, Ended, Snapshot

STARTING, IDLE, BUSY, DRAINING = WorkerState.STARTING, WorkerState.IDLE, WorkerState.BUSY, WorkerState.DRAINING


# ------------------------------------------------------------------ up


def test_the_first_run_of_an_app_at_zero_starts_a_worker_at_once():
    planned = plan_app(a_view(visible=1), NOW)
    assert starts(planned) == 1
    assert planned.status.phase is Phase.SCALING
    assert planned.status.starting == 1


def test_even_right_after_a_scale_up_an_app_at_zero_does_not_wait():
    planned = plan_app(a_view(visible=1, history=History(scaled_up_at=NOW - 1)), NOW)
    assert starts(planned) == 1


def test_pending_workers_count_so_a_five_minute_start_is_bought_once():
    life = Life(a_view(an_app(scale_up_cooldown_seconds=0.0), visible=25))
    assert starts(life.tick()) == 3
    assert [starts(life.tick(after=1.0)) for _ in range(300)] == [0] * 300
    assert len(life.view.workers) == 3


def test_a_cycle_starts_no_more_than_it_may():
    life = Life(a_view(an_app(max_scale_up_per_cycle=2, scale_up_cooldown_seconds=0.0), visible=100))
    assert [starts(life.tick(after=1.0)) for _ in range(6)] == [2, 2, 2, 2, 2, 0]


def test_scale_ups_keep_their_distance():
    life = Life(a_view(an_app(max_scale_up_per_cycle=2, scale_up_cooldown_seconds=60.0), visible=100))
    began = [second for second in range(200) if starts(life.tick(after=1.0))]
    assert began == [0, 60, 120, 180]
    assert life.plans[30].status.phase is Phase.SCALING


def test_a_worker_that_died_in_service_is_replaced_without_waiting():
    life = Life(a_view(visible=25, workers=workers(BUSY, BUSY, BUSY), history=History(scaled_up_at=NOW)))
    assert starts(life.tick(after=1.0)) == 0
    dead = replace(life.view.workers[0], state=WorkerState.LOST)
    history = with_end(life.history, dead, life.now)
    assert starts(life.tick(after=1.0, workers=life.view.workers[1:], history=history)) == 1
    assert starts(life.tick(after=1.0)) == 0


def test_a_replacement_is_not_saved_up_for_later():
    history = History(scaled_up_at=NOW, owed=3)
    life = Life(a_view(leased=1, workers=workers(BUSY), history=history))
    life.tick(after=1.0)
    assert starts(life.tick(after=1.0, infer=Backlog(visible=40, leased=1))) == 0


def test_jobs_need_a_worker_each_and_are_paced_where_they_go():
    app = an_app(worker=Worker(type=WorkerType.JOB), max_scale_up_per_cycle=5)
    life = Life(a_view(app, visible=12))
    assert [starts(life.tick(after=1.0)) for _ in range(4)] == [5, 5, 2, 0]


def test_the_least_is_kept_without_work():
    life = Life(a_view(an_app(min_instances=2)))
    assert starts(life.tick()) == 2
    life.become(IDLE)
    assert starts(life.tick(after=1.0)) == 0
    assert life.plans[-1].status.phase is Phase.READY


def test_the_ceiling_counts_those_that_are_leaving():
    view = a_view(an_app(max_instances=3), visible=100, workers=workers(BUSY, DRAINING))
    assert starts(plan_app(view, NOW)) == 1


def test_an_app_at_its_ceiling_is_ready_and_says_so():
    status = plan_app(a_view(an_app(max_instances=1), visible=100, workers=workers(BUSY)), NOW).status
    assert (status.phase, status.desired) == (Phase.READY, 1)
    draining = plan_app(a_view(an_app(max_instances=1), visible=100, workers=workers(DRAINING)), NOW)
    assert starts(draining) == 0
    assert "maxInstances is 1" in draining.status.message


def test_a_leaving_worker_does_not_serve_what_comes():
    assert starts(plan_app(a_view(visible=1, workers=workers(DRAINING)), NOW)) == 1


def test_a_new_worker_is_not_started_where_it_would_find_nothing():
    view = a_view(an_app(messages_per_instance=1), leased=5, workers=workers(BUSY))
    planned = plan_app(view, NOW)
    assert planned.status.desired == 5
    assert starts(planned) == 0


def test_a_batch_alone_starts_workers():
    view = a_view(an_app(batch=Batch()), batch=Backlog(visible=1, records_left=50_000))
    assert starts(plan_app(view, NOW)) == 1


def test_a_peak_is_held_while_work_is_there_and_dropped_with_it():
    app = an_app(scale_up_cooldown_seconds=0.0, max_scale_up_per_cycle=9, scale_down_stabilization_seconds=120.0)
    life = Life(a_view(app, visible=50))
    assert starts(life.tick()) == 5
    assert life.tick(after=60.0, infer=Backlog(visible=1)).status.desired == 5
    assert life.tick(after=119.0).status.desired == 5
    assert life.tick(after=1.0).status.desired == 1
    life.tick(after=1.0, infer=Backlog(visible=50))
    assert life.tick(after=1.0, infer=Backlog()).status.desired == 0


# ------------------------------------------------------------------ down


def test_no_action_could_end_a_worker():
    names = {kind.__name__ for kind in get_args(actions.Action)}
    assert names == {"StartWorkers", "CreateWorker", "RetireWorker", "ReapWorker", "NotePhase"}


def test_without_work_nobody_is_sent_away():
    planned = plan_app(a_view(workers=workers(IDLE, BUSY, STARTING)), NOW)
    assert planned.actions == () or all(isinstance(action, actions.NotePhase) for action in planned.actions)


def test_a_worker_that_was_seen_to_end_is_reaped():
    crew = workers(BUSY, IDLE)
    view = a_view(workers=crew, ended=(Ended(crew[0].uid, exit_code=-9),))
    assert reaped(plan_app(view, NOW)) == [crew[0].uid]


# ------------------------------------------------------------------ a new generation


def test_a_spec_update_does_not_stop_running_work():
    crew = workers(BUSY, BUSY, generation=1)
    life = Life(a_view(leased=2, generation=2, workers=crew))
    for _ in range(50):
        assert retired(life.tick(after=1.0)) == []


def test_idle_workers_of_an_old_generation_leave_when_nothing_waits():
    crew = workers(IDLE, IDLE, BUSY, generation=1)
    assert retired(plan_app(a_view(leased=1, generation=2, workers=crew), NOW)) == [crew[0].uid, crew[1].uid]


def test_a_rollout_starts_one_new_worker_and_retires_old_ones_as_new_ones_come_up():
    app = an_app(scale_up_cooldown_seconds=0.0, max_scale_up_per_cycle=10)
    crew = workers(BUSY, BUSY, BUSY, BUSY, generation=1)
    life = Life(a_view(app, visible=4, leased=36, generation=2, workers=crew))
    first = life.tick()
    assert (starts(first), retired(first)) == (1, [])
    assert (starts(life.tick(after=1.0)), retired(life.plans[-1])) == (0, [])
    scout = life.view.workers[-1].uid
    life.become(BUSY, scout)
    assert len(retired(life.tick(after=1.0))) == 1
    assert all(worker.state is not DRAINING for worker in life.view.workers if worker.spec_generation == 2)


def test_no_second_old_worker_is_retired_while_the_first_still_leaves():
    old, new = workers(DRAINING, BUSY, BUSY, generation=1), workers(BUSY, generation=2)
    view = a_view(visible=4, leased=26, generation=2, workers=old + new)
    assert retired(plan_app(view, NOW)) == []


def test_at_the_ceiling_old_workers_make_room_one_by_one():
    old = workers(BUSY, DRAINING, generation=1)
    view = a_view(an_app(max_instances=2), visible=4, leased=16, generation=2, workers=old)
    assert retired(plan_app(view, NOW)) == []


def test_a_rollout_ends_with_all_workers_new():
    app = an_app(scale_up_cooldown_seconds=0.0, max_scale_up_per_cycle=10)
    life = Life(a_view(app, visible=4, leased=36, generation=2, workers=workers(*[BUSY] * 4, generation=1)))
    for _ in range(20):
        life.tick(after=1.0)
        serving = [worker for worker in life.view.workers if worker.state in (BUSY, IDLE)]
        assert len(serving) >= 3
        life.view = replace(life.view, workers=tuple(each for each in life.view.workers if each.state is not DRAINING))
        life.become(BUSY)
    assert {worker.spec_generation for worker in life.view.workers} == {2}


def test_a_broken_spec_takes_nothing_down():
    life = Life(a_view(visible=4, leased=16, generation=2, workers=workers(BUSY, BUSY, generation=1)))
    for _ in range(60):
        planned = life.tick(after=5.0)
        assert retired(planned) == []
        for worker in life.view.workers:
            if worker.state is STARTING:
                ended = replace(worker, state=WorkerState.FAILED, leases=0, ready_at=None)
                life.view = replace(
                    life.view,
                    workers=tuple(each for each in life.view.workers if each is not worker),
                    history=with_end(life.history, ended, life.now),
                )
    assert life.plans[-1].status.phase is Phase.HELD
    assert sum(starts(planned) for planned in life.plans) <= 10


def test_at_the_ceiling_an_old_worker_makes_room_first():
    crew = workers(IDLE, generation=1)
    life = Life(a_view(an_app(max_instances=1), visible=1, generation=2, workers=crew))
    assert retired(life.tick()) == [crew[0].uid]
    assert starts(life.plans[0]) == 0
    assert retired(life.tick(after=1.0)) == []
    assert starts(life.tick(after=1.0, workers=())) == 1


def test_an_always_busy_worker_at_the_ceiling_finishes_and_is_replaced():
    crew = workers(BUSY, generation=1)
    planned = plan_app(a_view(an_app(max_instances=1), visible=9, leased=1, generation=2, workers=crew), NOW)
    assert retired(planned) == [crew[0].uid]  # no new lease; what it holds is finished


# ------------------------------------------------------------------ what an operator wants


def test_a_paused_app_starts_nothing_and_says_so():
    planned = plan_app(a_view(an_app(wish=DesiredState.PAUSED, min_instances=1), visible=9), NOW)
    assert starts(planned) == 0
    assert (planned.status.phase, planned.status.reason) == (Phase.PAUSED, "PAUSED")


def test_a_draining_app_finishes_its_queue():
    planned = plan_app(a_view(an_app(wish=DesiredState.DRAINING), visible=9), NOW)
    assert starts(planned) == 1
    assert planned.status.phase is Phase.DRAINING


def test_a_drained_app_keeps_nobody():
    assert starts(plan_app(a_view(an_app(wish=DesiredState.DRAINING, min_instances=3)), NOW)) == 0


# ------------------------------------------------------------------ crashes


def crashing(life: Life, seconds: int) -> list[int]:
    """Let every worker die while it starts; give the seconds at which one was started."""
    began = []
    for second in range(seconds):
        planned = life.tick(after=1.0)
        if starts(planned):
            began.append(second)
        for worker in life.view.workers:
            dead = replace(worker, state=WorkerState.FAILED, leases=0, message="Traceback: no GPU", reason="EXIT_FATAL")
            life.view = replace(life.view, history=with_end(life.history, dead, life.now))
        life.view = replace(life.view, workers=())
    return began


def test_a_crash_loop_opens_the_circuit_and_is_probed_ever_more_rarely():
    life = Life(a_view(visible=1))
    assert crashing(life, 200) == [0, 1, 2, 12, 32, 72, 152]


def test_a_crash_loop_is_shown_as_held_with_the_last_log_lines():
    life = Life(a_view(visible=1))
    crashing(life, 6)
    status = life.tick(after=1.0).status
    assert (status.phase, status.reason) == (Phase.HELD, "EXIT_FATAL")
    assert "Traceback: no GPU" in status.message
    assert status.last_error == "Traceback: no GPU"


def test_while_the_probe_starts_no_second_one_is_sent():
    life = Life(a_view(visible=100))
    crashing(life, 6)
    planned = life.tick(after=100.0)
    assert starts(planned) == 1
    assert planned.status.phase is Phase.HELD
    assert starts(life.tick(after=100.0)) == 0
    assert life.plans[-1].status.phase is Phase.HELD


def test_a_probe_that_takes_work_closes_the_circuit():
    life = Life(a_view(an_app(scale_up_cooldown_seconds=0.0), visible=100))
    crashing(life, 6)
    life.tick(after=100.0)
    life.view = replace(
        life.view, workers=tuple(replace(each, state=BUSY, leases=1, ready_at=life.now) for each in life.view.workers)
    )
    planned = life.tick(after=1.0)
    assert starts(planned) == 3
    assert planned.status.phase is Phase.SCALING
    assert planned.history.circuit.crashes == 0


def test_a_probe_that_only_came_up_proves_nothing_yet():
    life = Life(a_view(an_app(scale_up_cooldown_seconds=0.0), visible=100))
    crashing(life, 6)
    life.tick(after=100.0)
    life.become(IDLE)
    planned = life.tick(after=1.0)
    assert planned.status.phase is Phase.HELD
    assert planned.history.circuit.tripped


def test_without_work_an_open_circuit_holds_nobody():
    life = Life(a_view(visible=1))
    crashing(life, 6)
    assert life.tick(after=1.0, infer=Backlog()).status.phase is Phase.READY


# ------------------------------------------------------------------ where


def test_the_first_candidate_left_is_chosen_and_the_rest_is_explained():
    sold_out = Drop(Code.STOCKED_OUT, "sold out")
    view = a_view(visible=1, offers=(Offer("spot", sold_out), Offer("on-demand"), Offer("vm")))
    (start,) = [action for action in plan_app(view, NOW).actions if isinstance(action, actions.StartWorkers)]
    assert start.candidate == "on-demand"
    assert start.choice.survivors == ("on-demand", "vm")
    assert start.choice.dropped == {"spot": sold_out}


def test_with_no_candidate_left_the_app_is_held_and_nothing_piles_up():
    sold_out = Drop(Code.STOCKED_OUT, "sold out until noon")
    life = Life(a_view(visible=50, offers=(Offer("spot", sold_out), Offer("vm", sold_out))))
    for _ in range(10):
        assert starts(life.tick(after=1.0)) == 0
    status = life.plans[-1].status
    assert (status.phase, status.reason) == (Phase.HELD, "STOCKOUT")
    assert "spot: sold out until noon" in status.message


def test_no_candidate_at_all_is_said_in_words():
    status = plan_app(a_view(visible=1, offers=(Offer("x", Drop(Code.CLUSTER_DOWN, "unreachable")),)), NOW).status
    assert (status.phase, status.reason) == (Phase.HELD, "HELD")
    assert "none is configured" in plan_app(a_view(visible=1, offers=()), NOW).status.message


# ------------------------------------------------------------------ starts that were lost on the way


def test_a_row_that_compute_does_not_know_is_created_again():
    crew = workers(STARTING, BUSY)
    view = a_view(visible=1, workers=crew, unborn=(crew[0].uid, crew[1].uid))
    planned = plan_app(view, NOW)
    assert created(planned) == [crew[0].uid]
    assert starts(planned) == 0


# ------------------------------------------------------------------ what is told


def test_a_phase_change_is_told_once():
    life = Life(a_view(visible=1))
    (note,) = phases(life.tick())
    assert (note.before, note.phase) == (Phase.READY, Phase.SCALING)
    assert phases(life.tick(after=1.0)) == []
    life.become(BUSY)
    (note,) = phases(life.tick(after=1.0))
    assert (note.before, note.phase) == (Phase.SCALING, Phase.READY)


def test_every_rule_is_in_the_list_and_the_first_of_the_tightest_speaks():
    view = a_view(an_app(wish=DesiredState.PAUSED, max_instances=1), visible=9, offers=(), workers=workers(BUSY))
    assert [rule.__name__ for rule in RULES] == ["paused", "circuit", "offers", "ceiling", "cooldown", "cycle"]
    assert plan_app(view, NOW).status.reason == "PAUSED"


# ------------------------------------------------------------------ many apps


def test_one_bad_app_stops_nothing_for_all():
    good, bad = a_view(visible=1), a_view(replace(an_app(), name="bad"), workers=("not a worker",))
    planned = plan(Snapshot(NOW, (bad, good)))
    assert list(planned.apps) == ["digits"]
    assert "AttributeError" in planned.failed["bad"]


def test_an_unchanged_app_is_not_planned_again():
    view = a_view(workers=workers(IDLE))
    first = plan(Snapshot(NOW, (view,)))
    assert not list(first.actions)
    second = plan(Snapshot(NOW + 1000, (view,)), first.apps)
    assert second.apps["digits"] is first.apps["digits"]
    changed = replace(view)
    assert plan(Snapshot(NOW + 1000, (changed,)), first.apps).apps["digits"] is not first.apps["digits"]


def test_a_plan_that_asked_for_something_is_made_anew():
    crew = workers(STARTING)
    view = a_view(visible=1, workers=crew, unborn=(crew[0].uid,))
    first = plan(Snapshot(NOW, (view,)))
    assert plan(Snapshot(NOW + 1, (view,)), first.apps).apps["digits"] is not first.apps["digits"]


def test_an_unchanged_app_is_planned_again_once_time_could_matter():
    history = History(scaled_up_at=NOW, phase=Phase.SCALING, reason="CAPACITY")
    view = a_view(visible=90, workers=workers(BUSY), history=history)
    first = plan(Snapshot(NOW, (view,)))
    assert starts(first.apps["digits"]) == 0
    same = plan(Snapshot(NOW + 59, (view,)), first.apps)
    assert same.apps["digits"] is first.apps["digits"]
    assert starts(plan(Snapshot(NOW + 60, (view,)), same.apps).apps["digits"]) == 3


def test_a_held_peak_is_looked_at_again_when_it_is_over():
    life = Life(a_view(visible=30, leased=1, workers=workers(BUSY, BUSY, BUSY, BUSY)))
    life.tick()
    quiet = life.tick(after=1.0, infer=Backlog(visible=1, leased=1))
    assert quiet.revisit_at == life.now + 120.0
