"""The end of a process with workers: they finish, and what they could not finish goes back."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from contextlib import suppress
from typing import Final, Protocol

import structlog

from penstock.compute import Compute, Phase, Sighting
from penstock.ledger import Ledger
from penstock.ledger.commands import NoteWorker
from penstock.model.fleet import WorkerState
from penstock.placement import Controller

__all__ = ["drain"]

_log = structlog.get_logger("penstock.platform")
_LOOK_S: Final = 0.05


class Draining(Protocol):
    """As much of the platform as must come to rest."""

    @property
    def ledger(self) -> Ledger:
        """Who is told that the workers were asked to go."""
        ...

    @property
    def compute(self) -> Compute:
        """Where the workers are."""
        ...

    @property
    def controller(self) -> Controller:
        """Who records that a worker ended."""
        ...


async def drain(platform: Draining, seconds: float, hurry: asyncio.Event) -> None:
    """Let the workers finish for so many seconds, or until told to `hurry`; then end those that are left.

    The gateway must still serve meanwhile, for it is there that workers report what they finished. What a worker has not
    finished goes back to the head of the line, and its end is held against no run.
    """
    for worker in _alive(await platform.compute.list()):
        await platform.ledger.note_worker(NoteWorker(uid=worker.uid, state=WorkerState.DRAINING))
        await platform.compute.drain(worker.uid)
    with suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            await _at_rest(platform.compute, hurry)
    for worker in _alive(await platform.compute.list()):
        _log.warning("worker.removed", worker=worker.uid, why="it did not finish in time")
        await platform.compute.remove(worker.uid)
    for sighting in await platform.compute.list():
        if sighting.phase is Phase.ENDED:
            await platform.controller.ended(sighting)


async def _at_rest(compute: Compute, hurry: asyncio.Event) -> None:
    while _alive(await compute.list()) and not hurry.is_set():
        with suppress(TimeoutError):
            async with asyncio.timeout(_LOOK_S):
                await hurry.wait()


def _alive(sightings: Iterable[Sighting]) -> list[Sighting]:
    return [sighting for sighting in sightings if sighting.phase is not Phase.ENDED]
