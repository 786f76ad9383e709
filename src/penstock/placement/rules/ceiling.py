"""An app never has more than `maxInstances` workers, those that are leaving included."""

from __future__ import annotations

from penstock.model.placement import Phase
from penstock.model.run import Reason
from penstock.placement.case import Case

from .limit import Limit

__all__ = ["ceiling"]


def ceiling(case: Case) -> Limit | None:
    """Allow what is left below `maxInstances`; no limit where that is 0."""
    most = case.view.app.scaling.max_instances
    if not most:
        return None
    left = max(0, most - case.crew.live)
    return Limit(left, Phase.READY, Reason.CAPACITY, f"at its ceiling: maxInstances is {most}")
