"""What executes runs: workers, and the nodes that offer them room."""

from __future__ import annotations

from enum import StrEnum
from typing import Final

import msgspec

__all__ = ["ENDED", "LIVE", "Node", "Worker", "WorkerState"]


class WorkerState(StrEnum):
    """Where a worker stands. IDLE and BUSY differ only by whether it holds a live attempt."""

    STARTING = "STARTING"  # its row is committed; it has not leased yet
    IDLE = "IDLE"  # it is loaded and waits for work
    BUSY = "BUSY"  # it holds at least one live attempt
    DRAINING = "DRAINING"  # it gets no new lease and exits when it is done
    EXITED = "EXITED"  # it ended by itself, as it should
    FAILED = "FAILED"  # it ended with an error, or never came up
    LOST = "LOST"  # it fell silent


LIVE: Final = frozenset({WorkerState.STARTING, WorkerState.IDLE, WorkerState.BUSY, WorkerState.DRAINING})
ENDED: Final = frozenset({WorkerState.EXITED, WorkerState.FAILED, WorkerState.LOST})


class Worker(msgspec.Struct, frozen=True, kw_only=True):
    """One unit of scaling: a pod, a Kubernetes Job's pod, a VM's unit or a local process."""

    uid: str
    app: str
    spec_generation: int
    state: WorkerState
    candidate: str | None = None
    node: str | None = None
    gpu_ids: tuple[int, ...] = ()
    pid: int | None = None
    instances: int = 1
    started_at: float = 0.0  # its row was committed
    ready_at: float | None = None  # its first lease call: loaded
    seen_at: float | None = None  # its last call
    ended_at: float | None = None
    exit_code: int | None = None
    reason: str = ""
    message: str = ""  # the last log lines of one that failed
    leases: int = 0  # runs it was ever given
    held: int = 0  # live attempts it holds now


class Node(msgspec.Struct, frozen=True, kw_only=True):
    """A machine that offers capacity to workers."""

    uid: str
    pool: str
    cpu: float
    memory_mb: int
    gpu_ids: tuple[int, ...] = ()
    seen_at: float | None = None
