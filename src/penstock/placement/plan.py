"""What is to be done, decided from what was observed: no input or output, no clock of its own."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from math import inf
from typing import Final

import msgspec
from msgspec.structs import replace

from penstock.model.app import DesiredState
from penstock.model.fleet import WorkerState
from penstock.model.placement import Phase
from penstock.model.run import Reason

from .actions import Action, CreateWorker, NotePhase, ReapWorker, RetireWorker, StartWorkers
from .case import Case
from .choice import Choice, choose
from .crew import Crew, muster
from .demand import Demand, clamp, demand, least_wanted
from .history import History, demanded, forgot_peaks, peak, proved
from .rollout import retired, scout_needed
from .rules import Limit, circuit, tightest
from .snapshot import AppView, Snapshot
from .status import AppStatus

__all__ = ["AppPlan", "Plan", "plan", "plan_app"]

_NOT_ASKED: Final = Choice(None, (), {})


class AppPlan(msgspec.Struct, frozen=True, gc=False):
    """What is to be done for one app, what it shows, and what to remember of it.

    The plan for the same view would be the same until `revisit_at`.
    """

    view: AppView
    actions: tuple[Action, ...]
    status: AppStatus
    history: History
    revisit_at: float = inf


class Plan(msgspec.Struct, frozen=True):
    """What is to be done, by app. `failed` names the apps that could not be planned, and why."""

    now: float
    apps: dict[str, AppPlan]
    failed: dict[str, str] = {}

    @property
    def actions(self) -> Iterator[Action]:
        """Every action of every app."""
        return (action for part in self.apps.values() for action in part.actions)


_NO_PLANS: Final[Mapping[str, AppPlan]] = {}


def plan(snapshot: Snapshot, before: Mapping[str, AppPlan] = _NO_PLANS) -> Plan:
    """Decide for every app of the snapshot by itself; one that can't be planned is named and spoils no other.

    Args:
        snapshot: what was observed.
        before: earlier plans. One whose view is the very same object and that asked for nothing is kept as it is.
    """
    now = snapshot.now
    apps: dict[str, AppPlan] = {}
    failed: dict[str, str] = {}
    for view in snapshot.apps:
        name = view.app.name
        known = before.get(name)
        if known is not None and known.view is view and not known.actions and now < known.revisit_at:
            apps[name] = known
            continue
        try:
            apps[name] = plan_app(view, now)
        except Exception as error:  # noqa: BLE001 - one bad app stops no other
            failed[name] = f"{type(error).__name__}: {error}"
    return Plan(now, apps, failed)


def plan_app(view: AppView, now: float) -> AppPlan:
    """Decide what one app needs: reap, start again, start, retire; and say what it is doing."""
    crew = muster(view.workers, view.generation)
    wanted = demand(view, crew.busy)
    history = proved(view.history, view.generation, crew.last_ready_at)
    history, desired = _desired(view, wanted.most, history, now)
    aim = _aim(view, desired)
    need = max(0, aim - crew.standing, int(scout_needed(crew, aim)))
    if not need and history.owed:
        history = replace(history, owed=0)  # nobody misses those that died
    case = Case(view, now, history, crew, desired, need, choose(view.offers) if need else _NOT_ASKED)
    limit = tightest(case) if need else None
    starts = limit.at_most if limit else need
    status = _status(case, limit, starts)
    actions = (
        *_reaping(view),
        *_creating(view),
        *_starting(case, wanted, starts),
        *_retiring(view, crew, aim),
        *_noting(view, history, status),
    )
    if status.phase is not history.phase or status.reason != history.reason:
        history = replace(history, phase=status.phase, reason=status.reason)
    return AppPlan(view, actions, status, history, _revisit_at(case, limit, history))


def _desired(view: AppView, wanted: int, history: History, now: float) -> tuple[History, int]:
    """Give how many workers are desired: the recent peak, held while there is work, under the ceiling."""
    history = demanded(history, wanted, now)
    if view.infer.visible or view.infer.leased or view.batch.visible or view.batch.leased:
        history, wanted = peak(history, now, view.app.scaling.scale_down_stabilization_seconds)
    else:
        history = forgot_peaks(history)
    return history, clamp(wanted, view.app)


def _aim(view: AppView, desired: int) -> int:
    """Give how many workers should stand: with nothing in line a new one would find nothing, so only the least."""
    if view.infer.visible or view.batch.visible:
        return desired
    return min(desired, least_wanted(view.app))


def _reaping(view: AppView) -> Iterator[Action]:
    for ended in view.ended:
        yield ReapWorker(view.app.name, ended)


def _creating(view: AppView) -> Iterator[Action]:
    if not view.unborn:
        return
    unborn = set(view.unborn)
    for worker in view.workers:
        if worker.uid in unborn and worker.state is WorkerState.STARTING:
            yield CreateWorker(view.app.name, worker.spec_generation, worker.uid)


def _starting(case: Case, wanted: Demand, starts: int) -> Iterator[Action]:
    chosen = case.choice.chosen
    if starts <= 0 or chosen is None:
        return
    why = f"{case.desired} wanted (least {wanted.least}, depth {wanted.depth}, infer {wanted.infer}, "
    why += f"batch {wanted.batch}), {case.crew.standing} there"
    yield StartWorkers(case.view.app.name, case.view.generation, chosen, starts, why, case.choice)


def _retiring(view: AppView, crew: Crew, aim: int) -> Iterator[Action]:
    for uid in retired(crew, view.app, aim):
        yield RetireWorker(view.app.name, uid, f"generation {view.generation} takes over")


def _noting(view: AppView, history: History, status: AppStatus) -> Iterator[Action]:
    if status.phase is not history.phase or status.reason != history.reason:
        yield NotePhase(view.app.name, history.phase, status.phase, status.reason, status.message)


def _status(case: Case, limit: Limit | None, starts: int) -> AppStatus:
    crew = case.crew
    phase, reason, message = _phase(case, limit, starts)
    return AppStatus(
        phase=phase,
        reason=reason,
        message=message,
        desired=case.desired,
        live=crew.live + starts,
        starting=crew.starting + starts,
        idle=crew.idle,
        busy=crew.busy,
        draining=crew.draining,
        last_error=case.history.circuit.message,
    )


def _phase(case: Case, limit: Limit | None, starts: int) -> tuple[Phase, Reason | None, str]:
    """Give the phase in one word, its reason and a sentence: what an operator wants, then what holds, then what moves."""
    wish = case.view.app.desired_state
    if wish is DesiredState.PAUSED:
        return Phase.PAUSED, Reason.PAUSED, "paused: runs are taken in, none starts"
    # A circuit that is open holds the app while its probe is on the way, too.
    held = circuit(case) if case.desired else None
    if held is None and limit is not None and limit.phase is Phase.HELD:
        held = limit
    if held is not None:
        return Phase.HELD, held.reason, held.message
    if wish is DesiredState.DRAINING:
        return Phase.DRAINING, None, "draining: nothing is taken in, what is queued is finished"
    if starting := case.crew.starting + starts:
        return Phase.SCALING, Reason.CAPACITY, f"{starting} starting for {case.desired} wanted"
    if limit is not None:
        return limit.phase, limit.reason, limit.message
    return Phase.READY, None, ""


def _revisit_at(case: Case, limit: Limit | None, history: History) -> float:
    """Give when the same view could lead to another plan: time itself lifts limits, forgets peaks and ages batches."""
    if history.circuit.crashes or case.view.batch.records_left:
        return case.now
    until = limit.until if limit else inf
    if history.falls:
        until = min(until, history.falls[0].at + case.view.app.scaling.scale_down_stabilization_seconds)
    return until
