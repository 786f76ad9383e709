"""Loading a snapshot: the ledger's counters and workers, what compute sees, what is wanted. No decision is made here."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Final

import msgspec

from penstock.compute import Phase, Sighting
from penstock.ledger.commands import LaneCount
from penstock.model.app import DesiredState
from penstock.model.fleet import Worker, WorkerState
from penstock.model.placement import Phase as AppPhase
from penstock.model.run import Lane
from penstock.serving.catalog import Entry

from .lookout import ALL_WORKERS
from .parts import Parts
from .plan import AppPlan
from .recall import Recall
from .snapshot import AppView, Backlog, Ended, Snapshot

__all__ = ["Sight", "assemble", "observe"]

_EMPTY: Final = Backlog()
_FEW: Final = 8  # so many apps are asked for one by one


class Sight(msgspec.Struct, frozen=True):
    """What was read, as it was read. `sightings` is None where compute was not asked, or did not answer."""

    now: float
    lanes: Sequence[LaneCount]
    workers: Sequence[Worker]
    sightings: Sequence[Sighting] | None = None


async def observe(parts: Parts, before: Mapping[str, AppPlan], only: Collection[str] | None = None) -> Snapshot:
    """Give the apps that may need something: all of them, or `only` some, which is quick and does not ask compute."""
    if only is None:
        sight = await _look_at_all(parts)
        names: Iterable[str] = relevant(parts.catalog.all(), sight, before)
    else:
        sight = await (_look_at_few(parts, only) if len(only) <= _FEW else _look_at_all(parts))
        names = only
    entries = [entry for name in names if (entry := parts.catalog.find(name)) is not None]
    return assemble(entries, sight, parts.recall, before)


async def _look_at_all(parts: Parts) -> Sight:
    now, lanes, fleet = await asyncio.gather(parts.ledger.now(), parts.ledger.lanes(), parts.lookout.look())
    return Sight(now, lanes, fleet.workers, fleet.sightings)


async def _look_at_few(parts: Parts, names: Collection[str]) -> Sight:
    ledger = parts.ledger
    crews = await asyncio.gather(*(ledger.workers(app=name, limit=ALL_WORKERS) for name in names))
    now, lanes = await asyncio.gather(ledger.now(), ledger.lanes())
    return Sight(now, lanes, [worker for crew in crews for worker in crew])


def relevant(entries: Iterable[Entry], sight: Sight, before: Mapping[str, AppPlan]) -> set[str]:
    """Give the apps with work, with workers, with a wish of their operator's, or that were not at rest last time."""
    names = {lane.app for lane in sight.lanes if lane.queued or lane.running}
    names.update(worker.app for worker in sight.workers)
    for entry in entries:
        app = entry.app
        if app.scaling.min_instances or app.desired_state is not DesiredState.READY:
            names.add(app.name)
    for name, planned in before.items():
        if planned.actions or planned.status.live or planned.status.phase is not AppPhase.READY:
            names.add(name)
    return names


def assemble(entries: Iterable[Entry], sight: Sight, recall: Recall, before: Mapping[str, AppPlan]) -> Snapshot:
    """Give a view per app; where nothing changed it is the very view of the last time, so the planner may skip it."""
    crews: defaultdict[str, list[Worker]] = defaultdict(list)
    for worker in sight.workers:
        crews[worker.app].append(worker)
    lanes = {(lane.app, lane.lane): lane for lane in sight.lanes}
    known_uids, dead = _seen(sight.sightings)
    views: list[AppView] = []
    for entry in entries:
        name = entry.app.name
        crew = crews.get(name, ())
        infer, batch = lanes.get((name, Lane.INFER)), lanes.get((name, Lane.BATCH))
        view = AppView(
            app=entry.app,
            generation=entry.generation,
            infer=_infer(infer) if infer else _EMPTY,
            batch=_batch(batch, sight.now) if batch else _EMPTY,
            workers=tuple(crew),
            ended=tuple(dead[worker.uid] for worker in crew if worker.uid in dead) if dead else (),
            unborn=_unborn(crew, known_uids) if known_uids is not None else (),
            history=recall.of(name),
        )
        known = before.get(name)
        views.append(known.view if known is not None and _alike(known.view, view) else view)
    return Snapshot(sight.now, tuple(views))


def _infer(lane: LaneCount) -> Backlog:
    return Backlog(
        visible=lane.in_line, leased=lane.running, settled=lane.settled_total, service_s=lane.service_seconds
    )


def _batch(lane: LaneCount, now: float) -> Backlog:
    """Give the batch lane's backlog: a run there is a segment, and its measured rate is in segments too."""
    since = lane.oldest_queued_at
    return Backlog(
        visible=lane.in_line,
        leased=lane.running,
        records_left=lane.queued + lane.running,
        age_s=max(0.0, now - since) if since is not None else 0.0,
        settled=lane.settled_total,
        service_s=lane.service_seconds,
    )


def _seen(sightings: Sequence[Sighting] | None) -> tuple[set[str] | None, dict[str, Ended]]:
    """Give the uids that compute knows (None = it was not asked), and the ends that it has seen."""
    if sightings is None:
        return None, {}
    ends = (sighting for sighting in sightings if sighting.phase is Phase.ENDED)
    dead = {one.uid: Ended(one.uid, one.exit_code, one.reason, one.message) for one in ends}
    return {sighting.uid for sighting in sightings}, dead


def _unborn(crew: Iterable[Worker], known_uids: Collection[str]) -> tuple[str, ...]:
    return tuple(worker.uid for worker in crew if worker.state is WorkerState.STARTING and worker.uid not in known_uids)


def _alike(old: AppView, new: AppView) -> bool:
    """Tell whether two views are the same to a planner: who called when, or is how old, makes no difference to it."""
    return (
        old.app is new.app
        and old.history is new.history
        and old.generation == new.generation
        and old.infer == new.infer
        and old.batch == new.batch
        and old.ended == new.ended
        and old.unborn == new.unborn
        and len(old.workers) == len(new.workers)
        and all(
            a.uid == b.uid and a.state is b.state and bool(a.leases) is bool(b.leases)
            for a, b in zip(old.workers, new.workers, strict=True)
        )
    )
