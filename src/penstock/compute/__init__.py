"""The port to where workers run: `open_compute(url)` gives a `Compute`, whatever stands behind it."""

from __future__ import annotations

from ._compute import Compute, Limits, Observer, open_compute
from .driver import Driver, Features, Order, Phase, Sighting

__all__ = ["Compute", "Driver", "Features", "Limits", "Observer", "Order", "Phase", "Sighting", "open_compute"]
