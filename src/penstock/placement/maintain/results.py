"""Results whose time has passed, and after a while the very memory of them."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import structlog

from penstock.errors import PenstockError
from penstock.ledger.commands import Mend, Sweep
from penstock.model.run import Run
from penstock.placement.parts import Parts

__all__ = ["Results"]

_log = structlog.get_logger("penstock.maintainer")
_AT_ONCE = 200
_ROUNDS = 100  # a turn's most is more than can end between two turns, so that no arrear grows for ever


class Results:
    """Purges runs past their result's time to live, and removes their objects from the store.

    An object is removed once, right after its run's record stopped naming it: a later try could hit a newer run's
    object of the same name. One that the store did not remove in that moment stays until its bucket's own expiry.
    """

    name = "results"
    period_s = 15.0

    def __init__(self, parts: Parts) -> None:
        self._parts = parts

    async def run(self) -> int:
        """Purge what is due, or as much as one turn may take; gives how many runs."""
        purged = 0
        for _ in range(_ROUNDS):
            runs = await self._purge()
            purged += len(runs)
            if len(runs) < _AT_ONCE:
                break
        return purged

    async def _purge(self) -> Sequence[Run]:
        runs = await self._parts.ledger.mend(Mend(sweep=Sweep.RESULTS, limit=_AT_ONCE))
        await self._parts.broker.returned(runs)
        await asyncio.gather(*(self._remove(key) for run in runs for key in _objects(run)))
        return runs

    async def _remove(self, key: str) -> None:
        try:
            await self._parts.store.delete(key)
        except PenstockError as error:
            _log.warning("object.left", key=key, why=error.detail)


def _objects(run: Run) -> list[str]:
    return [payload.key for payload in (run.body, run.result) if payload is not None and payload.key is not None]
