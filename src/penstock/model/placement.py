"""Where a worker may start, and the record of one choice."""

from __future__ import annotations

from enum import StrEnum

import msgspec

__all__ = ["AppEvent", "Code", "Decision", "Drop", "Phase"]


class Phase(StrEnum):
    """What an app is doing, in one word."""

    READY = "Ready"  # it has what it needs, which may be nothing
    SCALING = "Scaling"  # workers are on their way
    HELD = "Held"  # it needs workers and can't have them; the reason says why
    PAUSED = "Paused"  # nothing is leased
    DRAINING = "Draining"  # nothing is accepted; what is queued is finished


class Code(StrEnum):
    """Why a candidate was dropped from a choice."""

    QUOTA_QUEUED = "QUOTA_QUEUED"
    QUOTA_RUNNING = "QUOTA_RUNNING"
    QUOTA_GPU = "QUOTA_GPU"
    INSUFFICIENT_CPU = "INSUFFICIENT_CPU"
    INSUFFICIENT_MEM = "INSUFFICIENT_MEM"
    INSUFFICIENT_GPU = "INSUFFICIENT_GPU"
    GPU_UNHEALTHY = "GPU_UNHEALTHY"
    NO_NODES = "NO_NODES"
    WRONG_POOL = "WRONG_POOL"
    NODE_DRAINING = "NODE_DRAINING"
    STOCKED_OUT = "STOCKED_OUT"
    CLUSTER_DOWN = "CLUSTER_DOWN"
    NOT_OFFERED = "NOT_OFFERED"
    NO_FACTS = "NO_FACTS"
    REQUIRE_FAILED = "REQUIRE_FAILED"
    NOT_ONLINE = "NOT_ONLINE"
    RANKED_LOWER = "RANKED_LOWER"
    PINNED_ELSEWHERE = "PINNED_ELSEWHERE"


class Drop(msgspec.Struct, frozen=True):
    """Why one candidate was not chosen."""

    code: Code
    text: str


class Decision(msgspec.Struct, frozen=True, kw_only=True):
    """The stored record of one placement: what was chosen, what would have done, what was dropped and why."""

    id: int = 0  # given by the ledger, ascending
    app: str
    spec_generation: int
    made_at: float
    chosen: str | None  # a candidate's key; None = nothing was possible
    workers: tuple[str, ...] = ()  # the uids started by it
    survivors: tuple[str, ...] = ()
    dropped: dict[str, Drop] = {}
    notes: tuple[str, ...] = ()
    facts: dict[str, str] = {}


class AppEvent(msgspec.Struct, frozen=True, kw_only=True):
    """Something that happened to an app as a whole: a phase change, a scale-up, a circuit that opened."""

    id: int = 0  # given by the ledger, ascending
    app: str
    at: float
    kind: str  # PhaseChanged, ScaledUp, WorkerExited, WorkerFailed, Applied, CircuitOpened ...
    message: str
    worker_uid: str | None = None
