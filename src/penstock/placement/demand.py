"""How many workers an app's work calls for. Pure; each function is one line of the formula.

    by_depth  = ceil((infer_visible + infer_leased) / messagesPerInstance)
    by_infer  = ceil(infer_visible / (rate_infer x inferSlaMinutes)) + workers busy on infer
    by_batch  = ceil(batch_records_left / (rate_batch x 60 x max(0.25, hours left of batchSlaHours)))
    desired   = clamp(max(minInstances, by_depth, by_infer, by_batch), maxInstances or unbounded)

Rates are items per worker-minute; denominators are floored at 1.
"""

from __future__ import annotations

from math import ceil
from typing import Final

import msgspec

from penstock.model.app import App, Batch, DesiredState, WorkerType

from .snapshot import AppView, Backlog

__all__ = ["Demand", "by_batch", "by_depth", "by_infer", "clamp", "demand", "parallel", "rate"]

_ENOUGH_SAMPLES: Final = 20
_LEAST_HOURS_LEFT: Final = 0.25
_DEFAULT_BATCH: Final = Batch()


class Demand(msgspec.Struct, frozen=True, gc=False):
    """How many workers each reason calls for."""

    least: int = 0
    depth: int = 0
    infer: int = 0
    batch: int = 0

    @property
    def most(self) -> int:
        """The largest of them: the reasons are served by the same workers, so they don't add up."""
        return max(self.least, self.depth, self.infer, self.batch)


def demand(view: AppView, busy: int) -> Demand:
    """Give the demand of an app with so many busy workers, before any ceiling."""
    infer, batch = view.infer, view.batch
    least = least_wanted(view.app)
    if not (infer.visible or infer.leased or batch.records_left):
        return Demand(least)
    return Demand(
        least,
        by_depth(infer, view.app),
        by_infer(infer, view.app, min(busy, infer.leased)),
        by_batch(batch, view.app) if batch.records_left else 0,
    )


def least_wanted(app: App) -> int:
    """Give the workers kept even without work: none once an operator wants the app paused or drained."""
    return app.scaling.min_instances if app.desired_state is DesiredState.READY else 0


def by_depth(infer: Backlog, app: App) -> int:
    """Give the workers that absorb the online backlog; a job's worker takes one run in its life."""
    each = 1 if app.worker.type is WorkerType.JOB else app.scaling.messages_per_instance
    return -(-(infer.visible + infer.leased) // max(1, each))


def by_infer(infer: Backlog, app: App, busy: int) -> int:
    """Give the workers that work the online backlog off within its SLA, beside those that are busy with it."""
    return ceil(infer.visible / max(1.0, rate(infer, app) * app.scaling.infer_sla_minutes)) + busy


def by_batch(batch: Backlog, app: App) -> int:
    """Give the workers that finish the batch lane within what is left of its SLA."""
    sla_hours = (app.batch or _DEFAULT_BATCH).batch_sla_hours
    hours_left = max(_LEAST_HOURS_LEFT, sla_hours - batch.age_s / 3600.0)
    return ceil(batch.records_left / max(1.0, rate(batch, app) * 60.0 * hours_left))


def rate(lane: Backlog, app: App) -> float:
    """Give the items that one worker gets through in a minute: as measured, or as declared until that is known."""
    if lane.settled < _ENOUGH_SAMPLES or lane.service_s <= 0.0:
        return app.scaling.rate_per_instance_per_min
    return 60.0 * lane.settled / lane.service_s * parallel(app)


def parallel(app: App) -> int:
    """Give how many attempts a worker has in hand at once: service times overlap by that much."""
    worker = app.worker
    if worker.type is WorkerType.JOB:
        return 1
    if worker.type is WorkerType.SIDECAR:
        return worker.server.concurrency or worker.instances
    return worker.instances * worker.batch_size


def clamp(wanted: int, app: App) -> int:
    """Give at most `maxInstances` of what is wanted; 0 there means no limit."""
    most = app.scaling.max_instances
    return min(wanted, most) if most else wanted
