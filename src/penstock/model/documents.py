"""The documents of the public HTTP API: the gateway encodes these very types, and the client decodes them.

Names and values are those of the API's description, so a field added with a default keeps N and N-1 talking. Times are
RFC 3339 in UTC; a field that says nothing is left out.
"""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, TypeAlias

import msgspec

from penstock.errors import Fault

from .app_changes import FieldChange
from .fleet import WorkerState
from .placement import Drop, Phase
from .run import AttemptState, Lane, Reason, State

__all__ = [
    "AppDocument",
    "AppEventDocument",
    "AppEventPage",
    "AppPage",
    "AppliedDocument",
    "AppsQuery",
    "AttemptDocument",
    "CancelRequest",
    "CancelledDocument",
    "DecisionDocument",
    "DecisionPage",
    "Document",
    "Eta",
    "ExplanationDocument",
    "Figures",
    "Limit",
    "Links",
    "Pending",
    "Problem",
    "Redriven",
    "ResultNote",
    "RunDocument",
    "RunEventDocument",
    "RunPage",
    "RunsQuery",
    "StepDocument",
    "Whoami",
    "WorkerDocument",
    "WorkerPage",
]


Limit: TypeAlias = Annotated[int, msgspec.Meta(ge=1, le=200, description="The most items of a page.")]


class Document(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What every document is: immutable.

    Requests and problems are silent about defaults; a record says all of its fields, so that a reader need not know them.
    """


class Problem(Document, frozen=True, kw_only=True):
    """Why a request was refused or failed (RFC 9457, `application/problem+json`).

    `code` is a stable word to switch on. For a run that ended without a result it is the run's reason, and `run_id`,
    `ticket` and `state` say which run.
    """

    type: str = "about:blank"
    title: str = ""
    status: int = 500
    detail: str = ""
    code: str = "ERROR"
    request_id: str = ""
    retryable: bool | None = None
    errors: tuple[Fault, ...] = ()
    run_id: str | None = None
    ticket: str | None = None
    state: State | None = None


# ------------------------------------------------------------------ serving


Moment: TypeAlias = Annotated[
    str,
    msgspec.Meta(
        description="RFC 3339, or seconds since 1970.",
        extra_json_schema={"anyOf": [{"format": "date-time"}, {"pattern": "^[0-9]{1,12}([.][0-9]{1,9})?$"}]},
    ),
]


class Eta(msgspec.Struct, frozen=True):
    """When an answer may be expected: seconds from now, by the median and by the slow tenth."""

    p50: float
    p90: float


class Pending(msgspec.Struct, frozen=True, kw_only=True, rename={"eta_seconds": "etaSeconds"}):
    """A run that has not ended. `retry_after` and the estimates are in seconds; `position` is approximate."""

    ticket: str
    run_id: str
    state: State
    retry_after: int
    eta_seconds: float
    eta: Eta
    position: int
    status_url: str


class CancelledDocument(Document, frozen=True, kw_only=True, omit_defaults=False):
    """A run after it was cancelled."""

    ticket: str
    run_id: str
    state: State
    reason: Reason | None = None
    message: str = ""


# ------------------------------------------------------------------ runs


class Links(Document, frozen=True, kw_only=True):
    """Where else to look, as absolute URLs."""

    self: str
    status: str | None = None
    result: str | None = None
    explain: str | None = None
    events: str | None = None


class ResultNote(Document, frozen=True, kw_only=True):
    """What is known of a result without reading it; `size` counts the bytes as kept."""

    size: int
    content_type: str
    encoding: str = ""


class AttemptDocument(Document, frozen=True, kw_only=True, omit_defaults=False):
    """One execution of a run, numbered by its fencing epoch."""

    epoch: int
    state: AttemptState
    worker_uid: str
    replica: int = 0
    node: str | None = None
    candidate: str | None = None
    gpu_ids: tuple[int, ...] = ()
    exit_code: int | None = None
    reason: Reason | None = None
    message: str = ""
    leased_at: datetime | None = None
    lease_until: datetime | None = None
    deadline_at: datetime | None = None
    first_byte_at: datetime | None = None
    finished_at: datetime | None = None


class Figures(Document, frozen=True, kw_only=True):
    """How long a run took, in seconds: waiting (so far, or in all) and executing its latest attempt."""

    waited: float = 0.0
    ran: float | None = None


class DecisionDocument(Document, frozen=True, kw_only=True, omit_defaults=False):
    """One placement: what was chosen, what would have done, and why each other candidate was dropped."""

    id: int
    app: str
    at: datetime
    spec_generation: int = 0
    chosen: str | None = None  # a candidate's key; left out when nothing was possible
    workers: tuple[str, ...] = ()
    survivors: tuple[str, ...] = ()
    dropped: dict[str, Drop] = {}
    notes: tuple[str, ...] = ()
    facts: dict[str, str] = {}


class RunDocument(Document, frozen=True, kw_only=True, omit_defaults=False):
    """The full record of a run."""

    id: str
    app: str
    tenant: str
    ticket: str  # its key, the `rid`
    lane: Lane
    state: State
    reason: Reason | None = None
    message: str = ""
    generation: int = 1  # of its key
    spec_generation: int = 1  # of the app's spec it was accepted under
    priority: int = 5
    epoch: int = 0  # the number of its latest attempt
    failures: int = 0  # attempts charged
    progress: float | None = None  # 0..1
    progress_note: str = ""
    tag: str | None = None
    parent: str | None = None
    size: int = 0  # of the body as kept, in bytes
    content_type: str = ""  # of the body
    result: ResultNote | None = None
    created_at: datetime | None = None
    queued_at: datetime | None = None
    started_at: datetime | None = None
    finished_at: datetime | None = None
    expires_at: datetime | None = None  # QUEUED longer than this is QUEUE_EXPIRED
    purged_at: datetime | None = None
    timings: Figures | None = None
    attempts: tuple[AttemptDocument, ...] | msgspec.UnsetType = msgspec.UNSET  # of one run; a page leaves them out
    placement: DecisionDocument | None = None
    links: Links | None = None


class RunPage(msgspec.Struct, frozen=True):
    """Runs, newest first; `next` is the `after` of the page that follows, if there is one."""

    items: tuple[RunDocument, ...]
    next: str | None = None


class RunsQuery(Document, frozen=True, kw_only=True):
    """Which runs to list: all of these must hold."""

    app: str | None = None
    state: State | None = None
    reason: Reason | None = None
    tag: str | None = None
    parent: str | None = None
    lane: Lane | None = None
    since: Moment | None = None
    limit: Limit = 50
    after: (
        Annotated[str, msgspec.Meta(pattern="^[0-9]{0,18}$", description="The `next` of the page before.")] | None
    ) = None


class CancelRequest(Document, frozen=True, kw_only=True):
    """Why a run is no longer wanted, in the caller's words."""

    message: str = ""


class Redriven(msgspec.Struct, frozen=True):
    """How many FAILED runs were started anew."""

    count: int


class StepDocument(Document, frozen=True, kw_only=True, omit_defaults=False):
    """One gate of an explanation. `kind` names it: accepted, app, queue, placement, worker, attempt, result."""

    kind: str
    text: str
    at: datetime | None = None


class RunEventDocument(Document, frozen=True, kw_only=True, omit_defaults=False):
    """One thing that happened to a run; its `id` is where a reader can go on."""

    id: str
    type: str  # queued, leased, progress, returned, succeeded, failed, cancelled
    at: datetime
    data: dict[str, Any] = {}


class ExplanationDocument(msgspec.Struct, frozen=True, kw_only=True):
    """Why a run waits or failed, in order."""

    run_id: str
    state: State
    reason: Reason | None
    summary: str
    steps: tuple[StepDocument, ...]


# ------------------------------------------------------------------ who asks


class Whoami(msgspec.Struct, frozen=True):
    """Who the caller is, by the credential shown."""

    sub: str
    tenant: str
    scopes: tuple[str, ...]


# ------------------------------------------------------------------ apps and workers


class AppDocument(Document, frozen=True, kw_only=True, omit_defaults=False):
    """An app with its normalised spec (as `spec` of its YAML), and what it is doing."""

    name: str
    generation: int
    etag: str
    desired_state: str
    phase: Phase | None = None
    reason: Reason | None = None  # why its runs wait
    message: str = ""
    queued: int = 0
    running: int = 0
    workers: int = 0  # live ones
    workers_desired: int = 0
    labels: dict[str, str] = {}
    created_at: datetime | None = None
    updated_at: datetime | None = None
    spec: dict[str, Any] = {}


class AppsQuery(Document, frozen=True, kw_only=True):
    """Which apps to list."""

    limit: Limit = 50
    after: str | None = None


class AppPage(msgspec.Struct, frozen=True):
    """Apps by name; `next` is the `after` of the page that follows."""

    items: tuple[AppDocument, ...]
    next: str | None = None


class AppliedDocument(msgspec.Struct, frozen=True, kw_only=True):
    """What applying a spec did, or with `dry_run` would have done. No change means that nothing was written."""

    name: str
    generation: int
    etag: str
    created: bool
    changes: tuple[FieldChange, ...]
    dry_run: bool = False


class AppEventDocument(Document, frozen=True, kw_only=True, omit_defaults=False):
    """Something that happened to an app as a whole."""

    id: int
    app: str
    at: datetime
    kind: str
    message: str
    worker_uid: str | None = None


class AppEventPage(msgspec.Struct, frozen=True):
    """Events, newest first."""

    items: tuple[AppEventDocument, ...]
    next: str | None = None


class DecisionPage(msgspec.Struct, frozen=True):
    """Placements, newest first."""

    items: tuple[DecisionDocument, ...]
    next: str | None = None


class WorkerDocument(Document, frozen=True, kw_only=True, omit_defaults=False):
    """One worker. `attempts` counts the runs it was ever given, `held` those it holds now."""

    worker_uid: str
    app: str
    state: WorkerState
    node: str | None = None
    candidate: str | None = None
    gpu_ids: tuple[int, ...] = ()
    pid: int | None = None
    spec_generation: int = 0
    started_at: datetime | None = None
    ready_at: datetime | None = None
    seen_at: datetime | None = None
    ended_at: datetime | None = None
    exit_code: int | None = None
    reason: str = ""
    message: str = ""
    attempts: int = 0
    held: int = 0


class WorkerPage(msgspec.Struct, frozen=True):
    """Workers, newest first."""

    items: tuple[WorkerDocument, ...]
    next: str | None = None
