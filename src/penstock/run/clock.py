"""The machine's own time."""

from __future__ import annotations

import time

__all__ = ["SystemClock"]


class SystemClock:
    """The clock of the machine: the one that the wiring passes to every part."""

    __slots__ = ()

    now = staticmethod(time.time)
    monotonic = staticmethod(time.monotonic)
