"""Wake-up credits: one message of the queue says that one more run of a lane is in line, and nothing else."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Final

from penstock.errors import Unavailable
from penstock.model.app import App
from penstock.model.run import Lane
from penstock.queue import Message, Queue, queue_name

__all__ = ["LONGEST_WAIT_S", "Credits", "lane_of"]

LONGEST_WAIT_S: Final = 60.0
_DEGRADED_S: Final = 1.0


class Credits:
    """Sends, takes and gives back credits. The queue may be down: runs are safe in the ledger, and `lost` counts."""

    def __init__(self, queue: Queue) -> None:
        self._queue = queue
        self.lost = 0  # credits that the queue did not take; the maintainer tops up

    async def send(self, queue_ref: str, lane: Lane, run_id: str) -> None:
        """Tell that a run is in line."""
        try:
            await self._queue.send(queue_name(queue_ref, lane), [run_id])
        except Unavailable:
            self.lost += 1

    async def at_hand(self, app: App, lanes: Sequence[Lane], limit: int) -> list[Message]:
        """Take up to `limit` credits of the first lane that has some, in the order asked, without waiting."""
        for lane in lanes:
            if messages := await self._receive(app, lane, limit, 0.0):
                return messages
        return []

    async def first(self, app: App, lanes: Sequence[Lane], limit: int, wait_s: float) -> list[Message]:
        """Take up to `limit` credits of whichever lane has one first, waiting up to `wait_s` seconds for it."""
        if wait_s <= 0:
            return []
        if len(lanes) == 1:
            return await self._receive(app, lanes[0], limit, wait_s)
        receives = [asyncio.create_task(self._receive(app, lane, limit, wait_s)) for lane in lanes]
        try:
            await asyncio.wait(receives, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for receive in receives:
                receive.cancel()  # a cancelled receive loses no message
        done = [receive.result() for receive in receives if receive.done() and not receive.cancelled()]
        found = [messages for messages in done if messages]
        for late in found[1:]:
            await self.spend(late, again=len(late))
        return found[0] if found else []

    async def spend(self, messages: Sequence[Message], again: int) -> None:
        """Acknowledge credits, and send `again` of them anew: their runs are still in line."""
        try:
            await self._queue.ack(messages)
            if again:
                await self._queue.send(messages[0].queue, [message.body for message in messages[:again]])
        except Unavailable:
            self.lost += again

    async def _receive(self, app: App, lane: Lane, limit: int, wait_s: float) -> list[Message]:
        queue = queue_name(app.queue_ref, lane)
        try:
            return await self._queue.receive(queue, limit, min(wait_s, LONGEST_WAIT_S))
        except Unavailable:
            # Degraded, not down: the ledger may have work that no hint can tell of, so look now and then.
            await asyncio.sleep(min(wait_s, _DEGRADED_S))
            return [Message(queue=queue, body="")] * limit


def lane_of(messages: Sequence[Message]) -> Lane:
    """Give the lane that credits taken together are of."""
    return Lane(messages[0].queue.rpartition("-")[2])
