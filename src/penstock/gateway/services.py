"""All that the gateway's handlers call: made by the wiring, passed to every call."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import Protocol

from prometheus_client import CollectorRegistry

from penstock.compute import Compute
from penstock.identity import Keyring
from penstock.ledger import Ledger
from penstock.model.ids import Clock, Ids
from penstock.placement.status import AppStatus
from penstock.queue import Queue
from penstock.serving.broker import Broker
from penstock.serving.catalog import Catalog
from penstock.serving.intake import Intake
from penstock.serving.runs import Runs
from penstock.store import Store

__all__ = ["ControllerView", "Services", "Settings"]


class ControllerView(Protocol):
    """As much of the controller as a gateway needs; the two may run in one process or in two."""

    def status(self, app: str) -> AppStatus | None:
        """Give what it last found out about an app, or None if it has not looked yet."""
        ...

    def nudge(self, app: str) -> None:
        """Have it look at an app at once."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """What an operator chose. `public_url` (no final slash) begins every URL handed out; `t_sync_s` is in seconds."""

    public_url: str
    t_sync_s: float = 3.0
    inline_max_bytes: int = 32 * 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class Services:
    """All that the handlers call."""

    intake: Intake
    broker: Broker
    runs: Runs
    catalog: Catalog
    ledger: Ledger
    queue: Queue
    store: Store
    compute: Compute | None
    controller: ControllerView
    keyring: Keyring
    clock: Clock
    ids: Ids
    settings: Settings
    registry: CollectorRegistry
    closing: asyncio.Event = field(default_factory=asyncio.Event)  # set at the end: live streams end, nothing else does
