"""Leading: of several controllers one acts, and another takes over within ten seconds."""

from __future__ import annotations

import os
from math import inf
from typing import Final

import structlog

from penstock.errors import PenstockError
from penstock.ledger import Ledger
from penstock.ledger.commands import TakeLead
from penstock.model.ids import Clock

__all__ = ["RENEW_S", "Leadership"]

_log = structlog.get_logger("penstock.controller")

RENEW_S: Final = 2.0
_TTL_S: Final = 8.0
_NAME: Final = "controller"
_AT_ONCE_S: Final = 0.001


class Leadership:
    """A lead that is renewed every `RENEW_S` seconds, and that this process stops to believe in before it runs out."""

    def __init__(self, ledger: Ledger, clock: Clock, holder: str = "") -> None:
        self._ledger = ledger
        self._holder = holder or _own_name(ledger)
        self._clock = clock
        self._until = -inf
        self._until_by_wall = -inf
        self.term = 0

    @property
    def held(self) -> bool:
        """Whether this process leads now. While a machine sleeps only its wall clock goes on, so both are asked."""
        return self._clock.monotonic() < self._until and self._clock.now() < self._until_by_wall

    async def renew(self) -> bool:
        """Take or renew the lead; tells whether it is newly ours, so that nothing is known of what happened before."""
        asked_at, asked_by_wall = self._clock.monotonic(), self._clock.now()
        had, term = self.held, self.term
        try:
            lead = await self._ledger.take_lead(TakeLead(name=_NAME, holder=self._holder, ttl_seconds=_TTL_S))
        except PenstockError as error:
            _log.warning("lead.unknown", why=error.detail)
            return False
        # Counted from before the question, so the time that its answer took is on the safe side.
        self._until = asked_at + _TTL_S if lead.held else -inf
        self._until_by_wall = asked_by_wall + _TTL_S
        self.term = lead.term
        return lead.held and not (had and lead.term == term)

    async def give_up(self) -> None:
        """Let another lead at once, if this process does; a ledger that can't be reached will see it run out."""
        if self.held:
            self._until = -inf
            try:
                await self._ledger.take_lead(TakeLead(name=_NAME, holder=self._holder, ttl_seconds=_AT_ONCE_S))
            except PenstockError as error:
                _log.warning("lead.kept", why=error.detail)


def _own_name(ledger: Ledger) -> str:
    """Give a name that no other process has; where the ledger lets in one process at a time, one for all of them.

    So a process that replaces a killed one leads at once, for the dead can't be leading.
    """
    return f"{os.uname().nodename}/{os.getpid()}" if ledger.features.many_processes else "the only one"
