"""All that a plan can say. There is no action that ends a worker: scaling can't remove a busy one, nor any other.

A worker leaves by itself: idle and granted, or retired, which means no new lease. What belongs to nothing is removed
by the maintainer, whose word for it (`maintain.Removal`) carries a reason and is none of these.
"""

from __future__ import annotations

from typing import TypeAlias

import msgspec

from penstock.model.placement import Phase
from penstock.model.run import Reason

from .choice import Choice
from .snapshot import Ended

__all__ = ["Action", "CreateWorker", "NotePhase", "ReapWorker", "RetireWorker", "StartWorkers"]


class StartWorkers(msgspec.Struct, frozen=True, gc=False):
    """Start `count` new workers of this generation where `choice` says; their uids are minted when it is done."""

    app: str
    spec_generation: int
    candidate: str
    count: int
    why: str
    choice: Choice


class CreateWorker(msgspec.Struct, frozen=True, gc=False):
    """Tell compute again of a worker whose row is committed and that compute does not know; repeats are harmless."""

    app: str
    spec_generation: int
    uid: str


class RetireWorker(msgspec.Struct, frozen=True, gc=False):
    """Give a worker no new lease: it finishes what it holds, and exits by itself."""

    app: str
    uid: str
    why: str


class ReapWorker(msgspec.Struct, frozen=True, gc=False):
    """Record the end of a worker that has ended already, and take back what it held."""

    app: str
    ended: Ended


class NotePhase(msgspec.Struct, frozen=True, gc=False):
    """Tell people that the app's phase, or the reason for it, is another."""

    app: str
    before: Phase
    phase: Phase
    reason: Reason | None
    message: str


Action: TypeAlias = StartWorkers | CreateWorker | RetireWorker | ReapWorker | NotePhase
