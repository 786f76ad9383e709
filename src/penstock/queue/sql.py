"""Queues in a SQLite file (`sql:///abs/queue.db`): they survive a restart, and processes of one machine share them.

Receivers of this process are woken by its own sends at once; messages that another process sent, and those that come
again, are found by a look every `poll` seconds, and only while somebody waits.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Final, TypeAlias, TypeVar
from urllib.parse import parse_qs, unquote, urlsplit

import msgspec

from penstock.errors import Misconfigured, PenstockError, Unavailable
from penstock.model.ids import Clock

from ._clerk import Clerk
from ._mailbox import Mailbox
from .driver import Features, Message

__all__ = ["SqlQueue", "Times", "connect"]

T = TypeVar("T")
_Waiter: TypeAlias = asyncio.Future[list[Message]]
_ROUND: Final = 256  # messages of one queue after which a look is large enough


class Times(msgspec.Struct, frozen=True):
    """After how many seconds a taken message comes again, and how long between looks for others' messages."""

    visibility_s: float = 30.0
    poll_s: float = 0.5


def connect(url: str, clock: Clock, environ: Mapping[str, str]) -> SqlQueue:
    """Give the queues in the file that `sql:///abs/queue.db?visibility=30&poll=0.5` names.

    Raises:
        Misconfigured: the URL names no absolute path, or a time is no positive number.
    """
    del environ
    parts = urlsplit(url)
    path = Path(unquote(parts.path))
    told = {name: values[-1] for name, values in parse_qs(parts.query).items()}
    try:
        times = Times(float(told.pop("visibility", 30.0)), float(told.pop("poll", 0.5)))
    except ValueError:
        times = Times(0.0, 0.0)
    if parts.netloc or not path.is_absolute() or told or not (times.visibility_s > 0 and times.poll_s > 0):
        raise Misconfigured(f"{url} names no queue: write sql:///absolute/queue.db?visibility=30&poll=0.5")
    return SqlQueue(path, clock, times)


class SqlQueue:
    """A file of queues: one thread writes it, and one task serves all who wait."""

    features = Features(
        durability="a message survives a crash of the process; loss of power may take the last second's",
        survives_restart=True,
        many_processes=True,
        redelivers=True,
        wakes_in_order=True,
    )

    def __init__(self, path: Path, clock: Clock, times: Times) -> None:
        self._path = path
        self._clock = clock
        self._times = times
        self._clerk: Clerk | None = None
        self._server: asyncio.Task[None] | None = None
        self._lines: dict[str, _Line] = {}  # those in which somebody waits
        self._round = 0  # how many looks were begun
        self._fresh: set[str] = set()  # queues in which something may have become ready
        self._news = asyncio.Event()

    async def open(self) -> None:
        """Open the file, made where it is absent."""
        if self._clerk is None:
            self._clerk = await Clerk.hire(self._path)
            self._server = asyncio.create_task(self._serve(self._clerk), name="penstock-queue")

    async def close(self) -> None:
        """Finish what is under way, and wake all who wait."""
        clerk, self._clerk = self._clerk, None
        if clerk is None or self._server is None:
            return
        self._news.set()
        await self._server
        for line in self._lines.values():
            for waiter in line.waiting:
                _give(waiter, [])
        self._lines.clear()
        await clerk.leave()

    async def send(self, queue: str, bodies: Sequence[str]) -> None:
        """Add messages."""
        sent = self._do(lambda mailbox: mailbox.send(queue, bodies))
        self._look(queue)  # the clerk keeps the order: the look comes after the send
        await sent

    async def receive(self, queue: str, limit: int, wait_s: float) -> list[Message]:
        """Stand in line, and get what the next look finds, or what becomes ready while time remains."""
        if self._clerk is None:
            raise Unavailable("the queue is closed")
        loop = asyncio.get_running_loop()
        waiter: _Waiter = loop.create_future()
        line = self._lines.setdefault(queue, _Line())
        line.waiting[waiter] = limit
        timer = loop.call_later(max(wait_s, 0.0), _time_is_up, line, waiter, self._round)
        self._look(queue)
        try:
            return await waiter
        except asyncio.CancelledError:
            if not waiter.cancelled() and waiter.exception() is None:
                self._return(queue, waiter.result())
            raise
        finally:
            timer.cancel()
            self._leave(queue, waiter)

    async def ack(self, messages: Sequence[Message]) -> None:
        """Forget messages."""
        await self._do(lambda mailbox: mailbox.ack(messages))

    async def depth(self, queue: str) -> int:
        """Count what is sent and not acknowledged."""
        return await self._do(lambda mailbox: mailbox.depth(queue))

    # -------------------------------------------------------------- looking

    def _do(self, job: Callable[[Mailbox], T]) -> asyncio.Future[T]:
        if self._clerk is None:
            raise Unavailable("the queue is closed")
        return self._clerk.do(job)

    def _look(self, queue: str) -> None:
        """Have the server look into a queue, if anybody waits there."""
        if queue in self._lines:
            self._fresh.add(queue)
            self._news.set()

    async def _serve(self, clerk: Clerk) -> None:
        """Take messages for those who wait, one look at a time, until closed."""
        while await self._heard():
            fresh, self._fresh = self._fresh or set(self._lines), set()
            wanted = {queue: self._lines[queue].wanted() for queue in fresh if queue in self._lines}
            if not wanted:
                continue
            self._round += 1
            now = self._clock.now()
            try:
                found = await clerk.do(
                    partial(Mailbox.take, wanted=wanted, now=now, until=now + self._times.visibility_s)
                )
            except PenstockError as error:
                self._fail(wanted, error)
                continue
            for queue, messages in found.items():
                self._deal(queue, messages)
                if len(messages) == wanted[queue]:
                    self._look(queue)  # there may be more
                else:
                    self._dismiss(queue)

    async def _heard(self) -> bool:
        """Wait for news, or for the next look while anybody waits; tell whether to go on."""
        if self._clerk is not None:
            with suppress(TimeoutError):
                async with asyncio.timeout(self._times.poll_s if self._lines else None):
                    await self._news.wait()
            self._news.clear()
        return self._clerk is not None

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
        """Make ready again what nobody saw; once closed, it comes again by itself."""
        if messages and self._clerk is not None:
            returned = self._clerk.do(lambda mailbox: mailbox.give_back(messages))
            returned.add_done_callback(lambda future: future.exception())  # then too it comes again by itself
            self._look(queue)

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
