"""The one way by which a worker is ended against its will, with the reason for it."""

from __future__ import annotations

import msgspec
import structlog

from penstock.ledger.commands import Remember
from penstock.model.placement import AppEvent
from penstock.placement.parts import Parts

__all__ = ["Removal", "remove"]

_log = structlog.get_logger("penstock.maintainer")


class Removal(msgspec.Struct, frozen=True):
    """A worker that belongs to nothing, does not answer, or works on what nobody wants any more; and which of these.

    It is asked first and has `grace_s` seconds to go. No plan can say this: scaling has no word for it.
    """

    app: str
    uid: str
    why: str
    grace_s: float = 10.0


async def remove(parts: Parts, removal: Removal) -> None:
    """Write down why, then end the worker. Its end is recorded by whoever sees it."""
    _log.warning("worker.removed", app=removal.app, worker=removal.uid, why=removal.why)
    event = AppEvent(
        app=removal.app, at=parts.clock.now(), kind="WorkerRemoved", message=removal.why, worker_uid=removal.uid
    )
    await parts.ledger.remember(Remember(events=(event,)))
    await parts.compute.remove(removal.uid, removal.grace_s)
