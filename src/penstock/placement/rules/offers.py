"""A worker starts only where a candidate is left."""

from __future__ import annotations

from penstock.model.placement import Code, Phase
from penstock.model.run import Reason
from penstock.placement.case import Case

from .limit import Limit

__all__ = ["offers"]


def offers(case: Case) -> Limit | None:
    """Allow nothing when every candidate was dropped; the reasons are told one by one."""
    choice = case.choice
    if choice.chosen is not None:
        return None
    sold_out = any(drop.code is Code.STOCKED_OUT for drop in choice.dropped.values())
    said = "; ".join(f"{key}: {drop.text}" for key, drop in choice.dropped.items())
    reason = Reason.STOCKOUT if sold_out else Reason.HELD
    return Limit(0, Phase.HELD, reason, f"no candidate is left: {said or 'none is configured'}")
