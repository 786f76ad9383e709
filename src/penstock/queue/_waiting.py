"""Those who wait at queues, and the one task that looks for what they wait for.

A driver that must ask elsewhere for messages has them taken here for all of its receivers at once: in the order that
these came, and so that a receiver that is cancelled leaves nothing taken.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from typing import Final, TypeAlias

from penstock.errors import PenstockError, Unavailable

from .driver import Message

__all__ = ["GiveBack", "Take", "WaitingRoom"]

# Takes up to so many messages of each queue; gives what it found, queue by queue.
Take: TypeAlias = Callable[[Mapping[str, int]], Awaitable[Mapping[str, list[Message]]]]
# Makes messages ready again that nobody saw.
GiveBack: TypeAlias = Callable[[Sequence[Message]], Awaitable[object]]
_Waiter: TypeAlias = asyncio.Future[list[Message]]
_ROUND: Final = 256  # messages of one queue after which a look is large enough


class WaitingRoom:
    """Receivers of many queues, served by one look at a time: after news of a queue, and every `poll_s` seconds."""

    def __init__(self, take: Take, give_back: GiveBack, poll_s: float) -> None:
        self._take = take
        self._give_back = give_back
        self._poll_s = poll_s
        self._server: asyncio.Task[None] | None = None
        self._closing = False
        self._lines: dict[str, _Line] = {}  # those in which somebody waits
        self._round = 0  # how many looks were begun
        self._fresh: set[str] = set()  # queues in which something may have become ready
        self._news = asyncio.Event()
        self._returns: set[asyncio.Future[object]] = set()

    def open(self) -> None:
        """Begin to serve."""
        self._closing = False
        self._server = asyncio.create_task(self._serve(), name="penstock-queue")

    async def close(self) -> None:
        """Finish the look under way, and send all home."""
        server, self._server = self._server, None
        if server is None:
            return
        self._closing = True
        self._news.set()
        await server
        for line in self._lines.values():
            for waiter in line.waiting:
                _give(waiter, [])
        self._lines.clear()
        if self._returns:
            await asyncio.wait(self._returns)

    async def receive(self, queue: str, limit: int, wait_s: float) -> list[Message]:
        """Stand in line, and get what the next look finds, or what becomes ready while time remains."""
        if self._server is None:
            raise Unavailable("the queue is closed")
        loop = asyncio.get_running_loop()
        waiter: _Waiter = loop.create_future()
        line = self._lines.setdefault(queue, _Line())
        line.waiting[waiter] = limit
        timer = loop.call_later(max(wait_s, 0.0), _time_is_up, line, waiter, self._round)
        self.look(queue)
        try:
            return await waiter
        except asyncio.CancelledError:
            if not waiter.cancelled() and waiter.exception() is None:
                self._return(queue, waiter.result())
            raise
        finally:
            timer.cancel()
            self._leave(queue, waiter)

    def look(self, queue: str) -> None:
        """Look into a queue soon, if anybody waits there."""
        if queue in self._lines:
            self._fresh.add(queue)
            self._news.set()

    def look_everywhere(self) -> None:
        """Look soon into every queue at which anybody waits."""
        for queue in self._lines:
            self.look(queue)

    # -------------------------------------------------------------- serving

    async def _serve(self) -> None:
        """Take messages for those who wait, one look at a time, until closed."""
        while await self._heard():
            fresh, self._fresh = self._fresh or set(self._lines), set()
            wanted = {queue: self._lines[queue].wanted() for queue in fresh if queue in self._lines}
            if not wanted:
                continue
            self._round += 1
            try:
                found = await self._take(wanted)
            except PenstockError as error:
                self._fail(wanted, error)
                continue
            for queue, messages in found.items():
                full = len(messages) == wanted[queue]
                self._deal(queue, messages)
                if full:
                    self.look(queue)  # there may be more
                else:
                    self._dismiss(queue)

    async def _heard(self) -> bool:
        """Wait for news, or for the next look while anybody waits; tell whether to go on."""
        if not self._closing:
            with suppress(TimeoutError):
                async with asyncio.timeout(self._poll_s if self._lines else None):
                    await self._news.wait()
            self._news.clear()
        return not self._closing

    def _deal(self, queue: str, messages: list[Message]) -> None:
        """Give messages to those who wait, longest first; what is left over goes back."""
        while messages and (line := self._lines.get(queue)):
            waiter, limit = next(iter(line.waiting.items()))
            self._leave(queue, waiter)
            if not waiter.done():
                waiter.set_result(messages[:limit])
                messages = messages[limit:]
        self._return(queue, messages)

    def _dismiss(self, queue: str) -> None:
        """Send those home for whom this look was the last, now that it found no more."""
        if (line := self._lines.get(queue)) is not None:
            line.looked = self._round
            late, line.late = line.late, []
            for waiter, since in late:
                _time_is_up(line, waiter, since)

    def _fail(self, queues: Iterable[str], error: PenstockError) -> None:
        for queue in queues:
            if (line := self._lines.pop(queue, None)) is not None:
                for waiter in line.waiting:
                    if not waiter.done():
                        waiter.set_exception(error)

    def _return(self, queue: str, messages: Sequence[Message]) -> None:
        """Make ready again what nobody saw; if that fails, or once closed, it comes again by itself."""
        if messages and not self._closing:
            returned = asyncio.ensure_future(self._give_back(messages))
            self._returns.add(returned)
            returned.add_done_callback(self._returned)
            returned.add_done_callback(lambda _: self.look(queue))

    def _returned(self, returned: asyncio.Future[object]) -> None:
        self._returns.discard(returned)
        if not returned.cancelled():
            returned.exception()  # looked at, so that the loop does not complain

    def _leave(self, queue: str, waiter: _Waiter) -> None:
        if (line := self._lines.get(queue)) is not None:
            line.waiting.pop(waiter, None)
            if not line.waiting:
                del self._lines[queue]


class _Line:
    """Who waits at one queue for how much, longest first; who goes after the next look; which look was the last."""

    __slots__ = ("late", "looked", "waiting")

    def __init__(self) -> None:
        self.waiting: OrderedDict[_Waiter, int] = OrderedDict()
        self.late: list[tuple[_Waiter, int]] = []
        self.looked = 0

    def wanted(self) -> int:
        """Give how much a look should take: all that the first who wait have asked for, up to a round."""
        total = 0
        for limit in self.waiting.values():
            total += limit
            if total >= _ROUND:
                break
        return total


def _time_is_up(line: _Line, waiter: _Waiter, since: int) -> None:
    """Give nothing to a waiter who came at look `since`: at once if one was made for it, else after the next."""
    if line.looked > since:
        _give(waiter, [])
    else:
        line.late.append((waiter, since))


def _give(waiter: _Waiter, messages: list[Message]) -> None:
    if not waiter.done():
        waiter.set_result(messages)
