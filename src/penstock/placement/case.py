"""One app while it is planned: what was observed, counted and added up, as the rules see it."""

from __future__ import annotations

import msgspec

from .choice import Choice
from .crew import Crew
from .history import History
from .snapshot import AppView

__all__ = ["Case"]


class Case(msgspec.Struct, frozen=True, gc=False):
    """An app's facts at one moment. `need` counts the workers wanted beyond those that stand, before any limit."""

    view: AppView
    now: float
    history: History
    crew: Crew
    desired: int
    need: int
    choice: Choice
