"""A run: one accepted request, its five states, and the rules by which it moves.

                        lease                      succeeded
          +--------+ ----------> +---------+ --------------------> +-----------+
    ----> | QUEUED |             | RUNNING |                       | SUCCEEDED |
          +--------+ <---------- +---------+ ---------+            +-----------+
            |    |    returned,    |                  | failed for good, deadline
            |    |    head of lane | cancelled        v
            |    |                 |                +--------+
            |    +-----------------|--------------> | FAILED |
            |      expired,        |                +--------+
            |      unplaceable     v
            |                  +-----------+
            +----------------> | CANCELLED |
               cancelled       +-----------+

Terminal states are final: the first one wins. Every change is a compare-and-set on (state, epoch).
"""

from __future__ import annotations

from enum import StrEnum
from types import MappingProxyType
from typing import Final

import msgspec

__all__ = [
    "MACHINE",
    "TERMINAL",
    "Attempt",
    "AttemptState",
    "Lane",
    "Outcome",
    "Payload",
    "Reason",
    "Report",
    "Run",
    "State",
    "Terms",
    "Verdict",
    "after_death",
    "after_report",
    "allowed",
    "backoff",
]


class Lane(StrEnum):
    """Which of an app's two lines a run waits in."""

    INFER = "infer"  # online requests; a freed place goes here first
    BATCH = "batch"  # records of uploaded files; backfills


class State(StrEnum):
    """Where a run stands."""

    QUEUED = "QUEUED"  # durable, waiting for a worker
    RUNNING = "RUNNING"  # one live attempt holds its lease
    SUCCEEDED = "SUCCEEDED"  # one result is published
    FAILED = "FAILED"  # it ended without a result; the reason says why
    CANCELLED = "CANCELLED"  # someone no longer wants it


class Reason(StrEnum):
    """Why a run waits, failed, or was cancelled."""

    # why it waits
    CAPACITY = "CAPACITY"  # all workers are busy or still starting
    STOCKOUT = "STOCKOUT"  # every candidate is marked as sold out
    QUOTA = "QUOTA"  # its tenant is at a limit
    HELD = "HELD"  # the app can't be placed just now
    PAUSED = "PAUSED"  # someone paused the app
    RETRYING = "RETRYING"  # an attempt failed; it waits out its back-off
    # why it failed
    HANDLER_ERROR = "HANDLER_ERROR"  # the handler raised, or answered nonsense
    INVALID_INPUT = "INVALID_INPUT"  # the handler refused the input
    OOM = "OOM"  # the worker was killed for memory
    EXIT_FATAL = "EXIT_FATAL"  # the process ended with a code declared fatal
    EXIT_TRANSIENT = "EXIT_TRANSIENT"  # it ended with a code declared transient, too often
    IMAGE_PULL = "IMAGE_PULL"  # the image can't be fetched
    CONFIG = "CONFIG"  # it can't be turned into a worker as configured
    UNPLACEABLE = "UNPLACEABLE"  # nothing registered could ever hold it
    POLICY_EMPTY = "POLICY_EMPTY"  # the placement policy left no candidate
    LEASE_LOST = "LEASE_LOST"  # the worker fell silent
    ATTEMPTS_EXHAUSTED = "ATTEMPTS_EXHAUSTED"  # it failed `maxAttempts` times
    QUEUE_EXPIRED = "QUEUE_EXPIRED"  # it waited longer than `queueTtlSeconds`
    DEADLINE_EXCEEDED = "DEADLINE_EXCEEDED"  # an attempt ran longer than `runDeadlineSeconds`
    PAYLOAD_MISSING = "PAYLOAD_MISSING"  # its body is no longer in the store
    RESULT_TOO_LARGE = "RESULT_TOO_LARGE"  # the result is above `maxResultBytes`
    POISON = "POISON"  # it killed its worker every time it ran alone
    # why it was cancelled
    BY_USER = "BY_USER"
    PARENT_CANCELLED = "PARENT_CANCELLED"
    APP_DELETED = "APP_DELETED"


class AttemptState(StrEnum):
    """Where one execution of a run stands."""

    LEASED = "LEASED"  # a worker holds it
    RUNNING = "RUNNING"  # the worker reported progress on it
    SUCCEEDED = "SUCCEEDED"
    FAILED = "FAILED"
    CANCELLED = "CANCELLED"
    LOST = "LOST"  # its lease ran out, or its worker died


class Outcome(StrEnum):
    """What a worker says of an attempt it finished with."""

    SUCCEEDED = "succeeded"  # here is the result
    FAILED = "failed"  # it can't succeed; don't try again
    RETRY = "retry"  # it failed, but may succeed: charge an attempt
    RELEASED = "released"  # the worker must go; nobody's fault: charge nothing


TERMINAL: Final = frozenset({State.SUCCEEDED, State.FAILED, State.CANCELLED})

MACHINE: Final = MappingProxyType(
    {
        State.QUEUED: frozenset({State.RUNNING, State.FAILED, State.CANCELLED}),
        State.RUNNING: frozenset({State.QUEUED, State.SUCCEEDED, State.FAILED, State.CANCELLED}),
        State.SUCCEEDED: frozenset[State](),
        State.FAILED: frozenset[State](),
        State.CANCELLED: frozenset[State](),
    }
)


def allowed(before: State, after: State) -> bool:
    """Tell whether the machine has an edge from one state to the other."""
    return after in MACHINE[before]


class Payload(msgspec.Struct, frozen=True, gc=False):
    """A body or a result: its bytes inline, or the key of the store's object that holds them.

    `encoding` is "gzip" where the bytes are compressed; `size` counts the bytes as kept.
    """

    inline: bytes | None = None
    key: str | None = None
    size: int = 0
    content_type: str = "application/octet-stream"
    encoding: str = ""


class Terms(msgspec.Struct, frozen=True, gc=False):
    """What a run was promised when it was accepted: the numbers of its app's spec at that moment."""

    max_attempts: int = 3
    backoff_seconds: float = 1.0
    backoff_max_seconds: float = 60.0
    queue_ttl_seconds: float = 86_400.0
    run_deadline_seconds: float = 3_600.0
    lease_seconds: float = 30.0
    result_ttl_seconds: float = 604_800.0


class Run(msgspec.Struct, frozen=True, kw_only=True):
    """The full record of a run, as the ledger keeps it. Times are seconds since 1970, the ledger's clock."""

    id: str
    seq: int  # the order of acceptance
    tenant: str
    app: str
    lane: Lane
    key: str  # the `rid`: one live run per (tenant, app, key)
    generation: int  # 1, 2, 3 ... of this key
    spec_generation: int  # of the app's spec it was accepted under
    state: State
    reason: Reason | None = None
    message: str = ""
    priority: int = 5  # 0..9, 9 is served first
    epoch: int = 0  # the number of its latest attempt
    failures: int = 0  # attempts charged
    deaths: int = 0  # workers that died while they held this run alone
    head: bool = False  # returned or delayed: goes before its peers
    alone: bool = False  # must be leased in a micro-batch of one
    sha256: str = ""  # of the body, hex
    body: Payload
    result: Payload | None = None
    progress: float | None = None  # 0..1, as last reported
    progress_note: str = ""
    tag: str | None = None
    parent: str | None = None  # "{app}/{run_id}"
    webhook: str | None = None  # the URLs of all who asked for it, separated by spaces
    traceparent: str | None = None
    terms: Terms = Terms()
    mark: int = 0  # runs of its lane ahead of it plus those leased before it, at acceptance
    created_at: float = 0.0
    queued_at: float = 0.0  # when it last became QUEUED
    not_before: float = 0.0  # back-off: not leased earlier
    expires_at: float = 0.0  # QUEUED longer than this is QUEUE_EXPIRED
    started_at: float | None = None  # of its latest attempt
    finished_at: float | None = None
    purged_at: float | None = None  # its body and result are gone; the record answers 410

    @property
    def terminal(self) -> bool:
        """Whether nothing can change the run any more."""
        return self.state in TERMINAL


class Attempt(msgspec.Struct, frozen=True, kw_only=True):
    """One execution of a run, numbered by its fencing epoch."""

    run_id: str
    epoch: int
    state: AttemptState
    worker_uid: str
    replica: int = 0
    node: str | None = None
    candidate: str | None = None
    gpu_ids: tuple[int, ...] = ()
    alone: bool = False  # nothing else was held beside it
    exit_code: int | None = None
    reason: Reason | None = None
    message: str = ""
    leased_at: float = 0.0
    lease_until: float = 0.0
    deadline_at: float = 0.0
    first_byte_at: float | None = None
    finished_at: float | None = None


class Report(msgspec.Struct, frozen=True, gc=False):
    """What a worker says at the end of an attempt."""

    outcome: Outcome
    reason: Reason | None = None
    message: str = ""
    result: Payload | None = None
    retry_after: float | None = None  # seconds, from `Retry(after=...)`


class Verdict(msgspec.Struct, frozen=True, gc=False):
    """What becomes of a run after an attempt ended. `delay` is in seconds, for a run that goes back to QUEUED."""

    state: State
    reason: Reason | None
    failures: int
    deaths: int
    attempt: AttemptState
    delay: float = 0.0
    alone: bool = False


def backoff(terms: Terms, failures: int) -> float:
    """Give the seconds to wait before attempt `failures` + 1: doubling from `backoff_seconds`, capped."""
    if failures < 1:
        return 0.0
    return min(terms.backoff_max_seconds, terms.backoff_seconds * 2.0 ** min(failures - 1, 30))


def after_report(terms: Terms, report: Report, *, failures: int, deaths: int, alone: bool) -> Verdict:
    """Decide what a worker's report makes of the run it held.

    A success or a refusal is final. A transient failure charges an attempt and returns the run until
    `max_attempts` are used up. A release charges nothing: the worker had to go.
    """
    match report.outcome:
        case Outcome.SUCCEEDED:
            return Verdict(State.SUCCEEDED, None, failures, deaths, AttemptState.SUCCEEDED)
        case Outcome.FAILED:
            reason = report.reason or Reason.HANDLER_ERROR
            return Verdict(State.FAILED, reason, failures + 1, deaths, AttemptState.FAILED)
        case Outcome.RELEASED:
            return Verdict(State.QUEUED, Reason.CAPACITY, failures, deaths, AttemptState.LOST, alone=alone)
        case Outcome.RETRY:
            return _charged(terms, report, failures + 1, deaths)


def _charged(terms: Terms, report: Report, failures: int, deaths: int) -> Verdict:
    if failures >= terms.max_attempts:
        # One attempt allowed means that there was no retry to exhaust: its own reason says more.
        own = report.reason or Reason.HANDLER_ERROR
        reason = own if terms.max_attempts == 1 else Reason.ATTEMPTS_EXHAUSTED
        return Verdict(State.FAILED, reason, failures, deaths, AttemptState.FAILED)
    delay = backoff(terms, failures) if report.retry_after is None else max(0.0, report.retry_after)
    return Verdict(State.QUEUED, Reason.RETRYING, failures, deaths, AttemptState.FAILED, delay=delay)


def after_death(terms: Terms, *, failures: int, deaths: int, alone: bool, killed: bool) -> Verdict:
    """Decide what the loss of its worker makes of a run.

    `alone` says that the worker held nothing beside it: only such a death counts, so a neighbour's crash is never
    held against a run. After `max_attempts` of them the run is POISON if its worker is known to have been `killed`,
    ATTEMPTS_EXHAUSTED if the worker only fell silent.
    """
    deaths += alone
    if deaths >= terms.max_attempts:
        reason = Reason.POISON if killed else Reason.ATTEMPTS_EXHAUSTED
        return Verdict(State.FAILED, reason, failures, deaths, AttemptState.LOST)
    return Verdict(State.QUEUED, Reason.RETRYING, failures, deaths, AttemptState.LOST, alone=True)
