"""How long a run is likely to wait: estimated from counters, read at most twice a second."""

from __future__ import annotations

from collections import Counter
from typing import Final

import msgspec

from penstock.ledger import Ledger
from penstock.ledger.commands import LaneCount
from penstock.model.fleet import WorkerState
from penstock.model.ids import Clock
from penstock.model.run import Lane

__all__ = ["Eta", "Outlook", "estimate"]

_FRESH_S: Final = 0.5
_ENOUGH_SAMPLES: Final = 20
_COLD_START_S: Final = 10.0  # until a start of this app has been seen
_LIKELY_SERVICE_S: Final = 0.1  # until its runs have been measured
_TAIL: Final = 2.5  # p90 of an exponential wait over its median, rounded up


class Eta(msgspec.Struct, frozen=True):
    """Seconds until a run is done, as a median and a 90th percentile."""

    p50: float
    p90: float


def estimate(lane: LaneCount, workers: int, ahead: int, cold_start_s: float = _COLD_START_S) -> Eta:
    """Estimate when a run is done: a cold start if no worker lives, plus `ahead` / (measured rate x live workers)."""
    known = lane.settled_total >= _ENOUGH_SAMPLES
    service_s = lane.service_seconds / lane.settled_total if known else _LIKELY_SERVICE_S
    wait_s = (0.0 if workers else cold_start_s) + (ahead + 1) * service_s / max(workers, 1)
    return Eta(p50=round(wait_s, 3), p90=round(wait_s * _TAIL, 3))


class Outlook:
    """Estimates for every app, from figures at most half a second old."""

    def __init__(self, ledger: Ledger, clock: Clock) -> None:
        self._ledger = ledger
        self._clock = clock
        self._read_at = -1.0
        self._lanes: dict[tuple[str, Lane], LaneCount] = {}
        self._workers: Counter[str] = Counter()
        self._cold_start_s: dict[str, float] = {}

    async def of(self, app: str, lane: Lane, mark: int) -> tuple[int, Eta]:
        """Give about how many runs stand before the one with this mark, and when it is likely to be done."""
        await self._refresh()
        count = self._lanes.get((app, lane)) or LaneCount(app=app, lane=lane)
        ahead = max(0, mark - count.leased_total)
        return ahead, estimate(count, self._workers[app], ahead, self._cold_start_s.get(app, _COLD_START_S))

    async def _refresh(self) -> None:
        now = self._clock.monotonic()
        if 0 <= now - self._read_at < _FRESH_S and self._read_at >= 0:
            return
        self._read_at = now
        self._lanes = {(count.app, count.lane): count for count in await self._ledger.lanes()}
        ready = [worker for worker in await self._ledger.workers() if worker.state is not WorkerState.STARTING]
        self._workers = Counter(worker.app for worker in ready)
        for worker in ready:
            if worker.ready_at is not None:
                self._cold_start_s[worker.app] = max(0.0, worker.ready_at - worker.started_at)
