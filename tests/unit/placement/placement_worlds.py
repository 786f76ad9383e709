"""Small worlds for the planner: apps, workers and views as values, and what acting on a plan makes of them."""

from __future__ import annotations

import itertools
from dataclasses import dataclass, field

from msgspec.structs import replace

from penstock.model.app import App, Batch, DesiredState, Scaling
from penstock.model.app import Worker as WorkerSpec
from penstock.model.fleet import Worker, WorkerState
from penstock.placement.actions import CreateWorker, NotePhase, ReapWorker, RetireWorker, StartWorkers
from penstock.placement.history import History, started
from penstock.placement.plan import AppPlan, plan_app
from penstock.placement.snapshot import AppView, Backlog

NOW = 1_700_000_000.0
_numbers = itertools.count()


def an_app(
    *,
    batch: Batch | None = None,
    worker: WorkerSpec | None = None,
    wish: DesiredState = DesiredState.READY,
    **scaling: float,
) -> App:
    return App(
        name="digits",
        handler="digits:Digits",
        scaling=Scaling(**scaling),
        batch=batch,
        worker=worker or WorkerSpec(),
        desired_state=wish,
    )


def a_worker(state: WorkerState, generation: int = 1, **facts: object) -> Worker:
    known: dict[str, object] = {
        "uid": f"w-digits-{next(_numbers)}",
        "app": "digits",
        "spec_generation": generation,
        "state": state,
        "started_at": NOW - 60.0,
        "held": 1 if state is WorkerState.BUSY else 0,
        "leases": 1 if state is WorkerState.BUSY else 0,
        "ready_at": None if state is WorkerState.STARTING else NOW - 50.0,
    }
    return Worker(**{**known, **facts})


def workers(*states: WorkerState, generation: int = 1) -> tuple[Worker, ...]:
    return tuple(a_worker(state, generation) for state in states)


def a_view(app: App | None = None, *, visible: int = 0, leased: int = 0, **facts: object) -> AppView:
    known: dict[str, object] = {
        "app": app or an_app(),
        "generation": 1,
        "infer": Backlog(visible=visible, leased=leased),
    }
    return AppView(**{**known, **facts})


def starts(planned: AppPlan) -> int:
    return sum(action.count for action in planned.actions if isinstance(action, StartWorkers))


def retired(planned: AppPlan) -> list[str]:
    return [action.uid for action in planned.actions if isinstance(action, RetireWorker)]


def created(planned: AppPlan) -> list[str]:
    return [action.uid for action in planned.actions if isinstance(action, CreateWorker)]


def reaped(planned: AppPlan) -> list[str]:
    return [action.ended.uid for action in planned.actions if isinstance(action, ReapWorker)]


def phases(planned: AppPlan) -> list[NotePhase]:
    return [action for action in planned.actions if isinstance(action, NotePhase)]


def acted(planned: AppPlan, now: float = NOW) -> AppView:
    """Give the view as the next tick finds it, when all that was planned was done."""
    view = planned.view
    gone = set(retired(planned))
    ended = set(reaped(planned))
    crew = [
        replace(each, state=WorkerState.DRAINING) if each.uid in gone else each
        for each in view.workers
        if each.uid not in ended
    ]
    history = planned.history
    for action in planned.actions:
        if isinstance(action, StartWorkers):
            crew += [a_worker(WorkerState.STARTING, action.spec_generation) for _ in range(action.count)]
            history = started(history, action.count, now)
    return replace(view, workers=tuple(crew), history=history, ended=(), unborn=())


@dataclass
class Life:
    """One app through time: `tick` plans and acts at a moment that the test moves on."""

    view: AppView
    now: float = NOW
    plans: list[AppPlan] = field(default_factory=list)

    def tick(self, after: float = 0.0, **changes: object) -> AppPlan:
        self.now += after
        self.view = replace(self.view, **changes)
        planned = plan_app(self.view, self.now)
        self.plans.append(planned)
        self.view = acted(planned, self.now)
        return planned

    @property
    def standing(self) -> int:
        return sum(worker.state is not WorkerState.DRAINING for worker in self.view.workers)

    @property
    def history(self) -> History:
        return self.view.history

    def become(self, state: WorkerState, *uids: str) -> None:
        """Have these workers (all, if none is named) change their state."""
        self.view = replace(
            self.view,
            workers=tuple(
                replace(each, state=state, ready_at=each.ready_at or self.now) if not uids or each.uid in uids else each
                for each in self.view.workers
            ),
        )
