import pytest
from placement_worlds import a_view, an_app

from penstock.model.app import Batch, DesiredState, Server, Worker, WorkerType
from penstock.placement.demand import by_batch, by_depth, by_infer, clamp, demand, rate
from penstock.placement.snapshot import Backlog


@pytest.mark.parametrize(
    ("visible", "leased", "each", "expected"),
    [(0, 0, 10, 0), (1, 0, 10, 1), (10, 0, 10, 1), (10, 1, 10, 2), (0, 11, 10, 2), (95, 5, 10, 10), (3, 0, 1, 3)],
)
def test_depth_counts_what_waits_and_what_is_in_hand(visible, leased, each, expected):
    assert by_depth(Backlog(visible=visible, leased=leased), an_app(messages_per_instance=each)) == expected


def test_a_job_gets_a_worker_per_run():
    app = an_app(messages_per_instance=10, worker=Worker(type=WorkerType.JOB))
    assert by_depth(Backlog(visible=7, leased=2), app) == 9


def test_infer_works_the_backlog_off_within_its_sla_beside_the_busy():
    app = an_app(rate_per_instance_per_min=10, infer_sla_minutes=3)
    assert by_infer(Backlog(visible=31), app, busy=2) == 2 + 2  # 31 / (10 x 3), rounded up, and the two


def test_batch_finishes_within_what_is_left_of_its_sla():
    app = an_app(rate_per_instance_per_min=100, batch=Batch(batch_sla_hours=2))
    assert by_batch(Backlog(records_left=12_001), app) == 2  # 100 x 60 x 2 h = 12,000 each
    assert by_batch(Backlog(records_left=12_001, age_s=3600), app) == 3  # one hour is left: 6,000 each


def test_a_late_batch_is_given_a_quarter_of_an_hour():
    app = an_app(rate_per_instance_per_min=100, batch=Batch(batch_sla_hours=1))
    assert by_batch(Backlog(records_left=3_000, age_s=10 * 3600), app) == 2  # 100 x 60 x 0.25 = 1,500 each


def test_denominators_are_floored_at_one():
    app = an_app(rate_per_instance_per_min=0.001, infer_sla_minutes=0.001, batch=Batch(batch_sla_hours=0.001))
    assert by_infer(Backlog(visible=5), app, busy=0) == 5
    assert by_batch(Backlog(records_left=5), app) == 5


@pytest.mark.parametrize(("settled", "expected"), [(0, 7.0), (19, 7.0), (20, 120.0)])
def test_a_rate_counts_as_measured_from_twenty_samples_on(settled, expected):
    app = an_app(rate_per_instance_per_min=7)
    assert rate(Backlog(settled=settled, service_s=settled / 2), app) == expected


@pytest.mark.parametrize(
    ("worker", "times"),
    [
        (Worker(), 1),
        (Worker(instances=3, batch_size=4), 12),
        (Worker(type=WorkerType.SIDECAR, instances=2), 2),
        (Worker(type=WorkerType.SIDECAR, instances=2, server=Server(concurrency=16)), 16),
        (Worker(type=WorkerType.JOB, batch_size=8), 1),
    ],
)
def test_a_measured_rate_counts_the_attempts_that_overlap(worker, times):
    assert rate(Backlog(settled=60, service_s=60.0), an_app(worker=worker)) == 60.0 * times


@pytest.mark.parametrize(("most", "expected"), [(0, 9), (3, 3), (20, 9)])
def test_the_ceiling_of_zero_is_none(most, expected):
    assert clamp(9, an_app(max_instances=most)) == expected


def test_reasons_do_not_add_up_the_largest_counts():
    app = an_app(messages_per_instance=10, min_instances=2, batch=Batch())
    wanted = demand(a_view(app, visible=35, batch=Backlog(visible=1, records_left=1)), busy=0)
    assert (wanted.least, wanted.depth, wanted.infer, wanted.batch, wanted.most) == (2, 4, 1, 1, 4)


def test_busy_workers_count_for_infer_only_as_far_as_infer_holds_runs():
    assert demand(a_view(visible=1, leased=2), busy=5).infer == 1 + 2


def test_without_work_only_the_least_is_wanted():
    assert demand(a_view(an_app(min_instances=2)), busy=0).most == 2


@pytest.mark.parametrize("wish", [DesiredState.PAUSED, DesiredState.DRAINING])
def test_nothing_is_kept_for_an_app_that_is_being_put_away(wish):
    assert demand(a_view(an_app(min_instances=2, wish=wish)), busy=0).most == 0
