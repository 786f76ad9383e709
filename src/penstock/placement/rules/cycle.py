"""A cycle starts at most `maxScaleUpPerCycle` workers of an app."""

from __future__ import annotations

from penstock.model.placement import Phase
from penstock.model.run import Reason
from penstock.placement.case import Case

from .limit import Limit

__all__ = ["cycle"]


def cycle(case: Case) -> Limit | None:
    """Allow `maxScaleUpPerCycle` starts."""
    most = case.view.app.scaling.max_scale_up_per_cycle
    return Limit(most, Phase.SCALING, Reason.CAPACITY, f"maxScaleUpPerCycle is {most}", case.now)
