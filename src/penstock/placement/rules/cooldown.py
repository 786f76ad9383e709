"""Between two scale-ups lie at least `scaleUpCooldownSeconds`."""

from __future__ import annotations

from penstock.model.app import WorkerType
from penstock.model.placement import Phase
from penstock.model.run import Reason
from penstock.placement.case import Case

from .limit import Limit

__all__ = ["cooldown"]


def cooldown(case: Case) -> Limit | None:
    """Allow nothing but replacements until the time has passed.

    An app with no worker at all starts at once: its first run must not wait. A job needs a worker per run, and its
    starts are paced where they go.
    """
    scaling = case.view.app.scaling
    until = case.history.scaled_up_at + scaling.scale_up_cooldown_seconds
    if until <= case.now or case.crew.standing == 0 or case.view.app.worker.type is WorkerType.JOB:
        return None
    words = f"more are wanted; scale-ups are {scaling.scale_up_cooldown_seconds:g} s apart"
    return Limit(case.history.owed, Phase.SCALING, Reason.CAPACITY, words, until)
