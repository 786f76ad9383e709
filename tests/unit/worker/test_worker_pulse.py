"""Heartbeats, deadlines and stuck calls, on a clock that the test holds."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import msgspec
import pytest

from penstock.errors import Unauthenticated, Unavailable
from penstock.model.app import App, Deadlines, Worker
from penstock.model.run import Outcome, Reason
from penstock.model.wire import Assignment, ExtendReply, ExtendRequest
from penstock.testing.clock import ManualClock
from penstock.worker.current import CurrentRun
from penstock.worker.exits import Exit
from penstock.worker.hands import Call, Hands, Held
from penstock.worker.local import LocalDesk
from penstock.worker.post import Post
from penstock.worker.pulse import Pulse


class Line:
    """Answers heartbeats as it is told to, and keeps when they came."""

    def __init__(self, clock: ManualClock) -> None:
        self.clock = clock
        self.beats: list[tuple[float, ExtendRequest]] = []
        self.reply: ExtendReply | Exception = ExtendReply()

    async def extend(self, request: ExtendRequest) -> ExtendReply:
        self.beats.append((self.clock.monotonic(), request))
        if isinstance(self.reply, Exception):
            raise self.reply
        return self.reply


class Leaver:
    def __init__(self) -> None:
        self.left: list[tuple[Exit, float | None]] = []
        self.stirs = 0

    def leave(self, why: Exit, grace_s: float | None = None) -> None:
        self.left.append((why, grace_s))

    def stir(self) -> None:
        self.stirs += 1


class Stage:
    """A pulse and everything around it."""

    def __init__(self, lease_s: float, **worker: Any) -> None:
        self.clock = ManualClock()
        self.line = Line(self.clock)
        self.leaver = Leaver()
        self.hands = Hands()
        self.tasks: list[asyncio.Task[Any]] = []
        app = App(name="a", worker=Worker(**worker), deadlines=Deadlines(lease_seconds=lease_s))
        self.post = Post(uid="w", app=app, api="", token="")
        self.pulse = Pulse(
            self.post,
            self.line,  # type: ignore[arg-type]
            self.hands,
            self.leaver,
            clock=self.clock,
            sleep=self.clock.sleep,
        )

    def start(self) -> None:
        self.tasks = [asyncio.create_task(self.pulse.beat()), asyncio.create_task(self.pulse.watch())]

    async def pass_time(self, seconds: float, step: float = 0.05) -> None:
        end = self.clock.monotonic() + seconds
        while self.clock.monotonic() < end - 1e-9:
            for _ in range(4):
                await asyncio.sleep(0)
            self.clock.advance(step)
        for _ in range(4):
            await asyncio.sleep(0)

    def hold(self, number: int = 0, *, lease_s: float = 30.0, deadline_s: float = 3600.0) -> Held:
        assignment = Assignment(
            run_id=f"r{number}",
            epoch=1,
            token="t",
            tenant="x",
            key="k",
            lease_s=lease_s,
            deadline_s=deadline_s,
            body=b"",
        )
        run = CurrentRun(LocalDesk(self.clock), run_id=f"r{number}", deadline=0.0)
        held = Held(assignment, run, self.clock.monotonic() + deadline_s)
        self.hands.take(held)
        return held

    def call(self, *members: Held, cancels: bool = False) -> asyncio.Task[None]:
        task = asyncio.create_task(asyncio.Event().wait())
        self.tasks.append(task)
        self.hands.calls.add(Call(members, task, cancels=cancels))
        return task


@pytest.fixture
async def stage(request: pytest.FixtureRequest) -> AsyncIterator[Stage]:
    made = Stage(**getattr(request, "param", {"lease_s": 30.0}))
    made.start()
    await asyncio.sleep(0)
    yield made
    for task in made.tasks:
        task.cancel()
    await asyncio.gather(*made.tasks, return_exceptions=True)


@pytest.mark.parametrize("stage", [{"lease_s": 30.0}, {"lease_s": 3.0}], indirect=True)
async def test_leases_are_renewed_at_a_third_of_their_time(stage: Stage):
    lease_s = stage.post.app.deadlines.lease_seconds
    stage.hold(lease_s=lease_s)
    await stage.pass_time(lease_s * 2)
    times = [when for when, _ in stage.line.beats]
    gaps = [later - earlier for earlier, later in zip([0.0, *times], times, strict=False)]
    assert all(lease_s / 3 * 0.85 <= gap <= lease_s / 3 * 1.15 for gap in gaps)
    assert len(times) >= 5


async def test_a_run_with_a_shorter_lease_than_the_apps_sets_the_beat(stage: Stage):
    stage.hold(0)
    stage.hold(1, lease_s=3.0)
    await stage.pass_time(6.0)
    assert len(stage.line.beats) >= 5
    assert {item.run_id for item in stage.line.beats[-1][1].attempts} == {"r0", "r1"}


async def test_an_idle_worker_beats_rarely_and_empty(stage: Stage):
    await stage.pass_time(31.0)
    assert len(stage.line.beats) == 3
    assert all(request.attempts == () for _, request in stage.line.beats)


async def test_progress_is_sent_within_a_second_and_only_once(stage: Stage):
    held = stage.hold()
    await stage.pass_time(2.0)
    assert stage.line.beats == []
    held.run.progress(0.4, "halfway")
    await stage.pass_time(1.1)
    ((_, request),) = stage.line.beats
    assert [(item.progress, item.note) for item in request.attempts] == [(0.4, "halfway")]
    await stage.pass_time(3.0)
    assert len(stage.line.beats) == 1


async def test_endings_that_are_not_confirmed_keep_their_leases(stage: Stage):
    from penstock.worker.ending import released
    from penstock.worker.hands import settle_item

    held = stage.hold()
    stage.hands.finish(held, settle_item(held.assignment, released))
    stage.hands.begin()
    stage.hands.leave([held])
    await stage.pass_time(11.0)
    assert [item.run_id for item in stage.line.beats[0][1].attempts] == ["r0"]


async def test_a_lost_or_cancelled_run_is_dropped_and_its_handler_told(stage: Stage):
    lost, cancelled, kept = stage.hold(0), stage.hold(1), stage.hold(2)
    stage.line.reply = ExtendReply(lost=("r0",), cancelled=("r1",))
    await stage.pass_time(11.0)
    assert (lost.dropped, cancelled.dropped, kept.dropped) == (True, True, False)
    assert (lost.run.cancelled, cancelled.run.cancelled, kept.run.cancelled) == (True, True, False)
    stage.line.reply = ExtendReply()
    await stage.pass_time(11.0)
    assert [item.run_id for item in stage.line.beats[-1][1].attempts] == ["r2"]


async def test_an_exit_in_a_heartbeat_makes_the_worker_leave(stage: Stage):
    stage.line.reply = ExtendReply(exit=True)
    await stage.pass_time(11.0)
    assert stage.leaver.left[0] == (Exit.DONE, None)


async def test_a_heartbeat_that_is_not_known_makes_the_worker_leave(stage: Stage):
    stage.line.reply = Unauthenticated()
    await stage.pass_time(11.0)
    assert stage.leaver.left[0] == (Exit.DONE, None)


async def test_a_failed_heartbeat_is_sent_again_before_the_lease_runs_out(stage: Stage):
    stage.hold()
    stage.line.reply = Unavailable()
    await stage.pass_time(29.0)
    assert len(stage.line.beats) >= 4
    assert stage.leaver.left == []


async def test_a_run_at_its_deadline_fails_and_its_thread_gets_a_grace(stage: Stage):
    held = stage.hold(deadline_s=5.0)
    stage.call(held)
    await stage.pass_time(4.9)
    assert stage.hands.finished == 0
    await stage.pass_time(0.5)
    (item,) = stage.hands.report()
    assert (item.outcome, item.reason) == (Outcome.FAILED, Reason.DEADLINE_EXCEEDED)
    assert held.run.cancelled
    assert stage.leaver.stirs == 1
    assert stage.leaver.left == []
    await stage.pass_time(3.5)
    assert stage.leaver.left[0] == (Exit.STUCK, 0.0)


async def test_a_call_that_stops_when_told_costs_no_restart(stage: Stage):
    held = stage.hold(deadline_s=5.0)
    stage.call(held)
    await stage.pass_time(6.0)
    stage.hands.calls.clear()
    await stage.pass_time(10.0)
    assert stage.leaver.left == []


async def test_a_coroutine_at_its_deadline_is_cancelled(stage: Stage):
    held = stage.hold(deadline_s=5.0)
    task = stage.call(held, cancels=True)
    await stage.pass_time(5.6)
    assert task.cancelled()
    assert stage.hands.finished == 1


async def test_a_late_micro_batch_dies_unreported_a_moment_before_its_deadline(stage: Stage):
    """Nobody knows who hangs: the worker's death returns all of them, each to be leased alone."""
    members = [stage.hold(n, deadline_s=10.0) for n in range(3)]
    waits = stage.hold(3, deadline_s=10.0)
    waits.waiting = True
    stage.call(*members)
    await stage.pass_time(10.0)
    assert stage.leaver.left[0] == (Exit.STUCK, 0.0)
    (item,) = stage.hands.report()  # the one that never began is given back, uncharged
    assert (item.run_id, item.outcome) == ("r3", Outcome.RELEASED)
    assert all(member.dropped for member in members)


async def test_a_run_that_is_still_fetched_or_stored_at_its_deadline_fails(stage: Stage):
    stage.hold(deadline_s=5.0)
    await stage.pass_time(5.6)
    (item,) = stage.hands.report()
    assert (item.outcome, item.reason) == (Outcome.FAILED, Reason.DEADLINE_EXCEEDED)


async def test_a_cancelled_call_is_given_a_grace_then_the_replica_goes(stage: Stage):
    held = stage.hold()
    stage.call(held)
    stage.line.reply = ExtendReply(cancelled=("r0",))
    await stage.pass_time(11.0)
    assert stage.leaver.left == []
    await stage.pass_time(4.0)
    assert stage.leaver.left[0] == (Exit.STUCK, 0.0)


async def test_a_call_of_which_some_are_wanted_goes_on(stage: Stage):
    stage.call(stage.hold(0), stage.hold(1))
    stage.line.reply = ExtendReply(cancelled=("r0",))
    await stage.pass_time(30.0)
    assert stage.leaver.left == []


@pytest.mark.parametrize("stage", [{"lease_s": 30.0, "max_lifetime_seconds": 60.0}], indirect=True)
async def test_a_worker_is_recycled_after_its_lifetime(stage: Stage):
    await stage.pass_time(59.0)
    assert stage.leaver.left == []
    await stage.pass_time(1.5)
    assert stage.leaver.left[0] == (Exit.DONE, None)


async def test_a_replica_among_several_says_that_it_is_to_be_replaced():
    stage = Stage(lease_s=30.0, max_lifetime_seconds=1.0, instances=2)
    stage.post = msgspec.structs.replace(stage.post, replica=1)
    stage.start()
    await stage.pass_time(2.0)
    assert stage.leaver.left[0] == (Exit.RECYCLED, None)
    for task in stage.tasks:
        task.cancel()
    await asyncio.gather(*stage.tasks, return_exceptions=True)
