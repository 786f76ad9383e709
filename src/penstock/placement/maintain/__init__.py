"""The maintainer finds what is stuck and repairs it: one duty a file, each idempotent, each with a period of its own.

Duties only run where the controller leads. One that fails, or takes long, is tried again at its next turn and stops no
other.
"""

from __future__ import annotations

from penstock.placement.ends import Ends
from penstock.placement.parts import Parts

from .cancelled import Cancelled
from .duty import Duty
from .hints import Hints
from .maintainer import Maintainer
from .orphans import Orphans
from .removal import Removal, remove
from .results import Results
from .silent import Silent
from .strays import Strays
from .stuck import Stuck
from .sweeps import SWEEPS, Sweeper
from .vanished import Vanished

__all__ = ["Duty", "Maintainer", "Removal", "duties", "remove"]


def duties(parts: Parts, ends: Ends) -> list[Duty]:
    """Give all duties, in the order in which a whole turn does them."""
    return [
        *(Sweeper(parts, sweep, period_s) for sweep, period_s in SWEEPS),
        Hints(parts),
        Results(parts),
        Vanished(parts, ends),
        Stuck(parts, ends),
        Silent(parts),
        Cancelled(parts),
        Orphans(parts),
        Strays(parts),
    ]
