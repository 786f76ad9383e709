"""A paused app starts nothing."""

from __future__ import annotations

from penstock.model.app import DesiredState
from penstock.model.placement import Phase
from penstock.model.run import Reason
from penstock.placement.case import Case

from .limit import Limit

__all__ = ["paused"]


def paused(case: Case) -> Limit | None:
    """Allow nothing while an operator wants the app paused."""
    if case.view.app.desired_state is not DesiredState.PAUSED:
        return None
    return Limit(0, Phase.PAUSED, Reason.PAUSED, "paused: runs are taken in, none starts")
