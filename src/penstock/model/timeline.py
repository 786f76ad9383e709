"""What happened to a run, in order: derived from its record and its attempts, never stored beside them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import msgspec

from .run import Attempt, AttemptState, Run, State

__all__ = ["RunEvent", "timeline"]


class RunEvent(msgspec.Struct, frozen=True):
    """One thing that happened. `id` is stable and unique within the run, so a reader can resume after it."""

    id: str
    type: str  # queued, leased, progress, returned, succeeded, failed, cancelled
    at: float  # seconds since 1970
    data: dict[str, Any] = {}


def timeline(run: Run, attempts: Sequence[Attempt]) -> list[RunEvent]:
    """Give the events of a run, first to last: it was queued, leased and returned, and how it ended."""
    return list(_events(run, attempts))


def _events(run: Run, attempts: Sequence[Attempt]) -> Iterator[RunEvent]:
    yield RunEvent("0.queued", "queued", run.created_at, {"state": State.QUEUED})
    for attempt in attempts:
        yield _leased(attempt)
        if attempt.epoch < run.epoch or run.state is State.QUEUED:
            yield _returned(attempt)
    if run.state is State.RUNNING and run.progress is not None:
        data = {"state": run.state, "progress": run.progress, "note": run.progress_note}
        yield RunEvent(f"{run.epoch}.progress.{run.progress:.4f}", "progress", run.started_at or 0.0, data)
    if run.terminal:
        data = {"state": run.state, "reason": run.reason, "message": run.message}
        yield RunEvent(f"{run.epoch}.{run.state.lower()}", run.state.lower(), run.finished_at or 0.0, data)


def _leased(attempt: Attempt) -> RunEvent:
    data = {"state": State.RUNNING, "epoch": attempt.epoch, "worker_uid": attempt.worker_uid, "node": attempt.node}
    return RunEvent(f"{attempt.epoch}.leased", "leased", attempt.leased_at, data)


def _returned(attempt: Attempt) -> RunEvent:
    data = {"state": State.QUEUED, "epoch": attempt.epoch, "reason": attempt.reason, "message": attempt.message}
    released = attempt.state is AttemptState.LOST and attempt.reason is None
    data["released"] = released
    return RunEvent(f"{attempt.epoch}.returned", "returned", attempt.finished_at or attempt.leased_at, data)
