"""The helm, as every process has it in reach: new runs are told to the controller that leads, wherever it is."""

from __future__ import annotations

import asyncio
from typing import Final

import structlog

from penstock.errors import PenstockError
from penstock.placement import Afar, AppStatus, Controller
from penstock.queue import Queue
from penstock.serving import Catalog

__all__ = ["Helm"]

_log = structlog.get_logger("penstock.platform")
_NUDGES: Final = "penstock-nudges"  # the queue in which apps are named that the leader should look at
_AT_MOST_EVERY_S: Final = 0.25
_WAIT_S: Final = 10.0
_AGAIN_S: Final = 1.0
_MOST: Final = 10


class Helm:
    """What a gateway needs of the controller: here if this process leads, else over queue and ledger.

    `controller` is this process's own, if it has one. `send` and `hear` run until they are cancelled. A nudge that is
    lost costs a tick: the leader looks at all apps by itself.
    """

    def __init__(self, queue: Queue, catalog: Catalog, afar: Afar) -> None:
        self.controller: Controller | None = None
        self._queue = queue
        self._catalog = catalog
        self._afar = afar
        self._nudged: set[str] = set()
        self._news = asyncio.Event()

    def status(self, app: str) -> AppStatus | None:
        """Give what is known of an app, or None if there is none of this name."""
        if self._here is not None:
            return self._here.status(app)
        entry = self._catalog.find(app)
        return None if entry is None else self._afar.status(entry.app)

    def nudge(self, app: str) -> None:
        """Have the leader look at an app at once."""
        if self._here is not None:
            self._here.nudge(app)
        elif self._queue.features.many_processes:
            self._nudged.add(app)
            self._news.set()

    async def look(self) -> None:
        """Learn what a leader elsewhere did."""
        if self._here is None:
            await self._afar.look()

    async def send(self) -> None:
        """Pass nudges on, gathered."""
        while True:
            await self._news.wait()
            self._news.clear()
            apps, self._nudged = sorted(self._nudged), set()
            try:
                await self._queue.send(_NUDGES, apps)
            except PenstockError as error:
                _log.warning("nudge.lost", why=error.detail)
            await asyncio.sleep(_AT_MOST_EVERY_S)

    async def hear(self) -> None:
        """Take in the nudges of other processes, while this one leads."""
        while True:
            if self._here is None:
                await asyncio.sleep(_AGAIN_S)
                continue
            try:
                await self._take(self._here)
            except PenstockError as error:
                _log.warning("nudges.unheard", why=error.detail)
                await asyncio.sleep(_AGAIN_S)

    async def _take(self, controller: Controller) -> None:
        messages = await self._queue.receive(_NUDGES, _MOST, _WAIT_S)
        apps = {message.body for message in messages}
        if any(self._catalog.find(app) is None for app in apps):
            await self._catalog.load()  # it may be new
        for app in apps:
            controller.nudge(app)
        await self._queue.ack(messages)

    @property
    def _here(self) -> Controller | None:
        """The controller of this process, if it leads."""
        return self.controller if self.controller is not None and self.controller.leads else None
