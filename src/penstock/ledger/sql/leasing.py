"""Who may lease, and how much of what waits one asker is given. Decides; asks and writes nothing."""

from __future__ import annotations

from collections import deque
from typing import Protocol, TypeVar

import msgspec

from penstock.ledger.commands import Grant, Lease
from penstock.model.fleet import WorkerState
from penstock.model.run import Run

from .rows import Row

__all__ = ["ASKER", "Asker", "Waiting", "attempt_row", "grant_of", "pick", "refusal"]

ASKER = "uid, app, state, node, candidate, gpu_ids"


class Asker(msgspec.Struct, frozen=True):
    """A worker that asks for runs: the columns `ASKER` of its row."""

    uid: str
    app: str
    state: str
    node: str | None
    candidate: str | None
    gpu_ids: str


def refusal(asker: Asker | None, command: Lease) -> str:
    """Tell why this worker is given nothing at all; empty where it may ask."""
    if asker is None:
        return f"worker {command.worker_uid} is unknown"
    if asker.app != command.app:
        return f"worker {asker.uid} is of app {asker.app}"
    if asker.state not in {WorkerState.STARTING, WorkerState.IDLE}:
        return f"worker {asker.uid} is {asker.state}"
    return ""


class Waiting(Protocol):
    """A run that waits its turn."""

    @property
    def alone(self) -> bool:
        """Whether it is given only by itself."""
        ...


T = TypeVar("T", bound=Waiting)


def pick(waiting: deque[T], count: int, *, idle: bool) -> tuple[list[T], bool]:
    """Take runs up to the first that must be alone; tells too whether such a one is first and the asker is busy."""
    picked: list[T] = []
    while waiting and len(picked) < count:
        if not waiting[0].alone:
            picked.append(waiting.popleft())
        elif picked:
            break
        elif idle:
            return [waiting.popleft()], False
        else:
            return [], True
    return picked, False


def attempt_row(asker: Asker, replica: int, run: Run, charged: float, now: float) -> Row:
    """Give the row of an attempt at a run as it is after its lease, for which its share was charged so much.

    seq, epoch, worker_uid, replica, alone, leased_at, lease_until, deadline_at, due_at, charged, node, candidate, gpu_ids
    """
    until, deadline = now + run.terms.lease_seconds, now + run.terms.run_deadline_seconds
    return (
        run.seq,
        run.epoch,
        asker.uid,
        replica,
        run.alone,
        now,
        until,
        deadline,
        min(until, deadline),
        charged,
        asker.node,
        asker.candidate,
        asker.gpu_ids,
    )


def grant_of(run: Run, checkpoint: bytes | None, now: float) -> Grant:
    """Give what a worker is told of a run that it holds from now on."""
    return Grant(
        run=run,
        lease_until=now + run.terms.lease_seconds,
        deadline_at=now + run.terms.run_deadline_seconds,
        alone=run.alone,
        checkpoint=checkpoint,
    )
