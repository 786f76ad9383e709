"""Queues in a SQLite file (`sql:///abs/queue.db`): they survive a restart, and processes of one machine share them.

Receivers of this process are woken by its own sends at once; messages that another process sent, and those that come
again, are found by a look every `poll` seconds, and only while somebody waits.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TypeVar
from urllib.parse import parse_qs, unquote, urlsplit

import msgspec

from penstock.errors import Misconfigured, Unavailable
from penstock.model.ids import Clock

from ._clerk import Clerk
from ._mailbox import Mailbox
from ._waiting import WaitingRoom
from .driver import Features, Message

__all__ = ["SqlQueue", "Times", "connect"]

T = TypeVar("T")


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
    """A file of queues, written by one thread."""

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
        self._room = WaitingRoom(self._take, self._give_back, times.poll_s)

    async def open(self) -> None:
        """Open the file, made where it is absent."""
        if self._clerk is None:
            self._clerk = await Clerk.hire(self._path)
            self._room.open()

    async def close(self) -> None:
        """Finish what is under way, and wake all who wait."""
        await self._room.close()
        clerk, self._clerk = self._clerk, None
        if clerk is not None:
            await clerk.leave()

    async def send(self, queue: str, bodies: Sequence[str]) -> None:
        """Add messages."""
        sent = self._do(lambda mailbox: mailbox.send(queue, bodies))
        self._room.look(queue)  # the clerk keeps the order: the look comes after the send
        await sent

    async def receive(self, queue: str, limit: int, wait_s: float) -> list[Message]:
        """Stand in line for what there is, or becomes ready while time remains."""
        return await self._room.receive(queue, limit, wait_s)

    async def ack(self, messages: Sequence[Message]) -> None:
        """Forget messages."""
        await self._do(lambda mailbox: mailbox.ack(messages))

    async def depth(self, queue: str) -> int:
        """Count what is sent and not acknowledged."""
        return await self._do(lambda mailbox: mailbox.depth(queue))

    async def _take(self, wanted: Mapping[str, int]) -> dict[str, list[Message]]:
        now = self._clock.now()
        until = now + self._times.visibility_s
        return await self._do(partial(Mailbox.take, wanted=wanted, now=now, until=until))

    async def _give_back(self, messages: Sequence[Message]) -> None:
        await self._do(lambda mailbox: mailbox.give_back(messages))

    def _do(self, job: Callable[[Mailbox], T]) -> asyncio.Future[T]:
        if self._clerk is None:
            raise Unavailable("the queue is closed")
        return self._clerk.do(job)
