"""An app's live workers, counted."""

from __future__ import annotations

from collections.abc import Iterable
from math import inf

import msgspec

from penstock.model.fleet import Worker, WorkerState

__all__ = ["Crew", "muster"]

_STARTING, _IDLE, _BUSY, _DRAINING = (
    WorkerState.STARTING,
    WorkerState.IDLE,
    WorkerState.BUSY,
    WorkerState.DRAINING,
)


class Crew(msgspec.Struct, frozen=True, gc=False):
    """How many workers stand where. The old ones are of a former generation of the app's spec."""

    starting: int = 0
    idle: int = 0
    busy: int = 0
    draining: int = 0
    ready: int = 0  # of the present generation, IDLE or BUSY
    old: int = 0  # of a former one and not DRAINING
    old_idle: tuple[str, ...] = ()
    old_busy: tuple[str, ...] = ()
    last_ready_at: float = -inf  # when the newest that was given work came up, of the present generation

    @property
    def live(self) -> int:
        """How many take up room."""
        return self.starting + self.idle + self.busy + self.draining

    @property
    def standing(self) -> int:
        """How many will take work: starting ones count, so a slow start never leads to a second purchase."""
        return self.starting + self.idle + self.busy


def muster(workers: Iterable[Worker], generation: int) -> Crew:
    """Count the live workers of an app whose present generation is this."""
    starting = idle = busy = draining = ready = old = 0
    old_idle: list[str] = []
    old_busy: list[str] = []
    last_ready_at = -inf
    for worker in workers:
        state = worker.state
        present = worker.spec_generation == generation
        if state is _BUSY:
            busy += 1
            if not present:
                old_busy.append(worker.uid)
        elif state is _IDLE:
            idle += 1
            if not present:
                old_idle.append(worker.uid)
        elif state is _STARTING:
            starting += 1
            old += not present
            continue
        else:
            draining += state is _DRAINING
            continue
        if present:
            ready += 1
            if worker.leases and worker.ready_at is not None and worker.ready_at > last_ready_at:
                last_ready_at = worker.ready_at
    old += len(old_idle) + len(old_busy)
    return Crew(starting, idle, busy, draining, ready, old, tuple(old_idle), tuple(old_busy), last_ready_at)
