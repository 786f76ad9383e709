"""A pretend worker: what the cluster knows of it, and what it does when it is left to live."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncGenerator, Callable
from typing import Final, Protocol

from penstock.compute.driver import Order, Phase, Sighting

__all__ = ["Behaviour", "Life", "Log", "Obedient"]

LINES_KEPT: Final = 10_000


class Log:
    """What one worker printed, in memory."""

    def __init__(self) -> None:
        self.finished = False
        self._lines: deque[str] = deque(maxlen=LINES_KEPT)
        self._written = 0
        self._news = asyncio.Event()

    def write(self, line: str) -> None:
        """Add a line."""
        self._lines.append(line)
        self._written += 1
        self._news.set()

    def finish(self) -> None:
        """Let those go that follow it."""
        self.finished = True
        self._news.set()

    def last(self, count: int) -> list[str]:
        """Give the last lines."""
        return list(self._lines)[-count:] if count else []

    async def read(self, tail: int, *, follow: bool) -> AsyncGenerator[str]:
        """Give the last `tail` lines, then, with `follow`, new ones until it is finished."""
        read = self._written
        for line in self.last(tail):
            yield line
        while follow:
            self._news.clear()
            fresh = self.last(self._written - read)
            read = self._written
            for line in fresh:
                yield line
            if self.finished and read == self._written:
                return
            if read == self._written:
                await self._news.wait()


class Life:
    """One pretend worker, as its behaviour sees it: it may speak and exit."""

    def __init__(self, order: Order, end: Callable[[Life, int], None]) -> None:
        self.order = order
        self.uid = order.uid
        self.phase = Phase.PENDING
        self.node: str | None = None
        self.gpu_ids: tuple[int, ...] = ()
        self.exit_code: int | None = None
        self.reason = ""
        self.message = ""
        self.started_at = 0.0
        self.log = Log()
        self._end = end

    @property
    def image(self) -> str:
        """What its node must have pulled."""
        return self.order.app.image or self.order.app.name

    @property
    def sighting(self) -> Sighting:
        """What is to be told of it."""
        return Sighting(
            uid=self.uid,
            app=self.order.app.name,
            phase=self.phase,
            node=self.node,
            exit_code=self.exit_code,
            reason=self.reason,
            message=self.message,
            started_at=self.started_at,
        )

    def say(self, line: str) -> None:
        """Print a line."""
        self.log.write(line)

    def exit(self, code: int = 0) -> None:
        """End with an exit code; a negative one is the number of the signal that ended it."""
        self._end(self, code)


class Behaviour(Protocol):
    """What workers do with their lives. A simulation attaches its own workers here."""

    def start(self, life: Life) -> None:
        """Begin: the worker runs now."""
        ...

    def terminate(self, life: Life) -> None:
        """Take a SIGTERM: finish, then call `life.exit`, sooner or later or never."""
        ...

    def kill(self, life: Life) -> None:
        """Stop at once: the worker is no more, whatever ended it."""
        ...


class Obedient:
    """Workers that run until they are asked to go, and go at once."""

    def start(self, life: Life) -> None:
        """Do nothing."""

    def terminate(self, life: Life) -> None:
        """Exit as a good worker does."""
        life.exit(0)

    def kill(self, life: Life) -> None:
        """Do nothing."""
