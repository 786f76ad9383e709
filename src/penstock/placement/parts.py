"""What the controller works with, passed on as one."""

from __future__ import annotations

from dataclasses import dataclass, field

from penstock.compute import Compute
from penstock.identity import Keyring
from penstock.ledger import Ledger
from penstock.model.ids import Clock, Ids
from penstock.queue import Queue
from penstock.serving.broker import Broker
from penstock.serving.catalog import Catalog
from penstock.store import Store

from .lookout import Lookout
from .recall import Recall

__all__ = ["Outfit", "Parts"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Outfit:
    """What every worker is given on its way: the gateway's URL, and up to how many bytes a result may travel inline."""

    api: str
    inline_max_bytes: int = 32 * 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class Parts:
    """The opened ports, the serving side, and what is remembered of each app."""

    ledger: Ledger
    queue: Queue
    store: Store
    compute: Compute
    catalog: Catalog
    broker: Broker
    keyring: Keyring
    ids: Ids
    clock: Clock
    outfit: Outfit
    recall: Recall = field(default_factory=Recall)
    lookout: Lookout = field(init=False)

    def __post_init__(self) -> None:
        """Post a lookout over the fleet."""
        object.__setattr__(self, "lookout", Lookout(self.ledger, self.compute, self.clock))
