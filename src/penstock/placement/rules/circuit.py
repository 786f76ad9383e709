"""An app whose workers end before they take work is not started over and over."""

from __future__ import annotations

from penstock.model.placement import Phase
from penstock.placement.case import Case

from .limit import Limit

__all__ = ["circuit"]


def circuit(case: Case) -> Limit | None:
    """Allow nothing while the circuit is open; after that one worker at a time, until one has taken work."""
    state = case.history.circuit
    if not state.tripped:
        return None
    retry_at = state.retry_at
    probing = case.now >= retry_at
    at_most = 1 if probing and case.crew.starting == 0 else 0
    words = f"{state.crashes} workers in a row ended before their first lease; "
    words += "one more is being tried" if probing else f"the next try is in {retry_at - case.now:.0f} s"
    if state.message:
        words += f". The last one said: {state.message}"
    return Limit(at_most, Phase.HELD, state.reason, words, case.now if probing else retry_at)
