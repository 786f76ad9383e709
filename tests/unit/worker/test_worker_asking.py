"""What is asked for when, decided without a network: the table of the asker's choices."""

from __future__ import annotations

from typing import Any

import pytest

from penstock.model.app import App, Worker
from penstock.model.wire import Assignment, LeaseReply
from penstock.testing.clock import ManualClock, seeded
from penstock.worker.asking import Ask, Asking, Rest, lacking, micro_batches
from penstock.worker.current import CurrentRun
from penstock.worker.ending import released
from penstock.worker.hands import Hands, Held, settle_item
from penstock.worker.local import LocalDesk
from penstock.worker.outage import Outage
from penstock.worker.pace import QUICK, Pace


def assignment(number: int, **fields: Any) -> Assignment:
    known = {"token": "t", "tenant": "default", "key": "k", "lease_s": 30.0, "deadline_s": 60.0, "body": b""}
    return Assignment(run_id=f"r{number}", epoch=1, **{**known, **fields})


def held(number: int, **fields: Any) -> Held:
    run = CurrentRun(LocalDesk(ManualClock()), run_id=f"r{number}", deadline=0.0)
    return Held(assignment(number, **fields), run, 60.0)


class Desk:
    """An asker, its hands and its pace."""

    def __init__(self, *, slots: int = 1, batch_size: int = 8, seconds: float | None = None, **worker: Any) -> None:
        self.pace = Pace(slots=slots, batch_size=batch_size)
        if seconds is not None:
            self.pace.note(seconds)
        self.app = App(name="a", worker=Worker(batch_size=batch_size, **{"idle_exit_seconds": 60.0, **worker}))
        self.asking = Asking(self.app, self.pace, 0.0, slots=slots)
        self.hands = Hands()

    def take(self, count: int, rounds: int = 1, **fields: Any) -> list[Held]:
        members = [held(len(self.hands.held) + n, **fields) for n in range(count)]
        for member in members:
            self.hands.take(member)
        for _ in range(rounds):
            self.hands.begin()
        return members

    def finish(self, *members: Held) -> None:
        for member in members:
            self.hands.finish(member, settle_item(member.assignment, released))
        self.hands.leave(members)

    def plan(self, now: float = 0.0) -> Ask | Rest:
        return self.asking.plan(self.hands, now)

    def got(self, count: int, ask: Ask, **fields: Any) -> None:
        self.asking.note(ask, LeaseReply(attempts=tuple(assignment(n) for n in range(count)), **fields))


def test_with_nothing_in_hand_it_asks_for_a_micro_batch_and_waits_long():
    assert Desk().plan() == Ask(8, 20.0)


def test_it_waits_no_longer_than_it_may_idle():
    desk = Desk(idle_exit_seconds=5.0)
    assert desk.plan(now=3.0) == Ask(8, 2.0)
    assert not desk.asking.idled(4.9)
    assert desk.asking.idled(5.0)
    desk.asking.stay(5.0)
    assert desk.plan(now=5.0) == Ask(8, 5.0)


def test_a_report_and_the_long_wait_ride_together_when_nothing_else_is_in_hand():
    desk = Desk()
    desk.finish(*desk.take(3))
    assert desk.plan() == Ask(8, 20.0)


def test_slow_calls_are_given_nothing_to_wait_behind_them():
    desk = Desk(seconds=1.0)
    desk.got(8, Ask(8, 20.0))
    desk.take(8)
    assert desk.plan() == Rest(None)


def test_a_half_full_micro_batch_that_runs_leaves_no_free_slot():
    desk = Desk(seconds=1.0)
    desk.take(3)
    assert desk.plan() == Rest(None)


def test_while_quick_calls_work_on_a_backlog_the_next_are_fetched_without_waiting():
    desk = Desk(seconds=0.001)
    desk.got(8, Ask(8, 20.0))
    desk.take(8)
    assert desk.plan() == Ask(25 * 8 - 8, 0.0)


def test_without_a_backlog_nothing_is_fetched_ahead():
    desk = Desk(seconds=0.001)
    desk.got(3, Ask(200, 20.0))
    desk.take(3)
    assert desk.plan() == Rest(None)


def test_a_free_slot_is_offered_while_others_work():
    desk = Desk(slots=4, batch_size=1, seconds=1.0)
    desk.take(2, rounds=2)
    assert desk.plan() == Ask(2, 20.0)


def test_quick_calls_about_to_end_are_awaited_once_before_a_free_slot_is_offered():
    desk = Desk(slots=4, batch_size=1, seconds=QUICK * 0.9)
    desk.take(1)
    assert desk.plan() == Rest(QUICK)
    assert desk.plan() == Ask(3, 20.0)


def test_a_report_while_others_work_is_answered_at_once():
    desk = Desk(slots=4, batch_size=1, seconds=1.0)
    first, *_ = desk.take(4, rounds=4)
    desk.finish(first)
    assert desk.plan() == Ask(1, 0.0)


def test_beside_a_run_that_is_alone_nothing_is_taken():
    desk = Desk(slots=4, batch_size=8)
    (only,) = desk.take(1, alone=True)
    assert desk.plan() == Rest(None)
    desk.finish(only)
    assert desk.plan() == Ask(32, 20.0)


def test_drain_first_stops_asking_until_nothing_is_held():
    desk = Desk(slots=4, batch_size=1, seconds=1.0)
    members = desk.take(2, rounds=2)
    desk.got(0, Ask(2, 20.0), drain_first=True)
    assert desk.plan() == Rest(None)
    desk.finish(members[0])
    assert desk.plan() == Ask(0, 0.0)  # reports, and asks for nothing
    desk.got(0, Ask(0, 0.0))
    assert desk.plan() == Ask(0, 0.0)  # and goes on to drain
    desk.hands.report()
    desk.finish(members[1])
    assert desk.plan() == Ask(4, 20.0)


def test_max_runs_is_never_exceeded():
    desk = Desk(max_runs=10)
    desk.got(8, Ask(8, 20.0))
    assert desk.plan() == Ask(2, 20.0)
    assert not desk.asking.spent
    desk.got(2, Ask(2, 20.0))
    assert desk.asking.spent
    assert desk.plan() == Rest(None)


def test_one_long_call_ends_working_ahead_at_once_and_quick_ones_bring_it_back():
    pace = Pace(slots=1, batch_size=1)
    assert pace.ahead == 1  # nothing is known yet
    for _ in range(5):
        pace.note(0.0001)
    assert pace.ahead == 250
    pace.note(2.0)
    assert (pace.ahead, pace.quick) == (1, False)
    for _ in range(40):
        pace.note(0.0001)
    assert pace.ahead > 1


@pytest.mark.parametrize("seconds", [0.0, 1e-9])
def test_however_quick_what_is_held_ahead_is_bounded(seconds):
    pace = Pace(slots=1, batch_size=1)
    pace.note(seconds)
    assert pace.ahead == 256


def test_micro_batches_mix_tenants_only_if_they_may():
    members = [held(n, tenant="ab"[n % 2]) for n in range(6)]
    sizes = [[member.assignment.tenant for member in batch] for batch in micro_batches(members, 2, mix_tenants=False)]
    assert sizes == [["a", "a"], ["a"], ["b", "b"], ["b"]]
    assert [len(batch) for batch in micro_batches(members, 4, mix_tenants=True)] == [4, 2]


def test_what_a_micro_batch_lacks():
    assert lacking([], 4) == 0
    assert lacking([held(0)], 4) == 3
    assert lacking([held(n) for n in range(5)], 4) == 0
    assert lacking([held(0, alone=True)], 4) == 0


def test_waits_after_failures_double_with_jitter_and_end_with_the_outage():
    outage = Outage(60.0, seeded(1))
    waits = [outage.failed(float(n)) for n in range(10)]
    for wait, full in zip(waits, [0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 5.0, 5.0, 5.0, 5.0], strict=True):
        assert full / 2 <= wait <= full
    outage.over()
    assert outage.failed(10.0) <= 0.1


def test_the_broker_is_given_up_sooner_without_a_result_in_hand():
    outage = Outage(60.0, seeded(1))
    assert not outage.hopeless(1000.0, with_result=False)  # it has not failed
    outage.failed(0.0)
    assert not outage.hopeless(60.0, with_result=False)
    assert outage.hopeless(60.1, with_result=False)
    assert not outage.hopeless(3600.0, with_result=True)
    assert outage.hopeless(3600.1, with_result=True)


def test_an_unanswered_report_is_sent_again_and_a_confirmed_one_is_not():
    desk = Desk()
    desk.finish(*desk.take(3))
    desk.hands.at_once = 2
    first = desk.hands.report()
    assert [item.run_id for item in first] == ["r0", "r1"]
    desk.hands.unsent(first)
    assert desk.plan() == Ask(0, 0.0)  # more than one report holds: nothing may keep the second one waiting
    desk.hands.at_once = 9
    assert [item.run_id for item in desk.hands.report()] == ["r0", "r1", "r2"]
    desk.hands.confirm(first)
    assert desk.hands.unconfirmed == 1


def test_a_lost_run_loses_its_ending_unless_that_is_on_its_way():
    desk = Desk()
    first, second = desk.take(2)
    desk.finish(first, second)
    desk.hands.at_once = 1
    (sent,) = desk.hands.report()
    assert not desk.hands.forget(first.key)  # as a heartbeat beside the settle call may say, once that was applied
    assert desk.hands.forget(second.key)
    assert desk.hands.finished == 0
    desk.hands.unsent([sent])
    assert desk.hands.finished == 1
