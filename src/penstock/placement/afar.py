"""What the controller does with apps, as a process sees it that does not lead: by what is written in the ledger."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from typing import Final

import msgspec

from penstock.ledger import Ledger
from penstock.model.app import App, DesiredState
from penstock.model.fleet import Worker, WorkerState
from penstock.model.placement import AppEvent, Phase

from .status import AppStatus, at_rest

__all__ = ["PHASE_CHANGED", "Afar", "told"]

PHASE_CHANGED: Final = "PhaseChanged"
_PAGE: Final = 1000
_ALL_WORKERS: Final = 100_000
_ARROW: Final = " -> "


def told(before: Phase, phase: Phase, message: str) -> str:
    """Give what the event of a phase change says."""
    return f"{before}{_ARROW}{phase}: {message}" if message else f"{phase}"


def _understood(text: str) -> tuple[Phase, str] | None:
    """Give phase and message of what `told` gave; None for a phase that only a newer controller knows."""
    before, arrow, after = text.partition(_ARROW)
    phase, _, message = (after if arrow else before).partition(": ")
    return (Phase(phase), message) if phase in set(Phase) else None


class Afar:
    """The last phase of each app and its workers; `look` brings it up to date.

    How many workers an app's work calls for is known to the leader only: here it is those that live and stay.
    """

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger
        self._after = 0
        self._phases: dict[str, tuple[Phase, str]] = {}
        self._crews: dict[str, Counter[WorkerState]] = {}

    async def look(self) -> None:
        """Read what is new in the ledger."""
        while True:
            events = await self._ledger.events(after=self._after, limit=_PAGE)
            self._learn(events)
            if len(events) < _PAGE:
                break
        self._crews = _crews(await self._ledger.workers(limit=_ALL_WORKERS))

    def _learn(self, events: Iterable[AppEvent]) -> None:
        for event in events:
            self._after = event.id
            if event.kind == PHASE_CHANGED and (known := _understood(event.message)):
                self._phases[event.app] = known

    def status(self, app: App) -> AppStatus:
        """Give the status of an app."""
        crew = self._crews.get(app.name, Counter())
        status = at_rest(app)
        if app.desired_state is DesiredState.READY and app.name in self._phases:
            phase, message = self._phases[app.name]
            status = msgspec.structs.replace(status, phase=phase, message=message)
        live = crew.total()
        return msgspec.structs.replace(
            status,
            desired=live - crew[WorkerState.DRAINING],
            live=live,
            starting=crew[WorkerState.STARTING],
            idle=crew[WorkerState.IDLE],
            busy=crew[WorkerState.BUSY],
            draining=crew[WorkerState.DRAINING],
        )


def _crews(workers: Iterable[Worker]) -> dict[str, Counter[WorkerState]]:
    crews: dict[str, Counter[WorkerState]] = {}
    for worker in workers:
        crews.setdefault(worker.app, Counter())[worker.state] += 1
    return crews
