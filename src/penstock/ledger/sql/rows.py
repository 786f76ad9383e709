"""How a row reads as a record: the columns of each question and the function that decodes them, side by side.

The tables `runs` (r), `bodies` (b), `results` (o), `attempts` (a) and `workers` (w) have these columns in every driver.
"""

from __future__ import annotations

from typing import Any, Final

import msgspec

from penstock.model.fleet import Worker, WorkerState
from penstock.model.run import Attempt, AttemptState, Lane, Payload, Reason, Run, State

from .terms import decode_terms

__all__ = [
    "ATTEMPT",
    "LISTED_RUN",
    "RUN",
    "RUN_TABLES",
    "RUN_WIDTH",
    "Row",
    "attempt_of",
    "columns",
    "encoded_gpu_ids",
    "payload_row",
    "run_of",
    "stored_state",
    "worker_columns",
    "worker_of",
    "worker_row",
]

Row = tuple[Any, ...]


# ------------------------------------------------------------------ runs

_RUN_COLUMNS: Final = {
    "id": "r.run_id",
    "seq": "r.seq",
    "tenant": "r.tenant",
    "app": "r.app",
    "lane": "r.lane",
    "key": "r.key",
    "generation": "r.generation",
    "spec_generation": "r.spec_generation",
    "state": "r.state",
    "reason": "r.reason",
    "message": "r.message",
    "priority": "r.priority",
    "epoch": "r.epoch",
    "failures": "r.failures",
    "deaths": "r.deaths",
    "head": "r.head",
    "alone": "r.alone",
    "sha256": "r.sha256",
    "progress": "r.progress",
    "progress_note": "r.progress_note",
    "tag": "r.tag",
    "parent": "r.parent",
    "webhook": "r.webhook",
    "traceparent": "r.traceparent",
    "terms": "r.terms",
    "mark": "r.mark",
    "created_at": "r.created_at",
    "queued_at": "r.queued_at",
    "not_before": "r.not_before",
    "expires_at": "r.expires_at",
    "started_at": "r.started_at",
    "finished_at": "r.finished_at",
    "purged_at": "r.purged_at",
    "body_bytes": "b.bytes",
    "body_object": "b.object",
    "body_size": "b.size",
    "body_type": "b.content_type",
    "body_encoding": "b.encoding",
    "result_bytes": "o.bytes",
    "result_object": "o.object",
    "result_size": "o.size",
    "result_type": "o.content_type",
    "result_encoding": "o.encoding",
}
RUN_WIDTH: Final = len(_RUN_COLUMNS)


def columns(**instead: str) -> str:
    """Give the columns of a run, with other expressions in the place of some."""
    return ", ".join({**_RUN_COLUMNS, **instead}.values())


RUN_TABLES: Final = "runs r JOIN bodies b ON b.seq = r.seq LEFT JOIN results o ON o.seq = r.seq"
RUN: Final = columns()
LISTED_RUN: Final = columns(body_bytes="NULL", result_bytes="NULL")  # lists go without bytes

_LANES: Final = {lane.value: lane for lane in Lane}
_STATES: Final = {state.value: state for state in State}
_REASONS: Final[dict[str | None, Reason | None]] = {None: None, **{reason.value: reason for reason in Reason}}


def run_of(row: Row) -> Run:
    """Give the run that begins a row of the columns `RUN`, or of one of its variants."""
    return Run(
        id=row[0],
        seq=row[1],
        tenant=row[2],
        app=row[3],
        lane=_LANES[row[4]],
        key=row[5],
        generation=row[6],
        spec_generation=row[7],
        state=_STATES[row[8]],
        reason=_REASONS[row[9]],
        message=row[10],
        priority=row[11],
        epoch=row[12],
        failures=row[13],
        deaths=row[14],
        head=row[15] == 1,
        alone=row[16] == 1,
        sha256=row[17],
        progress=row[18],
        progress_note=row[19],
        tag=row[20],
        parent=row[21],
        webhook=row[22],
        traceparent=row[23],
        terms=decode_terms(row[24]),
        mark=row[25],
        created_at=row[26],
        queued_at=row[27],
        not_before=row[28],
        expires_at=row[29],
        started_at=row[30],
        finished_at=row[31],
        purged_at=row[32],
        body=Payload(row[33], row[34], row[35], row[36], row[37]),
        result=None if row[40] is None else Payload(row[38], row[39], row[40], row[41], row[42]),
    )


def payload_row(seq: int, payload: Payload) -> Row:
    """Give the row of `bodies` or `results` that keeps a payload."""
    return (seq, payload.key, payload.size, payload.content_type, payload.encoding, payload.inline)


# ------------------------------------------------------------------ attempts and workers

ATTEMPT: Final = (
    "a.epoch, a.state, a.worker_uid, a.replica, a.node, a.candidate, a.gpu_ids, a.alone, a.exit_code, a.reason, "
    "a.message, a.leased_at, a.lease_until, a.deadline_at, a.first_byte_at, a.finished_at"
)


def worker_columns(live: str) -> str:
    """Give the columns of a worker, where `live` says of an attempt (a) that it is, in the words of its index."""
    held = f"(SELECT count(*) FROM attempts a WHERE a.worker_uid = w.uid AND {live})"  # noqa: S608  # a text of ours
    return f"""
        w.uid, w.app, w.spec_generation, w.state, w.candidate, w.node, w.gpu_ids, w.pid, w.instances, w.started_at,
        w.ready_at, w.seen_at, w.ended_at, w.exit_code, w.reason, w.message, w.leases, {held}"""


_gpu_ids: Final = msgspec.json.Decoder(tuple[int, ...]).decode


def attempt_of(run_id: str, row: Row) -> Attempt:
    """Give the attempt in a row of the columns `ATTEMPT`."""
    return Attempt(
        run_id=run_id,
        epoch=row[0],
        state=AttemptState(row[1]),
        worker_uid=row[2],
        replica=row[3],
        node=row[4],
        candidate=row[5],
        gpu_ids=_gpu_ids(row[6]),
        alone=row[7] == 1,
        exit_code=row[8],
        reason=_REASONS[row[9]],
        message=row[10],
        leased_at=row[11],
        lease_until=row[12],
        deadline_at=row[13],
        first_byte_at=row[14],
        finished_at=row[15],
    )


def worker_of(row: Row) -> Worker:
    """Give the worker in a row of `worker_columns`."""
    state = WorkerState(row[3])
    held = row[17]
    return Worker(
        uid=row[0],
        app=row[1],
        spec_generation=row[2],
        state=WorkerState.BUSY if state is WorkerState.IDLE and held else state,
        candidate=row[4],
        node=row[5],
        gpu_ids=_gpu_ids(row[6]),
        pid=row[7],
        instances=row[8],
        started_at=row[9],
        ready_at=row[10],
        seen_at=row[11],
        ended_at=row[12],
        exit_code=row[13],
        reason=row[14],
        message=row[15],
        leases=row[16],
        held=held,
    )


def worker_row(worker: Worker, now: float) -> Row:
    """Give the row of a worker that is about to be created: uid, app, generation, state ... instances, start."""
    return (
        worker.uid,
        worker.app,
        worker.spec_generation,
        stored_state(worker.state),
        worker.candidate,
        worker.node,
        encoded_gpu_ids(worker.gpu_ids),
        worker.pid,
        worker.instances,
        now,
    )


def stored_state(state: WorkerState) -> str:
    """Give a worker's state as it is kept: BUSY is IDLE that holds something."""
    return WorkerState.IDLE.value if state is WorkerState.BUSY else state.value


def encoded_gpu_ids(gpu_ids: tuple[int, ...]) -> str:
    """Give the text that GPU ids are kept as."""
    return msgspec.json.encode(gpu_ids).decode()
