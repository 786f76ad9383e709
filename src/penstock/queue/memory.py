"""Queues in the memory of one process (`memory:`): no thread, no timer but a receiver's own, microseconds a message.

The embedded default, and the model of every other driver: since the ledger has every run, what a restart loses here is
sent again by the maintainer.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict, deque
from collections.abc import Mapping, Sequence
from urllib.parse import parse_qs, urlsplit

from penstock.errors import Misconfigured, Unavailable
from penstock.model.ids import Clock

from .driver import Features, Message

__all__ = ["MemoryQueue", "connect"]


def connect(url: str, clock: Clock, environ: Mapping[str, str]) -> MemoryQueue:
    """Give queues of their own that live as long as this object, from `memory:` or `memory:?visibility=30`.

    Raises:
        Misconfigured: the visibility is no positive number of seconds.
    """
    del environ
    told = parse_qs(urlsplit(url).query).get("visibility", ["30"])[0]
    try:
        visibility_s = float(told)
    except ValueError:
        visibility_s = 0.0
    if not visibility_s > 0:
        raise Misconfigured(f"visibility={told} in {url} is no positive number of seconds")
    return MemoryQueue(clock, visibility_s)


class _Line:
    """One queue: what is ready, what is taken and until when (oldest first), and who waits for how much (longest first).

    Nobody waits while something is ready. `recall` is the timer that makes ready again what was taken too long ago; it
    runs only while somebody waits.
    """

    __slots__ = ("ready", "recall", "taken", "waiting")

    def __init__(self) -> None:
        self.ready: deque[str] = deque()
        self.taken: OrderedDict[str, tuple[Message, float]] = OrderedDict()
        self.waiting: OrderedDict[asyncio.Future[list[Message]], int] = OrderedDict()
        self.recall: asyncio.TimerHandle | None = None


class MemoryQueue:
    """Queues that hand messages straight to whoever waits, first come first served."""

    features = Features(
        durability="nothing survives the process; the maintainer sends again from the ledger",
        survives_restart=False,
        many_processes=False,
        redelivers=True,
        wakes_in_order=True,
    )

    def __init__(self, clock: Clock, visibility_s: float = 30.0) -> None:
        self._clock = clock
        self._visibility_s = visibility_s
        self._lines: dict[str, _Line] = {}
        self._count = 0
        self._open = False

    async def open(self) -> None:
        """Begin."""
        self._open = True

    async def close(self) -> None:
        """Wake all who wait; nothing is kept."""
        self._open = False
        for line in self._lines.values():
            if line.recall:
                line.recall.cancel()
            for waiter in line.waiting:
                _give(waiter, [])
        self._lines.clear()

    async def send(self, queue: str, bodies: Sequence[str]) -> None:
        """Hand messages to those who wait, and keep the rest."""
        line = self._line(queue)
        line.ready.extend(bodies)
        if line.waiting:
            self._deal(queue, line)

    async def receive(self, queue: str, limit: int, wait_s: float) -> list[Message]:
        """Give what is ready, or wait for the first."""
        line = self._line(queue)
        if line.taken:
            self._recall(line)
        if line.ready:
            return self._take(queue, line, limit)
        if wait_s <= 0:
            return []
        return await self._wait(queue, line, limit, wait_s)

    async def ack(self, messages: Sequence[Message]) -> None:
        """Forget messages."""
        for message in messages:
            if line := self._lines.get(message.queue):
                line.taken.pop(message.receipt, None)

    async def depth(self, queue: str) -> int:
        """Count what is ready and what is taken."""
        line = self._line(queue)
        return len(line.ready) + len(line.taken)

    # -------------------------------------------------------------- taking

    def _line(self, queue: str) -> _Line:
        if not self._open:
            raise Unavailable("the queue is closed")
        if (line := self._lines.get(queue)) is None:
            line = self._lines[queue] = _Line()
        return line

    def _take(self, queue: str, line: _Line, limit: int) -> list[Message]:
        until = self._clock.monotonic() + self._visibility_s
        ready, taken = line.ready, line.taken
        messages = []
        for _ in range(min(limit, len(ready))):
            self._count += 1
            message = Message(queue, ready.popleft(), str(self._count))
            taken[message.receipt] = message, until
            messages.append(message)
        return messages

    def _recall(self, line: _Line) -> None:
        """Make ready again what was taken too long ago. All are taken for the same time, so the oldest is first."""
        now = self._clock.monotonic()
        while line.taken and _oldest(line) <= now:
            _, (message, _) = line.taken.popitem(last=False)
            line.ready.append(message.body)

    def _return(self, queue: str, messages: Sequence[Message]) -> None:
        """Make ready again what a cancelled receiver never saw, at the head, and offer it to the next in line."""
        if (line := self._lines.get(queue)) is not None:
            line.ready.extendleft(m.body for m in reversed(messages) if line.taken.pop(m.receipt, None))
            self._deal(queue, line)

    # -------------------------------------------------------------- waiting

    async def _wait(self, queue: str, line: _Line, limit: int, wait_s: float) -> list[Message]:
        loop = asyncio.get_running_loop()
        waiter: asyncio.Future[list[Message]] = loop.create_future()
        line.waiting[waiter] = limit
        self._watch(queue, line)
        timer = loop.call_later(wait_s, _give, waiter, [])
        try:
            return await waiter
        except asyncio.CancelledError:
            if not waiter.cancelled():
                self._return(queue, waiter.result())
            raise
        finally:
            timer.cancel()
            line.waiting.pop(waiter, None)

    def _deal(self, queue: str, line: _Line) -> None:
        """Give what is ready to those who wait."""
        while line.ready and line.waiting:
            waiter, limit = line.waiting.popitem(last=False)
            if not waiter.done():
                waiter.set_result(self._take(queue, line, limit))
        self._watch(queue, line)

    def _watch(self, queue: str, line: _Line) -> None:
        """See to it that those who wait get what was taken too long ago."""
        if line.recall is None and line.waiting and line.taken:
            delay = max(0.0, _oldest(line) - self._clock.monotonic())
            line.recall = asyncio.get_running_loop().call_later(delay, self._redeliver, queue, line)

    def _redeliver(self, queue: str, line: _Line) -> None:
        line.recall = None
        self._recall(line)
        self._deal(queue, line)


def _oldest(line: _Line) -> float:
    return next(iter(line.taken.values()))[1]


def _give(waiter: asyncio.Future[list[Message]], messages: list[Message]) -> None:
    if not waiter.done():
        waiter.set_result(messages)
