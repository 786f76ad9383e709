"""One exchange with the broker: endings go, work comes."""

from __future__ import annotations

import logging
from collections.abc import Callable

from penstock.errors import PenstockError, Unavailable
from penstock.model.run import Outcome, Reason
from penstock.model.wire import LeaseReply, LeaseRequest, SettleItem, SettleReply, SettleRequest, Want

from .asking import Ask
from .broker import DISMISSED, Broker
from .exits import Exit
from .hands import Hands
from .log import event
from .pulse import Leaver

__all__ = ["Exchange"]


class Exchange:
    """Sends what has finished and asks for work in one call, and keeps the book of what the broker confirmed.

    A report that gets no answer is sent again; one that is refused for good is found by sending one at a time, and
    reported as a failure instead.
    """

    def __init__(
        self, broker: Broker, hands: Hands, leaver: Leaver, *, replica: int, served: Callable[[], None]
    ) -> None:
        self._broker = broker
        self._hands = hands
        self._leaver = leaver
        self._replica = replica
        self._served = served
        self._amended: set[tuple[str, int]] = set()

    async def send(self, ask: Ask) -> LeaseReply | None:
        """Give the broker's answer, or None if there was none: then wait before the next try."""
        sent = self._hands.report()
        try:
            reply = await self._call(ask, sent)
        except BaseException as error:
            self._hands.unsent(sent)
            if not isinstance(error, PenstockError):
                raise
            self._failed(error, sent)
            return None
        if isinstance(reply, SettleReply):
            self._confirmed(reply, sent)
        return reply

    async def _call(self, ask: Ask, sent: tuple[SettleItem, ...]) -> LeaseReply:
        idle = not self._hands.held and self._hands.unconfirmed == len(sent)
        if not sent:
            lease = LeaseRequest(max=ask.max, wait_s=ask.wait_s, idle=idle, replica=self._replica)
            return await self._broker.lease(lease)
        want = Want(max=ask.max, wait_s=ask.wait_s, idle=idle) if ask.max else None
        return await self._broker.settle(SettleRequest(done=sent, want=want, replica=self._replica))

    def _confirmed(self, reply: SettleReply, sent: tuple[SettleItem, ...]) -> None:
        self._hands.confirm(sent)
        self._amended.clear()
        self._served()
        for status in reply.done:
            if status.code not in {"ok", "already"}:
                event("not taken", run_id=status.run_id, code=status.code)

    def _failed(self, error: PenstockError, sent: tuple[SettleItem, ...]) -> None:
        event("broker refused" if sent else "broker failed", logging.WARNING, code=error.code, detail=error.detail)
        if isinstance(error, DISMISSED):
            self._hands.give_up(sent)
            self._leaver.leave(Exit.DONE)
        elif isinstance(error, Unavailable):
            return
        elif len(sent) > 1:
            self._hands.at_once = 1
        elif sent:
            self._amend(sent[0], error)

    def _amend(self, item: SettleItem, error: PenstockError) -> None:
        """Report as a failure what the broker refuses to take; if it refuses that too, leave it to its lease."""
        key = (item.run_id, item.epoch)
        self._hands.give_up([item])
        if key in self._amended:
            return
        self._amended.add(key)
        self._hands.amend(
            SettleItem(
                run_id=item.run_id,
                epoch=item.epoch,
                token=item.token,
                outcome=Outcome.RETRY,
                reason=Reason.HANDLER_ERROR,
                message=f"the broker refused the result: {error.detail}",
            )
        )
