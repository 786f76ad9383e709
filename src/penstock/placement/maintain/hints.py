"""Runs whose wake-up credit was lost get another."""

from __future__ import annotations

from collections import Counter
from typing import Final

from penstock.errors import Unavailable
from penstock.placement.parts import Parts
from penstock.queue import queue_name

__all__ = ["Hints"]

_BODY: Final = "maintainer"
_MOST: Final = 1_000  # credits a line and turn: workers take more runs than that only in many turns


class Hints:
    """Tops a queue up where it has fewer messages than its line has runs.

    Between the commit of a run and its hint there is a moment, so a line counts as short only where it was so at the
    turn before, too; except at the first turn, for a queue that did not survive a restart has lost them all.
    """

    name = "hints"
    period_s = 2.0

    def __init__(self, parts: Parts) -> None:
        self._parts = parts
        self._short: dict[str, int] | None = None

    async def run(self) -> int:
        """Send what is missing; gives how many."""
        before, self._short = self._short, {}
        sent = 0
        for queue, wanted in (await self._lines()).items():
            try:
                missing = wanted - await self._parts.queue.depth(queue)
                if missing <= 0:
                    continue
                self._short[queue] = missing
                due = min(missing, _MOST, missing if before is None else before.get(queue, 0))
                await self._parts.queue.send(queue, [_BODY] * due)
            except Unavailable:
                continue  # a queue that is down is topped up once it is back
            sent += due
        return sent

    async def _lines(self) -> Counter[str]:
        """Give how many runs are in line behind each queue; apps may share one."""
        lines: Counter[str] = Counter()
        for lane in await self._parts.ledger.lanes():
            if lane.in_line:
                entry = self._parts.catalog.find(lane.app)
                lines[queue_name(entry.app.queue_ref if entry else lane.app, lane.lane)] += lane.in_line
        return lines
