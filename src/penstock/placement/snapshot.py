"""What the planner is given: all that was observed, as values. It never looks anywhere else."""

from __future__ import annotations

import msgspec

from penstock.model.app import App
from penstock.model.fleet import Worker

from .choice import LOCAL, Offer
from .history import History

__all__ = ["AppView", "Backlog", "Ended", "Snapshot"]


class Backlog(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """What one lane holds, and what it has been served so far."""

    visible: int = 0  # runs in line: a worker could take them now
    leased: int = 0
    records_left: int = 0  # of a batch lane: records still to be worked through
    age_s: float = 0.0  # since its oldest queued run came in
    settled: int = 0
    service_s: float = 0.0  # attempt time of those settled


class Ended(msgspec.Struct, frozen=True, gc=False):
    """A worker whose end was seen while its row still says that it lives."""

    uid: str
    exit_code: int | None = None
    reason: str = ""
    message: str = ""


class AppView(msgspec.Struct, frozen=True, kw_only=True):
    """One app as observed: its spec, its lanes, its live workers' rows, and what is remembered of it."""

    app: App
    generation: int
    infer: Backlog = Backlog()
    batch: Backlog = Backlog()
    workers: tuple[Worker, ...] = ()
    ended: tuple[Ended, ...] = ()
    unborn: tuple[str, ...] = ()  # STARTING rows that compute has not been told of, or does not know
    offers: tuple[Offer, ...] = (LOCAL,)
    history: History = History()


class Snapshot(msgspec.Struct, frozen=True):
    """The apps that may need something, at one moment (seconds since 1970, the ledger's clock)."""

    now: float
    apps: tuple[AppView, ...] = ()
