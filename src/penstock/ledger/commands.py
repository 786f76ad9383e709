"""What can be asked of a ledger: each write is a value, so it can be grouped, logged, replayed and made to fail.

A command is a compare-and-set with its guard inside: it either changes what it names or says in its outcome why it did
not. Commands that are handed over together share one durable commit, and none depends on another's outcome.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Generic, TypeVar

import msgspec

from penstock.model.fleet import Worker, WorkerState
from penstock.model.placement import AppEvent, Decision
from penstock.model.run import Lane, Payload, Reason, Report, Run, State, Terms

T = TypeVar("T")


class Command(msgspec.Struct, Generic[T], frozen=True, kw_only=True, gc=False):
    """A write whose outcome is a `T`."""


# ------------------------------------------------------------------ acceptance


class NewRun(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """A run as its acceptor proposes it; the ledger adds its order, its generation and the times."""

    id: str
    tenant: str
    app: str
    lane: Lane
    key: str
    spec_generation: int
    body: Payload
    sha256: str
    priority: int = 5
    tag: str | None = None
    parent: str | None = None
    webhook: str | None = None
    traceparent: str | None = None
    terms: Terms = Terms()
    weight: float = 1.0  # of its tenant: twice the weight, twice the share of a contended line


class Pin(msgspec.Struct, frozen=True, gc=False):
    """An `Idempotency-Key`: within a scope (tenant + route) it stands for one payload, told by its fingerprint."""

    scope: str
    key: str
    fingerprint: str


class Acceptance(StrEnum):
    """What became of a request to run something."""

    CREATED = "created"  # a new run, durable now
    JOINED = "joined"  # a live run had this key already: there is still one execution
    HIT = "hit"  # a run with this key SUCCEEDED: its result is the answer
    MISMATCH = "mismatch"  # the pin stands for another payload: nothing was done


class Accepted(msgspec.Struct, frozen=True, gc=False):
    """The run that answers the request, and how far it is from its turn (`ahead` is approximate, from counters)."""

    how: Acceptance
    run: Run
    ahead: int = 0


class Accept(Command[Accepted], frozen=True, kw_only=True, gc=False):
    """Take a run in, under the rule of one live run per (tenant, app, key).

    The latest generation of the key decides: QUEUED or RUNNING is joined (a higher priority and a webhook are added to
    it); SUCCEEDED and not purged is a hit when `reuse` is set; anything else starts the next generation. Two Accepts of
    one key in one group join each other. A `pin` of the same fingerprint answers with the run it made before, whatever
    that run's state is (JOINED while live, else HIT), and a pin of another fingerprint with MISMATCH. The same run id
    again, after a lost reply, is CREATED again.
    """

    run: NewRun
    reuse: bool = True
    pin: Pin | None = None


class Again(Command[Accepted], frozen=True, kw_only=True, gc=False):
    """Start the next generation of a FAILED run, with its body and fresh counters, as run `new_id`.

    Raises `NotFound` for an unknown run, `Gone` for a purged one and `Conflict` for one that is not FAILED. If the
    key has a newer generation that is live, that one is JOINED; if that one SUCCEEDED and is not purged, it is a HIT. The
    same `new_id` again, after a lost reply, is CREATED again.
    """

    run_id: str
    new_id: str
    terms: Terms | None = None


# ------------------------------------------------------------------ attempts


class Grant(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """One attempt that a worker now holds. `run` is as of after the lease: RUNNING, its epoch is the attempt's."""

    run: Run
    lease_until: float
    deadline_at: float
    alone: bool = False
    checkpoint: bytes | None = None


class Leased(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """What a lease gave. `alone_waits`: the first run in line must be alone, and the asker holds something.

    `left` counts the runs of the lane that are still in line after it, so that unused credits can be returned.
    `refused` tells why nothing at all is given to this worker: it is DRAINING, ended or unknown.
    """

    grants: tuple[Grant, ...] = ()
    left: int = 0
    alone_waits: bool = False
    refused: str = ""


class Lease(Command[Leased], frozen=True, kw_only=True, gc=False):
    """Give a worker the first `count` runs of one lane of its app, in the ledger's order.

    Order: tenant with the least virtual time; then head before the rest, priority 9 before 0, then sequence; a run
    whose `not_before` lies ahead is not in line. A run marked `alone` is given only to an `idle` asker and only by
    itself; it is never passed over for ever: when it is first in line and the asker is not idle nothing is granted and
    `alone_waits` is set. Each grant moves its run QUEUED -> RUNNING, raises its epoch by one, writes the attempt with
    its lease and run deadline, and charges its tenant's virtual time. A STARTING worker becomes IDLE by its first Lease,
    even by one of a `count` of 0.
    A grant and its attempt are marked `alone` when the run was.
    """

    worker_uid: str
    app: str
    lane: Lane
    count: int
    replica: int = 0
    idle: bool = True


class SettleCode(StrEnum):
    """What became of a report."""

    OK = "ok"
    STALE = "stale"  # the run's epoch is another: nothing changed
    CANCELLED = "cancelled"  # the run was cancelled before: nothing is published
    ALREADY = "already"  # this very attempt was settled before: a repeat after a lost reply


class Settled(msgspec.Struct, frozen=True, gc=False):
    """What became of a report, and the run after it (None where the run is unknown)."""

    code: SettleCode
    run: Run | None = None


class Settle(Command[Settled], frozen=True, kw_only=True, gc=False):
    """End an attempt, by `penstock.model.run.after_report`, if the run is RUNNING at this epoch."""

    run_id: str
    epoch: int
    report: Report


class ExtendCode(StrEnum):
    """Whether an attempt may go on."""

    OK = "ok"
    LOST = "lost"  # its epoch is past, or the run has ended
    CANCELLED = "cancelled"


class Extend(Command[ExtendCode], frozen=True, kw_only=True, gc=False):
    """Renew an attempt's lease by its run's `lease_seconds` from now, and note its progress."""

    run_id: str
    epoch: int
    progress: float | None = None
    note: str = ""


class Checkpoint(Command[ExtendCode], frozen=True, kw_only=True, gc=False):
    """Save bytes from which a later attempt of the run resumes; also renews the lease.

    Bytes other than those saved before are progress: the run's count of deaths starts again.
    """

    run_id: str
    epoch: int
    data: bytes


class Cancelled(msgspec.Struct, frozen=True, gc=False):
    """Whether this call cancelled the run, and the run after it (None where it is unknown)."""

    changed: bool
    run: Run | None = None


class Cancel(Command[Cancelled], frozen=True, kw_only=True, gc=False):
    """Make a QUEUED or RUNNING run CANCELLED at once. A terminal one is left as it is (`changed` False)."""

    run_id: str
    reason: Reason = Reason.BY_USER
    message: str = ""


class Fail(Command[Cancelled], frozen=True, kw_only=True, gc=False):
    """Make a QUEUED run FAILED for a reason found before any attempt (UNPLACEABLE, CONFIG, PAYLOAD_MISSING ...)."""

    run_id: str
    reason: Reason
    message: str = ""


class Clear(Command[tuple[Run, ...]], frozen=True, kw_only=True, gc=False):
    """Cancel at most `limit` live runs of an app (it is being deleted); gives those that it changed."""

    app: str
    reason: Reason = Reason.APP_DELETED
    limit: int = 1000


# ------------------------------------------------------------------ repairs


class Sweep(StrEnum):
    """One duty of the maintainer over runs. Each is idempotent and takes at most `limit` runs a time."""

    LEASES = "leases"  # RUNNING past its lease -> `after_death(killed=False, alone=attempt.alone)`, LEASE_LOST
    DEADLINES = "deadlines"  # RUNNING past its run deadline -> FAILED DEADLINE_EXCEEDED
    QUEUE_TTL = "queue_ttl"  # QUEUED past `expires_at` -> FAILED QUEUE_EXPIRED
    DUE = "due"  # QUEUED whose back-off has passed -> in line again, at the head
    RESULTS = "results"  # terminal past its result's time to live -> purged (410 from now on)
    TOMBSTONES = "tombstones"  # purged for 7 days -> the record goes (404 from now on)


class Mend(Command[tuple[Run, ...]], frozen=True, kw_only=True, gc=False):
    """Do one duty over at most `limit` runs; gives the runs as they are after it (for TOMBSTONES: as they were)."""

    sweep: Sweep
    limit: int = 500


class Gap(Command[float], frozen=True, kw_only=True, gc=False):
    """Note that the broker is alive; gives the seconds since the last note (0.0 the first time).

    With `forgive` set, live leases and run deadlines are extended by that gap: workers that survived an outage of
    ours are not run twice. Call it so once at start, before anything sweeps.
    """

    forgive: bool = False


# ------------------------------------------------------------------ workers


class AddWorker(Command[None], frozen=True, kw_only=True, gc=False):
    """Commit a worker's row before it is created anywhere. The same uid again changes nothing."""

    worker: Worker


class NoteWorker(Command[bool], frozen=True, kw_only=True, gc=False):
    """Set what became known of a live worker (None leaves a field alone); False when it is unknown or has ended.

    `state` may name DRAINING (no new lease from now on).
    """

    uid: str
    state: WorkerState | None = None
    pid: int | None = None
    node: str | None = None
    candidate: str | None = None
    gpu_ids: tuple[int, ...] | None = None


class SeeWorkers(Command[None], frozen=True, kw_only=True, gc=False):
    """Note that these workers called just now."""

    uids: tuple[str, ...]


class EndWorker(Command[tuple[Run, ...]], frozen=True, kw_only=True, gc=False):
    """Record that a worker (or only its `replica`) is no more; gives the runs it held, as they are after it.

    Its live attempts end at once by `after_death(killed=True)`, `alone` for the only attempt that a replica held, or as by a release when `clean` is set (it exited by
    itself and was told that it may). A `replica` alone leaves the worker's own state as it is. Repeats change nothing.
    """

    uid: str
    state: WorkerState  # EXITED, FAILED or LOST
    replica: int | None = None
    clean: bool = False
    exit_code: int | None = None
    reason: str = ""
    message: str = ""


class GrantExit(Command[bool], frozen=True, kw_only=True, gc=False):
    """Let an idle worker go: True and DRAINING in one step, or False.

    Refused while a run of its app is in line, while the worker holds an attempt, or when fewer than `keep` + 1 workers
    of the app would be live. A worker that is DRAINING already, or unknown, may go.
    """

    uid: str
    keep: int = 0


# ------------------------------------------------------------------ the book beside the runs


class Remember(Command[None], frozen=True, kw_only=True, gc=False):
    """Store decisions and app events; the ledger numbers them."""

    decisions: tuple[Decision, ...] = ()
    events: tuple[AppEvent, ...] = ()


class Audit(Command[None], frozen=True, kw_only=True, gc=False):
    """Append a row to the audit: who did what to which object, with what result."""

    tenant: str
    subject: str
    action: str
    object: str
    result: str
    reason: str = ""
    request_id: str = ""


class AuditRow(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """One line of the audit. `hash` covers the row and `previous`, the hash of the row before it (see `chain.py`)."""

    id: int  # ascending, without gaps
    at: float
    tenant: str
    subject: str
    action: str
    object: str
    result: str
    reason: str = ""
    request_id: str = ""
    previous: str
    hash: str = ""


class Lead(msgspec.Struct, frozen=True, gc=False):
    """Who leads: `term` rises with each change of holder; `held` says whether it is the asker."""

    held: bool
    term: int
    holder: str
    until: float


class TakeLead(Command[Lead], frozen=True, kw_only=True, gc=False):
    """Take or renew a named leadership for `ttl_seconds`; another's that has not run out stays."""

    name: str
    holder: str
    ttl_seconds: float = 8.0


class Answer(msgspec.Struct, frozen=True, gc=False):
    """A stored answer to a request that carried an `Idempotency-Key`."""

    status: int
    body: bytes
    content_type: str


class Pinned(msgspec.Struct, frozen=True, gc=False):
    """What a pin stands for: `fresh` (go on), `busy` (another is at it), `mismatch`, or an `answer` to repeat."""

    how: str
    answer: Answer | None = None


class TakePin(Command[Pinned], frozen=True, kw_only=True, gc=False):
    """Reserve an `Idempotency-Key` for 24 h, or learn what it stands for. A busy one is free again after 60 s."""

    pin: Pin


class KeepPin(Command[None], frozen=True, kw_only=True, gc=False):
    """Store the answer of a reserved pin, or drop the reservation (`answer` None) so that it may be tried again."""

    pin: Pin
    answer: Answer | None


# ------------------------------------------------------------------ questions


class RunFilter(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """Which runs to list, newest first. `after` is the `seq` of the last one seen."""

    tenant: str | None = None
    app: str | None = None
    state: State | None = None
    reason: Reason | None = None
    tag: str | None = None
    parent: str | None = None
    lane: Lane | None = None
    since: float | None = None
    after: int | None = None
    limit: int = 50


class LaneCount(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """One lane of one app, from counters. `in_line` excludes runs that wait out a back-off."""

    app: str
    lane: Lane
    queued: int = 0
    in_line: int = 0
    running: int = 0
    leased_total: int = 0  # leases ever given: what positions are measured by
    settled_total: int = 0
    service_seconds: float = 0.0  # attempt time of the settled, for the measured rate
    oldest_queued_at: float | None = None
