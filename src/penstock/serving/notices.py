"""Who waits for what: wakes those who wait for a run, in this process, with no store in between."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Iterator
from contextlib import contextmanager

from penstock.model.run import Run

__all__ = ["End", "Notices"]


class End:
    """The end of one run, as someone waits for it."""

    __slots__ = ("_loop", "future")

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self.future: asyncio.Future[Run | None] = self._loop.create_future()

    async def within(self, seconds: float) -> Run | None:
        """Give the run's terminal record, or None when it did not end in time."""
        timer = self._loop.call_later(seconds, self.come, None)
        try:
            return await self.future
        finally:
            timer.cancel()

    def come(self, run: Run | None) -> None:
        """Let the waiter go on."""
        if not self.future.done():
            self.future.set_result(run)


class Notices:
    """Hands each published record of a run to everyone who waits for that run. A wake costs microseconds."""

    def __init__(self) -> None:
        self._waiting: dict[str, list[End]] = {}
        self._watching: dict[str, list[asyncio.Queue[Run]]] = {}
        self.closing = False

    def publish(self, run: Run) -> None:
        """Tell those who watch the run what it is now, and those who wait for its end if this is it."""
        for watcher in self._watching.get(run.id, ()):
            watcher.put_nowait(run)
        if run.terminal:
            for end in self._waiting.get(run.id, ()):
                end.come(run)

    @contextmanager
    def expect(self, run_id: str) -> Iterator[End]:
        """Listen for a run's end from now on; what ends before one asks `within` is not missed."""
        end = End()
        ends = self._waiting.setdefault(run_id, [])
        ends.append(end)
        try:
            yield end
        finally:
            ends.remove(end)
            if not ends:
                del self._waiting[run_id]

    async def watch(self, run_id: str, quiet_s: float) -> AsyncGenerator[Run | None]:
        """Give every record published of a run, as they come; None after each `quiet_s` seconds without one."""
        records: asyncio.Queue[Run] = asyncio.Queue()
        watchers = self._watching.setdefault(run_id, [])
        watchers.append(records)
        try:
            while True:
                try:
                    async with asyncio.timeout(quiet_s):
                        record = await records.get()
                except TimeoutError:
                    yield None
                else:
                    yield record
        finally:
            watchers.remove(records)
            if not watchers:
                del self._watching[run_id]

    def release(self) -> None:
        """Let everyone who waits for an end go on without it: this process is about to stop."""
        self.closing = True
        for ends in self._waiting.values():
            for end in ends:
                end.come(None)

    @property
    def awaited(self) -> set[str]:
        """The runs that someone waits for or watches just now."""
        return self._waiting.keys() | self._watching.keys()

    @property
    def waiting(self) -> int:
        """How many wait for an end just now."""
        return sum(len(ends) for ends in self._waiting.values())
