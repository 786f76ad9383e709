"""Records as the documents that the API shows."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import UTC, datetime

import msgspec

from penstock.ledger.commands import LaneCount
from penstock.model import app as apps
from penstock.model.documents import (
    AppDocument,
    AppEventDocument,
    AttemptDocument,
    DecisionDocument,
    ExplanationDocument,
    Figures,
    Links,
    ResultNote,
    RunDocument,
    StepDocument,
    WorkerDocument,
)
from penstock.model.fleet import Worker
from penstock.model.placement import AppEvent, Decision
from penstock.model.run import Attempt, Run, State
from penstock.placement.status import AppStatus
from penstock.serving import Entry, Explanation

__all__ = ["app", "attempt", "decision", "event", "explanation", "run", "spec", "time", "worker"]

_NO_STATUS = AppStatus()


def time(seconds: float | None) -> datetime | None:
    """Give a time of the ledger as the API writes it; 0 and None stand for a time that never came."""
    return datetime.fromtimestamp(seconds, UTC) if seconds else None


def run(
    record: Run,
    url: Callable[[str], str],
    *,
    attempts: Sequence[Attempt] | None = None,
    placement: Decision | None = None,
    now: float | None = None,
) -> RunDocument:
    """Give a run's document; `url` makes a path absolute."""
    here = f"/v1/runs/{record.id}"
    return RunDocument(
        id=record.id,
        app=record.app,
        tenant=record.tenant,
        ticket=record.key,
        lane=record.lane,
        state=record.state,
        reason=record.reason,
        message=record.message,
        generation=record.generation,
        spec_generation=record.spec_generation,
        priority=record.priority,
        epoch=record.epoch,
        failures=record.failures,
        progress=record.progress,
        progress_note=record.progress_note,
        tag=record.tag,
        parent=record.parent,
        size=record.body.size,
        content_type=record.body.content_type,
        result=_result(record),
        created_at=time(record.created_at),
        queued_at=time(record.queued_at),
        started_at=time(record.started_at),
        finished_at=time(record.finished_at),
        expires_at=time(record.expires_at) if record.state is State.QUEUED else None,
        purged_at=time(record.purged_at),
        timings=_timings(record, now),
        attempts=msgspec.UNSET if attempts is None else tuple(attempt(one) for one in attempts),
        placement=decision(placement) if placement else None,
        links=Links(
            self=url(here),
            status=url(f"/v1/{record.app}/status/{record.key}"),
            result=url(f"{here}/result"),
            explain=url(f"{here}/explain"),
            events=url(f"{here}/events"),
        ),
    )


def _result(record: Run) -> ResultNote | None:
    kept = record.result
    if kept is None or record.purged_at is not None:
        return None
    return ResultNote(size=kept.size, content_type=kept.content_type, encoding=kept.encoding)


def _timings(record: Run, now: float | None) -> Figures:
    until = record.started_at or record.finished_at or now or record.queued_at
    ended = record.finished_at or (now if record.state is State.RUNNING else None)
    ran = max(0.0, ended - record.started_at) if ended and record.started_at else None
    return Figures(waited=round(max(0.0, until - record.created_at), 6), ran=None if ran is None else round(ran, 6))


def attempt(record: Attempt) -> AttemptDocument:
    """Give an attempt's document."""
    return AttemptDocument(
        epoch=record.epoch,
        state=record.state,
        worker_uid=record.worker_uid,
        replica=record.replica,
        node=record.node,
        candidate=record.candidate,
        gpu_ids=record.gpu_ids,
        exit_code=record.exit_code,
        reason=record.reason,
        message=record.message,
        leased_at=time(record.leased_at),
        lease_until=time(record.lease_until),
        deadline_at=time(record.deadline_at),
        first_byte_at=time(record.first_byte_at),
        finished_at=time(record.finished_at),
    )


def explanation(found: Explanation) -> ExplanationDocument:
    """Give an explanation's document."""
    steps = tuple(StepDocument(kind=step.kind, text=step.text, at=time(step.at)) for step in found.steps)
    return ExplanationDocument(
        run_id=found.run_id, state=found.state, reason=found.reason, summary=found.summary, steps=steps
    )


def spec(entry: Entry) -> dict[str, object]:
    """Give an app's normalised spec without its defaults, as `spec` of its YAML."""
    plain: dict[str, object] = msgspec.to_builtins(entry.app)
    return {key: value for key, value in plain.items() if key not in ("name", "labels", "annotations")}


def app(entry: Entry, status: AppStatus | None, lanes: Sequence[LaneCount] = ()) -> AppDocument:
    """Give an app's document. `lanes` may be those of all apps."""
    status = status or _NO_STATUS
    own = [lane for lane in lanes if lane.app == entry.app.name]
    return AppDocument(
        name=entry.app.name,
        generation=entry.generation,
        etag=entry.etag,
        desired_state=apps.DesiredState(entry.app.desired_state).value,
        phase=status.phase,
        reason=status.reason,
        message=status.message,
        queued=sum(lane.queued for lane in own),
        running=sum(lane.running for lane in own),
        workers=status.live,
        workers_desired=status.desired,
        labels=entry.app.labels,
        created_at=time(entry.created_at),
        updated_at=time(entry.updated_at),
        spec=spec(entry),
    )


def event(record: AppEvent) -> AppEventDocument:
    """Give an app event's document."""
    at = datetime.fromtimestamp(record.at, UTC)
    return AppEventDocument(
        id=record.id, app=record.app, at=at, kind=record.kind, message=record.message, worker_uid=record.worker_uid
    )


def decision(record: Decision) -> DecisionDocument:
    """Give a placement's document."""
    return DecisionDocument(
        id=record.id,
        app=record.app,
        at=datetime.fromtimestamp(record.made_at, UTC),
        spec_generation=record.spec_generation,
        chosen=record.chosen,
        workers=record.workers,
        survivors=record.survivors,
        dropped=record.dropped,
        notes=record.notes,
        facts=record.facts,
    )


def worker(record: Worker) -> WorkerDocument:
    """Give a worker's document."""
    return WorkerDocument(
        worker_uid=record.uid,
        app=record.app,
        state=record.state,
        node=record.node,
        candidate=record.candidate,
        gpu_ids=record.gpu_ids,
        pid=record.pid,
        spec_generation=record.spec_generation,
        started_at=time(record.started_at),
        ready_at=time(record.ready_at),
        seen_at=time(record.seen_at),
        ended_at=time(record.ended_at),
        exit_code=record.exit_code,
        reason=record.reason,
        message=record.message,
        attempts=record.leases,
        held=record.held,
    )
