from math import inf

from msgspec.structs import replace
from placement_worlds import NOW, a_worker

from penstock.model.fleet import WorkerState
from penstock.placement.history import (
    History,
    demanded,
    forgot_peaks,
    never_came_up,
    peak,
    proved,
    recalled,
    started,
    with_end,
    with_refusal,
)


def crash(generation: int = 1, **facts):
    return a_worker(
        WorkerState.FAILED,
        generation,
        leases=0,
        ready_at=None,
        reason="EXIT_FATAL",
        message="no module 'torch'",
        **facts,
    )


def after(*demands: tuple[float, int]) -> History:
    history = History()
    for at, demand in demands:
        history = demanded(history, demand, at)
    return history


def test_a_steady_demand_leaves_the_history_as_it_is():
    history = after((0, 3))
    assert demanded(history, 3, 50.0) is history
    assert peak(history, 50.0, 120.0) == (history, 3)


def test_a_peak_is_held_for_its_window_and_not_longer():
    history = after((0, 8), (100, 2))
    assert peak(history, 219.9, 120.0)[1] == 8
    forgotten, now = peak(history, 220.0, 120.0)
    assert now == 2
    assert forgotten.falls == ()


def test_a_lower_peak_within_the_window_is_held_once_the_higher_one_is_too_old():
    history = after((0, 9), (10, 1), (50, 5), (60, 1))
    assert [peak(history, at, 100.0)[1] for at in (109.0, 110.0, 159.0, 160.0)] == [9, 5, 5, 1]


def test_a_rise_makes_lower_peaks_meaningless():
    history = after((0, 5), (10, 1), (20, 7))
    assert history.falls == ()
    assert peak(history, 20.0, 100.0)[1] == 7


def test_without_work_no_peak_is_remembered():
    assert forgot_peaks(after((0, 5), (10, 1))).falls == ()
    history = History()
    assert forgot_peaks(history) is history


def test_two_crashes_are_bad_luck_three_are_a_reason_to_wait():
    history = History()
    for count in (1, 2, 3):
        history = with_end(history, crash(), NOW)
        assert history.circuit.tripped is (count == 3)
    assert history.circuit.message == "no module 'torch'"
    assert history.circuit.retry_at == NOW + 10.0


def test_the_wait_doubles_with_each_probe_up_to_ten_minutes():
    history, now = History(), NOW
    waits = []
    for _ in range(12):
        history = with_end(history, crash(), now)
        waits.append(round(history.circuit.retry_at - now, 3))
        now = max(now, history.circuit.retry_at)
    assert waits[2:] == [10, 20, 40, 80, 160, 320, 600, 600, 600, 600]


def test_workers_that_started_together_and_crash_together_do_not_make_the_wait_longer():
    history = History()
    for at in range(9):
        history = with_end(history, crash(), NOW + at)
    assert history.circuit.retry_at == NOW + 2 + 10.0


def test_a_new_generation_starts_with_a_clean_sheet():
    history = History()
    for _ in range(3):
        history = with_end(history, crash(generation=1), NOW)
    assert proved(history, 2, -inf).circuit.crashes == 0
    assert with_end(history, crash(generation=2), NOW).circuit.crashes == 1


def test_an_old_generations_crash_says_nothing_about_the_present_one():
    history = with_end(History(), crash(generation=2), NOW)
    assert with_end(history, crash(generation=1), NOW).circuit == history.circuit


def test_a_worker_that_took_work_after_the_crash_closes_the_circuit():
    history = with_end(History(), crash(), NOW)
    assert proved(history, 1, NOW - 1.0) is history  # it came up before: it proves nothing
    assert proved(history, 1, NOW + 1.0).circuit.crashes == 0


def test_the_end_of_a_worker_that_had_worked_is_no_crash():
    history = with_end(History(), crash(), NOW)
    served = a_worker(WorkerState.EXITED, leases=4, ready_at=NOW + 1.0)
    assert with_end(history, served, NOW + 9.0).circuit.crashes == 0
    earlier = replace(served, ready_at=NOW - 1.0)
    assert with_end(history, earlier, NOW + 9.0).circuit.crashes == 1


def test_a_poisonous_input_never_closes_an_app():
    history = History()
    for _ in range(10):
        history = with_end(history, a_worker(WorkerState.FAILED, leases=1, ready_at=NOW), NOW)
    assert not history.circuit.tripped
    assert history.owed == 10


def test_a_worker_lost_with_its_machine_is_owed_and_no_crash():
    lost = a_worker(WorkerState.LOST, leases=0, ready_at=None)
    assert not never_came_up(lost)
    assert with_end(History(), lost, NOW).owed == 1


def test_a_worker_that_was_told_to_go_is_neither():
    told = a_worker(WorkerState.EXITED, leases=0, ready_at=None)
    assert with_end(History(), told, NOW) == History()


def test_a_refusal_for_good_opens_the_circuit_at_once():
    history = with_refusal(History(), crash(), NOW)
    assert history.circuit.tripped
    assert history.circuit.retry_at == NOW + 10.0
    assert with_refusal(history, crash(), NOW + 1.0).circuit.retry_at == NOW + 10.0
    assert with_refusal(history, crash(), NOW + 10.0).circuit.retry_at == NOW + 30.0


def test_what_is_owed_is_no_scale_up():
    history = History(owed=2, scaled_up_at=NOW)
    assert started(history, 2, NOW + 5.0) == History(owed=0, scaled_up_at=NOW)
    assert started(history, 3, NOW + 5.0) == History(owed=0, scaled_up_at=NOW + 5.0)


def test_a_restarted_controller_recalls_crashes_and_the_last_scale_up():
    rows = [crash(started_at=NOW + at, ended_at=NOW + at + 1) for at in (20, 0, 10)]
    history = recalled(rows)
    assert history.circuit.crashes == 3
    assert history.circuit.crashed_at == NOW + 21
    assert history.scaled_up_at == NOW + 20
    assert recalled([*rows, a_worker(WorkerState.BUSY, started_at=NOW + 30)]).scaled_up_at == NOW + 30


def test_a_restarted_controller_owes_nothing():
    assert recalled([a_worker(WorkerState.LOST, leases=3, ended_at=NOW)]).owed == 0
