"""What stands behind the current run of a handler while the loop is at work."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable
from typing import Final

from penstock.errors import PenstockError, Unavailable
from penstock.model.ids import Clock
from penstock.model.wire import CheckpointRequest

from .broker import Broker
from .current import DONE, CurrentRun
from .hands import Hands
from .log import event

__all__ = ["LoopDesk"]

TRIES: Final = 3
PAUSE_S: Final = 0.5


class LoopDesk:
    """Serves progress and checkpoints of handlers, from the loop's thread or any other."""

    def __init__(self, broker: Broker, hands: Hands, clock: Clock) -> None:
        self._broker = broker
        self._hands = hands
        self._clock = clock
        self._loop = asyncio.get_running_loop()
        self._saving: set[asyncio.Task[None]] = set()

    def wall_clock(self) -> float:
        """Give seconds since 1970."""
        return self._clock.now()

    def progressed(self, run: CurrentRun) -> None:
        """Do nothing: the heartbeat looks for news by itself."""

    def save(self, run: CurrentRun, data: bytes) -> Awaitable[None]:
        """Save a checkpoint: done when this returns if called from a thread, else when it was awaited."""
        try:
            asyncio.get_running_loop()
        except RuntimeError:
            asyncio.run_coroutine_threadsafe(self._save(run, data), self._loop).result()
            return DONE
        task = self._loop.create_task(self._save(run, data))
        self._saving.add(task)
        task.add_done_callback(self._saving.discard)
        return task

    async def saved(self) -> None:
        """Wait for the checkpoints that are still on their way."""
        if self._saving:
            await asyncio.wait(self._saving)

    async def _save(self, run: CurrentRun, data: bytes) -> None:
        """Save a checkpoint; one that can't be saved is logged, as the run may go on without."""
        key = (run.run_id, run.epoch)
        held = self._hands.held.get(key)
        if held is None or held.dropped:
            return
        request = CheckpointRequest(run_id=run.run_id, epoch=run.epoch, token=held.assignment.token, data=data)
        for attempt in range(TRIES):
            try:
                reply = await self._broker.checkpoint(request)
            except Unavailable:
                await asyncio.sleep(PAUSE_S * 2**attempt)
            except PenstockError as error:
                event("checkpoint refused", logging.WARNING, run_id=run.run_id, epoch=run.epoch, code=error.code)
                return
            else:
                if reply.code in {"lost", "cancelled"}:
                    self._hands.forget(key)
                return
        event("checkpoint not saved", logging.WARNING, run_id=run.run_id, epoch=run.epoch)
