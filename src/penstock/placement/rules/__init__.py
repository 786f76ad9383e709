"""The rules that hold starts back, in order: the first of the tightest says why.

Each is a function of a `Case` that gives a `Limit` or None, in a file of its own.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, TypeAlias

from penstock.placement.case import Case

from .ceiling import ceiling
from .circuit import circuit
from .cooldown import cooldown
from .cycle import cycle
from .limit import Limit
from .offers import offers
from .paused import paused

__all__ = ["RULES", "Limit", "Rule", "circuit", "tightest"]

Rule: TypeAlias = Callable[[Case], Limit | None]

RULES: Final[tuple[Rule, ...]] = (paused, circuit, offers, ceiling, cooldown, cycle)


def tightest(case: Case) -> Limit | None:
    """Give the limit that allows the fewest starts, if any allows fewer than are needed."""
    found: Limit | None = None
    most = case.need
    for rule in RULES:
        limit = rule(case)
        if limit is not None and limit.at_most < most:
            found, most = limit, limit.at_most
    return found
