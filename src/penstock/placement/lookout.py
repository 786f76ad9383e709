"""One look at all workers, shared by the tick and the maintainer's duties."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from math import inf
from typing import Final

import msgspec
import structlog

from penstock.compute import Compute, Sighting
from penstock.errors import Unavailable
from penstock.ledger import Ledger
from penstock.model.fleet import Worker
from penstock.model.ids import Clock

__all__ = ["ALL_WORKERS", "Fleet", "Lookout"]

_log = structlog.get_logger("penstock.controller")

ALL_WORKERS: Final = 1_000_000
_RECENT_S: Final = 1.5


class Fleet(msgspec.Struct, frozen=True):
    """The rows of all live workers, and what compute saw right after: a row that it lacks is unknown to it, not new.

    `sightings` is None where compute did not answer. Both are old news by the time they are read: whoever acts on a
    row reads it again first.
    """

    workers: Sequence[Worker]
    sightings: Sequence[Sighting] | None = None


class Lookout:
    """Reads the fleet, and remembers for a moment what it read: with 50,000 workers a look has its price."""

    def __init__(self, ledger: Ledger, compute: Compute, clock: Clock) -> None:
        self._ledger = ledger
        self._compute = compute
        self._clock = clock
        self._looking = asyncio.Lock()
        self._seen: Fleet | None = None
        self._seen_at = -inf

    async def look(self) -> Fleet:
        """Give the fleet as it is now."""
        workers = await self._ledger.workers(limit=ALL_WORKERS)
        try:
            self._seen = Fleet(workers, await self._compute.list())
        except Unavailable as error:
            _log.warning("compute.unseen", why=error.detail)
            self._seen = Fleet(workers)
        self._seen_at = self._clock.monotonic()
        return self._seen

    async def recent(self) -> Fleet:
        """Give the fleet as it was a moment ago, at most."""
        async with self._looking:
            if self._seen is not None and self._clock.monotonic() - self._seen_at < _RECENT_S:
                return self._seen
            return await self.look()
