"""What goes on beside the work: heartbeats, and a watch on attempts that go on for too long."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from typing import Final, Protocol

from penstock.errors import PenstockError
from penstock.model.ids import Clock
from penstock.model.wire import ExtendItem, ExtendReply, ExtendRequest, SettleItem

from .broker import DISMISSED, Broker
from .ending import released
from .exits import Exit
from .hands import Call, Hands, Held, overdue, settle_item
from .log import event
from .post import Post

__all__ = ["Leaver", "Pulse", "Sleep"]

Sleep = Callable[[float], Awaitable[object]]

IDLE_BEAT_S: Final = 10.0  # with nothing in hand a heartbeat only fetches fresh tokens and orders
NEWS_S: Final = 1.0  # progress is sent at most that often
WATCH_S: Final = 0.25
STUCK_S: Final = 3.0  # a call that nobody wants any more may go on for that long
EARLY_SHARE: Final = 0.02  # of a deadline, by which we act before the ledger does
EARLY_S: Final = 1.0  # and at most that


class Leaver(Protocol):
    """Whoever can end the replica."""

    def leave(self, why: Exit, grace_s: float | None = None) -> None:
        """Take no more work; finish what is in hand, within `grace_s` seconds if given, and exit."""
        ...

    def stir(self) -> None:
        """Look again at what is in hand."""
        ...


class Pulse:
    """Keeps leases alive, learns what is lost or cancelled, and ends what goes on for too long."""

    def __init__(self, post: Post, broker: Broker, hands: Hands, leaver: Leaver, *, clock: Clock, sleep: Sleep) -> None:
        self._post = post
        self._broker = broker
        self._hands = hands
        self._leaver = leaver
        self._clock = clock
        self._sleep = sleep
        self._lease_s = post.app.deadlines.lease_seconds
        self._began = clock.monotonic()
        self._beat_at = self._began  # when the last heartbeat was sent

    async def beat(self) -> None:
        """Send heartbeats at a third of the shortest lease in hand, sooner when there is progress to tell."""
        while True:
            await self._sleep(min(NEWS_S, self._interval()))
            if self._due():
                await self._extend()

    async def watch(self) -> None:
        """Look for late and stuck attempts."""
        lifetime = self._post.app.worker.max_lifetime_seconds
        while True:
            await self._sleep(WATCH_S)
            now = self._clock.monotonic()
            self._check(now)
            if lifetime and now - self._began >= lifetime:
                self._leaver.leave(Exit.RECYCLED if self._post.packed else Exit.DONE)

    # ------------------------------------------------------------------ heartbeats

    def _interval(self) -> float:
        shortest = min((held.assignment.lease_s for held in self._hands.held.values()), default=self._lease_s)
        return min(shortest, self._lease_s) / 3

    def _due(self) -> bool:
        since = self._clock.monotonic() - self._beat_at
        if not self._hands.held and not self._hands.unconfirmed:
            return since >= IDLE_BEAT_S
        # A step may end just short of the interval, and the next would end far beyond it.
        return since >= self._interval() * 0.9 or any(_has_news(held) for held in self._hands.held.values())

    async def _extend(self) -> None:
        self._beat_at = self._clock.monotonic()
        held = [held for held in self._hands.held.values() if not held.dropped]
        news = [(member, member.run.reported) for member in held]
        items = [_beat_of(member, reported) for member, reported in news]
        known = {(item.run_id, item.epoch) for item in items}
        items += [
            ExtendItem(run_id=item.run_id, epoch=item.epoch, token=item.token)
            for item in self._hands.unconfirmed_items()
            if (item.run_id, item.epoch) not in known
        ]
        try:
            reply = await self._broker.extend(ExtendRequest(attempts=tuple(items), replica=self._post.replica))
        except DISMISSED as error:
            event("dismissed", logging.WARNING, code=error.code)
            self._leaver.leave(Exit.DONE)
        except PenstockError as error:
            event("heartbeat failed", logging.WARNING, code=error.code, detail=error.detail)
            self._beat_at -= self._interval() / 2  # sooner again, while the lease still holds
        else:
            for member, reported in news:
                member.told = reported
            self._heed(reply, items)

    def _heed(self, reply: ExtendReply, items: list[ExtendItem]) -> None:
        for code, ids in (("lost", set(reply.lost)), ("cancelled", set(reply.cancelled))):
            for item in items:
                if item.run_id in ids and self._hands.forget((item.run_id, item.epoch)):
                    event(code, run_id=item.run_id, epoch=item.epoch)
        if reply.exit:
            self._leaver.leave(Exit.DONE)

    # ------------------------------------------------------------------ the watch

    def _check(self, now: float) -> None:
        for call in list(self._hands.calls):
            self._check_call(call, now)
        running = {member.key for call in self._hands.calls for member in call.members}
        for held in list(self._hands.held.values()):
            if held.key in running or held.dropped:
                continue
            if held.waiting and now >= _early(held):  # it never began, so it is not its fault
                self._end(held, settle_item(held.assignment, released))
            elif now >= held.deadline_at:
                self._end(held, overdue(held))

    def _check_call(self, call: Call, now: float) -> None:
        wanted = [member for member in call.members if not member.dropped]
        if len(call.members) == 1:
            for member in wanted:
                if now >= member.deadline_at:
                    self._end(member, overdue(member))
        elif any(now >= _early(member) for member in wanted):
            self._die(call)
        if all(member.dropped for member in call.members):
            self._end_call(call, now)

    def _end_call(self, call: Call, now: float) -> None:
        """End a call that nobody wants: a coroutine is cancelled, a thread gets a grace, then the process goes."""
        if call.unwanted_at is None:
            call.unwanted_at = now
            if call.cancels:
                call.task.cancel()
        elif now - call.unwanted_at >= STUCK_S:
            runs = [member.assignment.run_id for member in call.members]
            event(
                "stuck", logging.ERROR, run_ids=runs, detail="a call of predict does not stop; the replica is replaced"
            )
            self._leaver.leave(Exit.STUCK, 0.0)

    def _die(self, call: Call) -> None:
        """Exit with a late micro-batch unreported, as nobody knows which of its members hangs.

        The death of a worker returns its runs uncharged, each to be leased alone, where its own deadline judges it.
        """
        runs = [member.assignment.run_id for member in call.members]
        event("stuck", logging.ERROR, run_ids=runs, detail="a micro-batch is late; its members will be run alone")
        for member in call.members:
            member.drop()
        self._leaver.leave(Exit.STUCK, 0.0)

    def _end(self, held: Held, item: SettleItem) -> None:
        event("late", logging.WARNING, run_id=item.run_id, epoch=item.epoch, outcome=item.outcome)
        self._hands.finish(held, item)
        held.drop()
        self._leaver.stir()


def _early(held: Held) -> float:
    """Give when to act on a deadline so that the ledger has not acted on it yet."""
    return held.deadline_at - min(EARLY_S, EARLY_SHARE * held.assignment.deadline_s)


def _has_news(held: Held) -> bool:
    return held.run.reported is not held.told and not held.dropped


def _beat_of(held: Held, reported: tuple[float, str] | None) -> ExtendItem:
    assignment = held.assignment
    return ExtendItem(
        run_id=assignment.run_id,
        epoch=assignment.epoch,
        token=assignment.token,
        progress=reported[0] if reported else None,
        note=reported[1] if reported else "",
    )
