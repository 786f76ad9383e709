"""The words that the broker and a worker exchange (`/internal/v1/...`), as JSON or MessagePack.

Both ends encode these very types, so a field added with a default keeps N and N-1 talking.
"""

from __future__ import annotations

from typing import Annotated, Final, TypeAlias

import msgspec
from msgspec import Meta

from .run import Lane, Outcome, Reason

__all__ = [
    "MSGPACK",
    "Assignment",
    "CheckpointReply",
    "CheckpointRequest",
    "ExitReply",
    "ExitRequest",
    "ExtendItem",
    "ExtendReply",
    "ExtendRequest",
    "LeaseReply",
    "LeaseRequest",
    "ReplicaDied",
    "SettleItem",
    "SettleReply",
    "SettleRequest",
    "SettleStatus",
    "UrlsReply",
    "UrlsRequest",
    "Want",
]

MSGPACK: Final = "application/msgpack"

Ordinal: TypeAlias = Annotated[int, Meta(ge=0, le=2**31 - 1)]  # of an attempt, of a replica
Seconds: TypeAlias = Annotated[float, Meta(ge=0)]


class Want(msgspec.Struct, frozen=True, kw_only=True):
    """A worker's wish for work: at most `max` runs, waiting up to `wait_s` seconds for the first."""

    max: Annotated[int, Meta(ge=1, le=1_000_000)]
    wait_s: Seconds = 0.0
    lanes: tuple[Lane, ...] = (Lane.INFER,)
    idle: bool = True  # the replica holds nothing, so it may take a run that must be alone


class LeaseRequest(Want, frozen=True, kw_only=True):
    """`POST /lease`. `replica` tells the processes of one worker apart; `free` is what a node has left."""

    replica: Ordinal = 0
    free: dict[str, float] | None = None


class Assignment(msgspec.Struct, frozen=True, kw_only=True):
    """One attempt given to a worker: what to run, its fencing token, and where input and result go."""

    run_id: str
    epoch: Ordinal
    token: str  # the dispatch token: needed to extend, checkpoint and settle
    tenant: str
    key: str
    lane: Lane = Lane.INFER
    lease_s: float
    deadline_s: float  # seconds the attempt may run, from now
    alone: bool = False  # take nothing beside it
    content_type: str = "application/octet-stream"
    body: bytes | None = None  # inline, or else
    body_url: str | None = None  # an absolute signed URL to GET
    checkpoint: bytes | None = None  # what `ctx.checkpoint` last saved
    attempts_left: int = 1
    traceparent: str | None = None


class LeaseReply(msgspec.Struct, frozen=True, kw_only=True):
    """What a worker got. `drain_first`: a run that must be alone waits, so come back holding nothing."""

    attempts: tuple[Assignment, ...] = ()
    drain_first: bool = False
    exit: bool = False  # the worker is draining or unknown: finish what is held, then exit 0


class SettleItem(msgspec.Struct, frozen=True, kw_only=True):
    """The end of one attempt. `result` inline (small) or `result_key` as uploaded to the URL that was given."""

    run_id: str
    epoch: Ordinal
    token: str
    outcome: Outcome
    reason: Reason | None = None
    message: str = ""
    result: bytes | None = None
    result_key: str | None = None
    result_size: Annotated[int, Meta(ge=0)] = 0  # of an uploaded result
    content_type: str = "application/octet-stream"
    encoding: str = ""  # "gzip" where the result's bytes are compressed
    retry_after: Seconds | None = None


class SettleRequest(msgspec.Struct, frozen=True, kw_only=True):
    """`POST /settle`: attempts that ended, and the wish for the next work in the same round trip."""

    done: tuple[SettleItem, ...]
    want: Want | None = None
    replica: Ordinal = 0


class SettleStatus(msgspec.Struct, frozen=True, kw_only=True):
    """What became of one item: `ok`, `stale` (another attempt owns the run), `cancelled`, `already` (a repeat)."""

    run_id: str
    code: str


class SettleReply(LeaseReply, frozen=True, kw_only=True):
    """A status per item, in order, and the work that was wanted."""

    done: tuple[SettleStatus, ...]


class ExtendItem(msgspec.Struct, frozen=True, kw_only=True):
    """A heartbeat for one attempt, with progress (0..1) if the handler reported some."""

    run_id: str
    epoch: Ordinal
    token: str
    progress: Annotated[float, Meta(ge=0, le=1)] | None = None
    note: str = ""


class ExtendRequest(msgspec.Struct, frozen=True, kw_only=True):
    """`POST /extend`: the heartbeat of a worker; empty when it holds nothing."""

    attempts: tuple[ExtendItem, ...] = ()
    replica: Ordinal = 0


class ExtendReply(msgspec.Struct, frozen=True, kw_only=True):
    """The run ids to stop: `lost` (the lease is another's) and `cancelled`. `exit`: drain. `token`: a fresh worker JWT."""

    lost: tuple[str, ...] = ()
    cancelled: tuple[str, ...] = ()
    exit: bool = False
    token: str | None = None


class CheckpointRequest(msgspec.Struct, frozen=True, kw_only=True):
    """`POST /checkpoint`: bytes that a later attempt of this run resumes from."""

    run_id: str
    epoch: Ordinal
    token: str
    data: bytes


class CheckpointReply(msgspec.Struct, frozen=True, kw_only=True):
    """`ok`, `lost` or `cancelled`."""

    code: str


class UrlsRequest(msgspec.Struct, frozen=True, kw_only=True):
    """`POST /urls`: fresh signed URLs for a live attempt. `result_bytes` asks for a PUT URL of that many bytes."""

    run_id: str
    epoch: Ordinal
    token: str
    result_bytes: Annotated[int, Meta(ge=0, le=2**53)] | None = None
    content_type: str = "application/octet-stream"


class UrlsReply(msgspec.Struct, frozen=True, kw_only=True):
    """Where to GET the body (if it is in the store) and where to PUT the result, with the headers to send."""

    body_url: str | None = None
    result_url: str | None = None
    result_key: str | None = None
    result_headers: dict[str, str] = {}


class ExitRequest(msgspec.Struct, frozen=True, kw_only=True):
    """`POST /exit`: a worker that idled for `idleExitSeconds` asks to go (granted = True commits it to leave)."""

    replica: Ordinal = 0


class ExitReply(msgspec.Struct, frozen=True, kw_only=True):
    """Whether the worker may go. A refused one keeps asking for work."""

    granted: bool


class ReplicaDied(msgspec.Struct, frozen=True, kw_only=True):
    """`POST /replica-died`: a launcher saw one of its replicas end; what it held goes back at once."""

    replica: Ordinal
    exit_code: Annotated[int, Meta(ge=-(2**31), le=2**31 - 1)] | None = None
    message: str = ""
