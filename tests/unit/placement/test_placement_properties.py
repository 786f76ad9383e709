"""What holds for every plan, whatever the world."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from msgspec.structs import replace
from placement_worlds import NOW, Life, a_view, a_worker, acted, an_app, reaped, retired, starts

from penstock.model.app import DesiredState
from penstock.model.fleet import WorkerState
from penstock.model.placement import Code, Drop
from penstock.placement.choice import Offer
from penstock.placement.history import Circuit, Fall, History, with_end
from penstock.placement.plan import plan_app
from penstock.placement.snapshot import AppView, Backlog, Ended

STARTING, IDLE, BUSY, DRAINING = WorkerState.STARTING, WorkerState.IDLE, WorkerState.BUSY, WorkerState.DRAINING

APPS = st.builds(
    an_app,
    messages_per_instance=st.integers(1, 20),
    min_instances=st.integers(0, 4),
    max_instances=st.sampled_from([0, 4, 7, 50]),
    max_scale_up_per_cycle=st.integers(1, 9),
    scale_up_cooldown_seconds=st.sampled_from([1.0, 60.0]),
    wish=st.sampled_from(DesiredState),
)
CREWS = st.lists(
    st.builds(a_worker, st.sampled_from([STARTING, IDLE, BUSY, DRAINING]), st.integers(1, 2)), max_size=9
).map(tuple)
HISTORIES = st.builds(
    History,
    demand=st.integers(0, 9),
    falls=st.lists(st.integers(10, 30), unique=True, max_size=3).map(
        lambda peaks: tuple(Fall(NOW - 200 + 60 * n, peak) for n, peak in enumerate(sorted(peaks, reverse=True)))
    ),
    scaled_up_at=st.sampled_from([float("-inf"), NOW - 100, NOW - 10]),
    owed=st.integers(0, 3),
    circuit=st.builds(Circuit, st.integers(1, 2), st.integers(0, 6), st.sampled_from([NOW - 1000, NOW - 1])),
)
OFFERS = st.lists(
    st.builds(Offer, st.sampled_from("abc"), st.none() | st.just(Drop(Code.STOCKED_OUT, "sold out"))),
    max_size=3,
    unique_by=lambda offer: offer.key,
).map(tuple)


@st.composite
def views(draw: st.DrawFn) -> AppView:
    crew = draw(CREWS)
    ended = draw(st.lists(st.sampled_from(crew), unique=True, max_size=2)) if crew else []
    return a_view(
        draw(APPS),
        generation=draw(st.integers(1, 2)),
        workers=crew,
        ended=tuple(Ended(worker.uid, 0) for worker in ended),
        unborn=tuple(worker.uid for worker in crew if worker.state is STARTING and draw(st.booleans())),
        infer=draw(st.builds(Backlog, visible=st.integers(0, 300), leased=st.integers(0, 40))),
        batch=draw(st.builds(Backlog, visible=st.integers(0, 3), records_left=st.integers(0, 10**6))),
        offers=draw(OFFERS),
        history=draw(HISTORIES),
    )


@given(views())
@settings(max_examples=150, deadline=None)
def test_the_ceiling_is_kept(view: AppView) -> None:
    most = view.app.scaling.max_instances
    planned = plan_app(view, NOW)
    if most and starts(planned):
        assert len(view.workers) + starts(planned) <= most


@given(views())
@settings(max_examples=150, deadline=None)
def test_a_cycle_is_kept_and_nothing_starts_beyond_what_is_wanted(view: AppView) -> None:
    planned = plan_app(view, NOW)
    standing = sum(worker.state is not DRAINING for worker in view.workers)
    scout = 1  # a rollout may have one more than is wanted, for as long as it takes
    assert starts(planned) <= view.app.scaling.max_scale_up_per_cycle
    assert standing + starts(planned) <= max(standing + scout, planned.status.desired)


@given(views())
@settings(max_examples=150, deadline=None)
def test_only_the_ended_are_reaped_and_only_old_ones_are_retired(view: AppView) -> None:
    planned = plan_app(view, NOW)
    rows = {worker.uid: worker for worker in view.workers}
    assert set(reaped(planned)) == {ended.uid for ended in view.ended}
    for uid in retired(planned):
        assert rows[uid].spec_generation != view.generation
        assert rows[uid].state in (IDLE, BUSY)


@given(views())
@settings(max_examples=150, deadline=None)
def test_once_all_is_done_nothing_more_is_asked_for(view: AppView) -> None:
    first = plan_app(view, NOW)
    again = plan_app(acted(first), NOW)
    assert not reaped(again)
    if starts(again):  # only where the ended and the retired made room, or the dead are replaced cycle by cycle
        assert view.ended or retired(first) or view.history.owed


@given(views())
@settings(max_examples=120, deadline=None)
def test_a_plan_is_the_same_for_the_same_world(view: AppView) -> None:
    assert plan_app(view, NOW) == plan_app(view, NOW)


@given(views(), st.floats(0, 1))
@settings(max_examples=150, deadline=None)
def test_until_it_is_to_be_revisited_a_quiet_plan_stays_what_it_is(view: AppView, part: float) -> None:
    view = replace(view, history=plan_app(view, NOW).history)
    planned = plan_app(view, NOW)
    if planned.actions or planned.revisit_at <= NOW:
        return
    later = NOW + part * (min(planned.revisit_at, NOW + 10_000) - NOW)
    if later < planned.revisit_at:
        assert plan_app(view, later).actions == ()


@given(views())
@settings(max_examples=120, deadline=None)
def test_a_paused_app_starts_nothing(view: AppView) -> None:
    paused = replace(view, app=replace(view.app, desired_state=DesiredState.PAUSED))
    assert starts(plan_app(paused, NOW)) == 0


class Deployment(RuleBasedStateMachine):
    """One app's life: work comes and goes, workers start, serve, crash and leave, specs change, ticks happen."""

    @initialize(app=APPS)
    def begin(self, app) -> None:
        self.life = Life(a_view(replace(app, desired_state=DesiredState.READY)))
        self.served_by_now: set[str] = set()

    def pick(self, *states: WorkerState):
        return next((worker for worker in self.life.view.workers if worker.state in states), None)

    def any_in(self, *states: WorkerState) -> bool:
        return self.pick(*states) is not None

    @rule(visible=st.integers(0, 40))
    def work_changes(self, visible: int) -> None:
        leased = sum(worker.state is BUSY for worker in self.life.view.workers)
        self.life.view = replace(self.life.view, infer=Backlog(visible=visible, leased=leased))

    @rule(seconds=st.sampled_from([0.1, 1.0, 30.0, 700.0]))
    def time_passes_and_a_tick_comes(self, seconds: float) -> None:
        before = {worker.uid: worker.state for worker in self.life.view.workers}
        self.life.tick(after=seconds)
        after = {worker.uid for worker in self.life.view.workers}
        assert set(before) <= after, "a plan made a worker disappear"

    @precondition(lambda self: self.any_in(STARTING))
    @rule()
    def one_comes_up(self) -> None:
        self.life.become(IDLE, self.pick(STARTING).uid)

    @precondition(lambda self: self.any_in(IDLE))
    @rule()
    def one_takes_work(self) -> None:
        worker = self.pick(IDLE)
        self.served_by_now.add(worker.uid)
        self.life.become(BUSY, worker.uid)

    @precondition(lambda self: self.any_in(BUSY))
    @rule()
    def one_finishes(self) -> None:
        self.life.become(IDLE, self.pick(BUSY).uid)

    @precondition(lambda self: self.any_in(STARTING, IDLE, BUSY, DRAINING))
    @rule(state=st.sampled_from([WorkerState.FAILED, WorkerState.LOST, WorkerState.EXITED]))
    def one_ends(self, state: WorkerState) -> None:
        worker = self.life.view.workers[0]
        leases = 1 if worker.uid in self.served_by_now else 0
        self.life.view = replace(
            self.life.view,
            workers=self.life.view.workers[1:],
            history=with_end(self.life.history, replace(worker, state=state, leases=leases), self.life.now),
        )

    @rule()
    def the_spec_changes(self) -> None:
        self.life.view = replace(self.life.view, generation=self.life.view.generation + 1)

    @invariant()
    def the_ceiling_holds(self) -> None:
        most = self.life.view.app.scaling.max_instances
        # The least that was there before the ceiling was known can't be taken away; nothing is added above it.
        assert not most or len(self.life.view.workers) <= most

    @invariant()
    def a_quiet_world_stays_quiet(self) -> None:
        """With nothing changing but time, starts come to an end."""
        life = Life(self.life.view, self.life.now)
        before = life.standing
        for _ in range(50):
            life.tick(after=61.0)
        assert life.standing <= max(before + 1, *(planned.status.desired for planned in life.plans))
        assert starts(life.tick(after=61.0)) == 0


Deployment.TestCase.settings = settings(max_examples=40, stateful_step_count=20, deadline=None)
TestDeployment = Deployment.TestCase
