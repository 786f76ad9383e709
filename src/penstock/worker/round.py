"""A round: one micro-batch, or several quick ones, on the way through fetch, predict and store."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from typing import Final

from penstock.model.run import Outcome
from penstock.model.wire import Assignment, SettleItem

from .broker import Broker
from .ending import Ending, Limits, released
from .handler import InvalidInput, Retry
from .hands import Call, Hands, Held, settle_item
from .log import event
from .pace import Pace
from .predict import Item, Predictor
from .transfer import fetch, store

__all__ = ["Rounds"]

NO_BODY: Final = b""


class Rounds:
    """Works on micro-batches, `slots` calls of the handler at a time, and notes each ending in `hands`."""

    def __init__(
        self, broker: Broker, predictor: Predictor, hands: Hands, *, limits: Limits, slots: int, pace: Pace
    ) -> None:
        self._broker = broker
        self._predictor = predictor
        self._hands = hands
        self._limits = limits
        self._pace = pace
        self._places = asyncio.Semaphore(slots)
        self.errors = 0  # endings that may be a sign of a broken replica

    async def work(self, batches: Sequence[Sequence[Held]]) -> None:
        """Take micro-batches through; every member that is still wanted has an ending afterwards."""
        members = [member for batch in batches for member in batch]
        began = time.monotonic()
        try:
            items = await self._items(members)
            fetching = time.monotonic() - began
            for member in members:
                member.waiting = True
            async with self._places:
                for member in members:
                    member.waiting = False
                ended = await self._call(batches, items, fetching)
            await self._conclude(ended)
        finally:
            self._hands.leave(members)

    async def _items(self, members: Sequence[Held]) -> dict[Held, Item]:
        """Give each member's input; one is missing that ended because its body can't be had."""
        if all(member.assignment.body is not None for member in members):
            return {member: _item(member, member.assignment.body or NO_BODY) for member in members}
        bodies = await asyncio.gather(*(fetch(self._broker, member.assignment) for member in members))
        items: dict[Held, Item] = {}
        for member, body in zip(members, bodies, strict=True):
            if isinstance(body, Ending):
                self._hands.finish(member, settle_item(member.assignment, body))
            else:
                items[member] = _item(member, body)
        return items

    async def _call(
        self, batches: Sequence[Sequence[Held]], items: dict[Held, Item], fetching: float
    ) -> list[tuple[Held, Ending]]:
        """Call the handler for those that have an input and are still wanted; gives how each ended."""
        wanted = [[member for member in batch if member in items and not member.dropped] for batch in batches]
        wanted = [batch for batch in wanted if batch]
        if not wanted:
            return []
        task = asyncio.current_task()
        assert task is not None
        members = [member for batch in wanted for member in batch]
        call = Call(members, task, cancels=self._predictor.concurrent)
        self._hands.calls.add(call)
        try:
            endings, seconds = await self._predictor.call([[items[member] for member in batch] for batch in wanted])
        finally:
            self._hands.calls.discard(call)
        self._pace.note(seconds + fetching)  # bodies that take long to fetch are not fetched ahead
        return list(zip(members, endings, strict=True))

    async def _conclude(self, ended: Sequence[tuple[Held, Ending]]) -> None:
        """Note the endings; large results are uploaded first, all at once, and don't hold up the small ones."""
        large: list[tuple[Held, Ending]] = []
        for member, ending in ended:
            if ending.result is not None and len(ending.result.data) > self._limits.inline:
                large.append((member, ending))
            elif not member.dropped:
                self._hands.finish(member, settle_item(member.assignment, self._judged(member, ending)))
        if large:
            await asyncio.gather(*(self._upload(member, ending) for member, ending in large))

    async def _upload(self, member: Held, ending: Ending) -> None:
        if member.dropped or ending.result is None:
            return
        item: SettleItem = await store(self._broker, member.assignment, ending.result)
        self._hands.finish(member, item)

    def _judged(self, member: Held, ending: Ending) -> Ending:
        """Give the ending as it is to be reported, and log one that is no success; what it says stays out of the log."""
        if ending.outcome is Outcome.SUCCEEDED:
            return ending
        if member.run.stopping and isinstance(ending.cause, Retry):
            return released  # it was asked to make room, so it is not charged
        if ending.outcome is Outcome.RETRY and not isinstance(ending.cause, Retry):
            self.errors += 1
        _log(member.assignment, ending)
        return ending


def _item(member: Held, body: bytes) -> Item:
    return Item(body, member.assignment.content_type, member.run)


def _log(assignment: Assignment, ending: Ending) -> None:
    """Log an ending; what a handler said to the submitter may quote the input, so that is left out."""
    spoken = isinstance(ending.cause, InvalidInput | Retry)
    event(
        "run ended",
        run_id=assignment.run_id,
        epoch=assignment.epoch,
        outcome=ending.outcome,
        reason=ending.reason,
        told=type(ending.cause).__name__ if spoken else ending.message,
    )
