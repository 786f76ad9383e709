"""Every small world there is: up to 3 candidates, up to 4 workers, each in every state. No runaway, nobody removed."""

from __future__ import annotations

import itertools

from placement_worlds import NOW, Life, acted, an_app, retired, starts

from penstock.model.fleet import Worker, WorkerState
from penstock.model.placement import Code, Drop, Phase
from penstock.model.run import Reason
from penstock.placement.choice import Offer
from penstock.placement.history import Circuit, History
from penstock.placement.plan import AppPlan, plan_app
from penstock.placement.snapshot import AppView, Backlog

SOLD_OUT = Drop(Code.STOCKED_OUT, "sold out")
KINDS = [
    (state, generation)
    for state in (WorkerState.STARTING, WorkerState.IDLE, WorkerState.BUSY, WorkerState.DRAINING)
    for generation in (1, 2)
]
CREWS = [
    tuple(
        Worker(uid=f"w-{n}", app="digits", spec_generation=generation, state=state, started_at=NOW - 400.0)
        for n, (state, generation) in enumerate(kinds)
    )
    for size in range(5)
    for kinds in itertools.combinations_with_replacement(KINDS, size)
]
MARKETS = [
    tuple(Offer(key, SOLD_OUT if out else None) for key, out in zip("abc", sold, strict=False))
    for size in (1, 2, 3)
    for sold in itertools.product((False, True), repeat=size)
]
CIRCUITS = [
    Circuit(),
    Circuit(2, 3, NOW - 1.0, Reason.EXIT_FATAL, "boom"),
    Circuit(2, 3, NOW - 60.0, Reason.EXIT_FATAL, "boom"),
]
LANES = [Backlog(), Backlog(leased=2), Backlog(visible=1), Backlog(visible=25, leased=2)]
CEILINGS = (0, 1, 3)


def every_world() -> itertools.chain[AppView]:
    apps = [an_app(max_instances=most, min_instances=least) for most in CEILINGS for least in (0, 1)]
    # Candidates only matter to a start, so each market is tried with every lane, not with every crew again.
    lean = itertools.product(apps, CREWS, MARKETS[:2], CIRCUITS[:1], LANES)
    rich = itertools.product(apps, CREWS[::7], MARKETS, CIRCUITS, LANES)
    return itertools.chain.from_iterable(
        (
            AppView(
                app=app,
                generation=2,
                workers=crew,
                offers=market,
                infer=lane,
                history=History(circuit=circuit, scaled_up_at=NOW - 30.0),
            )
            for app, crew, market, circuit, lane in worlds
        )
        for worlds in (lean, rich)
    )


def check(view: AppView, planned: AppPlan) -> None:
    started, left = starts(planned), set(retired(planned))
    most = view.app.scaling.max_instances
    rows = {worker.uid: worker for worker in view.workers}
    assert left <= rows.keys()
    for uid in left:
        assert rows[uid].spec_generation == 1
        assert rows[uid].state in (WorkerState.IDLE, WorkerState.BUSY)
    if started:
        assert not most or len(rows) + started <= most
        assert any(offer.dropped is None for offer in view.offers)
        assert view.infer.visible or view.app.scaling.min_instances
        if view.history.circuit.tripped:
            assert started == 1
            assert view.history.circuit.retry_at <= NOW
            assert not any(worker.state is WorkerState.STARTING for worker in view.workers)
    new_ready = sum(
        worker.spec_generation == 2 and worker.state in (WorkerState.IDLE, WorkerState.BUSY) for worker in view.workers
    )
    busy_left = sum(rows[uid].state is WorkerState.BUSY for uid in left)
    assert busy_left <= max(new_ready, 1 if most and len(rows) >= most else 0)


def test_no_small_world_runs_away_or_loses_a_worker() -> None:
    seen = 0
    phases: set[Phase] = set()
    for view in every_world():
        planned = plan_app(view, NOW)
        check(view, planned)
        phases.add(planned.status.phase)
        after = acted(planned)
        assert {worker.uid for worker in view.workers} <= {worker.uid for worker in after.workers}
        seen += 1
    assert seen > 20_000
    assert phases == {Phase.READY, Phase.SCALING, Phase.HELD}


def test_every_small_world_comes_to_rest() -> None:
    """Ticking on with nothing else happening, starts end and stay within what is wanted."""
    for view in itertools.islice(every_world(), 0, None, 97):
        life = Life(view)
        total = sum(starts(life.tick(after=61.0)) for _ in range(12))
        assert total <= 5
        assert starts(life.tick(after=61.0)) == 0
