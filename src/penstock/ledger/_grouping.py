"""Group commit: what is asked for at the same time shares one durable write.

    do() --+
    do() --+--> the line --> a group of at most 512 --> driver.write --> an outcome to each caller
    do() --+

The size of a group tunes itself. While a write is in flight the line grows, and what is in line is the next group.
Before a write the event loop gets a few turns: a turn costs microseconds, a durable write hundreds of them, so a
command that is already on its way through the loop is worth waiting for, and a quiet loop isn't waited for at all.
(64 clients over loopback, one synced write each: 15 in a group and 9,200/s without those turns, 53 and 13,100/s with.)
"""

from __future__ import annotations

import asyncio
from collections import Counter, deque
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, Final, NamedTuple, Protocol

import msgspec

from penstock.errors import Unavailable

from .commands import Command

__all__ = ["Grouping", "Observer", "Written"]

_MOST_IN_A_GROUP: Final = 512
_TURNS: Final = 4  # of the event loop, at most, that a group waits for more to join
_PAUSES_S: Final = (0.02, 0.2)  # before the second and the third try of a group


class Written(msgspec.Struct, frozen=True):
    """What one group was: how many commands of each kind, how many of those failed, and the seconds it took."""

    kinds: Mapping[str, int]
    failed: Mapping[str, int]
    seconds: float


class Observer(Protocol):
    """Whoever counts: told of each group after it was written, or was given up."""

    def __call__(self, written: Written, /) -> None:
        """Take the measurements of one group."""
        ...


class _Waiting(NamedTuple):
    command: Command[Any]
    outcome: asyncio.Future[Any]


Write = Callable[[Sequence[Command[Any]]], Awaitable[list[Any]]]


class Grouping:
    """Gathers commands into groups and hands each caller its own outcome.

    A caller that is cancelled leaves; its command, once in line, is still written. A group that the driver finds
    `Unavailable` is tried three times (commands are safe to repeat), then all of its callers get that error.
    """

    def __init__(
        self,
        write: Write,
        *,
        monotonic: Callable[[], float],
        observer: Observer | None = None,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._write = write
        self._monotonic = monotonic
        self._observer = observer
        self._sleep = sleep
        self._line: deque[_Waiting] = deque()
        self._group: list[_Waiting] = []  # in flight
        self._writer: asyncio.Task[None] | None = None

    def submit(self, command: Command[Any]) -> asyncio.Future[Any]:
        """Put a command in line; its outcome, or its error, is the future's."""
        loop = asyncio.get_running_loop()
        outcome: asyncio.Future[Any] = loop.create_future()
        self._line.append(_Waiting(command, outcome))
        if self._writer is None:
            self._writer = loop.create_task(self._write_all(), name="ledger-writer")
        return outcome

    async def finish(self) -> None:
        """Return once everything in line is written."""
        while self._writer is not None:
            await asyncio.wait([self._writer])

    async def _write_all(self) -> None:
        try:
            while self._line:
                await self._gather()
                self._group = [self._line.popleft() for _ in range(min(len(self._line), _MOST_IN_A_GROUP))]
                await self._settle(self._group)
        finally:
            self._writer = None
            self._abandon()

    async def _gather(self) -> None:
        """Give the event loop turns for as long as each brings something new."""
        for _ in range(_TURNS):
            before = len(self._line)
            if before >= _MOST_IN_A_GROUP:
                return
            await asyncio.sleep(0)
            if len(self._line) == before:
                return

    async def _settle(self, group: list[_Waiting]) -> None:
        began = self._monotonic()
        outcomes = await self._outcomes([waiting.command for waiting in group])
        for waiting, outcome in zip(group, outcomes, strict=True):
            if waiting.outcome.done():  # its caller was cancelled
                continue
            if isinstance(outcome, BaseException):
                waiting.outcome.set_exception(outcome)
            else:
                waiting.outcome.set_result(outcome)
        if self._observer is not None:
            self._observer(_measured(group, outcomes, self._monotonic() - began))

    async def _outcomes(self, commands: list[Command[Any]]) -> list[Any]:
        """Give an outcome or an error per command, come what may."""
        try:
            return await self._written(commands)
        except Unavailable as error:
            return [Unavailable(error.detail) for _ in commands]
        except Exception as error:  # noqa: BLE001  # a caller must never wait for ever
            return [error] * len(commands)

    async def _written(self, commands: list[Command[Any]]) -> list[Any]:
        for pause in _PAUSES_S:
            try:
                return await self._write(commands)
            except Unavailable:
                await self._sleep(pause)
        return await self._write(commands)

    def _abandon(self) -> None:
        """Let nobody wait for a writer that was stopped in the middle."""
        for waiting in (*self._group, *self._line):
            if not waiting.outcome.done():
                waiting.outcome.set_exception(Unavailable("the ledger was closed before this was known to be written"))
        self._group = []
        self._line.clear()


def _measured(group: Sequence[_Waiting], outcomes: Sequence[Any], seconds: float) -> Written:
    kinds = Counter(type(waiting.command).__name__ for waiting in group)
    failed = Counter(
        type(waiting.command).__name__
        for waiting, outcome in zip(group, outcomes, strict=True)
        if isinstance(outcome, BaseException)
    )
    return Written(kinds, failed, seconds)
