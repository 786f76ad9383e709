"""Queues in a SQLite file (`sql:///abs/queue.db`): they survive a restart, and processes of one machine share them.

Receivers of this process are woken by its own sends at once; messages that another process sent, and those that come
again, are found by a look every `poll` seconds, and only while somebody waits.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Callable, Sequence
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
_ROUND: Final = 256  # messages of one queue that are taken in one go


class Times(msgspec.Struct, frozen=True):
    """After how many seconds a taken message comes again, and how long between looks for others' messages."""

    visibility_s: float = 30.0
    poll_s: float = 0.5


def connect(url: str, clock: Clock) -> SqlQueue:
    """Give the queues in the file that `sql:///abs/queue.db?visibility=30&poll=0.5` names.

    Raises:
        Misconfigured: the URL names no absolute path, or a time is no positive number.
    """
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
        self._waiting: dict[str, OrderedDict[_Waiter, int]] = {}  # longest first; no line is empty
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
        for line in self._waiting.values():
            for waiter in line:
                _give(waiter, [])
        self._waiting.clear()
        await clerk.leave()

    async def send(self, queue: str, bodies: Sequence[str]) -> None:
        """Add messages."""
        sent = self._do(lambda mailbox: mailbox.send(queue, bodies))
        self._look(queue)  # the clerk keeps the order: the look comes after the send
        await sent

    async def receive(self, queue: str, limit: int, wait_s: float) -> list[Message]:
        """Give what is ready, or wait for the first. Who comes while others wait waits behind them."""
        if wait_s <= 0 or queue not in self._waiting:
            messages = await self._take(queue, limit)
            if messages or wait_s <= 0:
                return messages
        return await self._wait(queue, limit, wait_s)

    async def ack(self, messages: Sequence[Message]) -> None:
        """Forget messages."""
        await self._do(lambda mailbox: mailbox.ack(messages))

    async def depth(self, queue: str) -> int:
        """Count what is sent and not acknowledged."""
        return await self._do(lambda mailbox: mailbox.depth(queue))

    # -------------------------------------------------------------- taking

    def _do(self, job: Callable[[Mailbox], T]) -> asyncio.Future[T]:
        if self._clerk is None:
            raise Unavailable("the queue is closed")
        return self._clerk.do(job)

    async def _take(self, queue: str, limit: int) -> list[Message]:
        found = self._do(self._taking({queue: limit}))
        try:
            return (await asyncio.shield(found))[queue]
        except asyncio.CancelledError:
            found.add_done_callback(partial(self._unseen, queue))
            raise

    def _taking(self, wanted: dict[str, int]) -> Callable[[Mailbox], dict[str, list[Message]]]:
        now = self._clock.now()
        return lambda mailbox: mailbox.take(wanted, now, now + self._times.visibility_s)

    def _unseen(self, queue: str, found: asyncio.Future[dict[str, list[Message]]]) -> None:
        if not found.cancelled() and found.exception() is None:
            self._return(queue, found.result()[queue])

    def _return(self, queue: str, messages: Sequence[Message]) -> None:
        """Make ready again what nobody saw; once closed, it comes again by itself."""
        if messages and self._clerk is not None:
            returned = self._clerk.do(lambda mailbox: mailbox.give_back(messages))
            returned.add_done_callback(lambda future: future.exception())  # then too it comes again by itself
            self._look(queue)

    # -------------------------------------------------------------- waiting

    async def _wait(self, queue: str, limit: int, wait_s: float) -> list[Message]:
        if self._clerk is None:
            return []
        loop = asyncio.get_running_loop()
        waiter: _Waiter = loop.create_future()
        self._waiting.setdefault(queue, OrderedDict())[waiter] = limit
        self._look(queue)  # something may have been sent since the look that found nothing
        timer = loop.call_later(wait_s, _give, waiter, [])
        try:
            return await waiter
        except asyncio.CancelledError:
            if not waiter.cancelled() and waiter.exception() is None:
                self._return(queue, waiter.result())
            raise
        finally:
            timer.cancel()
            self._leave(queue, waiter)

    def _leave(self, queue: str, waiter: _Waiter) -> None:
        if (line := self._waiting.get(queue)) is not None:
            line.pop(waiter, None)
            if not line:
                del self._waiting[queue]

    def _look(self, queue: str) -> None:
        """Have the server look into a queue, if anybody waits there."""
        if queue in self._waiting:
            self._fresh.add(queue)
            self._news.set()

    async def _serve(self, clerk: Clerk) -> None:
        """Take messages for those who wait, until closed."""
        while await self._heard():
            fresh, self._fresh = self._fresh or set(self._waiting), set()
            wanted = {queue: self._wanted(queue) for queue in fresh if queue in self._waiting}
            if not wanted:
                continue
            try:
                found = await clerk.do(self._taking(wanted))
            except PenstockError as error:
                self._fail(wanted, error)
                continue
            for queue, messages in found.items():
                self._deal(queue, messages)
                if len(messages) == wanted[queue]:
                    self._look(queue)  # there may be more

    async def _heard(self) -> bool:
        """Wait for news, or for the next look while anybody waits; tell whether to go on."""
        if self._clerk is not None:
            try:
                async with asyncio.timeout(self._times.poll_s if self._waiting else None):
                    await self._news.wait()
            except TimeoutError:
                pass
            self._news.clear()
        return self._clerk is not None

    def _wanted(self, queue: str) -> int:
        wanted = 0
        for limit in self._waiting[queue].values():
            wanted += limit
            if wanted >= _ROUND:
                return _ROUND
        return wanted

    def _deal(self, queue: str, messages: list[Message]) -> None:
        """Give messages to those who wait, longest first; what is left over goes back."""
        while messages and (line := self._waiting.get(queue)):
            waiter, limit = next(iter(line.items()))
            self._leave(queue, waiter)
            if not waiter.done():
                waiter.set_result(messages[:limit])
                messages = messages[limit:]
        self._return(queue, messages)

    def _fail(self, queues: dict[str, int], error: PenstockError) -> None:
        for queue in queues:
            for waiter in self._waiting.pop(queue, ()):
                if not waiter.done():
                    waiter.set_exception(error)


def _give(waiter: _Waiter, messages: list[Message]) -> None:
    if not waiter.done():
        waiter.set_result(messages)
