"""How apps, runs and workers stand in a table."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any, Final

from .output import Column, Kind, rows

if TYPE_CHECKING:
    from penstock.model.documents import (
        AppDocument,
        AppEventDocument,
        AttemptDocument,
        DecisionDocument,
        RunDocument,
        StepDocument,
        WorkerDocument,
    )

__all__ = ["APPS", "EVENTS", "RUNS", "WORKERS", "age", "attempts", "placements", "span", "steps"]

_NOTHING: Final = "-"


def span(seconds: float) -> str:
    """Give a length of time in two units at most: 0.4s, 12s, 3m05s, 2h10m, 4d."""
    if seconds < 9.95:
        return f"{max(0.0, seconds):.1f}s"
    whole = round(seconds)
    if whole < 60:
        return f"{whole}s"
    if whole < 3600:
        return f"{whole // 60}m{whole % 60:02}s"
    if whole < 86_400:
        return f"{whole // 3600}h{whole % 3600 // 60:02}m"
    return f"{whole // 86_400}d{whole % 86_400 // 3600:02}h"


def age(at: datetime | None, now: float) -> str:
    """Give how long ago something was."""
    return _NOTHING if at is None else span(now - at.timestamp())


def _text(field: str) -> Callable[[Any, float], str]:
    """Give the cell of a field; nothing is a dash."""

    def cell(item: Any, now: float) -> str:
        del now
        value = getattr(item, field)
        return _NOTHING if value is None or value == "" else str(value)

    return cell


def _since(field: str) -> Callable[[Any, float], str]:
    return lambda item, now: age(getattr(item, field), now)


def _workers(app: AppDocument, now: float) -> str:
    del now
    return f"{app.workers}/{app.workers_desired}"


def _progress(run: RunDocument, now: float) -> str:
    del now
    return _NOTHING if run.progress is None else f"{run.progress:.0%}"


def _took(run: RunDocument, now: float) -> str:
    del now
    return _NOTHING if run.timings is None or run.timings.ran is None else span(run.timings.ran)


def _waited(run: RunDocument, now: float) -> str:
    del now
    return _NOTHING if run.timings is None else span(run.timings.waited)


def _ticket(run: RunDocument, now: float) -> str:
    del now
    return run.ticket if len(run.ticket) <= 20 else f"{run.ticket[:17]}..."


APPS: Final[Kind[AppDocument]] = Kind(
    "app",
    lambda app: app.name,
    (
        Column("NAME", _text("name")),
        Column("PHASE", _text("phase")),
        Column("WORKERS", _workers),
        Column("QUEUED", _text("queued")),
        Column("RUNNING", _text("running")),
        Column("AGE", _since("created_at")),
        Column("GENERATION", _text("generation"), wide=True),
        Column("WANTED", _text("desired_state"), wide=True),
        Column("MESSAGE", _text("message"), wide=True),
    ),
    lambda app: (app.phase, app.workers, app.workers_desired, app.queued, app.running, app.generation, app.message),
    "There are no apps yet. Apply one: penstock apply -f app.yaml",
)

RUNS: Final[Kind[RunDocument]] = Kind(
    "run",
    lambda run: run.id,
    (
        Column("ID", _text("id")),
        Column("APP", _text("app")),
        Column("STATE", _text("state")),
        Column("REASON", _text("reason")),
        Column("ATTEMPT", _text("epoch")),
        Column("WAITED", _waited),
        Column("TOOK", _took),
        Column("AGE", _since("created_at")),
        Column("TICKET", _ticket, wide=True),
        Column("LANE", _text("lane"), wide=True),
        Column("PRIORITY", _text("priority"), wide=True),
        Column("PROGRESS", _progress, wide=True),
        Column("TAG", _text("tag"), wide=True),
        Column("MESSAGE", _text("message"), wide=True),
    ),
    lambda run: (run.state, run.reason, run.epoch, run.progress, run.message),
    "No run matches. Submit one: penstock submit APP -d '{...}'",
)

WORKERS: Final[Kind[WorkerDocument]] = Kind(
    "worker",
    lambda worker: worker.worker_uid,
    (
        Column("NAME", _text("worker_uid")),
        Column("APP", _text("app")),
        Column("STATE", _text("state")),
        Column("HOLDS", _text("held")),
        Column("RUNS", _text("attempts")),
        Column("AGE", _since("started_at")),
        Column("PID", _text("pid"), wide=True),
        Column("NODE", _text("node"), wide=True),
        Column("GENERATION", _text("spec_generation"), wide=True),
        Column("EXIT", _text("exit_code"), wide=True),
        Column("REASON", _text("reason"), wide=True),
    ),
    lambda worker: (worker.state, worker.held, worker.attempts, worker.exit_code),
    "No worker lives. Workers start when runs are submitted, and leave when nothing is left to do.",
)

EVENTS: Final[Kind[AppEventDocument]] = Kind(
    "event",
    lambda event: str(event.id),
    (
        Column("AGE", _since("at")),
        Column("KIND", _text("kind")),
        Column("WORKER", _text("worker_uid")),
        Column("MESSAGE", _text("message")),
    ),
    lambda event: event.id,
    "Nothing has happened to this app yet.",
)


def steps(found: Sequence[StepDocument], now: float) -> list[str]:
    """Give an explanation's steps as aligned lines: how long ago, which gate, what was found."""
    return rows(["AGE", "GATE", "FOUND"], [[age(step.at, now), step.kind, step.text] for step in found])


def attempts(found: Sequence[AttemptDocument], now: float) -> list[str]:
    """Give attempts as a table."""
    return rows(
        ["EPOCH", "STATE", "WORKER", "AGE", "TOOK", "EXIT", "REASON", "MESSAGE"],
        [
            [
                str(one.epoch),
                one.state,
                one.worker_uid,
                age(one.leased_at, now),
                _between(one.leased_at, one.finished_at),
                _NOTHING if one.exit_code is None else str(one.exit_code),
                one.reason or _NOTHING,
                one.message or _NOTHING,
            ]
            for one in found
        ],
    )


def placements(found: Sequence[DecisionDocument], now: float) -> list[str]:
    """Give placements as a table: what was chosen, and why what else there was is not."""
    return rows(
        ["AGE", "CHOSEN", "WORKERS", "DROPPED"],
        [
            [
                age(one.at, now),
                one.chosen or "nothing",
                ", ".join(one.workers) or _NOTHING,
                "; ".join(f"{name}: {drop.code}, {drop.text}" for name, drop in one.dropped.items()) or _NOTHING,
            ]
            for one in found
        ],
    )


def _between(start: datetime | None, end: datetime | None) -> str:
    return _NOTHING if start is None or end is None else span((end - start).total_seconds())
